//! What is written into Redis and said on the bus. Everything begins with the number of its format; a node speaks its own and
//! the one before.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::keys::{owner_bytes, read_owner};
use crate::{
    address::Owner,
    command::{Change, PeerAt, PeerMessage, RealmId, Sender},
    record::{Record, RoomName},
    store::{NodeInfo, RoomDelta, Stamp, ToNode},
};

/// The format that is spoken.
pub(super) const FORMAT: u8 = 1;
/// The formats that are understood: this one, and the one before once there is one.
const UNDERSTOOD: std::ops::RangeInclusive<u8> = 1..=FORMAT;

/// What the first byte of a message in a room's channel says: a change, which a script publishes, or something said by a node.
const CHANGE: u8 = b'D';
const SAID: u8 = b'S';

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Writing into memory does not fail.
    postcard::to_extend(value, vec![FORMAT]).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (format, rest) = bytes.split_first()?;
    UNDERSTOOD.contains(format).then(|| postcard::from_bytes(rest).ok())?
}

/// A membership record.
pub(super) fn record(record: &Record) -> Vec<u8> {
    encode(record)
}

/// Reads a membership record.
pub(super) fn read_record(bytes: &[u8]) -> Option<Record> {
    decode(bytes)
}

/// A node's description of itself.
pub(super) fn node(node: &NodeInfo) -> Vec<u8> {
    encode(node)
}

/// Reads a node's description of itself.
pub(super) fn read_node(bytes: &[u8]) -> Option<NodeInfo> {
    decode(bytes)
}

/// Something that is said in a room or everywhere.
pub(super) fn said(from: Owner, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(14 + payload.len());
    message.extend_from_slice(&[SAID, FORMAT]);
    message.extend_from_slice(&owner_bytes(from));
    message.extend_from_slice(payload);
    message
}

/// What comes through the channel of a room, or of all nodes.
#[derive(Debug)]
pub(super) enum Heard {
    Change(RoomDelta),
    Said(Owner, Bytes),
}

/// Reads what came through a channel; changes only through a room's.
pub(super) fn read_heard(room: Option<&RoomName>, bytes: &Bytes) -> Option<Heard> {
    match *bytes.first()? {
        CHANGE => {
            let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
            let stamp = Stamp { epoch: number(1)?, version: number(9)? };
            let record = read_record(bytes.get(18..)?)?.into();
            let change = match bytes[17] {
                b'J' => Change::Joined(record),
                b'U' => Change::Updated(record),
                b'L' => Change::Left(record),
                _ => return None,
            };
            Some(Heard::Change(RoomDelta { room: room?.clone(), stamp, change }))
        }
        SAID if UNDERSTOOD.contains(bytes.get(1)?) => {
            Some(Heard::Said(read_owner(bytes.get(2..)?)?, bytes.slice(14..)))
        }
        _ => None,
    }
}

/// What one node tells another, on the wire. Realms go by name: nodes may know them in another order.
#[derive(Serialize, Deserialize)]
enum Told<'a> {
    PeerMessage {
        to: PeerAt,
        from: PeerAt,
        realm: &'a str,
        kind: &'a str,
        src: &'a str,
        dst: &'a str,
        frame: &'a [u8],
        is_binary: bool,
        hops: u8,
        sender: Option<Sender>,
    },
    Superseded {
        realm: &'a str,
        id: &'a str,
        at: PeerAt,
    },
    LetGo {
        realm: &'a str,
        id: &'a str,
        at: PeerAt,
        number: u64,
    },
    HasLetGo(u64),
    Other(&'a [u8]),
}

