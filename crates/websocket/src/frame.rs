//! Outgoing frames, encoded once.

use bytes::{Bytes, BytesMut};

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// One complete, unmasked frame with its header. Cloning shares the bytes.
#[derive(Clone)]
pub struct Frame {
    bytes: Bytes,
    /// Bytes of the header: 2, 4 or 10.
    header: u8,
    /// Its bytes are counted where they are, not where they wait.
    is_shared: bool,
}

/// Frames are equal that look the same on the wire.
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Frame {}

/// Bytes with a guard that is dropped with the last holder of them.
struct Guarded<G> {
    bytes: Bytes,
    _guard: G,
}

impl<G> AsRef<[u8]> for Guarded<G> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Frame {
    /// A text frame.
    pub fn text(payload: &str) -> Self {
        Self::of_parts(TEXT, &[payload.as_bytes()])
    }

    /// A text frame whose payload is the concatenation of `parts`; one allocation, each byte copied once.
    pub fn text_of(parts: &[&str]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum();
        let (mut bytes, header) = head(TEXT, len);
        for part in parts {
            bytes.extend_from_slice(part.as_bytes());
        }
        Self { bytes: bytes.freeze(), header, is_shared: false }
    }

    /// A binary frame.
    pub fn binary(payload: &[u8]) -> Self {
        Self::of_parts(BINARY, &[payload])
    }

    /// A ping with an empty payload.
    pub const fn ping() -> Self {
        Self { bytes: Bytes::from_static(&[FIN | PING, 0]), header: 2, is_shared: false }
    }

    /// The answer to a ping. `payload` is at most 125 bytes, as a parsed ping's always is.
    pub fn pong(payload: &[u8]) -> Self {
        debug_assert!(payload.len() <= 125);
        Self::of_parts(PONG, &[payload])
    }

    /// A close frame; without a code the receiver reports 1005.
    pub fn close(code: Option<u16>) -> Self {
        match code {
            Some(code) => Self::of_parts(CLOSE, &[&code.to_be_bytes()]),
            None => Self { bytes: Bytes::from_static(&[FIN | CLOSE, 0]), header: 2, is_shared: false },
        }
    }

    /// A text or binary frame as [`Frame::bytes`] gave it; `None` for anything else.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (header, payload) = match second {
            0..=125 => (2, u64::from(second)),
            126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            _ => return None,
        };
        let is_whole = (bytes.len() - header) as u64 == payload;
        let is_text = first == FIN | TEXT && std::str::from_utf8(&bytes[header..]).is_ok();
        let is_good = is_whole && (is_text || first == FIN | BINARY);
        is_good.then_some(Self { bytes, header: header as u8, is_shared: false })
    }

    /// The same frame, for many holders: `guard` is dropped when the last of them lets go of its bytes.
    pub fn shared<G: Send + 'static>(self, guard: G) -> Self {
        let bytes = Bytes::from_owner(Guarded { bytes: self.bytes, _guard: guard });
        Self { bytes, is_shared: true, ..self }
    }

    /// Whether it came out of [`Frame::shared`].
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn of_parts(opcode: u8, parts: &[&[u8]]) -> Self {
        let (mut bytes, header) = head(opcode, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self { bytes: bytes.freeze(), header, is_shared: false }
    }

    /// Header and payload, as they go on the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Header and payload, as they go on the wire.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..]
    }

    /// Whether this is a binary frame.
    pub fn is_binary(&self) -> bool {
        self.bytes[0] & 0x0F == BINARY
    }

    /// Length on the wire in bytes, header included; never zero.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("opcode", &(self.bytes[0] & 0x0F))
            .field("payload", &String::from_utf8_lossy(self.payload()))
            .finish()
    }
}

fn head(opcode: u8, payload: usize) -> (BytesMut, u8) {
    let header = match payload {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    let mut bytes = BytesMut::with_capacity(header + payload);
    bytes.extend_from_slice(&[FIN | opcode]);
    match header {
        2 => bytes.extend_from_slice(&[payload as u8]),
        4 => {
            bytes.extend_from_slice(&[126]);
            bytes.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            bytes.extend_from_slice(&[127]);
            bytes.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    (bytes, header as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_length_follows_the_payload() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::binary(&vec![7; len]);
            assert_eq!(frame.len(), header + len);
            assert_eq!(frame.payload().len(), len);
            assert!(frame.is_binary());
        }
    }

    #[test]
    fn a_frame_is_read_back_from_its_bytes() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            for frame in [Frame::binary(&vec![0xFF; len]), Frame::text(&"x".repeat(len))] {
                let whole = frame.bytes().clone();
                assert_eq!(Frame::from_bytes(whole.clone()), Some(frame));
                assert_eq!(Frame::from_bytes(whole.slice(..whole.len() - 1)), None);
            }
        }
        let not_text = Bytes::from_static(&[FIN | TEXT, 1, 0xFF]);
        for frame in [not_text, Frame::ping().into_bytes(), Frame::close(None).into_bytes(), Bytes::new()] {
            assert_eq!(Frame::from_bytes(frame), None);
        }
    }

    #[test]
    fn a_shared_frame_drops_its_guard_with_its_last_holder() {
        let guard = std::sync::Arc::new(());
        let frame = Frame::text("hi").shared(guard.clone());
        assert!(frame.is_shared() && frame == Frame::text("hi"));
        let copies = [frame.clone(), frame.clone()];
        let waiting = frame.into_bytes().slice(1..);
        drop(copies);
        assert_eq!(std::sync::Arc::strong_count(&guard), 2);
        drop(waiting);
        assert_eq!(std::sync::Arc::strong_count(&guard), 1);
    }

    #[test]
    fn parts_are_joined() {
        assert_eq!(Frame::text_of(&["4", "2", "[]"]), Frame::text("42[]"));
    }

    #[test]
    fn control_frames_are_exact() {
        assert_eq!(&Frame::ping().bytes()[..], &[0x89, 0]);
        assert_eq!(&Frame::close(None).bytes()[..], &[0x88, 0]);
        assert_eq!(&Frame::close(Some(1009)).bytes()[..], &[0x88, 2, 0x03, 0xF1]);
    }
}
