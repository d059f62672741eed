//! Which part of the store something is in. Everything one atomic step touches is in one part, so that a store may be spread over
//! servers.

use crate::{address::Address, record::RoomName};

/// Parts of the store.
pub(crate) const PARTITIONS: usize = 256;

/// FNV-1a over pieces, each ended by a zero: the same on every node, of every version.
fn hash(pieces: &[&[u8]]) -> u8 {
    let bytes = pieces.iter().flat_map(|piece| piece.iter().copied().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u8
}

/// Where the claim and the queue of a peer id are.
pub(crate) fn of_peer(realm: &str, id: &str) -> u8 {
    hash(&[realm.as_bytes(), id.as_bytes()])
}

/// Where a room's records are.
pub(crate) fn of_room(room: &RoomName) -> u8 {
    hash(&[room.namespace.as_bytes(), room.name.as_bytes()])
}

/// Where a user is: those of one part follow each other in the order of their addresses, so that a listing goes from part to
/// part.
pub(crate) fn of_user(socket: Address) -> u8 {
    socket.as_bytes()[0]
}
