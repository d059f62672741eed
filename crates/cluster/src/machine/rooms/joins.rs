//! Joining and leaving.

use std::time::Instant;

use super::super::deliver_members;
use super::{Join, Machine, Output, Outputs, Pending, REWRITE_GRACE, RoomState, Subscription, page_of};
use crate::{
    address::{Address, ShardId},
    command::{Change, Delivery, Refused, Ticket},
    record::RoomName,
    store::{Call, Reply, RoomVersion, SnapshotRequest},
};

/// Rooms whose names begin so are joined beside those that clients name, and change no profile.
const HIDDEN: char = '\u{1}';

impl Machine {
    /// A join: the room is subscribed first, and the record is put after that, so that no change falls between.
    pub(in crate::machine) fn join(
        &mut self,
        now: Instant,
        join: Join,
        congested: &dyn Fn(ShardId) -> bool,
        out: &mut Outputs,
    ) {
        if self.rooms.is_congested(&join.room, congested) {
            refuse(&join, Refused::Busy, out);
            return;
        }
        if !join.room.name.starts_with(HIDDEN) {
            let (namespace, socket) = (join.room.namespace.clone(), join.record.socket);
            self.user_changed(now, namespace, socket, Some(join.record.profile.clone()), out);
        }
        if !self.lease.is_valid(now) {
            self.join_offline(join, out);
            return;
        }
        let replica = self.rooms.rooms.entry(join.room.clone()).or_default();
        if !self.lease.is_shared() || replica.subscription == Subscription::Active {
            self.put(join, out);
            return;
        }
        if replica.subscription == Subscription::Inactive {
            replica.subscription = Subscription::Requested;
            out.push_back(Output::Subscribe(join.room.clone()));
        }
        replica.waits_since.get_or_insert(now);
        let room = join.room.clone();
        replica.joins.push(join);
        self.rooms.schedule(&room);
    }

    pub(in crate::machine) fn put(&mut self, join: Join, out: &mut Outputs) {
        // It is part of the local state from now on: if everything is written again before the reply arrives, so is this record.
        self.own.joined(&join.room, &join.record);
        let replica = self.rooms.rooms.entry(join.room.clone()).or_default();
        let known = replica.state.as_ref().map(|state| state.room_version);
        let fetches = !std::mem::replace(&mut replica.is_fetching, true);
        let snapshot = if fetches { SnapshotRequest::Since(known) } else { SnapshotRequest::None(known) };
        let (owner, room, record) = (self.owner(), join.room.clone(), join.record.clone());
        let join = Join { fetches, ..join };
        let most = join.most;
        out.push_back(Output::Call(Call::Put { owner, room, record, snapshot, most }, Pending::Join(join)));
    }

    /// The call of a join was answered, or has failed: the next one may fetch the records.
    pub(in crate::machine) fn fetch_ended(&mut self, join: &Join) {
        if let Some(replica) = self.rooms.rooms.get_mut(&join.room).filter(|_| join.fetches) {
            replica.is_fetching = false;
        }
    }

    pub(super) fn put_or_join_offline(&mut self, now: Instant, join: Join, out: &mut Outputs) {
        if self.lease.is_valid(now) {
            self.put(join, out);
        } else {
            self.join_offline(join, out);
        }
    }

    pub(in crate::machine) fn join_answered(
        &mut self,
        now: Instant,
        join: Join,
        reply: Reply,
        out: &mut Outputs,
    ) {
        self.fetch_ended(&join);
        if matches!(reply, Reply::RoomFull) {
            self.own.left(&join.room, join.record.socket);
            refuse(&join, Refused::RoomFull, out);
            return;
        }
        let Reply::Put { room_version, records, count } = reply else {
            self.join_offline(join, out);
            return;
        };
        let join = Join { count, ..join };
        let replica = self.rooms.rooms.entry(join.room.clone()).or_default();
        let is_news = replica.state.as_ref().is_none_or(|state| state.room_version < room_version);
        if let Some(records) = records.filter(|_| is_news) {
            // A room with a new epoch has lost its records; their nodes will write them again.
            let is_anew =
                replica.state.as_ref().is_some_and(|state| state.room_version.epoch != room_version.epoch);
            let (own, may_be_rewritten) = (&self.own, is_anew || replica.recheck_at.is_some());
            let keeps = |socket| may_be_rewritten || own.is_member(&join.room, socket);
            if replica.replace(&join.room, room_version, records, &keeps, out) && may_be_rewritten {
                replica.recheck_at.get_or_insert(now + REWRITE_GRACE);
                self.rooms.schedule(&join.room);
            }
        }
        self.catch_up(&join.room, out);
        self.complete_transfer_subscriptions(&join.room, out);
        self.await_version(now, join, room_version, out);
    }

