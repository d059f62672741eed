//! Replicas: what this node's clients were told about each room they are in.

mod joins;
mod transfers;

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use ahash::AHashMap;

pub(super) use self::transfers::SessionMoves;
use super::{Join, Machine, Output, Outputs, Pending, Unadopted, local_state::LocalState};
use crate::{
    address::{Address, ShardId},
    command::{Change, Delivery, Ticket},
    record::{Record, RoomName},
    route::Route,
    store::{Call, Reply, RoomDelta, RoomVersion, SnapshotRequest},
};

/// How long a room that nobody here is in any more is still heard: a client that comes back at once finds everything there.
const LINGER: Duration = Duration::from_secs(2);
/// How long a member that is missing after the store was away may take to be written again.
pub(super) const REWRITE_GRACE: Duration = Duration::from_secs(5);
/// How long joins wait for the bus; then they are done without it, and what was missed shows when it is there.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a move waits for a room: whoever gives the session waits no longer.
const TRANSFER_SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the room's channel is heard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    #[default]
    Inactive,
    Requested,
    Active,
}

#[derive(Debug, Default)]
struct Replica {
    route: Arc<Route>,
    subscription: Subscription,
    /// `None` until the first snapshot.
    state: Option<RoomState>,
    /// Changes that were heard before it. Some are part of it; the bus may be faster than the store's reply.
    early: Vec<RoomDelta>,
    /// The number of the last change the shards were told.
    last_change: u128,
    /// Joins that wait for the room to be heard, and since when.
    joins: Vec<Join>,
    waits_since: Option<Instant>,
    /// Moves that wait for the room to be heard and a snapshot.
    transfer_subscriptions: Vec<TransferSubscription>,
    /// The records were asked for to be compared; what is heard meanwhile waits for them.
    comparing: Option<Vec<RoomDelta>>,
    /// They are to be asked for once more: something may have been missed since.
    compares_again: bool,
    /// When members that were missing are looked for once more.
    recheck_at: Option<Instant>,
    unused_since: Option<Instant>,
}

/// A move that waits for a room to be heard, and known as far as this.
#[derive(Debug, Clone, Copy)]
struct TransferSubscription {
    shard: ShardId,
    ticket: Ticket,
    room_version: RoomVersion,
    since: Instant,
}

#[derive(Debug)]
struct RoomState {
    room_version: RoomVersion,
    records: BTreeMap<Address, Arc<Record>>,
}

/// The number of a change: the same on every node that hears it in its turn.
fn change_id_of(room_version: RoomVersion) -> u128 {
    u128::from(room_version.epoch) << 64 | u128::from(room_version.version) << 16
}

/// The version that a change belongs to. What differed in a snapshot has one number after the other behind its version's.
fn version_of(number: u128) -> RoomVersion {
    RoomVersion { epoch: (number >> 64) as u64, version: number as u64 >> 16 }
}

impl Replica {
    /// Applies a change and tells the shards, unless it is no news.
    fn apply_change(&mut self, room: &RoomName, change: Change, out: &mut Outputs) {
        let Some(state) = self.state.as_mut() else { return };
        let change = match change {
            Change::Joined(record) | Change::Updated(record) => {
                match state.records.insert(record.socket, record.clone()) {
                    Some(known) if *known == *record => return,
                    Some(_) => Change::Updated(record),
                    None => Change::Joined(record),
                }
            }
            Change::Left(record) => {
                if state.records.remove(&record.socket).is_none() {
                    return;
                }
                Change::Left(record)
            }
        };
        self.last_change = (self.last_change + 1).max(change_id_of(state.room_version));
        for shard in self.route.shards() {
            let changed = Delivery::RoomChanged {
                room: room.clone(),
                change_id: self.last_change,
                change: change.clone(),
            };
            out.push_back(Output::Deliver(shard, changed));
        }
    }

