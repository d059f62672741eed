//! What the calls are about: few things, so that they meet.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use signalbox_cluster::{
    Address, EventArgs, MemberEvent, NodeTag, Owner, RealmId, Record, RoomName, SubjectList, partition,
};

pub(super) const REALMS: [&str; 2] = ["peerjs", "other"];
/// Zeros end names in keys and in entries of an index; lengths are in bytes.
pub(super) const IDS: [&str; 3] = ["a", "b\0b", "\u{e9}"];
pub(super) const TOKENS: [&str; 2] = ["", "t"];
pub(super) const NAMESPACES: [&str; 2] = ["/", "/x"];
pub(super) const ROOMS: [(&str, &str); 3] = [("/", "r"), ("/", "r\0s"), ("/x", "r")];
pub(super) const TAGS: [u32; 3] = [1, 0x0A00_0D00, 0xFFFF_FFFE];
pub(super) const PROFILES: [&str; 2] = ["{}", "{\"name\":\"\u{e9}\"}"];
/// Owners beside those of a crowd.
pub(super) const OWNERS: u8 = 6;
/// Nodes that come at once: more than one heartbeat buries.
pub(super) const CROWD_OF_NODES: u32 = 20;
/// Users that come at once: more than one call reaps, and two such crowds are more than a page.
pub(super) const CROWD_OF_USERS: u16 = 600;

/// Generations that were not granted, early and late.
pub(super) const EARLY: Range<u64> = 1..4;
pub(super) const LATE: Range<u64> = 1 << 52..(1 << 52) + 2;

/// How long a message waits: no test takes as long.
pub(super) const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn owners() -> Vec<Owner> {
    (0..OWNERS).map(owner).chain(crowd_of_nodes()).collect()
}

pub(super) fn crowd_of_nodes() -> impl Iterator<Item = Owner> {
    (0..CROWD_OF_NODES).map(|number| Owner { tag: NodeTag(1_000 + number), epoch: 1 })
}

pub(super) fn owner(number: u8) -> Owner {
    Owner { tag: NodeTag(TAGS[usize::from(number / 2)]), epoch: 1 + u64::from(number % 2) }
}

pub(super) fn rooms() -> Vec<RoomName> {
    ROOMS
        .iter()
        .map(|(namespace, name)| RoomName { namespace: (*namespace).into(), name: (*name).into() })
        .collect()
}

/// Whose connections are counted.
pub(super) fn lists() -> [SubjectList; 2] {
    ["alice", "bob"].map(|subject| SubjectList::of(None, subject))
}

/// Those of the first two and of the last two partitions; every byte may be a zero.
pub(super) fn sockets() -> Vec<Address> {
    let crowd = (0_u16..2).map(|half| of_crowd(0, half * CROWD_OF_USERS + 7));
    let few =
        [[0; 15], [1; 15], [254; 15], [255; 15], *b"\0\x2AC\0D\0\0\0\0\0r\0s\0\0"].map(Address::from_bytes);
    few.into_iter().chain(crowd).collect()
}

pub(super) fn of_crowd(partition: u8, number: u16) -> Address {
    let mut bytes = [b'c'; 15];
    bytes[0] = partition;
    bytes[13..].copy_from_slice(&number.to_be_bytes());
    Address::from_bytes(bytes)
}

pub(super) fn namespaces() -> impl Iterator<Item = Arc<str>> {
    NAMESPACES.into_iter().map(Arc::from)
}

pub(super) fn peers() -> impl Iterator<Item = (RealmId, Arc<str>)> {
    let realms = 0..REALMS.len() as RealmId;
    realms.flat_map(|realm| IDS.iter().map(move |id| (realm, Arc::from(*id))))
}

pub(super) fn tokens() -> impl Iterator<Item = Arc<str>> {
    TOKENS.into_iter().map(Arc::from)
}

/// The partitions in which anything may be.
pub(super) fn partitions() -> Vec<u8> {
    let peers = peers().map(|(realm, id)| partition::of_peer(REALMS[usize::from(realm)], &id));
    let rooms = rooms().into_iter().map(|room| partition::of_room(&room));
    let users = sockets().into_iter().map(|socket| partition::of_user("/", socket));
    let counted = lists().into_iter().map(|list| partition::of_user(list.name(), sockets()[0]));
    let mut all: Vec<u8> = peers.chain(rooms).chain(users).chain(counted).collect();
    all.sort_unstable();
    all.dedup();
    all
}

pub(super) fn record(socket: usize, content: usize) -> Arc<Record> {
    let emission = MemberEvent {
        event: "left".into(),
        args: EventArgs::new("{\"_placeholder\":true,\"num\":0}", PROFILES[content]),
        attachments: vec![Bytes::from_static(b"\0\xFF")],
    };
    Arc::new(Record {
        socket: sockets()[socket],
        profile: PROFILES[content].into(),
        joined: None,
        updated: None,
        left: (content > 0).then_some(emission),
    })
}