    /// A join is answered once the replica has every change before it, and its own.
    fn await_version(&mut self, now: Instant, join: Join, room_version: RoomVersion, out: &mut Outputs) {
        let room = join.room.clone();
        let Some(replica) = self.rooms.rooms.get_mut(&room) else { return };
        match &replica.state {
            // The join that was to fetch the records has failed.
            None if !replica.is_fetching => {
                replica.is_fetching = true;
                let call = Call::Records { room: room.clone() };
                out.push_back(Output::Call(call, Pending::TransferSnapshot { room: room.clone() }));
            }
            Some(state) if state.room_version.epoch < room_version.epoch && !replica.is_fetching => {
                self.compare(&room, false, out);
            }
            _ => {}
        }
        let Some(replica) = self.rooms.rooms.get_mut(&room) else { return };
        replica.answers.push((join, room_version, now));
        self.complete_joins(&room, out);
        if self.rooms.rooms.get(&room).is_some_and(|replica| !replica.answers.is_empty()) {
            self.rooms.schedule(&room);
        }
    }

    /// Answers the joins whose versions the replica has.
    pub(super) fn complete_joins(&mut self, room: &RoomName, out: &mut Outputs) {
        let Some(replica) = self.rooms.rooms.get_mut(room).filter(|replica| !replica.answers.is_empty())
        else {
            return;
        };
        let Some(known) = replica.state.as_ref().map(|state| state.room_version) else { return };
        let ready = replica.answers.extract_if(.., |(_, room_version, _)| *room_version <= known);
        let ready: Vec<_> = ready.collect();
        for (join, ..) in ready {
            self.answer_join(&join, out);
        }
    }

    pub(in crate::machine) fn answer_join(&mut self, join: &Join, out: &mut Outputs) {
        let limit = self.presence_limit;
        let page = if join.list { self.rooms.page(&join.room, None, limit) } else { None };
        let members = page.map(|page| page.members).unwrap_or_default();
        let present = self.rooms.count(&join.room);
        let change_id = self.rooms.rooms.get(&join.room).map_or(0, |replica| replica.last_change);
        let joined = Delivery::Joined { ticket: join.ticket, change_id, members, count: join.count, present };
        out.push_back(Output::Deliver(join.shard, joined));
    }

    /// The store is away: the join changes the local state only, until the store is back.
    pub(in crate::machine) fn join_offline(&mut self, mut join: Join, out: &mut Outputs) {
        // Of those on other nodes nobody knows.
        let is_new = !self.own.is_member(&join.room, join.record.socket);
        if is_new && join.most.is_some_and(|most| self.own.members(&join.room).len() >= most) {
            refuse(&join, Refused::RoomFull, out);
            return;
        }
        self.own.joined(&join.room, &join.record);
        let replica = self.rooms.rooms.entry(join.room.clone()).or_default();
        replica.state.get_or_insert_with(|| RoomState::new(Default::default(), []));
        replica.apply_change(&join.room, Change::Joined(join.record.clone()), out);
        join.count = replica.state.as_ref().map_or(1, |state| state.records.len());
        self.answer_join(&join, out);
    }

    /// The store was lost: joins that wait for a subscription go on without it.
    pub(in crate::machine) fn join_all_offline(&mut self, out: &mut Outputs) {
        let rooms: Vec<_> = self.rooms.scheduled.iter().cloned().collect();
        for room in rooms {
            let Some(replica) = self.rooms.rooms.get_mut(&room) else { continue };
            replica.waits_since = None;
            replica.is_fetching = false;
            let put = std::mem::take(&mut replica.answers);
            for join in std::mem::take(&mut replica.joins) {
                self.join_offline(join, out);
            }
            for (join, ..) in put {
                // It may have left meanwhile.
                if self.own.is_member(&room, join.record.socket) {
                    self.join_offline(join, out);
                } else {
                    self.answer_join(&join, out);
                }
            }
            self.fail_transfer_subscriptions(&room, out);
        }
    }

    pub(in crate::machine) fn leave(
        &mut self,
        now: Instant,
        room: RoomName,
        socket: Address,
        out: &mut Outputs,
    ) {
        self.own.left(&room, socket);
        if self.lease.is_valid(now) {
            let call = Call::Remove { owner: self.owner(), room: room.clone(), socket };
            out.push_back(Output::Call(call, Pending::Leave { room, socket }));
        } else {
            self.leave_offline(room, socket, out);
        }
    }

    /// The store is away: the clients here are told at once, the store when it is back.
    pub(in crate::machine) fn leave_offline(&mut self, room: RoomName, socket: Address, out: &mut Outputs) {
        self.rooms.leave_offline(&room, socket, out);
        if self.lease.is_shared() {
            self.left_offline.push((room, socket));
        }
    }

    pub(in crate::machine) fn members(
        &mut self,
        now: Instant,
        (shard, ticket): (ShardId, Ticket),
        room: RoomName,
        after: Option<Address>,
        out: &mut Outputs,
    ) {
        // A member that asks gets the members that it was told of, which are those of the replica.
        let known = self.rooms.page(&room, after, self.presence_limit);
        let own = || {
            let is_offline = !self.lease.is_valid(now);
            is_offline.then(|| page_of(self.own.members(&room), after, self.presence_limit))
        };
        if let Some(page) = known.or_else(own) {
            deliver_members((shard, ticket), page, out);
            return;
        }
        let call = Call::Records { room: room.clone() };
        out.push_back(Output::Call(call, Pending::ListMembers { shard, ticket, room, after }));
    }
}

fn refuse(join: &Join, why: Refused, out: &mut Outputs) {
    out.push_back(Output::Deliver(join.shard, Delivery::Refused { ticket: join.ticket, why }));
}
