//! Incoming frames: a parser that keeps nothing it has not judged.

/// A complete message or control frame. It borrows from the input where the frame arrived in one piece, so an ordinary
/// small message is never copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message; its UTF-8 has been checked.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; answer with [`Frame::pong`](crate::Frame::pong) and the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes, with its code if it gave one. Nothing may follow.
    Close(Option<u16>),
}

/// Why a connection must be closed; [`ProtocolError::close_code`] is the code to close it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame, or the message it continues, declares more than the limit.
    #[error("message of {declared} bytes exceeds the limit of {limit}")]
    TooBig {
        /// Bytes the message would have with this frame.
        declared: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// Text that is not UTF-8.
    #[error("text message is not valid utf-8")]
    InvalidUtf8,
    /// A reserved bit is set, though no extension was negotiated.
    #[error("reserved bits are set")]
    ReservedBits,
    /// A client's frame must be masked (RFC 6455 §5.1).
    #[error("frame is not masked")]
    Unmasked,
    /// An opcode that is not defined.
    #[error("unknown opcode {0}")]
    Opcode(u8),
    /// A control frame that is fragmented or longer than 125 bytes (RFC 6455 §5.5).
    #[error("control frame is fragmented or too long")]
    Control,
    /// A continuation that continues nothing, or a new message inside a fragmented one.
    #[error("fragments are out of order")]
    Fragments,
    /// A close frame with a payload of one byte or a code that may not be sent.
    #[error("invalid close frame")]
    Close,
}

impl ProtocolError {
    /// The status code of the close frame: 1009, 1007 or 1002.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooBig { .. } => 1009,
            Self::InvalidUtf8 => 1007,
            _ => 1002,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// A frame whose header was read and accepted.
#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    len: usize,
}

impl Header {
    fn is_control(&self) -> bool {
        matches!(self.opcode, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// A frame of which a part has arrived.
#[derive(Debug, Clone, Copy)]
struct Partial {
    header: Header,
    received: usize,
}

/// The parser of one connection. Idle, it owns no heap memory; with a message under way it owns at most what of that
/// message has arrived.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    /// Header bytes that arrived without the rest of their header.
    head: [u8; 14],
    head_len: u8,
    partial: Option<Partial>,
    /// The message being assembled out of fragments or out of several reads.
    message: Vec<u8>,
    /// How much of `message` is known to be UTF-8.
    valid: usize,
    /// What kind of message `message` is, once its first frame was seen.
    fragmented: Option<bool>,
    /// The payload of a control frame under way.
    control: Vec<u8>,
    /// `message` was handed out and is to be forgotten at the next call.
    spent: bool,
    /// The same for `control`, which may come between the fragments of a message.
    control_spent: bool,
}

impl Parser {
    /// A parser that accepts messages of at most `limit` bytes, all fragments together.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            head: [0; 14],
            head_len: 0,
            partial: None,
            message: Vec::new(),
            valid: 0,
            fragmented: None,
            control: Vec::new(),
            spent: false,
            control_spent: false,
        }
    }

    /// Bytes held for messages that are not complete.
    pub fn buffered(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }

    /// Whether nothing has arrived of the next message, not even of its header. A message in fragments counts as under way between
    /// them.
    pub fn is_between_messages(&self) -> bool {
        self.head_len == 0 && self.partial.is_none() && self.fragmented.is_none()
    }

