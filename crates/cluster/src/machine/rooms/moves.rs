//! Sessions that move here from other nodes: their rooms are heard before they come, their records are re-homed after.

use std::{sync::Arc, time::Instant};

use ahash::AHashMap;

use super::{Heard, Listen, Machine, Output, Outputs, Pending, stamp_of};
use crate::{
    address::{Address, NodeTag, ShardId},
    cluster::SessionRecords,
    command::{Delivery, Ticket},
    partition,
    record::{Record, RoomName},
    store::{Call, Reply},
};

/// Questions that take several calls: how many are not answered yet.
#[derive(Debug, Default)]
pub(in crate::machine) struct Adoptions {
    listens: AHashMap<(ShardId, Ticket), usize>,
    adoptions: AHashMap<(ShardId, Ticket), usize>,
}

impl Adoptions {
    /// One of the calls that adopt a session was answered.
    pub(in crate::machine) fn answered(&mut self, shard: ShardId, ticket: Ticket, out: &mut Outputs) {
        let Some(missing) = self.adoptions.get_mut(&(shard, ticket)) else { return };
        *missing -= 1;
        if *missing == 0 {
            self.adoptions.remove(&(shard, ticket));
            out.push_back(Output::Deliver(shard, Delivery::Adopted { ticket }));
        }
    }
}

impl Machine {
    /// A session is to move here: hear its rooms, and know who is in them.
    pub(in crate::machine) fn listen(
        &mut self,
        now: Instant,
        shard: ShardId,
        ticket: Ticket,
        rooms: Vec<(RoomName, u128)>,
        out: &mut Outputs,
    ) {
        let is_live = self.lease.is_valid(now);
        if !is_live || !self.lease.is_shared() || rooms.is_empty() {
            out.push_back(Output::Deliver(shard, Delivery::Listening { ticket, is_live }));
            return;
        }
        self.adoptions.listens.insert((shard, ticket), rooms.len());
        for (room, number) in rooms {
            let replica = self.rooms.rooms.entry(room.clone()).or_default();
            replica.listens.push(Listen { shard, ticket, stamp: stamp_of(number), since: now });
            if replica.heard == Heard::No {
                replica.heard = Heard::Asked;
                out.push_back(Output::Subscribe(room.clone()));
            }
            self.rooms.attend(&room);
            self.listen_on(now, &room, out);
        }
    }

    /// A room is heard (or was already): who waits for that goes on, once there is a snapshot.
    pub(super) fn listen_on(&mut self, now: Instant, room: &RoomName, out: &mut Outputs) {
        let is_online = self.lease.is_valid(now);
        let Some(replica) = self.rooms.rooms.get_mut(room) else { return };
        if replica.listens.is_empty() || replica.heard != Heard::Yes {
            return;
        }
        if replica.state.is_none() && is_online {
            let call = Call::Records { room: room.clone() };
            out.push_back(Output::Call(call, Pending::Listen { room: room.clone() }));
            return;
        }
        if is_online {
            self.listened(room, out);
        } else {
            self.not_listened(room, out);
        }
    }

    pub(in crate::machine) fn listen_answered(&mut self, room: &RoomName, reply: Reply, out: &mut Outputs) {
        let is_answered = matches!(reply, Reply::Records { .. });
        if let (Reply::Records { stamp, records }, Some(replica)) = (reply, self.rooms.rooms.get_mut(room))
            && replica.state.is_none()
        {
            replica.replace(room, stamp.unwrap_or_default(), records, &|_| false, out);
        }
        self.catch_up(room, out);
        if is_answered {
            self.listened(room, out);
        } else {
            self.not_listened(room, out);
        }
    }

    /// Who waits for a room goes on without it.
    pub(in crate::machine) fn not_listened(&mut self, room: &RoomName, out: &mut Outputs) {
        let Some(replica) = self.rooms.rooms.get_mut(room) else { return };
        let listens = std::mem::take(&mut replica.listens);
        self.give_up_listening(listens, out);
    }

