//! What a Socket.IO packet asks for, found without parsing it.

/// A packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// CONNECT.
    Connect,
    /// `join(room)`, with the digits of the ack's id.
    Join { id: &'a [u8], room: &'a [u8] },
    /// `message(room, data)`; `data` goes on to the packet's closing bracket.
    Message { room: &'a [u8], data: &'a [u8] },
    /// `echo(data)`.
    Echo,
    /// Nothing that the floor knows.
    Other,
}

/// Reads a text message of the client's. A room is the text between its quotes, escapes and all.
pub(crate) fn read(text: &[u8]) -> Packet<'_> {
    if let Some(event) = text.strip_prefix(b"42") {
        return read_event(event).unwrap_or(Packet::Other);
    }
    if text.starts_with(b"40") { Packet::Connect } else { Packet::Other }
}

fn read_event(event: &[u8]) -> Option<Packet<'_>> {
    let digits = event.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, event) = event.split_at(digits);
    let (name, args) = string(event.strip_prefix(b"[")?)?;
    Some(match name {
        b"message" => {
            let (room, data) = string(args.strip_prefix(b",")?)?;
            Packet::Message { room, data: data.strip_prefix(b",")? }
        }
        b"echo" => Packet::Echo,
        b"join" => Packet::Join { id, room: string(args.strip_prefix(b",")?)?.0 },
        _ => return None,
    })
}

/// Takes a JSON string off the front: what is between its quotes, and what is behind them.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_the_load_test_are_found() {
        for (text, packet) in [
            ("40", Packet::Connect),
            (r#"40{"token":1}"#, Packet::Connect),
            (r#"420["join","r"]"#, Packet::Join { id: b"0", room: b"r" }),
            (r#"42["join","r\"\\",{}]"#, Packet::Join { id: b"", room: br#"r\"\\"# }),
            (r#"42["message","r",{"a":"]"}]"#, Packet::Message { room: b"r", data: br#"{"a":"]"}]"# }),
            (r#"42["echo","x"]"#, Packet::Echo),
            (r#"42["other","x"]"#, Packet::Other),
            (r#"42["message","r"]"#, Packet::Other),
            (r#"42["join"#, Packet::Other),
            ("3", Packet::Other),
            ("", Packet::Other),
        ] {
            assert_eq!(read(text.as_bytes()), packet, "{text}");
        }
    }
}
