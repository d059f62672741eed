//! Names of keys and channels: `{prefix}:{hash tag}:...`. Everything of one partition has one hash tag, so that a script finds it
//! on one server of a Redis Cluster.

use std::sync::LazyLock;

use bytes::Bytes;

use signalbox_cluster::{
    address::{NodeTag, Owner},
    partition::{self, PARTITIONS},
    record::RoomName,
};

/// Slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Hash tags, by partition: the smallest number whose slot is among the partition's 64. Partitions spread over the slots evenly.
static HASH_TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut tags = vec![String::new(); PARTITIONS];
    let mut missing = PARTITIONS;
    for number in 0_u32.. {
        let tag = number.to_string();
        let slot = usize::from(crc16(tag.as_bytes()) % SLOTS);
        let place = &mut tags[slot / (usize::from(SLOTS) / PARTITIONS)];
        if place.is_empty() {
            *place = tag;
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags
});

/// CRC-16/XMODEM, by which Redis Cluster finds the slot of a key.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

/// The slot of a key or a sharded channel in a Redis Cluster.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        Some(&rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// Names under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

/// What a channel is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    /// A room's.
    Room(RoomName),
    /// All nodes'.
    Everywhere,
    /// One node's.
    Node,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What every key of a partition begins with.
    pub(super) fn base(&self, partition: u8) -> Vec<u8> {
        format!("{}:{{{}}}:", self.prefix, HASH_TAGS[usize::from(partition)]).into_bytes()
    }

    fn key(&self, partition: u8, pieces: &[&[u8]]) -> Bytes {
        let mut key = self.base(partition);
        for piece in pieces {
            key.extend_from_slice(piece);
        }
        key.into()
    }

    /// HASH: id to claim.
    pub(super) fn claims(&self, partition: u8, realm: &str) -> Bytes {
        self.key(partition, &[b"c:", realm.as_bytes()])
    }

    /// LIST: messages that wait for an id.
    pub(super) fn queue(&self, realm: &str, id: &str) -> Bytes {
        let partition = partition::of_peer(realm, id);
        self.key(partition, &[b"q:", realm.as_bytes(), b"\0", id.as_bytes()])
    }

    /// HASH: the senders that wait for an id.
    pub(super) fn waits(&self, realm: &str, id: &str) -> Bytes {
        let partition = partition::of_peer(realm, id);
        self.key(partition, &[b"w:", realm.as_bytes(), b"\0", id.as_bytes()])
    }

    /// STRING: takeovers of an id whose holders were alive.
    pub(super) fn takeovers(&self, realm: &str, id: &str) -> Bytes {
        let partition = partition::of_peer(realm, id);
        self.key(partition, &[b"d:", realm.as_bytes(), b"\0", id.as_bytes()])
    }

    /// STRING: the last number of a wait.
    pub(super) fn numbers(&self, partition: u8) -> Bytes {
        self.key(partition, &[b"n"])
    }

    /// HASH: socket to record, and the room's version.
    pub(super) fn room(&self, room: &RoomName) -> Bytes {
        let pieces: &[&[u8]] = &[b"r:", room.namespace.as_bytes(), b"\0", room.name.as_bytes()];
        self.key(partition::of_room(room), pieces)
    }

    /// The channel of a room: its changes, and its broadcasts.
    pub(super) fn room_channel(&self, room: &RoomName) -> Bytes {
        let pieces: &[&[u8]] = &[b"m:", room.namespace.as_bytes(), b"\0", room.name.as_bytes()];
        self.key(partition::of_room(room), pieces)
    }

    /// HASH: socket to owner and profile.
    pub(super) fn users(&self, partition: u8, namespace: &str) -> Bytes {
        self.key(partition, &[b"u:", namespace.as_bytes()])
    }

    /// ZSET: the sockets in order.
    pub(super) fn order(&self, partition: u8, namespace: &str) -> Bytes {
        self.key(partition, &[b"z:", namespace.as_bytes()])
    }

    /// SET: what an owner has in a partition.
    pub(super) fn index(&self, partition: u8, owner: Owner) -> Bytes {
        self.key(partition, &[b"i:", &owner_bytes(owner)])
    }

    /// SET: owners that have something in a partition, or had.
    pub(super) fn owners(&self, partition: u8) -> Bytes {
        self.key(partition, &[b"o"])
    }

    /// SET: takeover notices of an owner that are not acknowledged.
    pub(super) fn notices(&self, partition: u8, owner: Owner) -> Bytes {
        self.key(partition, &[b"t:", &owner_bytes(owner)])
    }

    /// Keys about nodes: leases (`l`), descriptions (`i`), claims (`k`), their sum (`s`), the membership's version (`v`), dead
    /// owners (`b`), when they are to be reaped again (`o`), one that says that a node has just swept (`w`), and since when all of
    /// this has been kept (`a`).
    pub(super) fn nodes(&self, what: &str) -> Bytes {
        self.key(0, &[b"nodes:", what.as_bytes()])
    }

    /// STRING: the mark of a master of a Redis Cluster; see `flush_detector`.
    pub(super) fn mark(&self, partition: u8) -> Bytes {
        self.key(partition, &[b"mark"])
    }

    /// The channel of one node.
    pub(super) fn node_channel(&self, tag: NodeTag) -> Bytes {
        self.key(tag.0.to_be_bytes()[0], &[b"node:", tag.to_string().as_bytes()])
    }

    /// The channel of all nodes.
    pub(super) fn everywhere(&self) -> Bytes {
        self.key(0, &[b"all"])
    }

    /// The name of a channel, for the node with this tag.
    pub(super) fn channel(&self, channel: &Channel, tag: NodeTag) -> Bytes {
        match channel {
            Channel::Room(room) => self.room_channel(room),
            Channel::Everywhere => self.everywhere(),
            Channel::Node => self.node_channel(tag),
        }
    }

    /// What a channel is for; `None` if it is none of ours.
    pub(super) fn read_channel(&self, channel: &[u8]) -> Option<Channel> {
        let rest = channel.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b":{")?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        let rest = rest[end..].strip_prefix(b"}:")?;
        if rest == b"all" {
            return Some(Channel::Everywhere);
        }
        if rest.starts_with(b"node:") {
            return Some(Channel::Node);
        }
        let name = std::str::from_utf8(rest.strip_prefix(b"m:")?).ok()?;
        let (namespace, name) = name.split_once('\0')?;
        Some(Channel::Room(RoomName { namespace: namespace.into(), name: name.into() }))
    }
}