    /// Takes bytes off the front of `input` until a message is complete; `None` once `input` is used up. The input is
    /// unmasked in place.
    ///
    /// # Errors
    /// After an error the connection is beyond repair: close it and do not call again.
    pub fn next<'m, 'i: 'm>(
        &'m mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Message<'m>>, ProtocolError> {
        if self.spent {
            // A message can be large and the next one small: give the memory back rather than keep the largest.
            self.message = Vec::new();
            self.valid = 0;
            self.spent = false;
        }
        if self.control_spent {
            self.control = Vec::new();
            self.control_spent = false;
        }
        loop {
            let Partial { header, received } = match self.partial.take() {
                Some(partial) => partial,
                None => match self.read_header(input)? {
                    Some(header) => Partial { header, received: 0 },
                    None => return Ok(None),
                },
            };
            let missing = header.len - received;
            let available = missing.min(input.len());
            let (payload, rest) = std::mem::take(input).split_at_mut(available);
            *input = rest;
            unmask(payload, header.mask, received);
            let complete = available == missing;
            let whole = complete && received == 0;

            if header.is_control() {
                if whole {
                    return finish_control(header.opcode, payload).map(Some);
                }
                self.control.extend_from_slice(payload);
                if complete {
                    self.control_spent = true;
                    return finish_control(header.opcode, &self.control).map(Some);
                }
                self.partial = Some(Partial { header, received: received + available });
                return Ok(None);
            }

            let text = match header.opcode {
                Opcode::Text => true,
                Opcode::Binary => false,
                _ => self.fragmented.unwrap_or_default(),
            };
            if whole && header.fin && self.fragmented.is_none() {
                return if text {
                    match std::str::from_utf8(payload) {
                        Ok(text) => Ok(Some(Message::Text(text))),
                        Err(_) => Err(ProtocolError::InvalidUtf8),
                    }
                } else {
                    Ok(Some(Message::Binary(payload)))
                };
            }
            self.message.extend_from_slice(payload);
            if text {
                self.check_utf8()?;
            }
            if !complete {
                self.partial = Some(Partial { header, received: received + available });
                return Ok(None);
            }
            if !header.fin {
                self.fragmented = Some(text);
                continue;
            }
            self.fragmented = None;
            self.spent = true;
            if !text {
                return Ok(Some(Message::Binary(&self.message)));
            }
            return match std::str::from_utf8(&self.message) {
                Ok(text) => Ok(Some(Message::Text(text))),
                Err(_) => Err(ProtocolError::InvalidUtf8),
            };
        }
    }

    /// Finds wrong text as soon as it arrives, not when a megabyte of it has been kept.
    fn check_utf8(&mut self) -> Result<(), ProtocolError> {
        match std::str::from_utf8(&self.message[self.valid..]) {
            Ok(_) => self.valid = self.message.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::InvalidUtf8),
        }
        Ok(())
    }

    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, ProtocolError> {
        loop {
            let known = usize::from(self.head_len);
            let needed = match known {
                0 | 1 => 2,
                _ => header_len(self.head[1]),
            };
            if known >= 2 {
                // Whatever the first two bytes tell is judged before the rest is waited for.
                self.judge_start()?;
            }
            if known == needed {
                self.head_len = 0;
                return self.judge(needed).map(Some);
            }
            if input.is_empty() {
                return Ok(None);
            }
            let take = (needed - known).min(input.len());
            let (head, rest) = std::mem::take(input).split_at_mut(take);
            self.head[known..known + take].copy_from_slice(head);
            self.head_len += take as u8;
            *input = rest;
        }
    }

    fn judge_start(&self) -> Result<(), ProtocolError> {
        let (first, second) = (self.head[0], self.head[1]);
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let opcode = opcode(first)?;
        if second & 0x80 == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
        if control && (first & 0x80 == 0 || second & 0x7F > 125) {
            return Err(ProtocolError::Control);
        }
        if !control && (opcode == Opcode::Continuation) != self.fragmented.is_some() {
            return Err(ProtocolError::Fragments);
        }
        Ok(())
    }

    fn judge(&self, header: usize) -> Result<Header, ProtocolError> {
        let head = &self.head[..header];
        let declared = match head[1] & 0x7F {
            126 => u64::from(u16::from_be_bytes([head[2], head[3]])),
            127 => {
                u64::from_be_bytes([head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9]])
            }
            short => u64::from(short),
        };
        let opcode = opcode(head[0])?;
        let held = if matches!(opcode, Opcode::Continuation) { self.message.len() } else { 0 };
        let total = declared.saturating_add(held as u64);
        let control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
        if !control && total > self.limit as u64 {
            return Err(ProtocolError::TooBig { declared: total, limit: self.limit });
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&head[header - 4..]);
        Ok(Header { fin: head[0] & 0x80 != 0, opcode, mask, len: declared as usize })
    }
}

fn header_len(second: u8) -> usize {
    match second & 0x7F {
        126 => 8,
        127 => 14,
        _ => 6,
    }
}

fn opcode(first: u8) -> Result<Opcode, ProtocolError> {
    Ok(match first & 0x0F {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        other => return Err(ProtocolError::Opcode(other)),
    })
}

fn finish_control(opcode: Opcode, payload: &[u8]) -> Result<Message<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Ping => Message::Ping(payload),
        Opcode::Pong => Message::Pong(payload),
        _ => match payload {
            [] => Message::Close(None),
            [_] => return Err(ProtocolError::Close),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                if !allowed {
                    return Err(ProtocolError::Close);
                }
                if std::str::from_utf8(reason).is_err() {
                    return Err(ProtocolError::InvalidUtf8);
                }
                Message::Close(Some(code))
            }
        },
    })
}

/// XORs `payload`, which starts `offset` bytes into its frame, with the mask; eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut key = mask;
    key.rotate_left(offset % 4);
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
