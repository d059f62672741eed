//! Replicas of rooms: the members of each room as this node's clients were told of them.

mod joins;
mod replica;
#[cfg(test)]
mod tests;
mod transfers;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::{AHashMap, RandomState};
use indexmap::IndexSet;

use self::replica::{Replica, RoomState, Subscription, TransferSubscription, version_of};
pub(super) use self::{
    replica::{MembersPage, page_of},
    transfers::SessionTransfers,
};
use super::{Adopted, Join, Machine, Output, Outputs, Pending, Unadopted, local_state::LocalState};
use crate::{
    address::{Address, ShardId},
    command::Change,
    event::ClusterEvent,
    record::{Record, RoomName},
    route::Route,
    store::{Call, Reply, RoomDelta, RoomVersion},
};

/// How long an unused room stays subscribed: a client that comes back at once finds its replica.
const LINGER: Duration = Duration::from_secs(2);
/// Until then, members that are missing in the store are kept.
pub(super) use crate::model::REWRITE_GRACE;
/// How long joins wait for the room's subscription. Then they go on without it; changes that were missed show when it is
/// confirmed.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a join waits for changes that the room had before it. Then they have been missed, and the records are read.
const GAP_TIMEOUT: Duration = Duration::from_millis(500);

/// Rooms whose records are read at once to compare replicas with them. After an outage these are all rooms, and what clients ask for
/// meanwhile is not to wait behind all of them.
const MAX_COMPARING: usize = 256;
/// The same while the node writes its own records again: the others need these, and rooms that are compared before all are written have
/// to be compared again.
const MAX_COMPARING_EARLY: usize = 32;

/// How long a session transfer waits for a room's subscription: its source waits no longer.
const TRANSFER_SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Replicas {
    rooms: AHashMap<RoomName, Replica>,
    /// Unused rooms, which are forgotten after a while.
    unused: Vec<RoomName>,
    /// Rooms to look at with each tick: a join or a transfer waits, or the records are to be read again.
    scheduled: IndexSet<RoomName, RandomState>,
    /// Rooms that are to be compared, and whether finally.
    compares: VecDeque<(RoomName, bool)>,
    /// Comparisons that have no answer yet.
    comparing: usize,
    /// The node writes its own records again.
    is_early: bool,
    /// Ticks so far; a cluster of one has none.
    ticks: u64,
}

impl Replicas {
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn route(&mut self, room: &RoomName) -> Arc<Route> {
        match self.rooms.get(room) {
            Some(replica) => replica.route.clone(),
            None => self.rooms.entry(room.clone()).or_default().route.clone(),
        }
    }

    /// Whether the shards have been told every change of the room that has arrived.
    pub(super) fn is_current(&self, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(Replica::is_current)
    }

    pub(super) fn find_route(&self, room: &RoomName) -> Option<Arc<Route>> {
        self.rooms.get(room).map(|replica| replica.route.clone())
    }

    /// Forgets the room if nobody on this node is in it or about to join it.
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

    /// A page of the members; see [`RoomState::page`].
    pub(super) fn page(
        &mut self,
        room: &RoomName,
        after: Option<Address>,
        limit: usize,
    ) -> Option<MembersPage> {
        Some(self.rooms.get_mut(room)?.state.as_mut()?.page(after, limit, self.ticks))
    }

    fn count(&self, room: &RoomName) -> usize {
        self.rooms.get(room).and_then(|replica| replica.state.as_ref()).map_or(0, |state| state.records.len())
    }

    fn schedule(&mut self, room: &RoomName) {
        if !self.scheduled.contains(room) {
            self.scheduled.insert(room.clone());
        }
    }

    /// A comparison was answered, or has failed.
    pub(super) fn compare_answered(&mut self, out: &mut Outputs) {
        self.comparing = self.comparing.saturating_sub(1);
        self.read_compared(out);
    }

    /// Whether only a few are compared at once, since the node writes its own records again.
    pub(super) fn compare_few(&mut self, is_early: bool, out: &mut Outputs) {
        self.is_early = is_early;
        self.read_compared(out);
    }

