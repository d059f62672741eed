//! Frames: the length of what follows (4 bytes), the type (1), the request's number (8), the kind (1), the body. Numbers are
//! big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};

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
}

impl FrameType {
    fn of(byte: u8) -> Option<Self> {
        [Self::Request, Self::Response, Self::Refused, Self::Cancel, Self::Notice, Self::Ping, Self::Pong]
            .into_iter()
            .find(|of| *of as u8 == byte)
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

    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        4 + HEAD + self.body.len()
    }

    /// Whether a node with this limit on frames reads it.
    pub(super) fn fits(&self, limit: usize) -> bool {
        HEAD + self.body.len() <= limit
    }

    pub(super) fn write(&self, buffer: &mut BytesMut) {
        buffer.reserve(self.len());
        buffer.put_u32((HEAD + self.body.len()) as u32);
        buffer.put_u8(self.frame_type as u8);
        buffer.put_u64(self.number);
        buffer.put_u8(self.kind);
        buffer.extend_from_slice(&self.body);
    }

    /// Takes the next frame out of the buffer, once all of it is there. The limit is checked before the body has come.
    pub(super) fn read(buffer: &mut BytesMut, limit: usize) -> Result<Option<Self>, Malformed> {
        let Some(length) = buffer.get(..4) else { return Ok(None) };
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if !(HEAD..=limit).contains(&length) {
            return Err(Malformed);
        }
        if buffer.len() < 4 + length {
            return Ok(None);
        }
        buffer.advance(4);
        let mut frame = buffer.split_to(length).freeze();
        let frame_type = FrameType::of(frame.get_u8()).ok_or(Malformed)?;
        let (number, kind) = (frame.get_u64(), frame.get_u8());
        Ok(Some(Self { frame_type, number, kind, body: frame }))
    }
}

/// Bytes that are no frame, or a frame over the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_are_read_back_in_pieces(bodies in prop::collection::vec(any::<Vec<u8>>(), 1..5), cut in 1_usize..20) {
            let frames: Vec<Frame> = bodies.into_iter().enumerate()
                .map(|(number, body)| Frame { frame_type: FrameType::Notice, number: number as u64, kind: 7, body: body.into() })
                .collect();
            let mut wire = BytesMut::new();
            frames.iter().for_each(|frame| frame.write(&mut wire));
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::read(&mut buffer, 1 << 20).unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn any_bytes_are_frames_or_refused(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::read(&mut buffer, 64) {}
        }
    }

    #[test]
    fn a_declared_length_costs_nothing() {
        let mut buffer = BytesMut::from(&[0xFF_u8; 4][..]);
        assert_eq!(Frame::read(&mut buffer, 1 << 20), Err(Malformed));
    }
}