    /// Takes a snapshot over, and tells what differs from what was told before. `keeps` tells which missing members stay.
    /// Returns whether any did.
    fn replace(
        &mut self,
        room: &RoomName,
        room_version: RoomVersion,
        records: Vec<Arc<Record>>,
        keeps: &dyn Fn(Address) -> bool,
        out: &mut Outputs,
    ) -> bool {
        let Some(state) = self.state.as_mut() else {
            let records = records.into_iter().map(|record| (record.socket, record)).collect();
            self.state = Some(RoomState { room_version, records });
            self.last_change = self.last_change.max(change_id_of(room_version));
            return false;
        };
        state.room_version = room_version;
        let mut gone = state.records.clone();
        for record in &records {
            gone.remove(&record.socket);
        }
        let missing = gone.len();
        gone.retain(|socket, _| !keeps(*socket));
        let has_kept = gone.len() < missing;
        for change in gone.into_values().map(Change::Left).chain(records.into_iter().map(Change::Joined)) {
            self.apply_change(room, change, out);
        }
        has_kept
    }

    /// What is said may be missed from now on. A first snapshot on its way may be older than that: it is compared once it is here.
    fn subscription_lost(&mut self) {
        self.subscription = Subscription::Requested;
        self.compares_again |= self.state.is_none();
    }

    /// What is heard is told, and nothing was missed as far as is known.
    fn is_current(&self) -> bool {
        self.subscription == Subscription::Active
            && self.state.is_some()
            && self.comparing.is_none()
            && self.recheck_at.is_none()
    }

    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.route) == 1
            && self.route.is_empty()
            && self.joins.is_empty()
            && self.transfer_subscriptions.is_empty()
    }
}

#[derive(Debug, Default)]
pub(super) struct Replicas {
    rooms: AHashMap<RoomName, Replica>,
    /// Rooms that may be forgotten.
    unused: Vec<RoomName>,
    /// Rooms that somebody waits for, or that settle.
    scheduled: Vec<RoomName>,
}

impl Replicas {
    pub(super) fn route(&mut self, room: &RoomName) -> Arc<Route> {
        match self.rooms.get(room) {
            Some(replica) => replica.route.clone(),
            None => self.rooms.entry(room.clone()).or_default().route.clone(),
        }
    }

    /// Whether what was heard in the room so far was told.
    pub(super) fn is_current(&self, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(Replica::is_current)
    }

    pub(super) fn find_route(&self, room: &RoomName) -> Option<Arc<Route>> {
        self.rooms.get(room).map(|replica| replica.route.clone())
    }

    /// Nobody on this node is in the room, or about to join it: nobody needs the replica.
    pub(super) fn forget_if_unused(&mut self, room: &RoomName, now: Instant, lingers: bool) {
        let Some(replica) = self.rooms.get_mut(room).filter(|replica| replica.is_unused()) else { return };
        if !lingers {
            self.rooms.remove(room);
            crate::shrink_if_sparse(&mut self.rooms);
        } else if replica.unused_since.is_none() {
            replica.unused_since = Some(now);
            self.unused.push(room.clone());
        }
    }

    pub(super) fn is_congested(&self, room: &RoomName, congested: &dyn Fn(ShardId) -> bool) -> bool {
        self.rooms.get(room).is_some_and(|replica| replica.route.shards().any(congested))
    }

    pub(super) fn room_version(&self, room: &RoomName) -> Option<RoomVersion> {
        self.rooms.get(room)?.state.as_ref().map(|state| state.room_version)
    }

    pub(super) fn members(&self, room: &RoomName) -> Option<Vec<Arc<Record>>> {
        let state = self.rooms.get(room)?.state.as_ref()?;
        Some(state.records.values().cloned().collect())
    }

    fn schedule(&mut self, room: &RoomName) {
        if !self.scheduled.contains(room) {
            self.scheduled.push(room.clone());
        }
    }

    /// A member that left while the store was away.
    pub(super) fn leave_offline(&mut self, room: &RoomName, socket: Address, out: &mut Outputs) {
        let Some(replica) = self.rooms.get_mut(room) else { return };
        let record = replica.state.as_ref().and_then(|state| state.records.get(&socket)).cloned();
        if let Some(record) = record {
            replica.apply_change(room, Change::Left(record), out);
        }
    }
}

/// Asks for the records of a room, to be compared with what was told.
fn compare(replica: &mut Replica, room: &RoomName, is_final: bool, out: &mut Outputs) {
    if replica.comparing.is_some() {
        replica.compares_again = true;
    } else if replica.state.is_some() {
        replica.comparing = Some(Vec::new());
        let pending = Pending::Compare { room: room.clone(), is_final };
        out.push_back(Output::Call(Call::Records { room: room.clone() }, pending));
    }
}

