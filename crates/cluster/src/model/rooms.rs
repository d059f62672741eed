//! Rooms: their records, their versions, and the changes that are published.

use std::{
    collections::{BTreeMap, hash_map::Entry},
    sync::Arc,
};

use ahash::AHashMap;

use crate::{
    address::{Address, NodeTag, Owner},
    command::Change,
    partition,
    record::{Record, RoomName},
    store::{Reply, RoomDelta, RoomVersion, SnapshotRequest},
};

#[derive(Debug)]
struct Room {
    room_version: RoomVersion,
    /// In the order of their addresses, so that every node lists them alike.
    records: BTreeMap<Address, (Owner, Arc<Record>)>,
}

impl Room {
    fn records(&self) -> Vec<Arc<Record>> {
        self.records.values().map(|(_, record)| record.clone()).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: AHashMap<RoomName, Room>,
}

impl Rooms {
    /// Whether a room has no place for this socket, of which it has so many at most.
    pub(super) fn is_full(&self, room: &RoomName, socket: Address, most: Option<usize>) -> bool {
        let Some((most, state)) = most.zip(self.rooms.get(room)) else { return false };
        !state.records.contains_key(&socket) && state.records.len() >= most
    }

    pub(super) fn put(
        &mut self,
        clock: u64,
        owner: Owner,
        room: RoomName,
        record: Arc<Record>,
        snapshot: SnapshotRequest,
        published: &mut Vec<RoomDelta>,
    ) -> Reply {
        // A room that was empty and is made again has a later epoch, so that no version is ever used twice.
        let fresh =
            || Room { room_version: RoomVersion { epoch: clock, version: 0 }, records: BTreeMap::new() };
        let state = self.rooms.entry(room.clone()).or_insert_with(fresh);
        if let Some(known) = snapshot.known().filter(|known| *known > state.room_version) {
            let epoch = clock.max(known.epoch + 1);
            state.room_version = RoomVersion { epoch, version: state.room_version.version + 1 };
        }
        // Who knows the room in this epoch gets what it lacks as changes.
        let is_known =
            |known: Option<RoomVersion>| known.map(|known| known.epoch) == Some(state.room_version.epoch);
        let is_listed = matches!(snapshot, SnapshotRequest::Since(known) if !is_known(known));
        let before = state.records.insert(record.socket, (owner, record.clone()));
        if before.as_ref().is_none_or(|(_, before)| *before != record) {
            state.room_version.version += 1;
            let change = match before {
                Some(_) => Change::Updated(record),
                None => Change::Joined(record),
            };
            published.push(RoomDelta { room, room_version: state.room_version, change });
        }
        let records = is_listed.then(|| state.records());
        Reply::Put { room_version: state.room_version, records, count: state.records.len() }
    }

    pub(super) fn rehome(
        &mut self,
        clock: u64,
        owner: Owner,
        from: NodeTag,
        room: RoomName,
        record: Arc<Record>,
        published: &mut Vec<RoomDelta>,
    ) -> Reply {
        let state = self.rooms.get_mut(&room);
        if let Some((by, _)) = state.and_then(|state| state.records.get_mut(&record.socket))
            && by.tag == from
        {
            *by = owner;
            return Reply::Done;
        }
        self.put(clock, owner, room, record, SnapshotRequest::None(None), published);
        Reply::Done
    }

    pub(super) fn remove(
        &mut self,
        owner: Owner,
        room: RoomName,
        socket: Address,
        published: &mut Vec<RoomDelta>,
    ) -> Reply {
        if let Entry::Occupied(mut entry) = self.rooms.entry(room.clone()) {
            let state = entry.get_mut();
            if state.records.get(&socket).is_some_and(|(by, _)| by.tag == owner.tag)
                && let Some((_, record)) = state.records.remove(&socket)
            {
                state.room_version.version += 1;
                published.push(RoomDelta {
                    room,
                    room_version: state.room_version,
                    change: Change::Left(record),
                });
            }
            if state.records.is_empty() {
                entry.remove();
                crate::shrink_if_sparse(&mut self.rooms);
            }
        }
        Reply::Done
    }

    pub(super) fn records(&self, room: &RoomName) -> Reply {
        match self.rooms.get(room) {
            Some(state) => {
                Reply::Records { room_version: Some(state.room_version), records: state.records() }
            }
            None => Reply::Records { room_version: None, records: Vec::new() },
        }
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.rooms.values().flat_map(|room| room.records.values().map(|(owner, _)| *owner))
    }

    pub(super) fn reap(&mut self, owner: Owner, partition: u8, published: &mut Vec<RoomDelta>) {
        let mut names: Vec<_> =
            self.rooms.keys().filter(|room| partition::of_room(room) == partition).cloned().collect();
        names.sort_unstable();
        for room in names {
            let Entry::Occupied(mut entry) = self.rooms.entry(room.clone()) else { continue };
            let state = entry.get_mut();
            let dead: Vec<Address> =
                state.records.iter().filter(|(_, (by, _))| *by == owner).map(|(socket, _)| *socket).collect();
            for socket in dead {
                if let Some((_, record)) = state.records.remove(&socket) {
                    state.room_version.version += 1;
                    let change = Change::Left(record);
                    published.push(RoomDelta {
                        room: room.clone(),
                        room_version: state.room_version,
                        change,
                    });
                }
            }
            if state.records.is_empty() {
                entry.remove();
            }
        }
    }
}
