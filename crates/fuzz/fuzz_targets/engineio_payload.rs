//! Any body of a POST: each part is read as the packet it would be on a WebSocket, nothing grows, and what is read can be written
//! and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use signalbox_engineio::{
    Packet,
    packet::InvalidPacket,
    payload::{self, SEPARATOR},
};
use signalbox_websocket::Frame;

fuzz_target!(|body: &str| {
    let mut frames = Vec::new();
    let parts: Vec<&str> = body.split(SEPARATOR).collect();
    let packets: Vec<_> = payload::decode(body).collect();
    assert_eq!(packets.len(), parts.len());
    for (packet, part) in packets.iter().zip(parts) {
        assert_eq!(*packet, Packet::decode(part));
        let (kind, data) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
        match packet {
            Ok(Packet::Open) => assert_eq!(kind, "0"),
            Ok(Packet::Close) => assert_eq!(kind, "1"),
            Ok(Packet::Ping(text)) => assert_eq!((kind, data), ("2", *text)),
            Ok(Packet::Pong(text)) => assert_eq!((kind, data), ("3", *text)),
            Ok(Packet::Message(text)) => {
                assert_eq!((kind, data), ("4", *text));
                frames.push(Frame::text(part));
            }
            Ok(Packet::Upgrade) => assert_eq!(kind, "5"),
            Ok(Packet::Noop) => assert_eq!(kind, "6"),
            Ok(Packet::Binary(bytes)) => {
                assert_eq!(kind, "b");
                assert!(bytes.len() <= data.len() / 4 * 3 + 2, "base64 only shrinks");
                frames.push(Frame::binary(bytes));
            }
            Err(InvalidPacket) => assert!(!matches!(kind, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "b")),
        }
    }

    let is_message = |packet: &Packet<'_>| matches!(packet, Packet::Message(_) | Packet::Binary(_));
    let messages: Vec<_> = packets.into_iter().filter_map(Result::ok).filter(is_message).collect();
    if !messages.is_empty() {
        let written = payload::encode(frames.iter());
        let read: Vec<_> =
            payload::decode(&written).map(|packet| packet.expect("it was just written")).collect();
        assert_eq!(read, messages);
    }
});