    pub(super) fn give_up_listening(&mut self, listens: Vec<Listen>, out: &mut Outputs) {
        for Listen { shard, ticket, .. } in listens {
            if self.adoptions.listens.remove(&(shard, ticket)).is_some() {
                out.push_back(Output::Deliver(shard, Delivery::Listening { ticket, is_live: false }));
            }
        }
    }

    /// A room is known as far as it is: who waits for no more than that goes on. While it is being compared nobody does: whom the
    /// difference is news to would not be known.
    pub(super) fn listened(&mut self, room: &RoomName, out: &mut Outputs) {
        let Some(replica) = self.rooms.rooms.get_mut(room).filter(|replica| replica.is_current()) else {
            return;
        };
        let known = replica.state.as_ref().map(|state| state.stamp).unwrap_or_default();
        let (ready, waiting) = replica.listens.drain(..).partition(|listen| listen.stamp <= known);
        replica.listens = waiting;
        let ready: Vec<Listen> = ready;
        for Listen { shard, ticket, .. } in ready {
            let Some(missing) = self.adoptions.listens.get_mut(&(shard, ticket)) else { continue };
            *missing -= 1;
            if *missing == 0 {
                self.adoptions.listens.remove(&(shard, ticket));
                out.push_back(Output::Deliver(shard, Delivery::Listening { ticket, is_live: true }));
            }
        }
    }

    /// A session has moved here.
    pub(in crate::machine) fn adopt(
        &mut self,
        now: Instant,
        (shard, ticket): (ShardId, Ticket),
        from: NodeTag,
        memberships: Vec<(RoomName, Record)>,
        sockets: Vec<(Arc<str>, Address, Arc<str>)>,
        out: &mut Outputs,
    ) {
        let memberships: Vec<_> =
            memberships.into_iter().map(|(room, record)| (room, Arc::new(record))).collect();
        for (room, record) in &memberships {
            self.own.joined(room, record);
        }
        for (namespace, socket, profile) in &sockets {
            self.own.user(namespace, *socket, Some(profile.clone()));
        }
        let calls = memberships.len() + sockets.len();
        if !self.lease.is_valid(now) || calls == 0 {
            for (room, record) in memberships {
                // What the clients here were told includes the newcomer.
                if let Some(replica) = self.rooms.rooms.get_mut(&room)
                    && let Some(state) = replica.state.as_mut()
                {
                    state.records.entry(record.socket).or_insert(record);
                }
            }
            out.push_back(Output::Deliver(shard, Delivery::Adopted { ticket }));
            return;
        }
        self.adoptions.adoptions.insert((shard, ticket), calls);
        let owner = self.owner();
        for (room, record) in memberships {
            let call = Call::Rehome { owner, from, room, record };
            out.push_back(Output::Call(call, Pending::Adopt { shard, ticket }));
        }
        for user in sockets {
            let partition = partition::of_user(user.1);
            let call = Call::PutUsers { owner, partition, puts: vec![user], removes: Vec::new() };
            out.push_back(Output::Call(call, Pending::Adopt { shard, ticket }));
        }
    }

    /// The records of a session that is to move away, and its sockets with their profiles.
    pub(crate) fn belongings(
        &self,
        memberships: &[(RoomName, Address)],
        sockets: &[(Arc<str>, Address)],
    ) -> SessionRecords {
        let record = |(room, socket): &(RoomName, Address)| {
            let record = self.own.rooms.get(room)?.get(socket)?;
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

    /// A session has moved away, and its new node has its records: they are not this node's any more.
    pub(crate) fn disown(&mut self, memberships: &[(RoomName, Address)], sockets: &[(Arc<str>, Address)]) {
        for (room, socket) in memberships {
            self.own.left(room, *socket);
        }
        for (namespace, socket) in sockets {
            self.own.user(namespace, *socket, None);
            self.users.forget(*socket);
        }
    }
}

#[cfg(test)]
mod tests;
