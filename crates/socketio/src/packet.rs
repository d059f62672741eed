//! The header of a packet: `<type>[<attachments>-][<namespace>,][<ack id>][JSON]`.

use crate::MAX_ATTACHMENTS;

/// The seven packet types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `0`: joins a namespace.
    Connect,
    /// `1`: leaves a namespace.
    Disconnect,
    /// `2`: an event.
    Event,
    /// `3`: the answer to an event.
    Ack,
    /// `4`: a namespace refuses; only a server sends it.
    ConnectError,
    /// `5`: an event with binary attachments.
    BinaryEvent,
    /// `6`: an answer with binary attachments.
    BinaryAck,
}

/// Why a packet is invalid, or not allowed in the present state. The connection is closed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The type digit is missing or unknown.
    #[error("unknown packet type")]
    Kind,
    /// The number of attachments is missing, zero, or above the limit.
    #[error("illegal attachments")]
    Attachments,
    /// The ack id that an event asks for does not fit 64 bits.
    #[error("illegal id")]
    Id,
    /// The JSON is invalid, or not of the shape its type demands.
    #[error("invalid payload")]
    Payload,
    /// A valid packet that may not come in this state: before CONNECT, for a namespace that was not joined, or text where an
    /// attachment is due.
    #[error("packet out of order")]
    Order,
}

/// A packet whose header was read; the body is still text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its type.
    pub kind: Kind,
    /// Binary attachments that follow.
    pub attachments: usize,
    /// The namespace; `/` when none is written.
    pub namespace: &'a str,
    /// The ack id; none also for an answer whose id does not fit 64 bits.
    pub id: Option<u64>,
    /// The JSON after the header; empty if there is none.
    pub body: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads the header of `text`, which is an Engine.IO message without its type digit.
    ///
    /// # Errors
    /// [`ParseError::Kind`], [`ParseError::Attachments`] or [`ParseError::Id`].
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let (kind, mut rest) = text.split_at_checked(1).ok_or(ParseError::Kind)?;
        let kind = match kind {
            "0" => Kind::Connect,
            "1" => Kind::Disconnect,
            "2" => Kind::Event,
            "3" => Kind::Ack,
            "4" => Kind::ConnectError,
            "5" => Kind::BinaryEvent,
            "6" => Kind::BinaryAck,
            _ => return Err(ParseError::Kind),
        };

        let mut attachments = 0;
        if matches!(kind, Kind::BinaryEvent | Kind::BinaryAck) {
            let (count, behind) = rest.split_once('-').ok_or(ParseError::Attachments)?;
            let digits =
                !count.is_empty() && count.len() <= 3 && count.bytes().all(|byte| byte.is_ascii_digit());
            attachments = count.parse().ok().filter(|_| digits).ok_or(ParseError::Attachments)?;
            if attachments == 0 || attachments > MAX_ATTACHMENTS {
                return Err(ParseError::Attachments);
            }
            rest = behind;
        }

        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }

        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let mut id = None;
        if digits > 0 {
            id = rest[..digits].parse().ok();
            // An answer with an id that was never given is an answer that nobody asked for.
            if id.is_none() && !matches!(kind, Kind::Ack | Kind::BinaryAck) {
                return Err(ParseError::Id);
            }
            rest = &rest[digits..];
        }
        Ok(Self { kind, attachments, namespace, id, body: rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let plain = Packet { kind: Kind::Event, attachments: 0, namespace: "/", id: None, body: "" };
        let cases = [
            ("0", Packet { kind: Kind::Connect, ..plain }),
            ("0/custom", Packet { kind: Kind::Connect, namespace: "/custom", ..plain }),
            ("0/custom,{}", Packet { kind: Kind::Connect, namespace: "/custom", body: "{}", ..plain }),
            ("2[\"a\"]", Packet { body: "[\"a\"]", ..plain }),
            ("212[\"a\"]", Packet { id: Some(12), body: "[\"a\"]", ..plain }),
            ("2/n,0[1]", Packet { namespace: "/n", id: Some(0), body: "[1]", ..plain }),
            (
                "52-/n,7[]",
                Packet { kind: Kind::BinaryEvent, attachments: 2, namespace: "/n", id: Some(7), body: "[]" },
            ),
            ("399999999999999999999999[1]", Packet { kind: Kind::Ack, body: "[1]", ..plain }),
            ("0/foo?token=1,", Packet { kind: Kind::Connect, namespace: "/foo?token=1", ..plain }),
        ];
        for (text, packet) in cases {
            assert_eq!(Packet::parse(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn wrong_headers_are_refused() {
        for (text, error) in [
            ("", ParseError::Kind),
            ("7", ParseError::Kind),
            ("x", ParseError::Kind),
            ("é", ParseError::Kind),
            ("5[\"a\"]", ParseError::Attachments),
            ("5-[\"a\"]", ParseError::Attachments),
            ("51.5-[\"a\"]", ParseError::Attachments),
            ("5+1-[\"a\"]", ParseError::Attachments),
            ("50-[\"a\"]", ParseError::Attachments),
            ("511-[\"a\"]", ParseError::Attachments),
            ("5999999999999999999999-[]", ParseError::Attachments),
            ("299999999999999999999999[\"a\"]", ParseError::Id),
        ] {
            assert_eq!(Packet::parse(text), Err(error), "{text}");
        }
    }
}
