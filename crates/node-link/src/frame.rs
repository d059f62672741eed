//! Frames: the length of what follows (4 bytes), the type (1), the request's number (8), the kind (1), the body. Numbers are
//! big-endian. Where frames are sealed, all but the length is encrypted, and a tag (16) follows.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::seal::{Seal, TAG};

/// Bytes between the length and the body.
const HEAD: usize = 10;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameType {
    Request = 1,
    Response,
    Refused,
    Cancel,
    Notice,
    Ping,
    Pong,
    /// How many frames have come: the number. See `resume`.
    Acknowledge,
}

impl FrameType {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Request,
            Self::Response,
            Self::Refused,
            Self::Cancel,
            Self::Notice,
            Self::Ping,
            Self::Pong,
            Self::Acknowledge,
        ];
        all.into_iter().find(|of| *of as u8 == byte)
    }
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) frame_type: FrameType,
    /// The number of the request that it is about; 0 for a notice.
    pub(super) number: u64,
    /// What the body is, as the node's own code numbers it.
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

impl Frame {
    pub(super) fn empty(frame_type: FrameType, number: u64) -> Self {
        Self { frame_type, number, kind: 0, body: Bytes::new() }
    }

    /// Whether a node with this limit on frames reads it.
    pub(super) fn fits(&self, limit: usize) -> bool {
        HEAD + self.body.len() <= limit
    }
}

/// Writes the frames of one connection.
pub(super) struct FrameWriter(Option<Seal>);

impl FrameWriter {
    pub(super) fn new(seal: Option<Seal>) -> Self {
        Self(seal)
    }

    pub(super) fn write(&mut self, frame: &Frame, buffer: &mut BytesMut) {
        let plain = HEAD + frame.body.len();
        let tag = if self.0.is_some() { TAG } else { 0 };
        buffer.reserve(4 + plain + tag);
        let length = ((plain + tag) as u32).to_be_bytes();
        buffer.put_slice(&length);
        let begin = buffer.len();
        buffer.put_u8(frame.frame_type as u8);
        buffer.put_u64(frame.number);
        buffer.put_u8(frame.kind);
        buffer.extend_from_slice(&frame.body);
        if let Some(seal) = &mut self.0 {
            // Nothing that a frame can be is refused. If it were, the other end could not open it, and the connection would end.
            let tag = seal.seal(length, &mut buffer[begin..]).unwrap_or_default();
            buffer.extend_from_slice(&tag);
        }
    }
}

/// Reads the frames of one connection.
pub(super) struct FrameReader {
    seal: Option<Seal>,
    limit: usize,
}

impl FrameReader {
    /// `limit` is the largest frame in bytes.
    pub(super) fn new(seal: Option<Seal>, limit: usize) -> Self {
        Self { seal, limit }
    }

    /// Takes the next frame out of the buffer, once all of it is there. The limit is checked before the body has come.
    pub(super) fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
        let Some(bytes) = buffer.first_chunk::<4>().copied() else { return Ok(None) };
        let length = u32::from_be_bytes(bytes) as usize;
        let tag = if self.seal.is_some() { TAG } else { 0 };
        if !(HEAD + tag..=self.limit.saturating_add(tag)).contains(&length) {
            return Err(Malformed);
        }
        if buffer.len() < 4 + length {
            return Ok(None);
        }
        buffer.advance(4);
        let mut frame = buffer.split_to(length);
        if let Some(seal) = &mut self.seal {
            seal.open(bytes, &mut frame).map_err(|_| Malformed)?;
            frame.truncate(length - TAG);
        }
        let mut frame = frame.freeze();
        let frame_type = FrameType::of(frame.get_u8()).ok_or(Malformed)?;
        let (number, kind) = (frame.get_u64(), frame.get_u8());
        Ok(Some(Frame { frame_type, number, kind, body: frame }))
    }
}

/// Bytes that are no frame, a frame over the limit, or one that the other end has not sealed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seal(is_sealed: bool) -> Option<Seal> {
        is_sealed.then(|| Seal::new(&[7; 32]))
    }

    proptest! {
        #[test]
        fn frames_are_read_back_in_pieces(
            bodies in prop::collection::vec(any::<Vec<u8>>(), 1..5), cut in 1_usize..20, is_sealed: bool
        ) {
            let frames: Vec<Frame> = bodies.into_iter().enumerate()
                .map(|(number, body)| Frame { frame_type: FrameType::Notice, number: number as u64, kind: 7, body: body.into() })
                .collect();
            let (mut wire, mut writer) = (BytesMut::new(), FrameWriter::new(seal(is_sealed)));
            frames.iter().for_each(|frame| writer.write(frame, &mut wire));
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            let mut reader = FrameReader::new(seal(is_sealed), 1 << 20);
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = reader.read(&mut buffer).unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn any_bytes_are_frames_or_refused(bytes: Vec<u8>, is_sealed: bool) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut reader = FrameReader::new(seal(is_sealed), 64);
            while let Ok(Some(_)) = reader.read(&mut buffer) {
                prop_assert!(!is_sealed, "nobody sealed it");
            }
        }
    }

    #[test]
    fn a_declared_length_costs_nothing() {
        for is_sealed in [false, true] {
            let mut buffer = BytesMut::from(&[0xFF_u8; 4][..]);
            assert_eq!(FrameReader::new(seal(is_sealed), 1 << 20).read(&mut buffer), Err(Malformed));
        }
    }

    #[test]
    fn a_frame_of_the_largest_size_fits_sealed_or_not() {
        for is_sealed in [false, true] {
            let frame = Frame { body: vec![7; 54].into(), ..Frame::empty(FrameType::Notice, 1) };
            assert!(frame.fits(64));
            let mut buffer = BytesMut::new();
            FrameWriter::new(seal(is_sealed)).write(&frame, &mut buffer);
            assert_eq!(FrameReader::new(seal(is_sealed), 64).read(&mut buffer), Ok(Some(frame)));
        }
    }
}
