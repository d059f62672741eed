//! The bytes that are written into Redis and published, in the formats of [`signalbox_cluster::envelope`].
//!
//! | what | format 1 | format 2 |
//! |---|---|---|
//! | record in a room's hash | owner (12), `1`, the record | owner (12), `2`, metadata, the record |
//! | change of a room | `D`, version (16), kind (1), the record | `C`, `2`, metadata, version (16), kind (1), the record |
//! | broadcast | `S`, `1`, owner (12), payload | `S`, `2`, metadata, owner (12), payload |
//! | message to a node | `1`, owner and message | `2`, metadata, owner and message |
//! | a node's description | `1`, the description, metadata | the same |
//!
//! An owner is its tag (4) and its epoch (8); a room's version is its epoch (8) and its number (8); numbers are big-endian. The
//! kind of a change is `J`, `U` or `L` (joined, updated, left). Records, messages and descriptions are [postcard]; a record keeps
//! the format in which it was written, also in a change. In format 2 a record has its profile once: where its events have it too,
//! they are templates.
//!
//! A description is the same in all formats, so that nodes of any version read each other's: earlier versions stop reading behind
//! the fields that they know, and do not see the metadata, which says what the node reads.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format

use std::{borrow::Cow, net::SocketAddr, time::Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{
    MessageTrace,
    address::Owner,
    command::{Change, PeerAt, PeerMessage, RealmId, Sender},
    envelope::{self, EnvelopeError, Format, FormatRange, Metadata, MetadataKey},
    record::{CompactRecord, Record, RoomName},
    store::{DirectMessage, NodeInfo, RoomDelta, RoomVersion},
};
use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::{
    clock::micros_since_1970,
    keys::{owner_bytes, read_owner},
};

/// The first byte of a message in a channel: a change in format 1, a change in a later format, a broadcast.
const CHANGE_V1: u8 = b'D';
const CHANGE: u8 = b'C';
const BROADCAST: u8 = b'S';

/// Whether a message to a node has a format that this version does not know.
pub(super) fn is_format_unknown(message: &[u8]) -> bool {
    matches!(envelope::split(message), Err(EnvelopeError::Format))
}

/// The same for a message that came through the channel of a room, or of all nodes.
pub(super) fn is_format_in_channel_unknown(message: &[u8]) -> bool {
    matches!(message.split_first(), Some((&(CHANGE | BROADCAST), rest)) if is_format_unknown(rest))
}

/// A membership record.
pub(super) fn encode_record(format: Format, record: &Record) -> Bytes {
    match format {
        Format::V1 => envelope::encode(format, &Metadata::default(), record),
        Format::V2 => envelope::encode(format, &Metadata::default(), &CompactRecord::from(record)),
    }
}

/// Reads a membership record.
pub(super) fn decode_record(bytes: &[u8]) -> Option<Record> {
    match Format::of_byte(*bytes.first()?)? {
        Format::V1 => envelope::decode(bytes).ok().map(|(_, record)| record),
        Format::V2 => envelope::decode(bytes).ok().map(|(_, record): (_, CompactRecord)| record.into()),
    }
}

/// The fields of a node's description that every version knows.
#[derive(Serialize, Deserialize)]
struct EncodedNodeInfo<'a> {
    owner: Owner,
    name: Cow<'a, str>,
    link: Option<SocketAddr>,
    is_draining: bool,
}

/// A node's description of itself.
pub(super) fn encode_node_info(node: &NodeInfo) -> Vec<u8> {
    let NodeInfo { owner, name, link, is_draining, is_rewriting, reads, takes_tls } = node;
    let fields = EncodedNodeInfo { owner: *owner, name: name.into(), link: *link, is_draining: *is_draining };
    let mut bytes = envelope::encode(Format::V1, &Metadata::default(), &fields).to_vec();
    let reads = [reads.lowest, reads.highest];
    let mut metadata = Metadata::default().with(MetadataKey::ReadsFormats, reads);
    metadata.insert(MetadataKey::NodeLink, [u8::from(*takes_tls)]);
    metadata.insert(MetadataKey::NodeState, [u8::from(*is_rewriting)]);
    metadata.write(&mut bytes);
    bytes
}

