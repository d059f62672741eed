//! WebSocket frames: unmasking what comes, a header for what goes.

use std::ops::Range;

/// Largest message, as Socket.IO's default.
pub(crate) const MAX_PAYLOAD: usize = 1_000_000;

/// The opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// The opcode of a close frame.
pub(crate) const CLOSE: u8 = 8;

/// A frame at the beginning of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What kind of frame it is.
    pub(crate) opcode: u8,
    /// Where in the input its payload lies.
    pub(crate) payload: Range<usize>,
}

/// A frame that is too long, not masked, or a fragment; the connection is cut off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// Reads the frame at the beginning of `input` and unmasks its payload there; `None` while it is incomplete.
pub(crate) fn read(input: &mut [u8]) -> Result<Option<Frame>, Refused> {
    let [first, second, ..] = *input else { return Ok(None) };
    if first & 0x80 == 0 || second & 0x80 == 0 {
        return Err(Refused);
    }
    let (len, mask_at) = match second & 0x7F {
        126 => match input.get(2..4) {
            Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            _ => return Ok(None),
        },
        127 => match input.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (u64::from_be_bytes(bytes), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if len > MAX_PAYLOAD as u64 {
        return Err(Refused);
    }
    let start = mask_at + 4;
    let payload = start..start + len as usize;
    if input.len() < payload.end {
        return Ok(None);
    }
    let mask = [input[mask_at], input[mask_at + 1], input[mask_at + 2], input[mask_at + 3]];
    unmask(&mut input[payload.clone()], mask);
    Ok(Some(Frame { opcode: first & 0x0F, payload }))
}

/// XORs the payload with the mask, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Writes a frame made of `parts` into `frame`, whose memory is used again.
pub(crate) fn write(frame: &mut Vec<u8>, opcode: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    frame.clear();
    frame.push(0x80 | opcode);
    match len {
        0..=125 => frame.push(len as u8),
        126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    for part in parts {
        frame.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn masked(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write(&mut frame, TEXT, &[payload]);
        let header = frame.len() - payload.len();
        frame[1] |= 0x80;
        frame.splice(header..header, [1, 2, 3, 4]);
        unmask(&mut frame[header + 4..], [1, 2, 3, 4]);
        frame
    }

    #[test]
    fn frames_of_every_length_are_read_once_they_are_whole() {
        for len in [0, 1, 7, 8, 125, 126, 65_535, 65_536, 200_000] {
            let payload: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            let mut wire = masked(&payload);
            let end = wire.len();
            assert_eq!(read(&mut wire[..end - 1]), Ok(None), "{len}");
            let frame = read(&mut wire).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload.end), (TEXT, end));
            assert_eq!(wire[frame.payload], payload, "{len}");
        }
    }

    #[test]
    fn what_it_does_not_understand_is_refused() {
        assert_eq!(read(&mut [0x81, 0x01, b'x']), Err(Refused), "not masked");
        assert_eq!(read(&mut [0x01, 0x81, 0, 0, 0, 0, b'x']), Err(Refused), "a fragment");
        assert_eq!(read(&mut [0x81, 0xFF, 0, 0, 0, 0, 1, 0, 0, 0]), Err(Refused), "too long");
        assert_eq!(read(&mut [0x81]), Ok(None));
    }
}