/// An owner as it stands before what it owns: tag and epoch, 12 bytes.
pub(super) fn owner_bytes(owner: Owner) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&owner.tag.0.to_be_bytes());
    bytes[4..].copy_from_slice(&owner.epoch.to_be_bytes());
    bytes
}

/// Reads an owner; `None` for anything too short.
pub(super) fn read_owner(bytes: &[u8]) -> Option<Owner> {
    let tag = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let epoch = u64::from_be_bytes(bytes.get(4..12)?.try_into().ok()?);
    Some(Owner { tag: NodeTag(tag), epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_a_hash_tag_in_its_slots() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (partition, tag) in HASH_TAGS.iter().enumerate() {
            assert_eq!(usize::from(crc16(tag.as_bytes())) % 16_384 / 64, partition);
            assert_eq!(usize::from(slot(&Keys::new("p").base(partition as u8))) / 64, partition);
        }
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"x{foo}y}"), 12_182);
        assert_eq!(slot(b"{}foo"), crc16(b"{}foo") % SLOTS);
    }

    #[test]
    fn channels_are_read_back() {
        let keys = Keys::new("signal:box");
        let room = RoomName { namespace: "/".into(), name: "a}:b".into() };
        assert_eq!(keys.read_channel(&keys.room_channel(&room)), Some(Channel::Room(room)));
        assert_eq!(keys.read_channel(&keys.everywhere()), Some(Channel::Everywhere));
        assert_eq!(keys.read_channel(&keys.node_channel(NodeTag(7))), Some(Channel::Node));
        for other in [&b"x"[..], b"signal:box:{1}:", b"signal:box:{1}:m:no", b"signal:box:{1"] {
            assert_eq!(keys.read_channel(other), None);
        }
    }
}
