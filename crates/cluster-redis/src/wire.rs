//! What is written into Redis and said on the bus. Everything begins with the number of its format; a node speaks its own and
//! the one before.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::keys::{owner_bytes, read_owner};
use signalbox_cluster::{
    address::Owner,
    command::{Change, PeerAt, PeerMessage, RealmId, Sender},
    record::{Record, RoomName},
    store::{DirectMessage, NodeInfo, RoomDelta, RoomVersion},
};

/// The format that is spoken.
pub(super) const FORMAT: u8 = 1;
/// The formats that are understood: this one, and the one before once there is one.
const READABLE: std::ops::RangeInclusive<u8> = 1..=FORMAT;

/// What the first byte of a message in a room's channel says: a change, which a script publishes, or something said by a node.
const CHANGE: u8 = b'D';
const BROADCAST: u8 = b'S';

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Writing into memory does not fail.
    postcard::to_extend(value, vec![FORMAT]).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (format, rest) = bytes.split_first()?;
    READABLE.contains(format).then(|| postcard::from_bytes(rest).ok())?
}

/// A membership record.
pub(super) fn encode_record(record: &Record) -> Vec<u8> {
    encode(record)
}

/// Reads a membership record.
pub(super) fn decode_record(bytes: &[u8]) -> Option<Record> {
    decode(bytes)
}

/// A node's description of itself.
pub(super) fn encode_node_info(node: &NodeInfo) -> Vec<u8> {
    encode(node)
}

/// Reads a node's description of itself.
pub(super) fn decode_node_info(bytes: &[u8]) -> Option<NodeInfo> {
    decode(bytes)
}

/// Something that is said in a room or everywhere.
pub(super) fn encode_broadcast(from: Owner, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(14 + payload.len());
    message.extend_from_slice(&[BROADCAST, FORMAT]);
    message.extend_from_slice(&owner_bytes(from));
    message.extend_from_slice(payload);
    message
}

/// What comes through the channel of a room, or of all nodes.
#[derive(Debug)]
pub(super) enum ChannelMessage {
    Change(RoomDelta),
    Broadcast(Owner, Bytes),
}

/// Reads what came through a channel; changes only through a room's.
pub(super) fn decode_channel_message(room: Option<&RoomName>, bytes: &Bytes) -> Option<ChannelMessage> {
    match *bytes.first()? {
        CHANGE => {
            let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
            let room_version = RoomVersion { epoch: number(1)?, version: number(9)? };
            let record = decode_record(bytes.get(18..)?)?.into();
            let change = match bytes[17] {
                b'J' => Change::Joined(record),
                b'U' => Change::Updated(record),
                b'L' => Change::Left(record),
                _ => return None,
            };
            Some(ChannelMessage::Change(RoomDelta { room: room?.clone(), room_version, change }))
        }
        BROADCAST if READABLE.contains(bytes.get(1)?) => {
            Some(ChannelMessage::Broadcast(read_owner(bytes.get(2..)?)?, bytes.slice(14..)))
        }
        _ => None,
    }
}

/// What one node tells another, on the wire. Realms go by name: nodes may know them in another order.
#[derive(Serialize, Deserialize)]
enum EncodedDirect<'a> {
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
    Revoke {
        realm: &'a str,
        id: &'a str,
        at: PeerAt,
        number: u64,
    },
    Revoked(u64),
    Payload(&'a [u8]),
}

/// Something for one node.
pub(super) fn encode_direct(realms: &[String], from: Owner, message: &DirectMessage) -> Vec<u8> {
    let encoded = match message {
        DirectMessage::PeerMessage { to, peer_message } => EncodedDirect::PeerMessage {
            to: *to,
            from: peer_message.from,
            realm: realms.get(usize::from(peer_message.realm)).map_or("", String::as_str),
            kind: peer_message.kind.name(),
            src: &peer_message.src,
            dst: &peer_message.dst,
            frame: peer_message.frame.payload(),
            is_binary: peer_message.frame.is_binary(),
            hops: peer_message.hops,
            sender: peer_message.sender.clone(),
        },
        DirectMessage::Superseded { realm, id, at } => EncodedDirect::Superseded {
            realm: realms.get(usize::from(*realm)).map_or("", String::as_str),
            id,
            at: *at,
        },
        DirectMessage::Revoke { realm, id, at, number } => EncodedDirect::Revoke {
            realm: realms.get(usize::from(*realm)).map_or("", String::as_str),
            id,
            at: *at,
            number: *number,
        },
        DirectMessage::Revoked(number) => EncodedDirect::Revoked(*number),
        DirectMessage::Payload(payload) => EncodedDirect::Payload(payload),
    };
    encode(&(from, encoded))
}