impl Machine {
    /// The bus tells of a change: the next one is applied and told, an older one was told already, after a gap the records tell.
    pub(crate) fn room_changed(&mut self, delta: RoomDelta, out: &mut Outputs) {
        let is_stable = self.lease.is_stable(REWRITE_GRACE);
        let Some(replica) = self.rooms.rooms.get_mut(&delta.room) else { return };
        let Some(state) = replica.state.as_mut() else {
            replica.early.push(delta);
            return;
        };
        if delta.room_version <= state.room_version {
            return;
        }
        if let Some(buffered) = &mut replica.comparing {
            buffered.push(delta);
            return;
        }
        let RoomDelta { room, room_version, change } = delta;
        let next = RoomVersion { version: state.room_version.version + 1, ..state.room_version };
        // The first change of a room that everybody had left.
        let begins = room_version.version == 1 && state.records.is_empty();
        if room_version == next || begins {
            state.room_version = room_version;
            replica.apply_change(&room, change, out);
            if !replica.transfer_subscriptions.is_empty() {
                self.complete_transfer_subscriptions(&room, out);
            }
        } else {
            // A node that has lost its lease compares when it is back: until then the records show as its members who have left.
            if !self.lease.has_joined() {
                return;
            }
            // A room that was made anew has lost its records, which their nodes will write again.
            let is_anew = room_version.epoch != state.room_version.epoch || replica.recheck_at.is_some();
            let is_final = is_stable && !is_anew;
            compare(replica, &room, is_final, out);
        }
    }

    /// A replica has had its first snapshot: what was heard before it follows.
    pub(super) fn catch_up(&mut self, room: &RoomName, out: &mut Outputs) {
        let early = self.rooms.rooms.get_mut(room).map(|replica| std::mem::take(&mut replica.early));
        for delta in early.unwrap_or_default() {
            self.room_changed(delta, out);
        }
        if let Some(replica) = self.rooms.rooms.get_mut(room)
            && replica.subscription == Subscription::Active
            && replica.comparing.is_none()
            && std::mem::take(&mut replica.compares_again)
        {
            compare(replica, room, false, out);
        }
    }

    /// The records of a room have come. Members that are missing are gone, unless they are this node's own (it will write them
    /// again, or has) or may yet be written again by their nodes.
    pub(super) fn compared(
        &mut self,
        now: Instant,
        room: &RoomName,
        is_final: bool,
        reply: Reply,
        out: &mut Outputs,
    ) {
        let Some(replica) = self.rooms.rooms.get_mut(room) else { return };
        let buffered = replica.comparing.take().unwrap_or_default();
        let Reply::Records { room_version, records } = reply else { return };
        if !self.lease.has_joined() {
            return;
        }
        let known = replica.state.as_ref().map(|state| state.room_version).unwrap_or_default();
        let room_version = room_version.unwrap_or(known);
        if room_version >= known {
            let own = &self.own;
            let keeps = |socket| !is_final || own.is_member(room, socket);
            let has_kept = replica.replace(room, room_version, records, &keeps, out);
            replica.recheck_at = (has_kept && !is_final).then_some(now + REWRITE_GRACE);
            if replica.recheck_at.is_some() {
                self.rooms.schedule(room);
            }
        }
        for delta in buffered {
            self.room_changed(delta, out);
        }
        if let Some(replica) = self.rooms.rooms.get_mut(room)
            && std::mem::take(&mut replica.compares_again)
        {
            compare(replica, room, false, out);
        }
        self.advance_transfers(now, room, out);
    }

    /// A room is heard.
    pub(crate) fn subscribed(&mut self, now: Instant, room: &RoomName, out: &mut Outputs) {
        // A lease that is confirmed after all would leave undone what is not done here.
        self.check_lease(now, out);
        let is_online = self.lease.is_valid(now);
        let Some(replica) = self.rooms.rooms.get_mut(room) else {
            out.push_back(Output::Unsubscribe(room.clone()));
            return;
        };
        replica.subscription = Subscription::Active;
        let joins = std::mem::take(&mut replica.joins);
        replica.waits_since = None;
        if is_online {
            compare(replica, room, false, out);
            for join in joins {
                self.put(join, out);
            }
        } else {
            for join in joins {
                self.join_offline(join, out);
            }
        }
        self.advance_transfers(now, room, out);
    }