    /// Reads the records of rooms that are to be compared, as many at once as may be.
    fn read_compared(&mut self, out: &mut Outputs) {
        let most = if self.is_early { MAX_COMPARING_EARLY } else { MAX_COMPARING };
        while self.comparing < most
            && let Some((room, is_final)) = self.compares.pop_front()
        {
            if self.rooms.get(&room).is_some_and(|replica| replica.comparing.is_some()) {
                self.comparing += 1;
                let pending = Pending::Compare { room: room.clone(), is_final };
                out.push_back(Output::Call(Call::Records { room }, pending));
            }
        }
    }

    /// The store was lost: what was not read yet is compared when it is back.
    pub(super) fn give_up_compares(&mut self) {
        for (room, _) in std::mem::take(&mut self.compares) {
            if let Some(replica) = self.rooms.get_mut(&room) {
                replica.comparing = None;
            }
        }
    }

    /// The record of a member, as the replica has it.
    pub(super) fn record(&self, room: &RoomName, socket: Address) -> Option<&Arc<Record>> {
        self.rooms.get(room)?.state.as_ref()?.records.get(&socket)
    }

    /// Removes a member that left while the store was away.
    pub(super) fn leave_offline(&mut self, room: &RoomName, socket: Address, out: &mut Outputs) {
        let Some(replica) = self.rooms.get_mut(room) else { return };
        let record = replica.state.as_ref().and_then(|state| state.records.get(&socket)).cloned();
        if let Some(record) = record {
            replica.apply_change(room, Change::Left(record), out);
        }
    }
}

impl Machine {
    /// Reads the records of a room to compare the replica with them, when it is its turn.
    fn compare(&mut self, room: &RoomName, is_final: bool, out: &mut Outputs) {
        let Some(replica) = self.rooms.rooms.get_mut(room) else { return };
        if replica.comparing.is_some() {
            replica.compares_again = true;
        } else if replica.state.is_some() {
            replica.comparing = Some(Vec::new());
            // Where somebody waits to be told that he has joined, first.
            if replica.answers.is_empty() {
                self.rooms.compares.push_back((room.clone(), is_final));
            } else {
                self.rooms.compares.push_front((room.clone(), is_final));
            }
            self.rooms.read_compared(out);
        }
    }

    /// Takes a change from the bus: the next version is applied, an older one is ignored, and after a gap the records are read.
    pub(crate) fn room_changed(&mut self, delta: RoomDelta, out: &mut Outputs) {
        let is_stable = self.is_stable();
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
        // The first change of a room that had been empty.
        let begins = room_version.version == 1 && state.records.is_empty();
        if room_version == next || begins {
            state.room_version = room_version;
            replica.apply_change(&room, change, out);
            if !replica.transfer_subscriptions.is_empty() {
                self.complete_transfer_subscriptions(&room, out);
            }
            self.complete_joins(&room, out);
        } else {
            // A node that has lost its lease compares when it is back: until then the records show as its members who have left.
            if !self.lease.has_joined() {
                return;
            }
            // A room that was made anew has lost its records, which their nodes will write again.
            let is_anew = room_version.epoch != state.room_version.epoch || replica.recheck_at.is_some();
            let is_final = is_stable && !is_anew;
            if !is_anew {
                out.push_back(Output::Event(ClusterEvent::RoomGap));
            }
            self.compare(&room, is_final, out);
        }
    }

