//! What a header alone does: it is judged before a byte of its payload is kept, and whatever it declares reserves nothing.

use signalbox_websocket::{Parser, ProtocolError};

const LIMIT: usize = 1_000_000;
const MASK: [u8; 4] = [1, 2, 3, 4];

/// The first bytes of a frame, with a length of eight bytes.
fn declares(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127][..], &length.to_be_bytes(), &MASK].concat()
}

/// What the parser says to these bytes, and what it holds afterwards.
fn after(mut wire: Vec<u8>) -> (Result<(), ProtocolError>, usize) {
    let mut parser = Parser::new(LIMIT);
    let outcome = parser.next(&mut &mut wire[..]).map(|message| assert_eq!(message, None));
    (outcome, parser.buffered())
}

#[test]
fn rfc_5_2_a_declared_length_reserves_nothing() {
    for first in [0x81, 0x82, 0x01, 0x02] {
        for length in [126, 65_536, LIMIT as u64] {
            assert_eq!(after(declares(first, length)), (Ok(()), 0), "{first:#x}, {length} bytes");
            // The first bytes of a payload take no more room than a small buffer does.
            let (outcome, held) = after([declares(first, length), vec![b'a' ^ MASK[0]]].concat());
            assert_eq!(outcome, Ok(()));
            assert!(held <= 64, "{first:#x}, {length} bytes declared: {held} held");
        }
    }
}

#[test]
fn rfc_10_4_a_length_over_the_limit_is_refused_by_its_header() {
    // The last one has the bit set that must be zero.
    for length in [LIMIT as u64 + 1, 400_000_000, u64::MAX >> 1, u64::MAX] {
        let too_big = ProtocolError::TooBig { declared: length, limit: LIMIT };
        assert_eq!(after(declares(0x82, length)), (Err(too_big), 0));
    }
}

#[test]
fn rfc_5_1_an_unmasked_frame_is_refused_by_two_bytes() {
    for (first, second) in [(0x81, 0), (0x82, 5), (0x89, 0), (0x88, 2), (0x81, 126), (0x82, 127)] {
        assert_eq!(after(vec![first, second]), (Err(ProtocolError::Unmasked), 0));
    }
}

#[test]
fn rfc_5_5_a_control_frame_is_refused_by_two_bytes() {
    for opcode in [0x8, 0x9, 0xA] {
        for (fin, length) in [(0x80, 126), (0x80, 127), (0, 0), (0, 125)] {
            assert_eq!(after(vec![fin | opcode, 0x80 | length]), (Err(ProtocolError::Control), 0));
        }
    }
}

#[test]
fn rfc_5_2_reserved_bits_and_opcodes_are_refused_by_two_bytes() {
    for bit in [0x40, 0x20, 0x10] {
        assert_eq!(after(vec![0x81 | bit, 0x80]), (Err(ProtocolError::ReservedBits), 0));
    }
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        assert_eq!(after(vec![0x80 | opcode, 0x80]), (Err(ProtocolError::Opcode(opcode)), 0));
    }
}

#[test]
fn rfc_5_4_a_fragment_is_refused_by_two_bytes() {
    assert_eq!(after(vec![0x80, 0x80]), (Err(ProtocolError::Fragments), 0), "it continues nothing");
    let begun = [&[0x01, 0x80][..], &MASK].concat();
    for first in [0x81, 0x82, 0x01, 0x02] {
        let wire = [&begun[..], &[first, 0x80]].concat();
        assert_eq!(after(wire), (Err(ProtocolError::Fragments), 0), "a message inside another");
    }
}

#[test]
fn rfc_7_4_close_codes() {
    let close = |code: u16| [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat();
    let is_accepted = |code| Parser::new(LIMIT).next(&mut &mut close(code)[..]).is_ok();
    // Those the registry has for the wire, and those for libraries and applications.
    let allowed = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    for code in 0..=u16::MAX {
        assert_eq!(is_accepted(code), allowed(code), "{code}");
    }
}