    /// What was said in a room may have been missed, or in all. It is heard again once that is said.
    pub(crate) fn subscription_lost(&mut self, room: Option<&RoomName>) {
        match room {
            Some(room) => {
                if let Some(replica) = self.rooms.rooms.get_mut(room) {
                    replica.subscription_lost();
                }
            }
            None => {
                self.bus_lost();
                for replica in self
                    .rooms
                    .rooms
                    .values_mut()
                    .filter(|replica| replica.subscription == Subscription::Active)
                {
                    replica.subscription_lost();
                }
            }
        }
    }

    /// The store is back: every member is written again, under the new epoch.
    pub(super) fn put_all(&mut self, out: &mut Outputs) {
        let owner = self.owner();
        let mut rooms: Vec<_> = self.own.rooms.iter().collect();
        rooms.sort_unstable_by_key(|(room, _)| *room);
        for (room, members) in rooms {
            for record in members.values() {
                let (room, record) = (room.clone(), record.clone());
                let snapshot = SnapshotRequest::None(self.rooms.room_version(&room));
                let call = Call::Put { owner, room, record, snapshot };
                out.push_back(Output::Call(call, Pending::None));
            }
        }
    }

    /// The store is back: every room is compared once it is heard.
    pub(super) fn rooms_online(&mut self, out: &mut Outputs) {
        let mut rooms: Vec<_> = self.rooms.rooms.iter_mut().collect();
        rooms.sort_unstable_by_key(|(room, _)| *room);
        for (room, replica) in rooms {
            match replica.subscription {
                Subscription::Active => compare(replica, room, false, out),
                Subscription::Requested => {}
                Subscription::Inactive => {
                    replica.subscription = Subscription::Requested;
                    out.push_back(Output::Subscribe(room.clone()));
                }
            }
        }
    }

    pub(super) fn rooms_tick(&mut self, now: Instant, out: &mut Outputs) {
        let is_online = self.lease.is_valid(now);
        // After another outage, nodes need as long again to write their members.
        let is_final = is_online && self.lease.is_stable(REWRITE_GRACE);
        for room in std::mem::take(&mut self.rooms.scheduled) {
            let Some(replica) = self.rooms.rooms.get_mut(&room) else { continue };
            if replica.recheck_at.is_some_and(|at| at <= now) && is_final {
                compare(replica, &room, true, out);
            }
            let is_late = replica.waits_since.is_some_and(|since| since + SUBSCRIBE_TIMEOUT <= now);
            let joins = if is_late { std::mem::take(&mut replica.joins) } else { Vec::new() };
            if is_late {
                replica.waits_since = None;
            }
            let transfer_subscriptions = std::mem::take(&mut replica.transfer_subscriptions);
            // Each has its own time: most wait for a moment only.
            let (late, waiting) = transfer_subscriptions.into_iter().partition(|subscribe_for_transfer| {
                subscribe_for_transfer.since + TRANSFER_SUBSCRIBE_TIMEOUT <= now
            });
            replica.transfer_subscriptions = waiting;
            let is_done = replica.recheck_at.is_none()
                && replica.waits_since.is_none()
                && replica.transfer_subscriptions.is_empty();
            if !is_done {
                self.rooms.scheduled.push(room.clone());
            }
            for join in joins {
                self.put_or_join_offline(now, join, out);
            }
            self.abandon_transfer_subscriptions(late, out);
        }
        let Self { rooms, own, .. } = self;
        rooms.forget_unused(now, own, out);
    }
}

impl Replicas {
    /// Forgets the rooms that have been unused for a while. Only a room that is heard is unsubscribed, so that a confirmation is
    /// never taken for another.
    fn forget_unused(&mut self, now: Instant, own: &LocalState, out: &mut Outputs) {
        let Self { rooms, unused, .. } = self;
        unused.retain(|room| {
            let Some(replica) = rooms.get_mut(room) else { return false };
            if !replica.is_unused() || own.rooms.contains_key(room) {
                replica.unused_since = None;
                return false;
            }
            let is_over = replica.unused_since.is_none_or(|since| since + LINGER <= now);
            if !is_over || replica.subscription == Subscription::Requested || replica.comparing.is_some() {
                return true;
            }
            if replica.subscription == Subscription::Active {
                out.push_back(Output::Unsubscribe(room.clone()));
            }
            rooms.remove(room);
            false
        });
        crate::shrink_if_sparse(rooms);
    }
}
