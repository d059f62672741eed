use super::*;
use proptest::prelude::*;

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut wire = vec![first];
    match payload.len() {
        len @ 0..=125 => wire.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            wire.push(0x80 | 126);
            wire.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            wire.push(0x80 | 127);
            wire.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    wire.extend_from_slice(&mask);
    wire.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    wire
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Feeds `wire` in pieces of the given sizes (repeated), and returns what was seen and how it ended.
fn feed(limit: usize, wire: &[u8], sizes: &[usize]) -> (Vec<Seen>, Option<ProtocolError>) {
    let mut parser = Parser::new(limit);
    let mut seen = Vec::new();
    let mut rest = wire;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap()).clamp(1, rest.len());
        let mut piece = rest[..size].to_vec();
        rest = &rest[size..];
        let mut input = &mut piece[..];
        loop {
            match parser.next(&mut input) {
                Ok(Some(message)) => seen.push(match message {
                    Message::Text(text) => Seen::Text(text.into()),
                    Message::Binary(bytes) => Seen::Binary(bytes.into()),
                    Message::Ping(bytes) => Seen::Ping(bytes.into()),
                    Message::Pong(bytes) => Seen::Pong(bytes.into()),
                    Message::Close(code) => Seen::Close(code),
                }),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        assert!(parser.message.len() <= limit, "never holds more than the limit");
        assert!(parser.control.len() <= 125, "never holds more than a control frame");
    }
    (seen, None)
}

#[test]
fn a_frame_that_declares_400_mb_is_refused_by_its_header() {
    let mut wire = vec![0x82, 0x80 | 127];
    wire.extend_from_slice(&400_000_000u64.to_be_bytes());
    wire.extend_from_slice(&[1, 2, 3, 4]);
    let (seen, error) = feed(1_000_000, &wire, &[64]);
    assert!(seen.is_empty());
    assert_eq!(error.unwrap().close_code(), 1009);
}

#[test]
fn fragments_together_may_not_exceed_the_limit() {
    let mut wire = masked(0x01, &[b'a'; 8]);
    wire.extend(masked(0x80, &[b'a'; 3]));
    assert_eq!(feed(10, &wire, &[999]).1.unwrap(), ProtocolError::TooBig { declared: 11, limit: 10 });
    assert_eq!(feed(11, &wire, &[999]).0, [Seen::Text("a".repeat(11))]);
}

#[test]
fn a_ping_between_fragments_is_seen_at_once_and_spoils_nothing() {
    let mut wire = masked(0x01, b"he");
    wire.extend(masked(0x89, b"p"));
    wire.extend(masked(0x8A, b"q"));
    wire.extend(masked(0x80, b"llo"));
    for size in 1..wire.len() {
        let (seen, error) = feed(100, &wire, &[size]);
        assert_eq!(error, None);
        assert_eq!(
            seen,
            [Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), Seen::Text("hello".into())],
            "pieces of {size}"
        );
    }
}

#[test]
fn what_the_protocol_forbids_is_refused() {
    let cases: [(&str, Vec<u8>, u16); 12] = [
        ("reserved bit", masked(0xC1, b"x"), 1002),
        ("unmasked", vec![0x81, 1, b'x'], 1002),
        ("opcode 3", masked(0x83, b"x"), 1002),
        ("opcode 11", masked(0x8B, b"x"), 1002),
        ("fragmented ping", masked(0x09, b"x"), 1002),
        ("long ping", masked(0x89, &[0; 126]), 1002),
        ("continuation of nothing", masked(0x80, b"x"), 1002),
        ("message inside a message", [masked(0x01, b"x"), masked(0x81, b"y")].concat(), 1002),
        ("text is not utf-8", masked(0x81, &[0xFF]), 1007),
        ("text is cut", masked(0x81, &[0xC3]), 1007),
        ("close of one byte", masked(0x88, &[3]), 1002),
        ("close with 1005", masked(0x88, &1005u16.to_be_bytes()), 1002),
    ];
    for (name, wire, code) in cases {
        for size in [1, 2, 3, 999] {
            let (seen, error) = feed(1000, &wire, &[size]);
            assert!(seen.is_empty(), "{name}");
            assert_eq!(error.unwrap_or_else(|| panic!("{name}: accepted")).close_code(), code, "{name}");
        }
    }
}

#[test]
fn wrong_text_is_found_before_the_message_is_complete() {
    let mut wire = masked(0x81, &[b"ok".as_slice(), &[0xFF], &[b'a'; 500]].concat());
    wire.truncate(40);
    assert_eq!(feed(1000, &wire, &[20]).1, Some(ProtocolError::InvalidUtf8));
}

#[test]
fn a_character_may_be_cut_by_reads_and_by_fragments() {
    let text = "aé€😀";
    let (front, back) = text.as_bytes().split_at(4);
    let mut wire = masked(0x01, front);
    wire.extend(masked(0x80, back));
    for size in 1..wire.len() {
        assert_eq!(feed(100, &wire, &[size]), (vec![Seen::Text(text.into())], None));
    }
}

#[test]
fn an_idle_parser_owns_no_memory() {
    let mut parser = Parser::new(1_000_000);
    let wire = masked(0x82, &vec![1; 100_000]);
    for piece in wire.chunks(1000) {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        while parser.next(&mut input).unwrap().is_some() {}
    }
    assert_eq!(parser.buffered(), 0);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(wire in proptest::collection::vec(any::<u8>(), 0..400),
                                   sizes in proptest::collection::vec(1usize..40, 1..5)) {
        feed(64, &wire, &sizes);
    }

    #[test]
    fn the_pieces_do_not_matter(messages in proptest::collection::vec(
                                    (any::<bool>(), "\\PC{0,90}", proptest::collection::vec(0usize..300, 0..3)), 1..5),
                                sizes in proptest::collection::vec(1usize..200, 1..5)) {
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for (text, body, cuts) in &messages {
            let bytes = body.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut start = 0;
            for (index, cut) in cuts.iter().enumerate() {
                let opcode = match (index, text) { (0, true) => 1, (0, false) => 2, _ => 0 };
                let fin = if index + 1 == cuts.len() { 0x80 } else { 0 };
                wire.extend(masked(fin | opcode, &bytes[start..*cut]));
                start = *cut;
            }
            expected.push(if *text { Seen::Text(body.clone()) } else { Seen::Binary(bytes.to_vec()) });
        }
        let (seen, error) = feed(10_000, &wire, &sizes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(seen, expected);
    }
}
