//! RFC 6455 from the client's side: frames of a server are read where they lie, own frames are masked.

use anyhow::{Result, bail};

pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

/// Any mask does; zero would spare some servers the work that a real client causes.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The frame at the front of `bytes`: opcode, payload, and its length on the wire; `None` while it is incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 || second & 0x80 != 0 {
        bail!("the server sent a frame that is fragmented, compressed or masked; none of it was asked for");
    }
    let (header, length) = match (second & 0x7F, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize)
        }
        (126 | 127, _) => return Ok(None),
        (short, _) => (2, usize::from(short)),
    };
    let end = header + length;
    Ok(bytes.get(header..end).map(|payload| (first & 0x0F, payload, end)))
}

/// Appends a masked frame to `out`.
pub(super) fn mask(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        medium @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    for chunk in out[start..].chunks_mut(MASK.len()) {
        for (byte, key) in chunk.iter_mut().zip(MASK) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_once_it_is_complete() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut wire = vec![0x80 | TEXT];
            match length {
                0..=125 => wire.push(length as u8),
                126..=65_535 => {
                    wire.push(126);
                    wire.extend_from_slice(&(length as u16).to_be_bytes());
                }
                _ => {
                    wire.push(127);
                    wire.extend_from_slice(&(length as u64).to_be_bytes());
                }
            }
            wire.extend_from_slice(&payload);
            let whole = wire.len();
            assert_eq!(parse(&wire[..whole - 1]).unwrap(), None);
            wire.push(0x89);
            assert_eq!(parse(&wire).unwrap(), Some((TEXT, &payload[..], whole)));
        }
    }

    #[test]
    fn a_masked_frame_unmasks_to_its_payload() {
        for length in [0, 3, 125, 126, 70_000] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut wire = Vec::new();
            mask(TEXT, &payload, &mut wire);
            let key = wire.len() - length - 4;
            let unmasked = wire[key + 4..].iter().zip(wire[key..key + 4].iter().cycle());
            assert_eq!(unmasked.map(|(byte, key)| byte ^ key).collect::<Vec<_>>(), payload);
        }
    }

    #[test]
    fn fragments_are_refused_by_name() {
        assert!(parse(&[0x01, 0]).unwrap_err().to_string().contains("fragmented"));
    }
}
