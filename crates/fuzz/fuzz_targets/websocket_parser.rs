//! Any bytes in any pieces: how they were cut makes no difference, and no more is kept than the limit allows.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use signalbox_websocket::{Message, Parser, ProtocolError};

#[derive(Arbitrary, Debug)]
struct Input {
    limit: u16,
    /// Lengths of the pieces, over and over; without any, all bytes come at once.
    pieces: Vec<u8>,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Failed(ProtocolError),
}

fuzz_target!(|input: Input| {
    let limit = usize::from(input.limit);
    let in_pieces = parse(limit, &input.bytes, &input.pieces);
    let at_once = parse(limit, &input.bytes, &[]);
    assert_eq!(in_pieces, at_once);
});

/// What a connection sees of these bytes, until it closes.
fn parse(limit: usize, bytes: &[u8], pieces: &[u8]) -> Vec<Seen> {
    let mut parser = Parser::new(limit);
    let mut seen = Vec::new();
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    let mut lengths = pieces.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |length| usize::from(*length).clamp(1, rest.len()));
        let (mut piece, behind) = rest.split_at_mut(length);
        rest = behind;
        loop {
            let message = match parser.next(&mut piece) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    seen.push(Seen::Failed(error));
                    return seen;
                }
            };
            seen.push(match message {
                Message::Text(text) => Seen::Text(text.to_owned()),
                Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                Message::Close(code) => Seen::Close(code),
            });
            match seen.last() {
                Some(Seen::Text(text)) => assert!(text.len() <= limit),
                Some(Seen::Binary(bytes)) => assert!(bytes.len() <= limit),
                Some(Seen::Ping(bytes) | Seen::Pong(bytes)) => assert!(bytes.len() <= 125),
                _ => return seen,
            }
        }
        assert!(piece.is_empty(), "bytes were left behind");
        // A `Vec` grows by doubling, and starts with eight bytes; a control frame has at most 125.
        assert!(parser.buffered() <= 2 * limit.max(8) + 2 * 125, "{} bytes are kept", parser.buffered());
    }
    seen
}