    /// Applies the changes that arrived before the first snapshot.
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
            self.compare(room, false, out);
        }
    }

    /// The records could not be read. The changes that arrived meanwhile show when they are.
    pub(super) fn compare_failed(&mut self, room: &RoomName) {
        if let Some(replica) = self.rooms.rooms.get_mut(room)
            && let Some(buffered) = &mut replica.comparing
        {
            buffered.clear();
        }
    }

    /// Reads the records again.
    pub(super) fn compare_again(&mut self, room: &RoomName, is_final: bool, out: &mut Outputs) {
        if let Some(replica) = self.rooms.rooms.get_mut(room) {
            replica.comparing = None;
        }
        self.compare(room, is_final, out);
    }

    /// Compares the replica with the records. Members that are missing are gone, unless they are this node's own (it has written
    /// them again, or will) or their nodes may yet write them again.
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
            self.compare(room, false, out);
        }
        self.complete_joins(room, out);
        self.advance_transfers(now, room, out);
    }

    /// The subscription of a room is confirmed.
    pub(crate) fn subscribed(&mut self, now: Instant, room: &RoomName, out: &mut Outputs) {
        // Without this check, a lease that expired unnoticed and is then confirmed would leave the joins below undone.
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
            self.compare(room, false, out);
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

    /// Changes of a room, or of all rooms, may have been missed until the subscription is confirmed again.
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

    /// The store is back: every room is compared once it is subscribed.
    pub(super) fn rooms_online(&mut self, out: &mut Outputs) {
        let mut rooms: Vec<_> = self.rooms.rooms.keys().cloned().collect();
        rooms.sort_unstable();
        for room in &rooms {
            let Some(replica) = self.rooms.rooms.get_mut(room) else { continue };
            match replica.subscription {
                Subscription::Active => self.compare(room, false, out),
                Subscription::Requested => {}
                Subscription::Inactive => {
                    replica.subscription = Subscription::Requested;
                    out.push_back(Output::Subscribe(room.clone()));
                }
            }
        }
    }

    pub(super) fn rooms_tick(&mut self, now: Instant, out: &mut Outputs) {
        self.rooms.ticks += 1;
        let is_online = self.lease.is_valid(now);
        // After another outage, nodes need as long again to write their members.
        let is_final = is_online && self.is_stable();
        for room in std::mem::take(&mut self.rooms.scheduled) {
            let Some(replica) = self.rooms.rooms.get(&room) else { continue };
            let oldest = replica.answers.first().map(|(_, _, since)| *since);
            let is_missing = is_online && oldest.is_some_and(|since| since + GAP_TIMEOUT <= now);
            if replica.recheck_at.is_some_and(|at| at <= now) && is_final {
                self.compare(&room, true, out);
            } else if is_missing && replica.comparing.is_none() {
                self.compare(&room, false, out);
            }
            let Some(replica) = self.rooms.rooms.get_mut(&room) else { continue };
            let (overdue, waiting) = std::mem::take(&mut replica.answers)
                .into_iter()
                .partition(|(_, _, since)| *since + SUBSCRIBE_TIMEOUT <= now);
            replica.answers = waiting;
            let overdue: Vec<(Join, RoomVersion, Instant)> = overdue;
            let is_late = replica.waits_since.is_some_and(|since| since + SUBSCRIBE_TIMEOUT <= now);
            let joins = if is_late { std::mem::take(&mut replica.joins) } else { Vec::new() };
            if is_late {
                replica.waits_since = None;
            }
            let transfer_subscriptions = std::mem::take(&mut replica.transfer_subscriptions);
            // Each transfer has its own deadline; most wait only for a moment.
            let (late, waiting) = transfer_subscriptions.into_iter().partition(|subscribe_for_transfer| {
                subscribe_for_transfer.since + TRANSFER_SUBSCRIBE_TIMEOUT <= now
            });
            replica.transfer_subscriptions = waiting;
            let is_done = replica.recheck_at.is_none()
                && replica.waits_since.is_none()
                && replica.answers.is_empty()
                && replica.transfer_subscriptions.is_empty();
            if !is_done {
                self.rooms.scheduled.insert(room.clone());
            }
            for (join, ..) in overdue {
                self.answer_join(&join, out);
            }
            for join in joins {
                self.put_or_join_offline(now, join, out);
            }
            self.abandon_transfer_subscriptions(late, out);
        }
        let Self { rooms, own, .. } = self;
        rooms.read_compared(out);
        rooms.forget_unused(now, own, out);
    }
}

impl Replicas {
    /// Forgets rooms that have been unused for a while. A room whose subscription is not confirmed yet is kept until it is, so
    /// that the confirmation is not taken for that of a later subscription.
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
