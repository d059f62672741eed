//! Calls that failed while the lease is valid: what they were to write is written again, as the local state has it by then.
//!
//! A call that fails says nothing about the lease: it may have been refused, or answered too late. Only the heartbeat decides
//! whether the node is degraded, and a node that is not repairs what failed.

use std::{collections::VecDeque, sync::Arc, time::Duration, time::Instant};

use super::{Adopted, Join, Machine, Output, Outputs, Pending, Unadopted, lease::RETRY};
use crate::{
    address::{Address, Owner},
    command::{PeerAt, RealmId, Ticket},
    record::RoomName,
    store::{Call, Reply, SnapshotRequest, TakeoverNotice},
};

/// Repairs with one tick.
const BATCH: usize = 512;
/// The pause before something is repaired: a store that is overloaded is not asked again at once.
const PAUSE: Duration = RETRY;

/// Something that failed.
#[derive(Debug)]
enum Repair {
    Claim {
        at: PeerAt,
        ticket: Ticket,
        realm: RealmId,
        id: Arc<str>,
        token: Arc<str>,
        may_have_run: bool,
    },
    /// The owner is there if it may have been done: the id may have been taken from a holder of which nothing is known here.
    Reclaim {
        realm: RealmId,
        id: Arc<str>,
        generation: u64,
        owner: Option<Owner>,
    },
    Release {
        realm: RealmId,
        id: Arc<str>,
        generation: u64,
    },
    Notices {
        owner: Owner,
        realm: RealmId,
        id: Arc<str>,
    },
    Notify(TakeoverNotice),
    Acknowledge(TakeoverNotice),
    Join(Join),
    Member {
        room: RoomName,
        socket: Address,
    },
    Adopt(Unadopted),
    Compare {
        room: RoomName,
        is_final: bool,
    },
    Reap(Owner, u8),
    EndEpoch(u64),
}

#[derive(Debug, Default)]
pub(super) struct Repairs {
    waiting: VecDeque<Repair>,
    due: Option<Instant>,
}

impl Repairs {
    fn push(&mut self, now: Instant, repair: Repair) {
        self.waiting.push_back(repair);
        self.due.get_or_insert(now + PAUSE);
    }
}

impl Machine {
    /// A call failed. What can be repaired is, later; the rest is given back, to be answered as failed.
    pub(super) fn repair_later(
        &mut self,
        now: Instant,
        pending: Pending,
        may_have_run: bool,
    ) -> Option<Pending> {
        if !self.lease.is_valid(now) {
            // Everything is written again when the store is back.
            return Some(pending);
        }
        let repair = match pending {
            Pending::Claim { at, ticket, realm, id, token, .. } => {
                Repair::Claim { at, ticket, realm, id, token, may_have_run }
            }
            Pending::Reclaim { owner, realm, id, generation } => {
                Repair::Reclaim { realm, id, generation, owner: may_have_run.then_some(owner) }
            }
            Pending::Notices { owner, realm, id } => Repair::Notices { owner, realm, id },
            Pending::Acknowledge(notice) => Repair::Acknowledge(notice),
            Pending::NotifyTakeover(notice) => Repair::Notify(notice),
            Pending::Join(join) => {
                self.fetch_ended(&join);
                Repair::Join(join)
            }
            Pending::Put { room, socket } | Pending::Leave { room, socket } => {
                Repair::Member { room, socket }
            }
            Pending::Adopt(membership) => Repair::Adopt(membership),
            Pending::PutUsers(users) => {
                for (namespace, socket) in users {
                    self.user_not_written(now, namespace, socket);
                }
                return None;
            }
            Pending::Compare { room, is_final } => {
                self.compare_failed(&room);
                Repair::Compare { room, is_final }
            }
            Pending::Reap(owner, partition) => Repair::Reap(owner, partition),
            Pending::EndEpoch(epoch) => Repair::EndEpoch(epoch),
            // These are answered, too.
            Pending::Release { realm, id, generation } => {
                let repair = Repair::Release { realm, id: id.clone(), generation };
                self.repairs.push(now, repair);
                return Some(Pending::Release { realm, id, generation });
            }
            Pending::Revoke(number, notice) => {
                self.repairs.push(now, Repair::Notify(notice.clone()));
                return Some(Pending::Revoke(number, notice));
            }
            Pending::AdoptSession { shard, ticket, adopted } => {
                match &adopted {
                    Adopted::Member(membership) => {
                        self.repairs.push(now, Repair::Adopt(membership.clone()));
                    }
                    Adopted::User(namespace, socket) => {
                        self.user_not_written(now, namespace.clone(), *socket)
                    }
                }
                return Some(Pending::AdoptSession { shard, ticket, adopted });
            }
            other => return Some(other),
        };
        self.repairs.push(now, repair);
        None
    }

    pub(super) fn repairs_tick(&mut self, now: Instant, out: &mut Outputs) {
        if self.repairs.due.is_none_or(|due| now < due) || !self.lease.is_valid(now) {
            return;
        }
        let count = self.repairs.waiting.len().min(BATCH);
        let repairs: Vec<_> = self.repairs.waiting.drain(..count).collect();
        self.repairs.due = (!self.repairs.waiting.is_empty()).then_some(now);
        for repair in repairs {
            self.repair(now, repair, out);
        }
    }

