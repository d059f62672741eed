//! Several packets in one HTTP body, separated by `\x1e`; binary as `b` and base64.

use signalbox_websocket::Frame;

use crate::packet::{self, InvalidPacket, Packet};

/// The record separator between two packets.
pub const SEPARATOR: char = '\x1e';

/// The packets of a POST's body, in order. The first invalid one closes the session, so the caller stops there.
pub fn decode(body: &str) -> impl Iterator<Item = Result<Packet<'_>, InvalidPacket>> {
    body.split(SEPARATOR).map(Packet::decode)
}

/// Writes outgoing packets, each given as its WebSocket frame, as the body of one reply.
pub fn encode<'a>(packets: impl Iterator<Item = &'a Frame> + Clone) -> String {
    let len = packets.clone().map(|frame| packet::payload_len(frame) + 1).sum();
    let mut body = String::with_capacity(len);
    for frame in packets {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        packet::append_to_payload(frame, &mut body);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_binary_share_a_payload() {
        let packets = [Frame::text("4hello"), Frame::binary(&[1, 2, 3]), Frame::text("2")];
        let body = encode(packets.iter());
        assert_eq!(body, "4hello\x1ebAQID\x1e2");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(messages in proptest::collection::vec(
            prop_oneof!["[^\x1e]{0,40}".prop_map(Ok), proptest::collection::vec(any::<u8>(), 0..40).prop_map(Err)], 1..8)) {
            let frames: Vec<Frame> = messages.iter().map(|message| match message {
                Ok(text) => Frame::text_of(&["4", text]),
                Err(bytes) => Frame::binary(bytes),
            }).collect();
            let body = encode(frames.iter());
            let read: Vec<Result<String, Vec<u8>>> = decode(&body).map(|packet| match packet.unwrap() {
                Packet::Message(text) => Ok(text.to_owned()),
                Packet::Binary(bytes) => Err(bytes.into_owned()),
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn arbitrary_text_never_panics(body in "\\PC{0,200}|[0-6b\x1e]{0,60}") {
            for _ in decode(&body) {}
        }
    }
}
