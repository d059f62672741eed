//! This shard's part of each room.

use std::{collections::hash_map::Entry, sync::Arc};

use ahash::{AHashMap, RandomState};
use indexmap::IndexMap;
use signalbox_cluster::{Address, RoomName, Route};
use slab::Slab;

use super::{seen::VersionVector, shrink::Shrink};

/// Key of a room within a shard.
pub(crate) type RoomKey = u32;

/// The local members of a room.
pub(crate) struct Room {
    pub(crate) name: RoomName,
    pub(crate) route: Arc<Route>,
    /// Sockets and the keys of their sessions.
    pub(crate) members: IndexMap<Address, u32, RandomState>,
    /// Joins that were asked for and not answered yet, and sessions on their way here: they keep the shard on the route.
    pub(crate) expected: u32,
    /// The number of the last change that was told.
    pub(crate) told: u128,
    /// The last broadcast heard in it of each shard of other nodes.
    pub(crate) seen: VersionVector,
    /// Sessions on their way here that must not miss anything.
    pub(crate) incoming_transfers: Vec<Address>,
}

impl Room {
    fn is_unused(&self) -> bool {
        self.members.is_empty() && self.expected == 0
    }
}

/// All rooms with members on this shard.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: Slab<Room>,
    by_name: AHashMap<RoomName, RoomKey>,
}

impl Rooms {
    pub(crate) fn get(&self, key: RoomKey) -> Option<&Room> {
        self.rooms.get(key as usize)
    }

    pub(crate) fn get_mut(&mut self, key: RoomKey) -> Option<&mut Room> {
        self.rooms.get_mut(key as usize)
    }

    pub(crate) fn find(&self, name: &RoomName) -> Option<RoomKey> {
        self.by_name.get(name).copied()
    }

    /// The room, made if there is none; `route` asks for its route then.
    pub(crate) fn open(&mut self, name: &RoomName, route: impl FnOnce() -> Arc<Route>) -> RoomKey {
        match self.by_name.entry(name.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let key = self.rooms.insert(Room {
                    name: name.clone(),
                    route: route(),
                    members: IndexMap::default(),
                    expected: 0,
                    told: 0,
                    seen: VersionVector::default(),
                    incoming_transfers: Vec::new(),
                }) as RoomKey;
                *free.insert(key)
            }
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.rooms.iter_mut().map(|(_, room)| room)
    }

    /// Gives up room that a crowd has left behind.
    pub(crate) fn shrink_if_sparse(&mut self) {
        self.rooms.shrink_if_sparse();
        self.by_name.shrink_if_sparse();
    }

    /// Forgets a room nobody here is in or about to join; gives it back so that its route can be released.
    pub(crate) fn close_if_unused(&mut self, key: RoomKey) -> Option<Room> {
        if !self.get(key)?.is_unused() {
            return None;
        }
        let room = self.rooms.remove(key as usize);
        self.by_name.remove(&room.name);
        Some(room)
    }
}