/// Something for one node.
pub(super) fn told(realms: &[String], from: Owner, message: &ToNode) -> Vec<u8> {
    let told = match message {
        ToNode::PeerMessage { to, letter } => Told::PeerMessage {
            to: *to,
            from: letter.from,
            realm: realms.get(usize::from(letter.realm)).map_or("", String::as_str),
            kind: letter.kind.name(),
            src: &letter.src,
            dst: &letter.dst,
            frame: letter.frame.payload(),
            is_binary: letter.frame.is_binary(),
            hops: letter.hops,
            sender: letter.sender.clone(),
        },
        ToNode::Superseded { realm, id, at } => Told::Superseded {
            realm: realms.get(usize::from(*realm)).map_or("", String::as_str),
            id,
            at: *at,
        },
        ToNode::LetGo { realm, id, at, number } => Told::LetGo {
            realm: realms.get(usize::from(*realm)).map_or("", String::as_str),
            id,
            at: *at,
            number: *number,
        },
        ToNode::HasLetGo(number) => Told::HasLetGo(*number),
        ToNode::Other(payload) => Told::Other(payload),
    };
    encode(&(from, told))
}

/// Reads what another node tells this one.
pub(super) fn read_told(realms: &[String], bytes: &Bytes) -> Option<(Owner, ToNode)> {
    let (from, told): (Owner, Told<'_>) = decode(bytes)?;
    let message = match told {
        Told::PeerMessage { to, from, realm, kind, src, dst, frame, is_binary, hops, sender } => {
            let realm = realms.iter().position(|known| known == realm)? as RealmId;
            let frame = match std::str::from_utf8(frame) {
                Ok(text) if !is_binary => Frame::text(text),
                _ => Frame::binary(frame),
            };
            let kind = Kind::of_name(kind)?;
            let (src, dst) = (src.into(), dst.into());
            ToNode::PeerMessage {
                to,
                letter: PeerMessage { from, realm, kind, src, dst, frame, hops, sender },
            }
        }
        Told::Superseded { realm, id, at } => {
            let realm = realms.iter().position(|known| known == realm)? as RealmId;
            ToNode::Superseded { realm, id: id.into(), at }
        }
        Told::LetGo { realm, id, at, number } => {
            let realm = realms.iter().position(|known| known == realm)? as RealmId;
            ToNode::LetGo { realm, id: id.into(), at, number }
        }
        Told::HasLetGo(number) => ToNode::HasLetGo(number),
        Told::Other(payload) => ToNode::Other(bytes.slice_ref(payload)),
    };
    Some((from, message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::NodeTag;

    const FROM: Owner = Owner { tag: NodeTag(7), epoch: 3 };

    fn realms() -> Vec<String> {
        vec!["peerjs".into(), "other".into()]
    }

    #[test]
    fn a_letter_finds_its_realm_by_name() {
        let at = PeerAt { shard: 1, key: 2, generation: 3 };
        let letter = PeerMessage {
            from: at,
            realm: 1,
            kind: Kind::Offer,
            src: "a".into(),
            dst: "b".into(),
            frame: Frame::text("{}"),
            hops: 1,
            sender: Some(Sender { node: FROM.tag, token: "t".into() }),
        };
        let bytes = Bytes::from(told(&realms(), FROM, &ToNode::PeerMessage { to: at, letter }));
        let other: Vec<String> = realms().into_iter().rev().collect();
        let Some((FROM, ToNode::PeerMessage { to, letter })) = read_told(&other, &bytes) else { panic!() };
        assert_eq!((to, letter.realm, letter.kind), (at, 0, Kind::Offer));
        assert_eq!((&*letter.src, &*letter.dst, letter.frame.payload()), ("a", "b", &b"{}"[..]));
        assert!(read_told(&["neither".to_owned()], &bytes).is_none());
    }

    #[test]
    fn an_unknown_format_is_not_understood() {
        let mut bytes = said(FROM, b"x");
        assert!(matches!(read_heard(None, &bytes.clone().into()), Some(Heard::Said(FROM, x)) if x == "x"));
        bytes[1] = FORMAT + 1;
        assert!(read_heard(None, &bytes.into()).is_none());
    }

    proptest! {
        #[test]
        fn anything_may_come_through_a_channel(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let room = RoomName { namespace: "/".into(), name: "r".into() };
            let _ = (read_heard(Some(&room), &bytes), read_told(&realms(), &bytes), read_node(&bytes));
        }
    }
}
