//! Messages for an id that no client holds yet.

use std::{collections::VecDeque, sync::Arc, time::Duration, time::Instant};

use signalbox_websocket::Frame;

use crate::Kind;

/// Most messages one id's queue holds: sixty callers with an OFFER and ten CANDIDATEs each, and half as many again.
pub const MAX_MESSAGES: usize = 1024;
/// Most bytes one id's queue holds; of a message its payload counts.
pub const MAX_BYTES: usize = 2 << 20;
/// Most messages of one sender in one queue, so that nobody fills it alone.
pub const MAX_SENDER_MESSAGES: usize = 256;
/// Most bytes of one sender in one queue.
pub const MAX_SENDER_BYTES: usize = 512 << 10;

/// The queue of one id. A sender's first message opens a *wait*. When the wait ends and the id is still absent, the sender's messages
/// are dropped and the sender gets one EXPIRE, however many messages there were.
///
/// An OFFER or ANSWER outranks CANDIDATEs: when it does not fit, the oldest CANDIDATEs go. A sender whose OFFER or ANSWER is refused
/// all the same gets its EXPIRE when its wait ends, also if the id was claimed meanwhile: nothing of that call would ever be answered.
/// A sender that only lost CANDIDATEs of a call that waits is not told: the call arrives, and whether it connects without them shows
/// at both ends.
#[derive(Debug, Default)]
pub struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    waits: Vec<Wait>,
}

#[derive(Debug)]
struct Message {
    src: Arc<str>,
    is_candidate: bool,
    frame: Frame,
}

impl Message {
    fn size(&self) -> usize {
        self.frame.payload().len()
    }
}

#[derive(Debug)]
struct Wait {
    src: Arc<str>,
    /// The sender's token, by which it is known again.
    token: Arc<str>,
    number: u64,
    /// When the wait is dropped even if nobody ends it, because the sender is gone: later than its regular end.
    until: Instant,
    /// The sender's messages in the queue, and their bytes.
    messages: usize,
    bytes: usize,
    /// An OFFER or ANSWER of the sender was queued.
    has_call: bool,
    /// An OFFER or ANSWER of the sender was refused, or a CANDIDATE that has no other: the sender is told in any case.
    is_refused: bool,
}

/// The outcome of [`Queue::push`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The message opened its sender's wait: expire it with this number when its time is over.
    pub opened: Option<u64>,
    /// The message waits.
    pub is_kept: bool,
    /// So many CANDIDATEs were dropped for it.
    pub displaced: usize,
}

impl Queue {
    /// Appends a message of `src`, who holds `token`. `number` is to be fresh; it names the wait if one opens. `ttl` is how long a
    /// wait lasts. `room` is how many bytes are left for all queues together.
    pub fn push(
        &mut self,
        (src, token): (&Arc<str>, &Arc<str>),
        kind: Kind,
        frame: Frame,
        number: u64,
        (now, ttl): (Instant, Duration),
        room: usize,
    ) -> Queued {
        let is_candidate = kind == Kind::Candidate;
        let opened = !self.waits.iter().any(|wait| wait.src == *src);
        if opened {
            self.waits.push(Wait {
                src: src.clone(),
                token: token.clone(),
                number,
                until: now + 2 * ttl,
                messages: 0,
                bytes: 0,
                has_call: false,
                is_refused: false,
            });
        }
        let message = Message { src: src.clone(), is_candidate, frame };
        let before = self.bytes;
        let mut displaced = 0;
        let is_kept = loop {
            let room = room.saturating_add(before - self.bytes);
            match self.fits(&message, room) {
                Fits::Yes => break true,
                Fits::Never => break false,
                Fits::Not { of_sender } => {
                    let index = self
                        .messages
                        .iter()
                        .position(|queued| queued.is_candidate && (!of_sender || queued.src == message.src));
                    let Some(index) = index.filter(|_| !is_candidate) else { break false };
                    self.displace(index);
                    displaced += 1;
                }
            }
        };
        let size = message.size();
        if let Some(wait) = self.waits.iter_mut().find(|wait| wait.src == *src) {
            if is_kept {
                wait.messages += 1;
                wait.bytes += size;
                wait.has_call |= !is_candidate;
            } else {
                wait.is_refused |= !is_candidate || !wait.has_call;
            }
        }
        if is_kept {
            self.bytes += size;
            self.messages.push_back(message);
        }
        Queued { opened: opened.then_some(number), is_kept, displaced }
    }