    fn repair(&mut self, now: Instant, repair: Repair, out: &mut Outputs) {
        let owner = self.owner();
        match repair {
            Repair::Claim { at, ticket, realm, id, token, may_have_run } => {
                self.claim(now, at, ticket, (realm, id.clone(), token), out);
                if may_have_run {
                    // The claim may have taken the id from a holder of which nothing is known here.
                    self.recover_notices(owner, realm, id, out);
                }
            }
            Repair::Reclaim { realm, id, generation, owner } => {
                let own = self.own.claim(realm, &id).map(|claim| claim.at);
                let at = own.filter(|at| at.generation == generation);
                if let Some(at) = at.or_else(|| self.takeovers.find(generation)) {
                    self.contested(now, realm, &id, at, out);
                }
                if let Some(owner) = owner {
                    self.recover_notices(owner, realm, id, out);
                }
            }
            Repair::Release { realm, id, generation } => self.release(now, realm, id, generation, out),
            Repair::Notices { owner, realm, id } => self.recover_notices(owner, realm, id, out),
            Repair::Notify(notice) => self.notify_takeover(notice, out),
            Repair::Acknowledge(notice) => {
                let pending = Pending::Acknowledge(notice.clone());
                out.push_back(Output::Call(Call::Acknowledge(notice), pending));
            }
            Repair::Join(join) => {
                let own = self.own.rooms.get(&join.room).and_then(|members| members.get(&join.record.socket));
                if own.is_some_and(|record| Arc::ptr_eq(record, &join.record)) {
                    self.put(join, out);
                } else {
                    // The member has left, or has a later record.
                    self.answer_join(&join, out);
                }
            }
            Repair::Member { room, socket } => self.write_member(room, socket, out),
            Repair::Adopt(membership) => self.adopt(membership, out),
            Repair::Compare { room, is_final } => self.compare_again(&room, is_final, out),
            Repair::Reap(owner, partition) => {
                let call = Call::Reap { owner, partition };
                out.push_back(Output::Call(call, Pending::Reap(owner, partition)));
            }
            Repair::EndEpoch(epoch) => self.end_epoch(epoch, out),
        }
    }

    fn recover_notices(&self, owner: Owner, realm: RealmId, id: Arc<str>, out: &mut Outputs) {
        let call = Call::Notices { owner, realm, id: id.clone() };
        out.push_back(Output::Call(call, Pending::Notices { owner, realm, id }));
    }

    /// Makes a membership this node's, as the local state has it. Who has left meanwhile has a record of its former node still, and a
    /// node removes only its own.
    pub(super) fn adopt(&mut self, membership: Unadopted, out: &mut Outputs) {
        let (owner, from) = (self.owner(), membership.from);
        let (room, socket) = (membership.room.clone(), membership.record.socket);
        match self.own.rooms.get(&room).and_then(|members| members.get(&socket)).cloned() {
            Some(record) => {
                let snapshot = SnapshotRequest::None(self.rooms.room_version(&room));
                let call = Call::Put { owner, room, record, snapshot, most: None };
                out.push_back(Output::Call(call, Pending::Adopt(membership)));
            }
            None => {
                let record = membership.record.clone();
                let call = Call::Rehome { owner, from, room: room.clone(), record };
                out.push_back(Output::Call(call, Pending::Adopt(membership)));
                self.write_member(room, socket, out);
            }
        }
    }

    /// Writes whether a socket is a member of a room, as the local state has it.
    fn write_member(&mut self, room: RoomName, socket: Address, out: &mut Outputs) {
        let owner = self.owner();
        match self.own.rooms.get(&room).and_then(|members| members.get(&socket)).cloned() {
            Some(record) => {
                let snapshot = SnapshotRequest::None(self.rooms.room_version(&room));
                let call = Call::Put { owner, room: room.clone(), record, snapshot, most: None };
                out.push_back(Output::Call(call, Pending::Put { room, socket }));
            }
            None => {
                let call = Call::Remove { owner, room: room.clone(), socket };
                out.push_back(Output::Call(call, Pending::Leave { room, socket }));
            }
        }
    }

    /// The store was lost: what waits goes on without it. The rest is written when the store is back.
    pub(super) fn give_up_repairs(&mut self, now: Instant, out: &mut Outputs) {
        self.repairs.due = None;
        for repair in std::mem::take(&mut self.repairs.waiting) {
            let failed = Reply::Failed { may_have_run: true };
            match repair {
                Repair::Claim { at, ticket, realm, id, token, .. } => {
                    self.claim_offline(now, at, ticket, (realm, id, token), out)
                }
                Repair::Join(join) => {
                    if self.own.is_member(&join.room, join.record.socket) {
                        self.join_offline(join, out);
                    } else {
                        self.answer_join(&join, out);
                    }
                }
                Repair::Member { room, socket } if !self.own.is_member(&room, socket) => {
                    self.leave_offline(room, socket, out);
                }
                Repair::Adopt(membership) => {
                    let (room, socket) = (membership.room.clone(), membership.record.socket);
                    if !self.own.is_member(&room, socket) {
                        self.leave_offline(room, socket, out);
                    }
                    self.unadopted.push(membership);
                }
                Repair::Compare { room, is_final } => self.compared(now, &room, is_final, failed, out),
                _ => {}
            }
        }
    }
}
