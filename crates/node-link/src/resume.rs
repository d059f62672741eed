//! What makes a connection that broke go on where it was: both ends count the frames, keep those that the other may not have, and tell each
//! other at the beginning of the next connection how many have come. So a frame arrives once, whatever happens to the connections.
//!
//! A stream is what goes on over several connections: what one node sends to another, and the way back. Who opens the connection has made
//! up its id, and says in its extension of the handshake (entry [`MetadataKey::Resume`]) whether the stream begins or goes on; the other
//! node answers in its own. One that does not know this entry says nothing: then the stream ends with the connection.
//!
//! | from | entry |
//! |---|---|
//! | initiator | the stream's id (16 bytes), 0 where it begins and 1 where it goes on (1), the frames that have come (8) |
//! | responder | the frames that have come (8); nothing at all (0) where it does not have the stream any more |
//!
//! What is there has to be said now and then, so that not too much is kept: with whatever is sent next (a frame of type *acknowledge*, whose
//! number is the count), or after [`ACKNOWLEDGED_FRAMES`] or [`ACKNOWLEDGED_BYTES`] by itself. Pings, pongs and acknowledgements do not count.

use std::collections::VecDeque;

use signalbox_cluster::envelope::{Metadata, MetadataKey};

use super::frame::{Frame, FrameType};

/// Frames that have come, after which the other end is told without being sent anything else.
const ACKNOWLEDGED_FRAMES: u64 = 64;
/// The same in bytes.
const ACKNOWLEDGED_BYTES: usize = 64 * 1024;

/// The id of a stream: 16 random bytes.
pub(super) type StreamId = [u8; 16];

/// What the initiator says of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) id: StreamId,
    /// The frames that have come; `None` where the stream begins.
    pub(super) received: Option<u64>,
}

impl Resume {
    pub(super) fn metadata(self) -> Metadata {
        let mut bytes = self.id.to_vec();
        bytes.push(u8::from(self.received.is_some()));
        bytes.extend_from_slice(&self.received.unwrap_or_default().to_be_bytes());
        Metadata::default().with(MetadataKey::Resume, bytes)
    }

    /// `None` where the other node does not know of this, or says what nobody understands.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let bytes = metadata.get(MetadataKey::Resume)?;
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (goes_on, rest) = rest.split_first()?;
        let received = u64::from_be_bytes(*rest.first_chunk()?);
        Some(Self { id: *id, received: (*goes_on != 0).then_some(received) })
    }
}

/// What the responder says of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumed {
    /// It knows nothing of streams: this one ends with the connection.
    Unsupported,
    /// It has it, and so many frames of it.
    Has(u64),
    /// It does not have it any more.
    Gone,
}

impl Resumed {
    pub(super) fn metadata(self) -> Metadata {
        let none = Metadata::default();
        match self {
            Self::Unsupported => none,
            Self::Has(received) => none.with(MetadataKey::Resume, received.to_be_bytes()),
            Self::Gone => none.with(MetadataKey::Resume, []),
        }
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        match metadata.get(MetadataKey::Resume) {
            None => Self::Unsupported,
            Some(bytes) => {
                bytes.first_chunk().map_or(Self::Gone, |bytes| Self::Has(u64::from_be_bytes(*bytes)))
            }
        }
    }
}

/// One end of a stream.
#[derive(Debug, Default)]
pub(super) struct Progress {
    is_resumable: bool,
    /// Sent frames that the other end may not have.
    kept: VecDeque<Frame>,
    kept_bytes: usize,
    /// How many frames before those it has.
    acknowledged: u64,
    /// How many have come from there.
    received: u64,
    /// How many of them it has been told of.
    reported: u64,
    /// Bytes of those it has not been told of.
    unreported_bytes: usize,
}

/// An end says that it has what was never sent, or has not what it had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Impossible;

fn counts(frame_type: FrameType) -> bool {
    !matches!(frame_type, FrameType::Ping | FrameType::Pong | FrameType::Acknowledge)
}

impl Progress {
    /// The start of a stream that goes on over several connections. The default is one that ends with its connection.
    pub(super) fn resumable() -> Self {
        Self { is_resumable: true, ..Self::default() }
    }

    pub(super) fn is_resumable(&self) -> bool {
        self.is_resumable
    }

    /// A frame is sent.
    pub(super) fn keep(&mut self, frame: Frame) {
        if self.is_resumable && counts(frame.frame_type) {
            self.kept_bytes += frame.body.len();
            self.kept.push_back(frame);
        }
    }

