//! The shared state as a plain value, and what each call does to it.
//!
//! A node that is alone runs on it. A store in another process does the same in its own language, and is tested against this; a
//! simulation runs any number of nodes on one model.

pub mod nodes;
mod peers;
pub(crate) mod queues;
mod rooms;
pub mod users;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    Config,
    store::{Call, Reply, RoomDelta},
};

/// How long a lease lasts after the heartbeat that renewed it.
pub const LEASE: Duration = Duration::from_secs(6);

/// How long nodes may take to write their records again after the store was away, or was emptied.
pub const REWRITE_GRACE: Duration = Duration::from_secs(5);

/// All shared state.
#[derive(Debug)]
pub struct Model {
    peers: peers::Peers,
    rooms: rooms::Rooms,
    users: users::Users,
    nodes: nodes::Nodes,
    /// Numbers that only grow: generations, epochs of rooms.
    clock: Clock,
}

/// The store's clock in microseconds; it never shows the same time twice.
#[derive(Debug)]
struct Clock {
    began: Instant,
    /// What it showed then.
    origin: u64,
    last: u64,
}

impl Clock {
    fn tick(&mut self, now: Instant) -> u64 {
        let shown = self.origin + now.saturating_duration_since(self.began).as_micros() as u64;
        self.last = shown.max(self.last + 1);
        self.last
    }
}

impl Model {
    /// A store whose clock shows `origin` microseconds at `began`. A store that starts later must show more, or its generations
    /// and epochs could be mistaken for older ones.
    pub fn new(config: &Config, began: Instant, origin: u64) -> Self {
        Self {
            peers: peers::Peers::new(config),
            rooms: rooms::Rooms::default(),
            users: users::Users::default(),
            nodes: nodes::Nodes::new(origin),
            clock: Clock { began, origin, last: 0 },
        }
    }

    /// Deletes everything, as FLUSHALL does: the server and its clock go on.
    pub fn forget_everything(&mut self, config: &Config) {
        let fresh = Self::new(config, self.clock.began, self.clock.origin);
        *self = Self { clock: Clock { last: self.clock.last, ..fresh.clock }, ..fresh };
    }

    /// Makes a call, as one atomic step; returns its reply, and the changes it publishes. A [`Call::SendDirect`] reaches nobody
    /// here: whoever has nodes to send to takes it out before.
    pub fn execute(&mut self, call: Call, now: Instant) -> (Reply, Vec<RoomDelta>) {
        let clock = self.clock.tick(now);
        let mut published = Vec::new();
        let reply = match call {
            Call::Claim { owner, at, realm, id, token, other_token, full } => {
                self.peers.claim((now, clock), (owner, at), realm, id, (token, other_token), full)
            }
            Call::Reclaim { owner, at, realm, id, token, rank } => {
                self.peers.reclaim((owner, at), realm, id, token, rank)
            }
            Call::Release { owner, realm, id, generation } => {
                self.peers.release(owner, realm, &id, generation)
            }
            Call::Admit { owner, claims, limit } => self.nodes.admit(owner, claims, limit, now),
            Call::CountTakeover { realm, id } => self.peers.count_takeover(now, realm, id),
            Call::DeliverOrQueue { peer_message, token, forced } => {
                self.peers.deliver_or_queue(peer_message, &token, forced, now)
            }
            Call::Expire { realm, dst, number, .. } => self.peers.expire(realm, &dst, number),
            Call::FindPeer { realm, id, token } => Reply::Peer(self.peers.find(realm, &id, &token)),
            Call::Peers { realm } => Reply::Peers(self.peers.ids(realm)),
            Call::Put { room, record, most, .. } if self.rooms.is_full(&room, record.socket, most) => {
                Reply::RoomFull
            }
            Call::Put { owner, room, record, snapshot, .. } => {
                self.rooms.put(clock, owner, room, record, snapshot, &mut published)
            }
            Call::Remove { owner, room, socket } => self.rooms.remove(owner, room, socket, &mut published),
            Call::Rehome { owner, from, room, record } => {
                self.rooms.rehome(clock, owner, from, room, record, &mut published)
            }
            Call::Records { room } => self.rooms.records(&room),
            Call::PutUsers { owner, puts, removes, .. } => self.users.put(owner, puts, &removes),
            Call::CountConnection { owner, list, connection, most } => {
                Reply::Counted(self.users.count(owner, &list, connection, most))
            }
            Call::Users { namespace, after } => self.users.page(&namespace, after),
            Call::FindUser { namespace, socket } => self.users.find(&namespace, socket),
            Call::Heartbeat { owner, joins, node, counters, reaps } => {
                self.nodes.heartbeat(owner, joins, &node, counters, reaps, now)
            }
            Call::Nodes => self.nodes.list(),
            Call::Leave { owner } => self.nodes.leave(owner),
            Call::Reap { owner, partition } => {
                let notices = self.peers.reap(owner, partition);
                self.rooms.reap(owner, partition, &mut published);
                self.users.reap(owner, partition);
                Reply::Reaped(notices)
            }
            Call::Notices { owner, realm, id } => self.peers.notices(owner, realm, &id),
            Call::Acknowledge(notice) => self.peers.acknowledge(&notice),
            Call::Owners => {
                let owners = self.peers.owners().chain(self.rooms.owners()).chain(self.users.owners());
                let owners: BTreeSet<_> = owners.collect();
                Reply::Owners(owners.into_iter().collect())
            }
            Call::MarkDead { by, owners } => self.nodes.mark_unknown_dead(by, owners, now),
            Call::Flush => Reply::Done,
            // There is nobody to send to.
            Call::SendDirect { .. } => Reply::Receivers(0),
        };
        (reply, published)
    }
}
