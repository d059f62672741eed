//! Messages that wait until their addressee's id is claimed.

use std::{
    collections::hash_map::Entry,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use signalbox_peerserver::{Queue, queue::Queued};
use signalbox_websocket::Frame;

use crate::{
    command::{PeerMessage, RealmId},
    store::Reply,
};

/// Most bytes in all queues together.
const MAX_QUEUED: usize = 64 << 20;
/// After this many queued messages, expired waits are removed whose senders never came back for them.
const PURGE_EVERY: u64 = 1024;

#[derive(Debug)]
pub(crate) struct Queues {
    expire_timeout: Duration,
    queues: AHashMap<(RealmId, Arc<str>), Queue>,
    /// Bytes in all queues.
    queued: usize,
    /// The last number of a wait.
    number: u64,
}

impl Queues {
    /// Queues whose waits are numbered from above `first`.
    pub(crate) fn new(expire_timeout: Duration, first: u64) -> Self {
        Self { expire_timeout, queues: AHashMap::new(), queued: 0, number: first }
    }

    /// Queues a message, if messages of its kind are queued and there is room.
    pub(crate) fn push(&mut self, peer_message: PeerMessage, token: &Arc<str>, now: Instant) -> Reply {
        if !peer_message.kind.is_queued() {
            return Reply::Dropped;
        }
        self.number += 1;
        if self.number.is_multiple_of(PURGE_EVERY) {
            self.queues.retain(|_, queue| {
                queue.purge(now);
                !queue.is_empty()
            });
            self.queued = self.queues.values().map(Queue::bytes).sum();
        }
        let key = (peer_message.realm, peer_message.dst.clone());
        let room = MAX_QUEUED.saturating_sub(self.queued);
        let queue = self.queues.entry(key).or_default();
        let before = queue.bytes();
        let Queued { opened, is_kept, displaced } = queue.push(
            (&peer_message.src, token),
            peer_message.kind,
            peer_message.frame.clone(),
            self.number,
            (now, self.expire_timeout),
            room,
        );
        self.queued = self.queued + queue.bytes() - before;
        Reply::Queued { peer_message, opened, is_kept, displaced }
    }

    /// Takes all messages that wait for an id, in order. Senders that are told in any case go on waiting for that.
    pub(crate) fn take(&mut self, realm: RealmId, id: Arc<str>) -> Vec<Frame> {
        let Entry::Occupied(mut queue) = self.queues.entry((realm, id)) else { return Vec::new() };
        self.queued -= queue.get().bytes();
        let waiting = queue.get_mut().take().collect();
        if queue.get().is_empty() {
            queue.remove();
        }
        waiting
    }

    /// Ends a wait and drops its messages; returns the sender's token, if the wait was open.
    pub(crate) fn expire(&mut self, realm: RealmId, dst: &Arc<str>, number: u64) -> Option<Arc<str>> {
        let Entry::Occupied(mut queue) = self.queues.entry((realm, dst.clone())) else { return None };
        let before = queue.get().bytes();
        let token = queue.get_mut().expire(number);
        self.queued -= before - queue.get().bytes();
        if queue.get().is_empty() {
            queue.remove();
        }
        token
    }
}
