//! One Engine.IO v4 packet: a type digit and text, or binary.

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use signalbox_websocket::Frame;

/// Standard alphabet; the padding is written, and not insisted on when read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A packet as it was received, borrowing its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: only a server sends it.
    Open,
    /// `1`: the client closes the session.
    Close,
    /// `2`, with the text behind it (`probe` in an upgrade).
    Ping(&'a str),
    /// `3`, with the text behind it.
    Pong(&'a str),
    /// `4`: a text message for the layer above.
    Message(&'a str),
    /// A binary message for the layer above.
    Binary(Cow<'a, [u8]>),
    /// `5`: the client completes the upgrade; from now on this is its transport.
    Upgrade,
    /// `6`: nothing.
    Noop,
}

/// A text that is not a packet: it is empty, or its type digit is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an engine.io packet")]
pub struct InvalidPacket;

impl<'a> Packet<'a> {
    /// Reads a packet from text: a WebSocket text message, or one part of a polling payload. `b...` is binary in base64 on
    /// either, as the reference reads it.
    ///
    /// # Errors
    /// [`InvalidPacket`] for an empty text or an unknown type.
    pub fn decode(text: &'a str) -> Result<Self, InvalidPacket> {
        let (kind, data) = text.split_at_checked(1).ok_or(InvalidPacket)?;
        Ok(match kind {
            "0" => Self::Open,
            "1" => Self::Close,
            "2" => Self::Ping(data),
            "3" => Self::Pong(data),
            "4" => Self::Message(data),
            "5" => Self::Upgrade,
            "6" => Self::Noop,
            "b" => Self::Binary(Cow::Owned(decode_base64(data))),
            _ => return Err(InvalidPacket),
        })
    }
}

/// Reads base64 as the reference does: what does not belong in it is skipped.
fn decode_base64(text: &str) -> Vec<u8> {
    BASE64.decode(text).unwrap_or_else(|_| {
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let mut digits: Vec<u8> = text.bytes().filter(is_digit).collect();
        if digits.len() % 4 == 1 {
            digits.pop();
        }
        BASE64.decode(digits).unwrap_or_default()
    })
}

/// NOOP, which has no meaning: it answers a GET that must not wait any longer.
pub const NOOP: &str = "6";
/// CLOSE: the session is over.
pub const CLOSE: &str = "1";
/// PING, the server's heartbeat.
pub const PING: &str = "2";
/// PONG with `probe`, the answer to the PING that probes a WebSocket before an upgrade.
pub const PROBE_PONG: &str = "3probe";

/// The heartbeat as a frame; every session shares it.
pub fn ping_frame() -> Frame {
    Frame::text(PING)
}

/// Appends an outgoing packet, held as its WebSocket frame, to a polling payload.
pub(crate) fn append_to_payload(frame: &Frame, payload: &mut String) {
    if frame.is_binary() {
        payload.push('b');
        BASE64.encode_string(frame.payload(), payload);
    } else {
        // Text frames are made of `str` only, so nothing is ever replaced here.
        payload.push_str(&String::from_utf8_lossy(frame.payload()));
    }
}

/// A binary frame as a text frame, `b` and base64: for a client that takes no binary. A text frame stays what it is.
pub fn as_text(frame: &Frame) -> Frame {
    if !frame.is_binary() {
        return frame.clone();
    }
    let mut text = String::with_capacity(payload_len(frame));
    append_to_payload(frame, &mut text);
    Frame::text(&text)
}

/// Length of an outgoing packet in a polling payload, in bytes.
pub(crate) fn payload_len(frame: &Frame) -> usize {
    let len = frame.payload().len();
    if frame.is_binary() { 1 + len.div_ceil(3) * 4 } else { len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read() {
        for (text, packet) in [
            ("0{}", Packet::Open),
            ("1", Packet::Close),
            ("2probe", Packet::Ping("probe")),
            ("3", Packet::Pong("")),
            ("4é", Packet::Message("é")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("bAQID", Packet::Binary(Cow::Owned(vec![1, 2, 3]))),
            ("bAQ", Packet::Binary(Cow::Owned(vec![1]))),
            ("bAQ==", Packet::Binary(Cow::Owned(vec![1]))),
            ("b!A!Q!", Packet::Binary(Cow::Owned(vec![1]))),
            ("b!!!", Packet::Binary(Cow::Owned(vec![]))),
        ] {
            assert_eq!(Packet::decode(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn binary_is_written_as_text() {
        assert_eq!(as_text(&Frame::binary(&[1, 2, 3, 4])), Frame::text("bAQIDBA=="));
        assert_eq!(as_text(&Frame::text("4x")), Frame::text("4x"));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in ["", "7", "abc", "é", " 4"] {
            assert_eq!(Packet::decode(text), Err(InvalidPacket), "{text:?}");
        }
    }
}
