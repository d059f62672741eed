//! Sessions that move here from other nodes: their rooms are subscribed before they come, and their records change their owner
//! after.

use std::{sync::Arc, time::Instant};

use ahash::AHashMap;

use super::{
    Adopted, Machine, Output, Outputs, Pending, REWRITE_GRACE, Subscription, TransferSubscription, Unadopted,
    version_of,
};
use crate::{
    address::{Address, NodeTag, ShardId},
    command::{Change, Delivery, Ticket},
    partition,
    record::{Record, RoomName, SessionRecords},
    store::{Call, Reply, RoomVersion},
};

/// Requests that take several calls, and how many of their calls have no reply yet.
#[derive(Debug, Default)]
pub(in crate::machine) struct SessionTransfers {
    subscriptions: AHashMap<(ShardId, Ticket), RoomsOfTransfer>,
    adoptions: AHashMap<(ShardId, Ticket), usize>,
}

/// The rooms of a session that is to move here.
#[derive(Debug)]
struct RoomsOfTransfer {
    rooms: Vec<(RoomName, RoomVersion)>,
    /// How many of them are waited for.
    missing: usize,
    since: Instant,
}

impl SessionTransfers {
    /// One of the calls that adopt a session was answered.
    pub(in crate::machine) fn answered(&mut self, shard: ShardId, ticket: Ticket, out: &mut Outputs) {
        let Some(missing) = self.adoptions.get_mut(&(shard, ticket)) else { return };
        *missing -= 1;
        if *missing == 0 {
            self.adoptions.remove(&(shard, ticket));
            out.push_back(Output::Deliver(shard, Delivery::SessionAdopted { ticket }));
        }
    }
}

impl Machine {
    /// A session is to move here: subscribes its rooms and fetches their members.
    pub(in crate::machine) fn subscribe_for_transfer(
        &mut self,
        now: Instant,
        shard: ShardId,
        ticket: Ticket,
        rooms: Vec<(RoomName, u128)>,
        out: &mut Outputs,
    ) {
        let is_live = self.lease.is_valid(now);
        if !is_live || !self.lease.is_shared() || rooms.is_empty() {
            out.push_back(Output::Deliver(shard, Delivery::RoomsSubscribed { ticket, is_live }));
            return;
        }
        let rooms: Vec<_> = rooms.into_iter().map(|(room, number)| (room, version_of(number))).collect();
        let waiting = RoomsOfTransfer { rooms: rooms.clone(), missing: rooms.len(), since: now };
        self.session_transfers.subscriptions.insert((shard, ticket), waiting);
        for (room, room_version) in rooms {
            let replica = self.rooms.rooms.entry(room.clone()).or_default();
            let subscription = TransferSubscription { shard, ticket, room_version, since: now };
            replica.transfer_subscriptions.push(subscription);
            if replica.subscription == Subscription::Inactive {
                replica.subscription = Subscription::Requested;
                out.push_back(Output::Subscribe(room.clone()));
            }
            self.rooms.schedule(&room);
            self.advance_transfers(now, &room, out);
        }
    }

    /// If the room is subscribed, transfers that wait for it go on, or a first snapshot is fetched for them.
    pub(super) fn advance_transfers(&mut self, now: Instant, room: &RoomName, out: &mut Outputs) {
        let is_online = self.lease.is_valid(now);
        let Some(replica) = self.rooms.rooms.get_mut(room) else { return };
        if replica.transfer_subscriptions.is_empty() || replica.subscription != Subscription::Active {
            return;
        }
        if replica.state.is_none() && is_online {
            if !std::mem::replace(&mut replica.is_fetching, true) {
                let call = Call::Records { room: room.clone() };
                out.push_back(Output::Call(call, Pending::TransferSnapshot { room: room.clone() }));
            }
            return;
        }
        if is_online {
            self.complete_transfer_subscriptions(room, out);
        } else {
            self.fail_transfer_subscriptions(room, out);
        }
    }

    pub(in crate::machine) fn transfer_snapshot_answered(
        &mut self,
        now: Instant,
        room: &RoomName,
        reply: Reply,
        out: &mut Outputs,
    ) {
        let is_answered = matches!(reply, Reply::Records { .. });
        if let Some(replica) = self.rooms.rooms.get_mut(room) {
            replica.is_fetching = false;
        }
        let is_stable = self.is_stable();
        if let (Reply::Records { room_version, records }, Some(replica)) =
            (reply, self.rooms.rooms.get_mut(room))
            && replica.state.is_none()
        {
            replica.replace(room, room_version.unwrap_or_default(), records, &|_| false, out);
            if !is_stable {
                // Members may be missing that their nodes have yet to write again, and that the session knows.
                replica.recheck_at = Some(now + REWRITE_GRACE);
                self.rooms.schedule(room);
            }
        }
        self.catch_up(room, out);
        self.complete_joins(room, out);
        if is_answered {
            self.complete_transfer_subscriptions(room, out);
        } else {
            self.fail_transfer_subscriptions(room, out);
        }
    }

    /// Transfers that wait for the room go on without it.
    pub(in crate::machine) fn fail_transfer_subscriptions(&mut self, room: &RoomName, out: &mut Outputs) {
        let Some(replica) = self.rooms.rooms.get_mut(room) else { return };
        let transfer_subscriptions = std::mem::take(&mut replica.transfer_subscriptions);
        self.abandon_transfer_subscriptions(transfer_subscriptions, out);
    }

