//! Everything that a node has, written again: after an outage under its new epoch, or because the form of what stands in the store
//! changes.
//!
//! It goes out in portions, few of which are under way at once, so that what clients ask for meanwhile does not wait behind all of
//! it. Behind each portion goes a flush, whose reply asks for the next one: the pace is the store's. What is written is what the
//! local state has when its turn comes. A node that loses its lease on the way goes on, under the next one, with what had not had
//! its turn; only then comes again what was written before.

use std::{
    collections::VecDeque,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Instant,
};

use ahash::AHashSet;

use super::{Machine, Output, Outputs, Pending};
use crate::{
    address::Address,
    command::RealmId,
    event::ClusterEvent,
    partition,
    record::RoomName,
    store::{Call, SnapshotRequest, User},
};

/// Claims, memberships or batches of users in one portion. Few in simulations, so that their few records take several.
const PORTION: usize = if cfg!(test) { 2 } else { 256 };
/// Portions under way at once: one that the store works on, and one that is on its way to it.
const AT_ONCE: usize = 2;
/// Users in one call.
const USERS: usize = if cfg!(test) { 2 } else { super::users::BATCH };

/// What is to be written, as the local state has it when its turn comes.
#[derive(Debug, Clone)]
enum Part {
    /// A member has left while the store was away.
    Left(RoomName, Address),
    /// This node's members of a room, behind one of them.
    Members(RoomName, Option<Address>),
    /// Its users in a namespace, or its connections in a list, behind one of them.
    Users(Arc<str>, Option<Address>),
}

/// What has yet to be written.
#[derive(Debug, Default)]
pub(super) struct Rewrite {
    /// Ids come first: until one is claimed again, others may claim it.
    claims: VecDeque<(RealmId, Arc<str>)>,
    parts: VecDeque<Part>,
    /// Portions under way.
    under_way: usize,
    /// Counts the times at which the node joined: replies of earlier ones are ignored.
    joined: u64,
    /// When writing everything again began, and how many calls that has taken.
    began: Option<(Instant, usize)>,
}

impl Rewrite {
    /// Whether everything is written.
    pub(super) fn is_done(&self) -> bool {
        self.under_way == 0 && self.claims.is_empty() && self.parts.is_empty()
    }
}

impl Machine {
    /// Whether writing everything again takes more than a moment.
    pub(super) fn is_rewrite_long(&self) -> bool {
        let users: usize = self.own.users.values().map(|users| users.len().div_ceil(USERS)).sum();
        let others = self.left_offline.len() + self.connections.len();
        self.own.held() + self.own.rooms.len() + others + users > AT_ONCE * PORTION
    }

    /// Writes all of this node's records under the new epoch.
    pub(super) fn rewrite_all(&mut self, now: Instant, has_expired: bool, out: &mut Outputs) {
        self.rewrite.joined += 1;
        self.rewrite.under_way = 0;
        self.rewrite.began = Some((now, 0));
        self.rerank_claims(has_expired);
        self.queue_claims();
        // Who has left is not kept, whatever is kept for a while.
        for (room, socket) in std::mem::take(&mut self.left_offline) {
            self.rewrite.parts.push_front(Part::Left(room, socket));
        }
        self.queue_rooms();
        self.queue_users();
        for membership in std::mem::take(&mut self.unadopted) {
            self.adopt(membership, out);
        }
        self.rooms.compare_few(true, out);
        self.write_portions(now, out);
    }

    /// Makes all claims again.
    pub(super) fn reclaim_all(&mut self, now: Instant, out: &mut Outputs) {
        self.queue_claims();
        self.write_portions(now, out);
    }

    /// Writes all memberships again.
    pub(super) fn put_all(&mut self, now: Instant, out: &mut Outputs) {
        self.queue_rooms();
        self.write_portions(now, out);
    }

    /// A connection here asks for an id that another one here holds, whose claim waits to be made again: that comes first, so that
    /// the store knows the holder.
    pub(super) fn reclaim_first(&mut self, realm: RealmId, id: &Arc<str>, out: &mut Outputs) {
        if !self.rewrite.claims.is_empty() {
            self.reclaim(realm, id, out);
        }
    }

    /// Lines up all claims, behind those that wait from before.
    fn queue_claims(&mut self) {
        let Self { rewrite, own, .. } = self;
        let waiting: AHashSet<(RealmId, Arc<str>)> = rewrite.claims.iter().cloned().collect();
        let of_realm = own
            .claims
            .iter()
            .enumerate()
            .flat_map(|(realm, claims)| claims.keys().map(move |id| (realm as RealmId, id.clone())));
        let mut claims: Vec<_> = of_realm.filter(|claim| !waiting.contains(claim)).collect();
        claims.sort_unstable();
        rewrite.claims.extend(claims);
    }

    fn queue_rooms(&mut self) {
        let Self { rewrite, own, .. } = self;
        let waiting: AHashSet<RoomName> = rewrite
            .parts
            .iter()
            .filter_map(|part| if let Part::Members(room, None) = part { Some(room.clone()) } else { None })
            .collect();
        let mut rooms: Vec<_> = own.rooms.keys().filter(|room| !waiting.contains(*room)).cloned().collect();
        rooms.sort_unstable();
        rewrite.parts.extend(rooms.into_iter().map(|room| Part::Members(room, None)));
    }

