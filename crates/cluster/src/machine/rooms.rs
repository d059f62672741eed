//! Replicas: what this node's clients were told about each room they are in.

use std::{collections::BTreeMap, sync::Arc};

use ahash::AHashMap;

use super::{Output, Outputs};
use crate::{
    address::{Address, ShardId},
    command::{Change, Delivery},
    record::{Record, RoomName},
    route::Route,
    store::RoomDelta,
};

#[derive(Debug, Default)]
struct Replica {
    route: Arc<Route>,
    /// `None` until the first snapshot: changes before it are part of it.
    state: Option<State>,
    /// How many changes the shards were told.
    told: u64,
}

impl Replica {
    /// Applies a change and tells the shards.
    fn tell(&mut self, room: &RoomName, change: Change, out: &mut Outputs) {
        let Some(state) = self.state.as_mut() else { return };
        match &change {
            Change::Joined(record) | Change::Updated(record) => {
                state.records.insert(record.socket, record.clone());
            }
            Change::Left(record) => {
                state.records.remove(&record.socket);
            }
        }
        self.told += 1;
        for shard in self.route.shards() {
            let told =
                Delivery::RoomChanged { room: room.clone(), number: self.told, change: change.clone() };
            out.push_back(Output::Deliver(shard, told));
        }
    }
}

#[derive(Debug)]
struct State {
    version: u64,
    records: BTreeMap<Address, Arc<Record>>,
}

#[derive(Debug, Default)]
pub(super) struct Replicas {
    rooms: AHashMap<RoomName, Replica>,
}

impl Replicas {
    pub(super) fn route(&mut self, room: &RoomName) -> Arc<Route> {
        match self.rooms.get(room) {
            Some(replica) => replica.route.clone(),
            None => self.rooms.entry(room.clone()).or_default().route.clone(),
        }
    }

    pub(super) fn find_route(&self, room: &RoomName) -> Option<Arc<Route>> {
        self.rooms.get(room).map(|replica| replica.route.clone())
    }

    /// Nobody on this node is in the room, or about to join it: nobody needs the replica.
    pub(super) fn forget_if_unused(&mut self, room: &RoomName) {
        let unused = |replica: &Replica| Arc::strong_count(&replica.route) == 1 && replica.route.is_empty();
        if self.rooms.get(room).is_some_and(unused) {
            self.rooms.remove(room);
        }
    }

    pub(super) fn is_congested(&self, room: &RoomName, congested: &dyn Fn(ShardId) -> bool) -> bool {
        self.rooms.get(room).is_some_and(|replica| replica.route.shards().any(congested))
    }

    pub(super) fn version(&self, room: &RoomName) -> Option<u64> {
        self.rooms.get(room)?.state.as_ref().map(|state| state.version)
    }

    pub(super) fn members(&self, room: &RoomName) -> Option<Vec<Arc<Record>>> {
        let state = self.rooms.get(room)?.state.as_ref()?;
        Some(state.records.values().cloned().collect())
    }

    /// A join was answered, with the records if the replica was not current. Returns how many changes were told before.
    pub(super) fn joined(
        &mut self,
        room: &RoomName,
        version: u64,
        records: Option<Vec<Arc<Record>>>,
        out: &mut Outputs,
    ) -> u64 {
        let replica = self.rooms.entry(room.clone()).or_default();
        if let Some(records) = records {
            replace(replica, room, version, records, out);
        }
        replica.told
    }

    /// The next version is applied and told; an older one was told already.
    pub(super) fn apply(&mut self, delta: RoomDelta, out: &mut Outputs) {
        let RoomDelta { room, version, change } = delta;
        let Some(replica) = self.rooms.get_mut(&room) else { return };
        let Some(state) = replica.state.as_mut().filter(|state| version == state.version + 1) else { return };
        state.version = version;
        replica.tell(&room, change, out);
    }
}

/// Takes a snapshot over, and tells what differs from what was told before.
fn replace(
    replica: &mut Replica,
    room: &RoomName,
    version: u64,
    records: Vec<Arc<Record>>,
    out: &mut Outputs,
) {
    let Some(state) = replica.state.as_mut() else {
        let records = records.into_iter().map(|record| (record.socket, record)).collect();
        replica.state = Some(State { version, records });
        return;
    };
    if state.version >= version {
        return;
    }
    state.version = version;
    let mut gone = state.records.clone();
    let mut changes = Vec::new();
    for record in records {
        match gone.remove(&record.socket) {
            Some(known) if *known == *record => {}
            Some(_) => changes.push(Change::Updated(record)),
            None => changes.push(Change::Joined(record)),
        }
    }
    let gone = gone.into_values().map(Change::Left);
    for change in gone.chain(changes) {
        replica.tell(room, change, out);
    }
}