    pub(super) fn abandon_transfer_subscriptions(
        &mut self,
        transfer_subscriptions: Vec<TransferSubscription>,
        out: &mut Outputs,
    ) {
        for TransferSubscription { shard, ticket, .. } in transfer_subscriptions {
            if self.session_transfers.subscriptions.remove(&(shard, ticket)).is_some() {
                out.push_back(Output::Deliver(shard, Delivery::RoomsSubscribed { ticket, is_live: false }));
            }
        }
    }

    /// Transfers that wait for no later version than the replica's go on. While the replica is being compared none does: the
    /// session's source could not tell which differences its client knows.
    pub(super) fn complete_transfer_subscriptions(&mut self, room: &RoomName, out: &mut Outputs) {
        let Some(replica) = self.rooms.rooms.get_mut(room).filter(|replica| replica.is_current()) else {
            return;
        };
        let known = replica.state.as_ref().map(|state| state.room_version).unwrap_or_default();
        let (ready, waiting) = replica
            .transfer_subscriptions
            .drain(..)
            .partition(|subscribe_for_transfer| subscribe_for_transfer.room_version <= known);
        replica.transfer_subscriptions = waiting;
        let ready: Vec<TransferSubscription> = ready;
        for TransferSubscription { shard, ticket, .. } in ready {
            let Some(waiting) = self.session_transfers.subscriptions.get_mut(&(shard, ticket)) else {
                continue;
            };
            waiting.missing -= 1;
            if waiting.missing > 0 {
                continue;
            }
            // The bus may have been lost while others of the rooms were waited for: these are waited for again.
            let is_stale = |(room, _): &&(RoomName, RoomVersion)| !self.rooms.is_current(room);
            let stale: Vec<_> = waiting.rooms.iter().filter(is_stale).cloned().collect();
            waiting.missing = stale.len();
            let since = waiting.since;
            if stale.is_empty() {
                self.session_transfers.subscriptions.remove(&(shard, ticket));
                out.push_back(Output::Deliver(shard, Delivery::RoomsSubscribed { ticket, is_live: true }));
            }
            for (room, room_version) in stale {
                if let Some(replica) = self.rooms.rooms.get_mut(&room) {
                    let subscription = TransferSubscription { shard, ticket, room_version, since };
                    replica.transfer_subscriptions.push(subscription);
                }
                self.rooms.schedule(&room);
            }
        }
    }

    /// A session has moved here: its records get this node as their owner.
    pub(in crate::machine) fn adopt_session(
        &mut self,
        now: Instant,
        (shard, ticket): (ShardId, Ticket),
        from: NodeTag,
        memberships: Vec<(RoomName, Record)>,
        users: Vec<(Arc<str>, Address, Arc<str>)>,
        out: &mut Outputs,
    ) {
        let memberships: Vec<_> =
            memberships.into_iter().map(|(room, record)| (room, Arc::new(record))).collect();
        for (room, record) in &memberships {
            self.own.joined(room, record);
        }
        for (namespace, socket, profile) in &users {
            self.user_adopted(namespace, *socket, profile);
        }
        let calls = memberships.len() + users.len();
        if !self.lease.is_valid(now) || calls == 0 {
            for (room, record) in memberships {
                self.unadopted.push(Unadopted { from, room: room.clone(), record: record.clone() });
                // What the clients here were told includes the newcomer, unless its former node has given it up meanwhile.
                if let Some(replica) = self.rooms.rooms.get_mut(&room) {
                    replica.apply_change(&room, Change::Joined(record), out);
                }
            }
            out.push_back(Output::Deliver(shard, Delivery::SessionAdopted { ticket }));
            return;
        }
        self.session_transfers.adoptions.insert((shard, ticket), calls);
        let owner = self.owner();
        for (room, record) in memberships {
            let adopted = Adopted::Member(Unadopted { from, room: room.clone(), record: record.clone() });
            let call = Call::Rehome { owner, from, room, record };
            out.push_back(Output::Call(call, Pending::AdoptSession { shard, ticket, adopted }));
        }
        for user in users {
            let partition = partition::of_user(&user.0, user.1);
            let adopted = Adopted::User(user.0.clone(), user.1);
            let call = Call::PutUsers { owner, partition, puts: vec![user], removes: Vec::new() };
            out.push_back(Output::Call(call, Pending::AdoptSession { shard, ticket, adopted }));
        }
    }

    /// The records of a session that is to move away, and its sockets with their profiles.
    pub(crate) fn session_records(
        &self,
        memberships: &[(RoomName, Address)],
        sockets: &[(Arc<str>, Address)],
    ) -> SessionRecords {
        let record = |(room, socket): &(RoomName, Address)| {
            let own = || self.own.rooms.get(room)?.get(socket);
            // A node that shares nothing keeps the replica alone.
            let record = own().or_else(|| self.rooms.record(room, *socket))?;
            Some((room.clone(), (**record).clone()))
        };
        let user = |(namespace, socket): &(Arc<str>, Address)| {
            let profile = self.own.users.get(namespace).and_then(|users| users.get(socket)).cloned();
            (namespace.clone(), *socket, profile.unwrap_or_else(|| "{}".into()))
        };
        SessionRecords {
            memberships: memberships.iter().filter_map(record).collect(),
            sockets: sockets.iter().map(user).collect(),
        }
    }

    /// A session has moved away: its records are its new node's, and no longer part of the local state.
    pub(crate) fn release_session(
        &mut self,
        now: Instant,
        memberships: &[(RoomName, Address)],
        sockets: &[(Arc<str>, Address)],
    ) {
        self.lease.session_released(now);
        for (room, socket) in memberships {
            self.own.left(room, *socket);
        }
        for (namespace, socket) in sockets {
            self.own.user(namespace, *socket, None);
            self.users.forget(namespace, *socket);
        }
    }
}

#[cfg(test)]
mod tests;
