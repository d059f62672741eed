//! Where a chunked body ends (RFC 9112 §7.1). Its content is the dispatcher's to read.

/// A place in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In the digits of a chunk's size.
    Size { size: u64, digits: u8 },
    /// Behind them, in what a size line may hold beside the size.
    Extension { size: u64 },
    /// Before the line feed of a size line.
    SizeEnd { size: u64 },
    /// In a chunk, with so many bytes left.
    Data { left: u64 },
    /// Before the carriage return behind a chunk.
    DataCr,
    /// Before the line feed behind a chunk.
    DataLf,
    /// At the start of a line of the trailers, the last of which is empty.
    Trailer,
    /// In such a line.
    TrailerLine,
    /// Before its line feed.
    TrailerLf,
    /// Before the very last line feed.
    EndLf,
}

/// The body is malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunked {
    pub(super) const START: Self = Self::Size { size: 0, digits: 0 };

    /// Goes on through `bytes`. How many of them belong to the body, if it ends in them.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Self::Data { left } = *self {
                let taken = left.min((bytes.len() - at) as u64);
                at += taken as usize;
                *self = if taken == left { Self::DataCr } else { Self::Data { left: left - taken } };
                continue;
            }
            at += 1;
            *self = match (*self, byte) {
                (Self::EndLf, b'\n') => return Ok(Some(at)),
                (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                    // 15 digits cannot overflow, and no body has more.
                    let digit = (byte as char).to_digit(16).unwrap_or_default();
                    let size = size << 4 | u64::from(digit);
                    if digits == 15 {
                        return Err(Malformed);
                    }
                    Self::Size { size, digits: digits + 1 }
                }
                (Self::Size { digits: 0, .. }, _) => return Err(Malformed),
                (Self::Size { size, .. } | Self::Extension { size }, b'\r') => Self::SizeEnd { size },
                (Self::Size { size, .. }, b';' | b' ' | b'\t') => Self::Extension { size },
                (Self::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => Self::Extension { size },
                (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer,
                (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
                (Self::DataCr, b'\r') => Self::DataLf,
                (Self::DataLf, b'\n') => Self::START,
                (Self::Trailer, b'\r') => Self::EndLf,
                (Self::TrailerLine, b'\r') => Self::TrailerLf,
                (Self::TrailerLf, b'\n') => Self::Trailer,
                (Self::Trailer | Self::TrailerLine, byte) if byte != b'\n' => Self::TrailerLine,
                _ => return Err(Malformed),
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the body ends, given in one piece and byte for byte.
    fn end(body: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut chunked = Chunked::START;
        let whole = chunked.advance(body);
        chunked = Chunked::START;
        let mut pieces = Ok(None);
        for (index, byte) in body.iter().enumerate() {
            match chunked.advance(&[*byte]) {
                Ok(None) => {}
                Ok(Some(length)) => {
                    pieces = Ok(Some(index + length));
                    break;
                }
                Err(malformed) => {
                    pieces = Err(malformed);
                    break;
                }
            }
        }
        assert_eq!(whole, pieces, "{}", body.escape_ascii());
        whole
    }

    #[test]
    fn the_end_is_found_whatever_the_chunks_are() {
        for body in [
            "0\r\n\r\n",
            "4\r\nwiki\r\n0\r\n\r\n",
            "A;name=value\r\n0123456789\r\n00\r\n\r\n",
            "1 \r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
        ] {
            assert_eq!(end(body.as_bytes()), Ok(Some(body.len())), "{body:?}");
            assert_eq!(end(format!("{body}GET /").as_bytes()), Ok(Some(body.len())), "{body:?}");
        }
    }

    #[test]
    fn what_is_not_chunked_is_malformed() {
        for body in [
            "\r\n\r\n",
            "g\r\n",
            "4\nwiki",
            "4\r\nwikipedia",
            "1\r\nab",
            "fffffffffffffffff\r\n",
            "-1\r\n",
            "0\r\n\n",
            "4;\u{1}",
        ] {
            assert_eq!(end(body.as_bytes()), Err(Malformed), "{body:?}");
        }
    }

    #[test]
    fn what_is_not_complete_is_no_end() {
        for body in ["", "4", "4\r\nwi", "4\r\nwiki\r\n", "0\r\n", "0\r\nTrailer: x\r\n"] {
            assert_eq!(end(body.as_bytes()), Ok(None), "{body:?}");
        }
    }
}