/// Reads a node's description of itself. A node whose description has no metadata is of a version that reads format 1 only.
pub(super) fn decode_node_info(bytes: &[u8]) -> Option<NodeInfo> {
    let fields = bytes.strip_prefix(&[Format::V1.byte()])?;
    let (fields, rest) = postcard::take_from_bytes::<EncodedNodeInfo<'_>>(fields).ok()?;
    let metadata = if rest.is_empty() { Metadata::default() } else { Metadata::read(rest).ok()?.0 };
    let reads = match metadata.get(MetadataKey::ReadsFormats) {
        Some([lowest, highest, ..]) => FormatRange { lowest: *lowest, highest: *highest },
        _ => FormatRange::UNSTATED,
    };
    let is_set = |key| metadata.get(key).is_some_and(|flags| flags.first() == Some(&1));
    let (takes_tls, is_rewriting) = (is_set(MetadataKey::NodeLink), is_set(MetadataKey::NodeState));
    let EncodedNodeInfo { owner, name, link, is_draining } = fields;
    Some(NodeInfo { owner, name: name.into_owned(), link, is_draining, is_rewriting, reads, takes_tls })
}

/// The beginning of a room's changes, which scripts publish.
pub(super) fn change_head(format: Format) -> Vec<u8> {
    match format {
        Format::V1 => vec![CHANGE_V1],
        later => [&[CHANGE], &envelope::head(later, &Metadata::default())[..]].concat(),
    }
}

/// A broadcast to a room, or to all nodes.
pub(super) struct Broadcast<'a> {
    pub(super) format: Format,
    pub(super) from: Owner,
    /// In microseconds since 1970.
    pub(super) sent_at: u64,
    pub(super) payload: &'a [u8],
}

impl Broadcast<'_> {
    fn write(&self, mut to: impl std::io::Write) -> std::io::Result<()> {
        to.write_all(&[BROADCAST])?;
        let metadata = Metadata::default().with(MetadataKey::SentAt, self.sent_at.to_be_bytes());
        to.write_all(&envelope::head(self.format, &metadata))?;
        to.write_all(&owner_bytes(self.from))?;
        to.write_all(self.payload)
    }
}

impl redis::ToRedisArgs for Broadcast<'_> {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        // Writing into memory does not fail.
        let _ = self.write(out.writer_for_next_arg());
    }
}

impl redis::ToSingleRedisArg for Broadcast<'_> {}

/// A message that came through the channel of a room, or of all nodes.
#[derive(Debug)]
pub(super) enum ChannelMessage {
    Change(RoomDelta),
    Broadcast {
        from: Owner,
        payload: Bytes,
        /// In microseconds since 1970, where the sender says so.
        sent_at: Option<u64>,
    },
}

/// Reads a message that came through a channel. Changes come only through a room's.
pub(super) fn decode_channel_message(room: Option<&RoomName>, bytes: &Bytes) -> Option<ChannelMessage> {
    let (first, rest) = bytes.split_first()?;
    match *first {
        CHANGE_V1 => decode_change(room?, rest),
        CHANGE => decode_change(room?, envelope::split(rest).ok()?.1),
        BROADCAST => {
            let (metadata, rest) = envelope::split(rest).ok()?;
            let sent_at = metadata.get(MetadataKey::SentAt).and_then(|at| at.try_into().ok());
            let sent_at = sent_at.map(u64::from_be_bytes);
            let from = read_owner(rest)?;
            Some(ChannelMessage::Broadcast { from, payload: bytes.slice_ref(&rest[12..]), sent_at })
        }
        _ => None,
    }
}

fn decode_change(room: &RoomName, bytes: &[u8]) -> Option<ChannelMessage> {
    let (version, rest) = bytes.split_at_checked(16)?;
    let (kind, record) = rest.split_first()?;
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    let room_version = RoomVersion { epoch: number(&version[..8])?, version: number(&version[8..])? };
    let record = decode_record(record)?.into();
    let change = match kind {
        b'J' => Change::Joined(record),
        b'U' => Change::Updated(record),
        b'L' => Change::Left(record),
        _ => return None,
    };
    Some(ChannelMessage::Change(RoomDelta { room: room.clone(), room_version, change }))
}

