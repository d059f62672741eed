//! Joining and leaving.

use std::time::Instant;

use super::{Join, Machine, Output, Outputs, Pending, REWRITE_GRACE, RoomState, Subscription};
use crate::{
    address::{Address, ShardId},
    command::{Change, Delivery, Refused, Ticket},
    record::RoomName,
    store::{Call, Reply, SnapshotRequest},
};

impl Machine {
    /// A join: first the room is heard, then the record is put, so that nothing falls between.
    pub(in crate::machine) fn join(
        &mut self,
        now: Instant,
        join: Join,
        congested: &dyn Fn(ShardId) -> bool,
        out: &mut Outputs,
    ) {
        if self.rooms.is_congested(&join.room, congested) {
            let refused = Delivery::Refused { ticket: join.ticket, why: Refused::Busy };
            out.push_back(Output::Deliver(join.shard, refused));
            return;
        }
        let (namespace, socket) = (join.room.namespace.clone(), join.record.socket);
        self.user_changed(now, namespace, socket, Some(join.record.profile.clone()), out);
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

    pub(super) fn put(&mut self, join: Join, out: &mut Outputs) {
        // From now on it is this node's own: should everything be written again before the answer comes, so is this.
        self.own.joined(&join.room, &join.record);
        let snapshot = SnapshotRequest::Since(self.rooms.room_version(&join.room));
        let (owner, room, record) = (self.owner(), join.room.clone(), join.record.clone());
        out.push_back(Output::Call(Call::Put { owner, room, record, snapshot }, Pending::Join(join)));
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
        let Reply::Put { room_version, records } = reply else {
            self.join_offline(join, out);
            return;
        };
        let replica = self.rooms.rooms.entry(join.room.clone()).or_default();
        let is_news = replica.state.as_ref().is_none_or(|state| state.room_version < room_version);
        if let Some(records) = records.filter(|_| is_news) {
            // A room that was made anew has lost its records, which their nodes will write again.
            let is_anew =
                replica.state.as_ref().is_some_and(|state| state.room_version.epoch != room_version.epoch);
            let (own, may_be_rewritten) = (&self.own, is_anew || replica.recheck_at.is_some());
            let keeps = |socket| may_be_rewritten || own.is_member(&join.room, socket);
            if replica.replace(&join.room, room_version, records, &keeps, out) && may_be_rewritten {
                replica.recheck_at.get_or_insert(now + REWRITE_GRACE);
                self.rooms.schedule(&join.room);
            }
        }
        self.answer_join(&join, out);
        self.catch_up(&join.room, out);
    }

    fn answer_join(&mut self, join: &Join, out: &mut Outputs) {
        let socket = join.record.socket;
        let mut members =
            if join.list { self.rooms.members(&join.room).unwrap_or_default() } else { Vec::new() };
        members.retain(|record| record.socket != socket);
        let change_id = self.rooms.rooms.get(&join.room).map_or(0, |replica| replica.last_change);
        let joined = Delivery::Joined { ticket: join.ticket, change_id, members };
        out.push_back(Output::Deliver(join.shard, joined));
    }

    /// The store is away: the join is this node's own affair until it is back.
    pub(in crate::machine) fn join_offline(&mut self, join: Join, out: &mut Outputs) {
        self.own.joined(&join.room, &join.record);
        let replica = self.rooms.rooms.entry(join.room.clone()).or_default();
        replica.state.get_or_insert_with(|| RoomState {
            room_version: Default::default(),
            records: Default::default(),
        });
        replica.apply_change(&join.room, Change::Joined(join.record.clone()), out);
        self.answer_join(&join, out);
    }

    /// The store was lost: joins that wait for the bus are done without it.
    pub(in crate::machine) fn join_all_offline(&mut self, out: &mut Outputs) {
        let rooms = self.rooms.scheduled.clone();
        for room in rooms {
            let Some(replica) = self.rooms.rooms.get_mut(&room) else { continue };
            replica.waits_since = None;
            for join in std::mem::take(&mut replica.joins) {
                self.join_offline(join, out);
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
        shard: ShardId,
        ticket: Ticket,
        room: RoomName,
        out: &mut Outputs,
    ) {
        // The replica is what this node's clients were told; a member asking hears the same.
        let known = self.rooms.members(&room);
        if let Some(members) = known.or_else(|| (!self.lease.is_valid(now)).then(|| self.own.members(&room)))
        {
            out.push_back(Output::Deliver(shard, Delivery::Members { ticket, members }));
            return;
        }
        let call = Call::Records { room: room.clone() };
        out.push_back(Output::Call(call, Pending::ListMembers { shard, ticket, room }));
    }
}