    fn fits(&self, message: &Message, room: usize) -> Fits {
        let size = message.size();
        let Some(wait) = self.waits.iter().find(|wait| wait.src == message.src) else { return Fits::Never };
        if size > MAX_SENDER_BYTES || message.is_candidate && wait.is_refused && !wait.has_call {
            Fits::Never
        } else if wait.messages >= MAX_SENDER_MESSAGES || wait.bytes + size > MAX_SENDER_BYTES {
            Fits::Not { of_sender: true }
        } else if self.messages.len() >= MAX_MESSAGES || self.bytes + size > MAX_BYTES || size > room {
            Fits::Not { of_sender: false }
        } else {
            Fits::Yes
        }
    }

    fn displace(&mut self, index: usize) {
        let Some(message) = self.messages.remove(index) else { return };
        self.bytes -= message.size();
        if let Some(wait) = self.waits.iter_mut().find(|wait| wait.src == message.src) {
            wait.messages -= 1;
            wait.bytes -= message.size();
            wait.is_refused |= !wait.has_call;
        }
    }

    /// Ends the wait `number` and drops its sender's messages. Returns the sender's token if the wait was open: then its sender must
    /// get an EXPIRE.
    pub fn expire(&mut self, number: u64) -> Option<Arc<str>> {
        let index = self.waits.iter().position(|wait| wait.number == number)?;
        let Wait { src, token, messages, .. } = self.waits.swap_remove(index);
        if messages > 0 {
            self.messages.retain(|message| message.src != src);
            self.bytes = self.messages.iter().map(Message::size).sum();
        }
        Some(token)
    }

    /// Drops waits that nobody has ended.
    pub fn purge(&mut self, now: Instant) {
        while let Some(wait) = self.waits.iter().find(|wait| wait.until <= now) {
            let number = wait.number;
            self.expire(number);
        }
    }

    /// All messages, in order: the id was claimed. What stays are the waits of senders that are told in any case.
    pub fn take(&mut self) -> impl Iterator<Item = Frame> + use<> {
        self.bytes = 0;
        self.waits.retain_mut(|wait| {
            (wait.messages, wait.bytes, wait.has_call) = (0, 0, false);
            wait.is_refused
        });
        std::mem::take(&mut self.messages).into_iter().map(|message| message.frame)
    }

    /// Whether no sender waits.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Bytes of the payloads of all messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }
}

/// Whether a message fits into a queue.
enum Fits {
    Yes,
    /// Not before CANDIDATEs have gone, of the same sender or of anybody.
    Not {
        of_sender: bool,
    },
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn token() -> Arc<str> {
        "t".into()
    }

    fn push(queue: &mut Queue, src: &str, kind: Kind, text: &str, number: u64) -> Queued {
        let now = Instant::now();
        queue.push((&src.into(), &token()), kind, Frame::text(text), number, (now, TTL), usize::MAX)
    }

    fn offer(queue: &mut Queue, src: &str, text: &str, number: u64) -> Queued {
        push(queue, src, Kind::Offer, text, number)
    }

    fn candidate(queue: &mut Queue, src: &str, text: &str, number: u64) -> Queued {
        push(queue, src, Kind::Candidate, text, number)
    }

    const KEPT: Queued = Queued { opened: None, is_kept: true, displaced: 0 };
    const REFUSED: Queued = Queued { opened: None, is_kept: false, displaced: 0 };

