//! What the events of a Socket.IO server are called. The protocol has no words of its own for joining a room.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A vocabulary of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Dialect {
    /// The gateway's own: join, message, signal; a signal to oneself is the echo.
    Gateway,
    /// The example `handlers` of `signalbox-node`: join, to, message.
    Handlers,
    /// join(room) and signal(to, data), both with an ack, message(room, data), echo(data): a few lines on any library.
    Generic,
}

impl Dialect {
    /// Joins a room, with an ack.
    pub(crate) fn join(self, room: &str, out: &mut Vec<u8>) {
        event(out, "420", "join", &[room]);
    }

    /// Whether this packet is that ack. Its words are the server's own, except that the gateway may refuse.
    pub(crate) fn is_joined(self, packet: &str) -> bool {
        let expected = if self == Self::Gateway { "430[{\"ok\":true" } else { "430[" };
        packet.starts_with(expected)
    }

    /// Leaves a room; nothing is answered.
    pub(crate) fn leave(self, room: &str, out: &mut Vec<u8>) {
        event(out, "42", "leave", &[room]);
    }

    /// Says something to the others in a room.
    pub(crate) fn message(self, room: &str, data: &str, out: &mut Vec<u8>) {
        let name = if self == Self::Handlers { "to" } else { "message" };
        event(out, "42", name, &[room, data]);
    }

    /// Says something to one socket; with an ack id, where the server acknowledges that.
    pub(crate) fn signal(self, to: &str, data: &str, ack: Option<u32>, out: &mut Vec<u8>) {
        let name = if self == Self::Handlers { "to" } else { "signal" };
        match ack {
            Some(ack) => event(out, &format!("42{ack}"), name, &[to, data]),
            None => event(out, "42", name, &[to, data]),
        }
    }

    /// Says something to oneself.
    pub(crate) fn echo(self, own_id: &str, data: &str, out: &mut Vec<u8>) {
        match self {
            Self::Gateway => event(out, "42", "signal", &[own_id, data]),
            Self::Handlers => event(out, "42", "message", &[data]),
            Self::Generic => event(out, "42", "echo", &[data]),
        }
    }

    /// Whether the server acknowledges a signal.
    pub(crate) fn acknowledges(self) -> bool {
        self != Self::Handlers
    }

    /// Whether the others in a room hear of joining and leaving.
    pub(crate) fn announces(self) -> bool {
        self == Self::Gateway
    }
}

/// The words have nothing in them that JSON would escape.
fn event(out: &mut Vec<u8>, kind: &str, name: &str, words: &[&str]) {
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"[\"");
    out.extend_from_slice(name.as_bytes());
    for word in words {
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(b"\"]");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn packets_are_json() {
        assert_eq!(packet(|out| Dialect::Gateway.join("r1", out)), r#"420["join","r1"]"#);
        assert_eq!(packet(|out| Dialect::Handlers.message("r1", "x", out)), r#"42["to","r1","x"]"#);
        assert_eq!(
            packet(|out| Dialect::Gateway.signal("id", "x", Some(12), out)),
            r#"4212["signal","id","x"]"#
        );
    }
}