/// Reads what another node tells this one.
pub(super) fn decode_direct(realms: &[String], bytes: &Bytes) -> Option<(Owner, DirectMessage)> {
    let (from, encoded): (Owner, EncodedDirect<'_>) = decode(bytes)?;
    let message = match encoded {
        EncodedDirect::PeerMessage { to, from, realm, kind, src, dst, frame, is_binary, hops, sender } => {
            let realm = realms.iter().position(|known| known == realm)? as RealmId;
            let frame = match std::str::from_utf8(frame) {
                Ok(text) if !is_binary => Frame::text(text),
                _ => Frame::binary(frame),
            };
            let kind = Kind::of_name(kind)?;
            let (src, dst) = (src.into(), dst.into());
            DirectMessage::PeerMessage {
                to,
                peer_message: PeerMessage { from, realm, kind, src, dst, frame, hops, sender },
            }
        }
        EncodedDirect::Superseded { realm, id, at } => {
            let realm = realms.iter().position(|known| known == realm)? as RealmId;
            DirectMessage::Superseded { realm, id: id.into(), at }
        }
        EncodedDirect::Revoke { realm, id, at, number } => {
            let realm = realms.iter().position(|known| known == realm)? as RealmId;
            DirectMessage::Revoke { realm, id: id.into(), at, number }
        }
        EncodedDirect::Revoked(number) => DirectMessage::Revoked(number),
        EncodedDirect::Payload(payload) => DirectMessage::Payload(bytes.slice_ref(payload)),
    };
    Some((from, message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use signalbox_cluster::address::NodeTag;

    const FROM: Owner = Owner { tag: NodeTag(7), epoch: 3 };

    fn realms() -> Vec<String> {
        vec!["peerjs".into(), "other".into()]
    }

    #[test]
    fn a_peer_message_finds_its_realm_by_name() {
        let at = PeerAt { shard: 1, key: 2, generation: 3 };
        let peer_message = PeerMessage {
            from: at,
            realm: 1,
            kind: Kind::Offer,
            src: "a".into(),
            dst: "b".into(),
            frame: Frame::text("{}"),
            hops: 1,
            sender: Some(Sender { node: FROM.tag, token: "t".into() }),
        };
        let bytes =
            Bytes::from(encode_direct(&realms(), FROM, &DirectMessage::PeerMessage { to: at, peer_message }));
        let other: Vec<String> = realms().into_iter().rev().collect();
        let Some((FROM, DirectMessage::PeerMessage { to, peer_message })) = decode_direct(&other, &bytes)
        else {
            panic!()
        };
        assert_eq!((to, peer_message.realm, peer_message.kind), (at, 0, Kind::Offer));
        assert_eq!(
            (&*peer_message.src, &*peer_message.dst, peer_message.frame.payload()),
            ("a", "b", &b"{}"[..])
        );
        assert!(decode_direct(&["neither".to_owned()], &bytes).is_none());
    }

    #[test]
    fn an_unknown_format_is_not_understood() {
        let mut bytes = encode_broadcast(FROM, b"x");
        assert!(
            matches!(decode_channel_message(None, &bytes.clone().into()), Some(ChannelMessage::Broadcast(FROM, x)) if x == "x")
        );
        bytes[1] = FORMAT + 1;
        assert!(decode_channel_message(None, &bytes.into()).is_none());
    }

    proptest! {
        #[test]
        fn anything_may_come_through_a_channel(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let room = RoomName { namespace: "/".into(), name: "r".into() };
            let _ = (decode_channel_message(Some(&room), &bytes), decode_direct(&realms(), &bytes), decode_node_info(&bytes));
        }
    }
}