    fn queue_users(&mut self) {
        self.users.clear();
        let Self { rewrite, own, connections, .. } = self;
        let waiting: AHashSet<Arc<str>> = rewrite
            .parts
            .iter()
            .filter_map(|part| if let Part::Users(of, None) = part { Some(of.clone()) } else { None })
            .collect();
        let all = own.users.keys().chain(connections.lists());
        let mut namespaces: Vec<_> = all.filter(|of| !waiting.contains(*of)).cloned().collect();
        namespaces.sort_unstable();
        rewrite.parts.extend(namespaces.into_iter().map(|namespace| Part::Users(namespace, None)));
    }

    /// Sends as many portions as may be under way.
    fn write_portions(&mut self, now: Instant, out: &mut Outputs) {
        while self.lease.is_valid(now) && self.rewrite.under_way < AT_ONCE {
            let mut calls = 0;
            while calls < PORTION && self.write_next(&mut calls, out) {}
            if calls == 0 {
                break;
            }
            self.rewrite.under_way += 1;
            if let Some((_, sent)) = &mut self.rewrite.began {
                *sent += calls;
            }
            out.push_back(Output::Call(Call::Flush, Pending::Portion(self.rewrite.joined)));
        }
        if self.rewrite.is_done() {
            self.rewritten(now, out);
        }
    }

    /// A portion was written, or has failed; then what failed is repaired.
    pub(super) fn portion_written(&mut self, now: Instant, joined: u64, out: &mut Outputs) {
        if joined == self.rewrite.joined && self.rewrite.under_way > 0 {
            self.rewrite.under_way -= 1;
            self.write_portions(now, out);
        }
    }

    /// Everything is written.
    fn rewritten(&mut self, now: Instant, out: &mut Outputs) {
        self.rewrite.claims.shrink_to_fit();
        self.rewrite.parts.shrink_to_fit();
        let Some((began, calls)) = self.rewrite.began.take() else { return };
        if self.lease.stop_rewriting(now) {
            let took = now.saturating_duration_since(began);
            out.push_back(Output::Event(ClusterEvent::Rewritten { calls, took }));
        }
        self.end_past_epochs_if_due(now, out);
        self.rooms.compare_few(false, out);
    }

    /// Writes what is next, and counts the calls; `false` if there is nothing left.
    fn write_next(&mut self, calls: &mut usize, out: &mut Outputs) -> bool {
        if let Some((realm, id)) = self.rewrite.claims.pop_front() {
            *calls += usize::from(self.reclaim(realm, &id, out));
            return true;
        }
        match self.rewrite.parts.pop_front() {
            Some(Part::Left(room, socket)) => {
                if !self.own.is_member(&room, socket) {
                    *calls += 1;
                    let call = Call::Remove { owner: self.owner(), room: room.clone(), socket };
                    out.push_back(Output::Call(call, Pending::Leave { room, socket }));
                }
            }
            Some(Part::Members(room, after)) => *calls += self.put_members(room, after, out),
            Some(Part::Users(namespace, after)) => *calls += self.put_next_users(namespace, after, out),
            None => return false,
        }
        true
    }

    /// Writes members of a room; what does not fit into a portion is next.
    fn put_members(&mut self, room: RoomName, after: Option<Address>, out: &mut Outputs) -> usize {
        let owner = self.owner();
        let from = after.map_or(Unbounded, Excluded);
        let members = self.own.rooms.get(&room).into_iter().flat_map(|it| it.range((from, Unbounded)));
        let mut members = members.peekable();
        let known = self.rooms.room_version(&room);
        let mut calls = 0;
        while let Some((socket, record)) = members.next() {
            let snapshot = SnapshotRequest::None(known);
            let call = Call::Put { owner, room: room.clone(), record: record.clone(), snapshot, most: None };
            out.push_back(Output::Call(call, Pending::Put { room: room.clone(), socket: *socket }));
            calls += 1;
            if calls == PORTION && members.peek().is_some() {
                self.rewrite.parts.push_front(Part::Members(room, Some(*socket)));
                break;
            }
        }
        calls
    }

    /// Writes as many users of a namespace as one call takes; the others are next.
    fn put_next_users(&mut self, namespace: Arc<str>, after: Option<Address>, out: &mut Outputs) -> usize {
        let from = after.map_or(Unbounded, Excluded);
        let users = self.own.users.get(&namespace).into_iter().flat_map(|it| it.range((from, Unbounded)));
        let users = users.map(|(socket, profile)| (*socket, profile.clone()));
        let mut users = users.chain(self.connections.behind(&namespace, after)).peekable();
        let partition_of = |socket: Address| partition::of_user(&namespace, socket);
        let Some(partition) = users.peek().map(|(socket, _)| partition_of(*socket)) else { return 0 };
        let mut puts: Vec<User> = Vec::new();
        while puts.len() < USERS
            && let Some((socket, profile)) = users.next_if(|(socket, _)| partition_of(*socket) == partition)
        {
            puts.push((namespace.clone(), socket, profile));
        }
        let is_more = users.peek().is_some();
        if let (true, Some((_, last, _))) = (is_more, puts.last()) {
            self.rewrite.parts.push_front(Part::Users(namespace.clone(), Some(*last)));
        }
        super::users::put_users(self.owner(), partition, puts, Vec::new(), out);
        1
    }
}

#[cfg(test)]
mod tests;
