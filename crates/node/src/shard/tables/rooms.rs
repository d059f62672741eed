//! This shard's part of each room.

use std::{collections::hash_map::Entry, sync::Arc, time::Instant};

use ahash::{AHashMap, RandomState};
use indexmap::IndexMap;
use signalbox_cluster::{Address, RoomName, Route};
use slab::Slab;

use super::shrink::Shrink;
use crate::{routing::VersionVector, session::RoomKey};

/// The local members of a room.
pub(in crate::shard) struct Room {
    pub(in crate::shard) name: RoomName,
    /// Its route, once this shard is on it.
    pub(in crate::shard) route: Option<Arc<Route>>,
    /// Sockets and the keys of their sessions.
    pub(in crate::shard) members: IndexMap<Address, u32, RandomState>,
    /// Joins that were asked for and not answered yet, and sessions on their way here: they keep the shard on the route.
    pub(in crate::shard) expected: u32,
    /// The last change that the members were told of.
    pub(in crate::shard) last_change: u128,
    /// The last broadcast of each shard of other nodes that was received on its channel.
    pub(in crate::shard) received: VersionVector,
    /// Sessions on their way here that must not miss anything.
    pub(in crate::shard) incoming_transfers: Vec<Address>,
    pub(in crate::shard) presence: Presence,
}

/// What the members of a room are told of each other.
#[derive(Debug, Default)]
pub(in crate::shard) struct Presence {
    /// They are so many that they are told how many there are, instead of who comes and goes.
    pub(in crate::shard) is_large: bool,
    /// How many there are, on all nodes.
    pub(in crate::shard) count: usize,
    /// When they were told that last.
    pub(in crate::shard) told: Option<Instant>,
    /// A timer is there, with which they will be.
    pub(in crate::shard) is_due: bool,
}

impl Room {
    fn is_unused(&self) -> bool {
        self.members.is_empty() && self.expected == 0 && self.route.is_some()
    }
}

/// All rooms with members on this shard.
#[derive(Default)]
pub(in crate::shard) struct Rooms {
    rooms: Slab<Room>,
    by_name: AHashMap<RoomName, RoomKey>,
    /// Rooms that may be unused by now. They are closed when the shard comes to rest, behind all effects that have to do with them.
    to_check: Vec<RoomKey>,
}

impl Rooms {
    pub(in crate::shard) fn get(&self, key: RoomKey) -> Option<&Room> {
        self.rooms.get(key as usize)
    }

    pub(in crate::shard) fn get_mut(&mut self, key: RoomKey) -> Option<&mut Room> {
        self.rooms.get_mut(key as usize)
    }

    pub(in crate::shard) fn find(&self, name: &RoomName) -> Option<RoomKey> {
        self.by_name.get(name).copied()
    }

    /// The room, and whether it was made just now: its route has to be asked for then.
    pub(in crate::shard) fn open(&mut self, name: &RoomName) -> (RoomKey, bool) {
        match self.by_name.entry(name.clone()) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(free) => {
                let key = self.rooms.insert(Room {
                    name: name.clone(),
                    route: None,
                    members: IndexMap::default(),
                    expected: 0,
                    last_change: 0,
                    received: VersionVector::default(),
                    incoming_transfers: Vec::new(),
                    presence: Presence::default(),
                }) as RoomKey;
                (*free.insert(key), true)
            }
        }
    }

    /// This shard is on the room's route. A room is not closed before.
    pub(in crate::shard) fn set_route(&mut self, key: RoomKey, route: Arc<Route>) {
        if let Some(room) = self.get_mut(key) {
            room.route = Some(route);
            self.check_later(key);
        }
    }

    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.iter().map(|(_, room)| room)
    }

    pub(in crate::shard) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.rooms.iter_mut().map(|(_, room)| room)
    }

    /// Gives memory back after many clients have gone.
    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.rooms.shrink_if_sparse();
        self.by_name.shrink_if_sparse();
    }

    /// A room may be unused from now on.
    pub(in crate::shard) fn check_later(&mut self, key: RoomKey) {
        self.to_check.push(key);
    }

    /// Forgets the rooms that nobody here is in or about to join; gives them back so that their routes can be released.
    pub(in crate::shard) fn close_unused(&mut self) -> Vec<Room> {
        let to_check = std::mem::take(&mut self.to_check);
        to_check.into_iter().filter_map(|key| self.close_if_unused(key)).collect()
    }

    fn close_if_unused(&mut self, key: RoomKey) -> Option<Room> {
        if !self.get(key)?.is_unused() {
            return None;
        }
        let room = self.rooms.remove(key as usize);
        self.by_name.remove(&room.name);
        Some(room)
    }
}

#[cfg(test)]
mod tests {
    use signalbox_cluster::NodeTag;

    use super::*;

    fn name(name: &str) -> RoomName {
        RoomName { namespace: "/".into(), name: name.into() }
    }

    #[test]
    fn a_room_is_closed_once_it_is_unused_and_not_before() {
        let mut rooms = Rooms::default();
        let (key, is_new) = rooms.open(&name("a"));
        assert!(is_new);
        let socket = Address::random(NodeTag(1), 0);
        rooms.get_mut(key).unwrap().members.insert(socket, 7);
        rooms.set_route(key, Arc::default());
        assert!(rooms.close_unused().is_empty());
        rooms.get_mut(key).unwrap().members.swap_remove(&socket);
        rooms.get_mut(key).unwrap().expected = 1;
        rooms.check_later(key);
        assert!(rooms.close_unused().is_empty());
        rooms.get_mut(key).unwrap().expected = 0;
        rooms.check_later(key);
        rooms.check_later(key);
        // Whoever opens it meanwhile keeps it.
        assert_eq!(rooms.open(&name("a")), (key, false));
        assert_eq!(rooms.close_unused().len(), 1);
        assert!(rooms.find(&name("a")).is_none() && rooms.get(key).is_none());
    }

    #[test]
    fn a_room_whose_route_is_on_its_way_is_closed_once_it_has_come() {
        let mut rooms = Rooms::default();
        let (key, _) = rooms.open(&name("a"));
        rooms.check_later(key);
        assert!(rooms.close_unused().is_empty());
        rooms.set_route(key, Arc::default());
        assert_eq!(rooms.close_unused().len(), 1);
    }
}
