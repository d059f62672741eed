//! Frames.

use std::hint::black_box;

use signalbox_websocket::{Frame, Parser};

use crate::{Case, counted::count};

pub(crate) const CASES: &[Case] = &[
    ("websocket: read a text frame of 64 bytes", || read_text(64)),
    ("websocket: read a text frame of 4096 bytes", || read_text(4096)),
    ("websocket: read a text frame of 64 bytes in two pieces", read_in_two_pieces),
    ("websocket: write a text frame of 64 bytes", || write_text(64)),
    ("websocket: write a text frame of 4096 bytes", || write_text(4096)),
];

const LIMIT: usize = 1_000_000;
const MASK: [u8; 4] = [0x3A, 0x91, 0x5C, 0x07];

/// A client's text frame.
fn masked(len: usize) -> Vec<u8> {
    let mut wire = match len {
        0..=125 => vec![0x81, 0x80 | len as u8],
        _ => [&[0x81, 0xFE][..], &(len as u16).to_be_bytes()].concat(),
    };
    wire.extend_from_slice(&MASK);
    wire.extend(b"x".repeat(len).iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    wire
}

/// Takes all messages out of what was read, as a connection does.
fn take_in(parser: &mut Parser, mut input: &mut [u8]) {
    while let Ok(Some(message)) = parser.next(&mut input) {
        black_box(message);
    }
}

fn read_text(len: usize) {
    let mut parser = Parser::new(LIMIT);
    count(|| masked(len), |wire| take_in(&mut parser, wire));
}

fn read_in_two_pieces() {
    let mut parser = Parser::new(LIMIT);
    count(
        || masked(64),
        |wire| {
            let (start, end) = wire.split_at_mut(40);
            take_in(&mut parser, start);
            take_in(&mut parser, end);
        },
    );
}

fn write_text(len: usize) {
    count(
        || "x".repeat(len),
        |text| {
            black_box(Frame::text(text));
        },
    );
}