    /// How many frames have come, and how many have arrived at the other end: a connection over which neither grows is of no use.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.received, self.acknowledged)
    }

    /// Whether the other end may not have all.
    pub(super) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// What the other end may not have, in order.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Frame> {
        self.kept.iter()
    }

    /// Bytes that are kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// A frame has come.
    pub(super) fn received(&mut self, frame: &Frame) {
        if self.is_resumable && counts(frame.frame_type) {
            self.received += 1;
            self.unreported_bytes += frame.body.len();
        }
    }

    /// The other end has so many.
    pub(super) fn acknowledged(&mut self, count: u64) -> Result<(), Impossible> {
        let new = count.checked_sub(self.acknowledged).ok_or(Impossible)?;
        let new = usize::try_from(new).ok().filter(|new| *new <= self.kept.len()).ok_or(Impossible)?;
        for frame in self.kept.drain(..new) {
            self.kept_bytes -= frame.body.len();
        }
        self.acknowledged = count;
        Ok(())
    }

    /// Whether the other end is to be told what has come although there is nothing else to send.
    pub(super) fn is_acknowledgement_due(&self) -> bool {
        self.received - self.reported >= ACKNOWLEDGED_FRAMES || self.unreported_bytes >= ACKNOWLEDGED_BYTES
    }

    /// What tells the other end how much has come, unless it knows.
    pub(super) fn acknowledgement(&mut self) -> Option<Frame> {
        (self.received > self.reported).then(|| Frame::empty(FrameType::Acknowledge, self.report_received()))
    }

    /// How many frames have come, for the other end, which knows it from now on.
    pub(super) fn report_received(&mut self) -> u64 {
        (self.reported, self.unreported_bytes) = (self.received, 0);
        self.received
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn frame(number: u64) -> Frame {
        Frame {
            frame_type: FrameType::Notice,
            number,
            kind: 0,
            body: vec![0; number as usize % 300 * 64].into(),
        }
    }

    #[derive(Debug, Clone)]
    enum Happens {
        /// An end sends something.
        Send(usize),
        /// An end receives what comes next.
        Receive(usize),
        /// An end is pinged.
        Ping(usize),
        /// The connection breaks, with what is on its way, and there is another one.
        Break,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            4 => (0..2_usize).prop_map(Happens::Send),
            4 => (0..2_usize).prop_map(Happens::Receive),
            1 => (0..2_usize).prop_map(Happens::Ping),
            1 => Just(Happens::Break),
        ]
    }

    struct End {
        progress: Progress,
        on_its_way: VecDeque<Frame>,
        sent: u64,
        has: Vec<u64>,
    }

    fn end() -> End {
        End { progress: Progress::resumable(), on_its_way: VecDeque::new(), sent: 0, has: Vec::new() }
    }

    fn send(end: &mut End, frame: Frame) {
        end.on_its_way.extend(end.progress.acknowledgement());
        end.on_its_way.push_back(frame.clone());
        end.progress.keep(frame);
    }

    fn receive(ends: &mut [End; 2], end: usize) {
        let Some(frame) = ends[1 - end].on_its_way.pop_front() else { return };
        let this = &mut ends[end];
        this.progress.received(&frame);
        match frame.frame_type {
            FrameType::Acknowledge => this.progress.acknowledged(frame.number).unwrap(),
            FrameType::Notice => this.has.push(frame.number),
            _ => {}
        }
        if this.progress.is_acknowledgement_due() {
            this.on_its_way.extend(this.progress.acknowledgement());
        }
    }

    proptest! {
        #[test]
        fn every_frame_arrives_once_and_in_order_whatever_breaks(what in prop::collection::vec(happens(), 0..2_000)) {
            let mut ends = [end(), end()];
            for happens in what {
                match happens {
                    Happens::Send(end) => {
                        ends[end].sent += 1;
                        let frame = frame(ends[end].sent);
                        send(&mut ends[end], frame);
                    }
                    Happens::Receive(end) => receive(&mut ends, end),
                    Happens::Ping(end) => send(&mut ends[end], Frame::empty(FrameType::Ping, 0)),
                    Happens::Break => {
                        for end in 0..2 {
                            let received = ends[1 - end].progress.report_received();
                            ends[end].progress.acknowledged(received).unwrap();
                            ends[end].on_its_way = ends[end].progress.kept().cloned().collect();
                        }
                    }
                }
                for end in &ends {
                    let kept = &end.progress;
                    prop_assert_eq!(kept.kept_bytes, kept.kept.iter().map(|frame| frame.body.len()).sum::<usize>());
                }
            }
            while ends.iter().any(|end| !end.on_its_way.is_empty()) {
                receive(&mut ends, 0);
                receive(&mut ends, 1);
            }
            for end in 0..2 {
                prop_assert_eq!(&ends[end].has, &(1..=ends[1 - end].sent).collect::<Vec<_>>());
                prop_assert!((ends[end].progress.kept.len() as u64) < ACKNOWLEDGED_FRAMES, "too much is kept");
            }
        }
    }

    #[test]
    fn what_was_never_sent_cannot_have_come() {
        let mut progress = Progress::resumable();
        progress.keep(frame(1));
        progress.keep(frame(2));
        assert!(progress.acknowledged(3).is_err());
        assert!(progress.acknowledged(u64::MAX).is_err());
        assert_eq!(progress.acknowledged(1), Ok(()));
        assert!(progress.acknowledged(0).is_err());
        assert_eq!(progress.kept().count(), 1);
        let mut never = Progress::default();
        never.keep(frame(1));
        never.received(&frame(1));
        assert!(never.kept().next().is_none() && never.acknowledgement().is_none());
    }

    #[test]
    fn what_both_say_of_a_stream_is_read_back_and_who_knows_nothing_of_it_says_nothing() {
        for received in [None, Some(0), Some(7)] {
            let resume = Resume { id: [7; 16], received };
            assert_eq!(Resume::of(&resume.metadata()), Some(resume));
        }
        for resumed in [Resumed::Unsupported, Resumed::Has(0), Resumed::Has(9), Resumed::Gone] {
            assert_eq!(Resumed::of(&resumed.metadata()), resumed);
        }
        assert_eq!(Resume::of(&Metadata::default()), None);
        let short = Metadata::default().with(MetadataKey::Resume, *b"short");
        assert_eq!((Resume::of(&short), Resumed::of(&short)), (None, Resumed::Gone));
    }

    #[test]
    fn large_frames_are_acknowledged_at_once() {
        let mut progress = Progress::resumable();
        let large = Frame { body: Bytes::from(vec![0; ACKNOWLEDGED_BYTES]), ..frame(1) };
        progress.received(&large);
        assert!(progress.is_acknowledgement_due());
        assert_eq!(progress.acknowledgement(), Some(Frame::empty(FrameType::Acknowledge, 1)));
        assert!(!progress.is_acknowledgement_due() && progress.acknowledgement().is_none());
    }
}
