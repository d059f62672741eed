//! Packets and long-polling payloads.

use std::hint::black_box;

use signalbox_engineio::{Packet, payload};
use signalbox_websocket::Frame;

use crate::{Case, counted::count};

pub(crate) const CASES: &[Case] = &[
    ("engineio: read a message packet of 64 bytes", read_packet),
    ("engineio: read a payload of 3 text and 1 binary packets", read_payload),
    ("engineio: write a payload of 3 text and 1 binary packets", write_payload),
];

/// A message as Socket.IO makes it, with the type digit of Engine.IO.
fn message() -> String {
    format!("42[\"message\",\"{}\"]", "x".repeat(64 - "42[\"message\",\"\"]".len()))
}

fn frames() -> [Frame; 4] {
    let text = Frame::text(&message());
    [text.clone(), text.clone(), text, Frame::binary(&[0xA5; 64])]
}

fn read_packet() {
    count(message, |text| {
        let _ = black_box(Packet::decode(text));
    });
}

fn read_payload() {
    count(
        || payload::encode(frames().iter()),
        |body| {
            for packet in payload::decode(body) {
                let _ = black_box(packet);
            }
        },
    );
}

fn write_payload() {
    count(frames, |frames| {
        black_box(payload::encode(frames.iter()));
    });
}
