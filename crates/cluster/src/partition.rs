//! The partition of shared state that something is in. Everything that one call touches is in one partition, so that a store may
//! spread its partitions over servers.

use std::hash::Hasher as _;

use fnv::FnvHasher;

use crate::{address::Address, record::RoomName, subject::SubjectList};

/// How many partitions there are.
pub const PARTITIONS: usize = 256;

/// FNV-1a over pieces, each ended by a zero: the same on every node, of every version.
fn hash(pieces: &[&[u8]]) -> u8 {
    let mut hasher = FnvHasher::default();
    for piece in pieces {
        hasher.write(piece);
        hasher.write(&[0]);
    }
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u8
}

/// The partition of a peer id's claim and queue.
pub fn of_peer(realm: &str, id: &str) -> u8 {
    hash(&[realm.as_bytes(), id.as_bytes()])
}

/// The partition of a room's records.
pub fn of_room(room: &RoomName) -> u8 {
    hash(&[room.namespace.as_bytes(), room.name.as_bytes()])
}

/// The partition of a user. In a namespace it grows with the address, so that a listing in the order of addresses goes from one
/// partition to the next. The connections of one subject are in one partition, since they are counted.
pub fn of_user(namespace: &str, socket: Address) -> u8 {
    if SubjectList::is_name(namespace) { hash(&[namespace.as_bytes()]) } else { socket.as_bytes()[0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_never_change() {
        // Nodes of all versions share one store.
        let room = |namespace: &str, name: &str| RoomName { namespace: namespace.into(), name: name.into() };
        assert_eq!([of_peer("peerjs", "a"), of_peer("peerjs", "b"), of_peer("", "")], [117, 254, 234]);
        assert_eq!([of_room(&room("/", "red")), of_room(&room("/chat", "red"))], [253, 152]);
        let socket = Address::from_bytes([7; 15]);
        assert_eq!([of_user("/", socket), of_user("#a", socket), of_user("#b", socket)], [7, 92, 199]);
    }
}