    #[test]
    fn a_sender_is_told_once_and_others_keep_waiting() {
        let mut queue = Queue::default();
        assert_eq!(offer(&mut queue, "a", "1", 1), Queued { opened: Some(1), ..KEPT });
        assert_eq!(candidate(&mut queue, "a", "2", 2), KEPT);
        assert_eq!(offer(&mut queue, "b", "3", 3), Queued { opened: Some(3), ..KEPT });
        assert_eq!(queue.expire(1), Some(token()));
        assert_eq!(queue.expire(1), None);
        assert_eq!(queue.expire(2), None);
        assert_eq!(queue.take().collect::<Vec<_>>(), [Frame::text("3")]);
        assert!(queue.is_empty());
    }

    #[test]
    fn one_sender_has_a_share_of_the_queue_and_is_told_of_what_exceeds_it() {
        let mut queue = Queue::default();
        for number in 0..MAX_SENDER_MESSAGES as u64 {
            assert!(offer(&mut queue, "a", "x", number).is_kept);
        }
        assert_eq!(offer(&mut queue, "a", "x", 998), REFUSED);
        assert_eq!(offer(&mut queue, "b", "x", 999), Queued { opened: Some(999), ..KEPT });
        assert_eq!(queue.len(), MAX_SENDER_MESSAGES + 1);
        // The id is claimed: what waited arrives, and whose OFFER was refused is told in time.
        assert_eq!(queue.take().count(), MAX_SENDER_MESSAGES + 1);
        assert_eq!(queue.expire(0), Some(token()));
        assert_eq!(queue.expire(999), None);

        let mut queue = Queue::default();
        offer(&mut queue, "a", &"x".repeat(MAX_SENDER_BYTES - 100), 1);
        assert_eq!(offer(&mut queue, "a", &"x".repeat(200), 2), REFUSED);
        assert_eq!(queue.bytes(), MAX_SENDER_BYTES - 100);
    }

    #[test]
    fn an_offer_outranks_candidates() {
        let mut queue = Queue::default();
        let callers = MAX_MESSAGES / 8;
        for caller in 0..callers {
            offer(&mut queue, &caller.to_string(), "offer", caller as u64);
            for _ in 1..8 {
                assert!(candidate(&mut queue, &caller.to_string(), "candidate", 9_000).is_kept);
            }
        }
        assert_eq!(candidate(&mut queue, "0", "candidate", 9_001), REFUSED);
        let next = offer(&mut queue, "next", "offer", 9_002);
        assert_eq!(next, Queued { opened: Some(9_002), is_kept: true, displaced: 1 });
        // Without an OFFER that waits, a CANDIDATE that is refused is all there is to tell of.
        assert_eq!(
            candidate(&mut queue, "stray", "candidate", 9_003),
            Queued { opened: Some(9_003), ..REFUSED }
        );
        assert_eq!(candidate(&mut queue, "stray", "candidate", 9_004), REFUSED);
        let waiting: Vec<Frame> = queue.take().collect();
        assert_eq!(waiting.len(), MAX_MESSAGES);
        assert_eq!(waiting.iter().filter(|frame| **frame == Frame::text("offer")).count(), callers + 1);
        // Who lost a CANDIDATE of a call that arrived is not told.
        assert_eq!(queue.expire(0), None);
        assert_eq!(queue.expire(9_003), Some(token()));
    }

    #[test]
    fn what_is_not_to_be_kept_displaces_nothing() {
        let mut queue = Queue::default();
        candidate(&mut queue, "a", "x", 1);
        assert_eq!(offer(&mut queue, "a", &"x".repeat(MAX_SENDER_BYTES + 1), 2), REFUSED);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn waits_of_senders_that_went_away_are_purged() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.push((&"a".into(), &token()), Kind::Offer, Frame::text("1"), 1, (now, TTL), usize::MAX);
        queue.purge(now + TTL);
        assert!(!queue.is_empty());
        queue.purge(now + 2 * TTL);
        assert!(queue.is_empty());
        assert_eq!(queue.len(), 0);
    }
}