/// A [`DirectMessage`] on the wire. Realms go by name: nodes may know them in another order.
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

/// A message to one node.
pub(super) fn encode_direct(
    format: Format,
    realms: &[String],
    from: Owner,
    message: &DirectMessage,
) -> Bytes {
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
    let trace = match message {
        DirectMessage::PeerMessage { peer_message, .. } => peer_message.trace.as_ref(),
        _ => None,
    };
    let metadata = trace.map(|trace| trace.metadata(Instant::now(), micros_since_1970()));
    let metadata = metadata.unwrap_or_default();
    envelope::encode(format, &metadata, &(from, encoded))
}

/// Reads a message of another node to this one.
pub(super) fn decode_direct(realms: &[String], bytes: &Bytes) -> Option<(Owner, DirectMessage)> {
    let (metadata, (from, encoded)): (_, (Owner, EncodedDirect<'_>)) = envelope::decode(bytes).ok()?;
    let trace = || MessageTrace::read(&metadata, Instant::now(), micros_since_1970());
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
                peer_message: PeerMessage {
                    from,
                    realm,
                    kind,
                    src,
                    dst,
                    frame,
                    hops,
                    sender,
                    trace: trace(),
                },
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
    use signalbox_cluster::address::{Address, NodeTag};

    use super::*;

    const FROM: Owner = Owner { tag: NodeTag(7), epoch: 3 };

    fn encode_broadcast(format: Format, from: Owner, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Broadcast { format, from, sent_at: 7, payload }.write(&mut bytes).unwrap();
        bytes
    }

    fn realms() -> Vec<String> {
        vec!["peerjs".into(), "other".into()]
    }

    fn room() -> RoomName {
        RoomName { namespace: "/".into(), name: "r".into() }
    }

    fn record() -> Record {
        let socket = Address::from_bytes([9; 15]);
        Record { socket, profile: "{}".into(), joined: None, updated: None, left: None }
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
            trace: Some(MessageTrace { parent: "00-trace-span-01".into(), sent: Instant::now() }),
        };
        let message = DirectMessage::PeerMessage { to: at, peer_message };
        for format in Format::ALL {
            let bytes = encode_direct(format, &realms(), FROM, &message);
            let other: Vec<String> = realms().into_iter().rev().collect();
            let Some((FROM, DirectMessage::PeerMessage { to, peer_message })) = decode_direct(&other, &bytes)
            else {
                panic!()
            };
            assert_eq!((to, peer_message.realm, peer_message.kind), (at, 0, Kind::Offer));
            let trace = (format == Format::V2).then_some("00-trace-span-01");
            assert_eq!(peer_message.trace.as_ref().map(|trace| &*trace.parent), trace);
            assert_eq!(
                (&*peer_message.src, &*peer_message.dst, peer_message.frame.payload()),
                ("a", "b", &b"{}"[..])
            );
            assert!(decode_direct(&["neither".to_owned()], &bytes).is_none());
        }
    }

    #[test]
    fn broadcasts_and_changes_of_both_formats_are_read_and_later_ones_are_not() {
        for format in Format::ALL {
            let mut bytes = encode_broadcast(format, FROM, b"x");
            let read = decode_channel_message(None, &bytes.clone().into());
            assert!(
                matches!(&read, Some(ChannelMessage::Broadcast { from: FROM, payload, .. }) if payload == "x")
            );
            let Some(ChannelMessage::Broadcast { sent_at, .. }) = read else { panic!("not a broadcast") };
            assert_eq!(sent_at, (format == Format::V2).then_some(7));
            bytes[1] = Format::V2.byte() + 1;
            assert!(decode_channel_message(None, &bytes.into()).is_none());

            let version = RoomVersion { epoch: 5, version: 6 };
            let mut bytes = change_head(format);
            bytes.extend_from_slice(&version.epoch.to_be_bytes());
            bytes.extend_from_slice(&version.version.to_be_bytes());
            bytes.push(b'J');
            bytes.extend_from_slice(&encode_record(format, &record()));
            let Some(ChannelMessage::Change(delta)) =
                decode_channel_message(Some(&room()), &Bytes::from(bytes))
            else {
                panic!()
            };
            assert_eq!((&delta.room, delta.room_version), (&room(), version));
            assert_eq!(**delta.change.record(), record());
        }
    }

    #[test]
    fn format_1_is_what_earlier_versions_write() {
        let record_bytes = [&[1][..], &postcard::to_stdvec(&record()).unwrap()].concat();
        assert_eq!(encode_record(Format::V1, &record()), record_bytes);
        assert_eq!(change_head(Format::V1), b"D");
        let owner = owner_bytes(FROM);
        assert_eq!(encode_broadcast(Format::V1, FROM, b"x"), [&b"S\x01"[..], &owner, b"x"].concat());
        let direct = encode_direct(Format::V1, &realms(), FROM, &DirectMessage::Revoked(5));
        let expected = postcard::to_stdvec(&(FROM, EncodedDirect::Revoked(5))).unwrap();
        assert_eq!(direct, [&[1][..], &expected].concat());
    }

    /// A node's description as it was before nodes said what they read.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct EarlierNodeInfo {
        owner: Owner,
        name: String,
        link: Option<SocketAddr>,
        is_draining: bool,
    }

    #[test]
    fn nodes_of_this_version_and_of_earlier_ones_read_each_other() {
        let link = "10.0.0.7:9005".parse().ok();
        let earlier = EarlierNodeInfo { owner: FROM, name: "one".to_owned(), link, is_draining: true };
        let node = NodeInfo { link, is_draining: true, ..NodeInfo::new(FROM, "one".to_owned()) };
        let bytes = encode_node_info(&node);
        // As earlier versions read it.
        assert_eq!(bytes[0], 1);
        assert_eq!(postcard::from_bytes::<EarlierNodeInfo>(&bytes[1..]), Ok(earlier));
        assert_eq!(decode_node_info(&bytes), Some(node.clone()));
        let writing = NodeInfo { is_rewriting: true, ..node.clone() };
        assert_eq!(decode_node_info(&encode_node_info(&writing)), Some(writing));
        let earlier = EarlierNodeInfo { owner: FROM, name: "one".to_owned(), link, is_draining: true };
        let bytes = postcard::to_extend(&earlier, vec![1]).unwrap();
        assert_eq!(decode_node_info(&bytes), Some(NodeInfo { reads: FormatRange::UNSTATED, ..node }));
    }

    #[test]
    fn a_later_version_may_say_more_about_itself() {
        let node = NodeInfo::new(FROM, "one".to_owned());
        let mut bytes = encode_node_info(&node);
        // The count, the formats, how the link is spoken to, and what the node does.
        const METADATA: usize = 1 + (3 + 2) + (3 + 1) + (3 + 1);
        // Formats 2 to 9, and something that this version does not know.
        bytes.truncate(bytes.len() - METADATA);
        bytes.extend_from_slice(&[2, 99, 0, 1, 7, MetadataKey::ReadsFormats as u8, 0, 2, 2, 9]);
        let reads = FormatRange { lowest: 2, highest: 9 };
        assert_eq!(decode_node_info(&bytes), Some(NodeInfo { reads, ..node }));
    }

    proptest! {
        #[test]
        fn anything_may_come_through_a_channel(first in prop::sample::select(b"DCS\x01\x02x".to_vec()), format in 0_u8..4, rest in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from([&[first, format][..], &rest].concat());
            let _ = decode_channel_message(Some(&room()), &bytes);
            let _ = (decode_direct(&realms(), &bytes), decode_node_info(&bytes), decode_record(&bytes));
        }

        #[test]
        fn descriptions_are_read_as_they_were_written(name: String, epoch: u64, is_draining: bool, lowest: u8, highest: u8) {
            let owner = Owner { tag: NodeTag(1), epoch };
            let reads = FormatRange { lowest, highest };
            let node = NodeInfo { is_draining, reads, ..NodeInfo::new(owner, name) };
            prop_assert_eq!(decode_node_info(&encode_node_info(&node)), Some(node));
        }
    }
}
