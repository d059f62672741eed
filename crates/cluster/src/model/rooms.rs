//! Rooms and users.

use std::{
    collections::{BTreeMap, hash_map::Entry},
    ops::Bound,
    sync::Arc,
};

use ahash::AHashMap;

use crate::{
    address::Address,
    command::Change,
    record::{Record, RoomName},
    store::{Reply, RoomDelta},
};

/// Users in one page.
const PAGE: usize = 1000;

#[derive(Debug, Default)]
struct Room {
    version: u64,
    /// In the order of their addresses, which is random: the same on every node.
    records: BTreeMap<Address, Arc<Record>>,
}

#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: AHashMap<RoomName, Room>,
    users: AHashMap<Arc<str>, BTreeMap<Address, Arc<str>>>,
    /// A room that emptied and came back continues from here, so that no version is ever used twice.
    last_version: u64,
}

impl Rooms {
    pub(super) fn put(
        &mut self,
        room: RoomName,
        record: Arc<Record>,
        known: Option<u64>,
    ) -> (Reply, Option<RoomDelta>) {
        let last = self.last_version;
        let state =
            self.rooms.entry(room.clone()).or_insert_with(|| Room { version: last, ..Room::default() });
        let is_current = known == Some(state.version);
        state.version += 1;
        let version = state.version;
        let change = match state.records.insert(record.socket, record.clone()) {
            Some(_) => Change::Updated(record),
            None => Change::Joined(record),
        };
        let records = (!is_current).then(|| state.records.values().cloned().collect());
        (Reply::Put { version, records }, Some(RoomDelta { room, version, change }))
    }

    pub(super) fn remove(&mut self, room: RoomName, socket: Address) -> (Reply, Option<RoomDelta>) {
        let Entry::Occupied(mut entry) = self.rooms.entry(room.clone()) else { return (Reply::Done, None) };
        let state = entry.get_mut();
        let Some(record) = state.records.remove(&socket) else { return (Reply::Done, None) };
        state.version += 1;
        let version = state.version;
        if state.records.is_empty() {
            self.last_version = self.last_version.max(version);
            entry.remove();
        }
        (Reply::Done, Some(RoomDelta { room, version, change: Change::Left(record) }))
    }

    pub(super) fn records(&self, room: &RoomName) -> Vec<Arc<Record>> {
        self.rooms.get(room).map(|room| room.records.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn add_user(&mut self, namespace: Arc<str>, socket: Address) -> Reply {
        self.users.entry(namespace).or_default().insert(socket, Arc::from("{}"));
        Reply::Done
    }

    pub(super) fn set_profile(&mut self, namespace: &str, socket: Address, profile: Arc<str>) -> Reply {
        if let Some(present) = self.users.get_mut(namespace).and_then(|users| users.get_mut(&socket)) {
            *present = profile;
        }
        Reply::Done
    }

    pub(super) fn remove_user(&mut self, namespace: &Arc<str>, socket: Address) -> Reply {
        if let Entry::Occupied(mut users) = self.users.entry(namespace.clone()) {
            users.get_mut().remove(&socket);
            if users.get().is_empty() {
                users.remove();
            }
        }
        Reply::Done
    }

    pub(super) fn users(&self, namespace: &str, after: Option<Address>) -> Reply {
        let Some(users) = self.users.get(namespace) else { return Reply::Users(Vec::new(), false) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = users.range((from, Bound::Unbounded));
        let page: Vec<_> =
            rest.by_ref().take(PAGE).map(|(socket, profile)| (*socket, profile.clone())).collect();
        Reply::Users(page, rest.next().is_some())
    }
}
