//! The payload of a measured message: which one it is, and when it was due.

/// `~RRRRRRRR.MMMMMMMM.NNNNNNNNNNNNNNNN~`: run, message and nanoseconds, in hexadecimal.
const LENGTH: usize = 36;

/// Which message it is. Its text has a fixed length and needs no escapes in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Tells the phases of all client processes apart, so that a late message is not taken for another.
    pub(crate) run: u32,
    pub(crate) message: u32,
    /// When it was due, in nanoseconds since the phase began.
    pub(crate) due: u64,
}

impl Stamp {
    /// The smallest payload that can be measured, in bytes.
    pub(crate) const MINIMUM: usize = LENGTH;

    /// Writes it as text of `size` bytes.
    pub(crate) fn write(&self, size: usize, out: &mut Vec<u8>) {
        let end = out.len() + size.max(LENGTH);
        out.push(b'~');
        hexadecimal(self.run.into(), 8, out);
        out.push(b'.');
        hexadecimal(self.message.into(), 8, out);
        out.push(b'.');
        hexadecimal(self.due, 16, out);
        out.push(b'~');
        out.resize(end, b'x');
    }

    /// Finds it in a packet, wherever the server put it.
    pub(crate) fn find(packet: &str) -> Option<Self> {
        let bytes = packet.as_bytes();
        let start = bytes.iter().position(|byte| *byte == b'~')?;
        let text = bytes.get(start..start + LENGTH)?;
        let marks = text[9] == b'.' && text[18] == b'.' && text[LENGTH - 1] == b'~';
        Some(Self {
            run: number(&text[1..9])? as u32,
            message: number(&text[10..18])? as u32,
            due: number(&text[19..35])?,
        })
        .filter(|_| marks)
    }
}

fn hexadecimal(number: u64, digits: u32, out: &mut Vec<u8>) {
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * digit)) as usize & 0xF]);
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_the_packet_that_carries_it() {
        let stamp = Stamp { run: 0xDEAD_BEEF, message: 7, due: 12_345_678_901 };
        let mut packet = b"42[\"message\",\"".to_vec();
        let start = packet.len();
        stamp.write(64, &mut packet);
        assert_eq!(packet.len(), start + 64);
        packet.extend_from_slice(b"\",{\"room\":\"a\"}]");
        assert_eq!(Stamp::find(std::str::from_utf8(&packet).unwrap()), Some(stamp));
    }

    #[test]
    fn other_packets_have_none() {
        for packet in ["", "~", "42[\"joined\",{\"name\":\"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\"}]"] {
            assert_eq!(Stamp::find(packet), None, "{packet}");
        }
    }
}
