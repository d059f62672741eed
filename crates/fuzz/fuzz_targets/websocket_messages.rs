//! Messages that a client sends, in any fragments, with control frames between them, and in any pieces, are the messages that
//! arrive.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use signalbox_websocket::{Message, Parser};

#[derive(Arbitrary, Debug)]
struct Input {
    mask: [u8; 4],
    pieces: Vec<u8>,
    sent: Vec<Sent>,
}

#[derive(Arbitrary, Debug, PartialEq)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A message in two fragments, with a ping between them.
    Fragments(Vec<u8>, Vec<u8>),
}

const FIN: u8 = 0x80;

fuzz_target!(|input: Input| {
    let mut wire = Vec::new();
    let mut expected = Vec::new();
    for sent in input.sent {
        let mut frame = |first, payload: &[u8]| append_frame(&mut wire, first, input.mask, payload);
        match sent {
            Sent::Text(text) => {
                frame(FIN | 0x1, text.as_bytes());
                expected.push(Sent::Text(text));
            }
            Sent::Binary(bytes) => {
                frame(FIN | 0x2, &bytes);
                expected.push(Sent::Binary(bytes));
            }
            Sent::Ping(mut bytes) => {
                bytes.truncate(125);
                frame(FIN | 0x9, &bytes);
                expected.push(Sent::Ping(bytes));
            }
            Sent::Pong(mut bytes) => {
                bytes.truncate(125);
                frame(FIN | 0xA, &bytes);
                expected.push(Sent::Pong(bytes));
            }
            Sent::Fragments(first, second) => {
                frame(0x2, &first);
                frame(FIN | 0x9, b"between");
                frame(FIN, &second);
                expected.push(Sent::Ping(b"between".to_vec()));
                expected.push(Sent::Binary([first, second].concat()));
            }
        }
    }

    let mut parser = Parser::new(1_000_000);
    let mut received = Vec::new();
    let mut rest = &mut wire[..];
    let mut lengths = input.pieces.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |length| usize::from(*length).clamp(1, rest.len()));
        let (mut piece, behind) = rest.split_at_mut(length);
        rest = behind;
        while let Some(message) = parser.next(&mut piece).expect("these are valid frames") {
            received.push(match message {
                Message::Text(text) => Sent::Text(text.to_owned()),
                Message::Binary(bytes) => Sent::Binary(bytes.to_vec()),
                Message::Ping(bytes) => Sent::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Sent::Pong(bytes.to_vec()),
                Message::Close(code) => panic!("nobody closed: {code:?}"),
            });
        }
    }
    assert_eq!(received, expected);
    // The last message is forgotten at the next call, and then an idle connection owns no memory.
    assert_eq!(parser.next(&mut &mut [][..]), Ok(None));
    assert_eq!(parser.buffered(), 0);
});

/// A client's frame; see RFC 6455 §5.2.
fn append_frame(wire: &mut Vec<u8>, first: u8, mask: [u8; 4], payload: &[u8]) {
    wire.push(first);
    match payload.len() {
        length @ 0..=125 => wire.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            wire.push(0x80 | 126);
            wire.extend((length as u16).to_be_bytes());
        }
        length => {
            wire.push(0x80 | 127);
            wire.extend((length as u64).to_be_bytes());
        }
    }
    wire.extend(mask);
    wire.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}
