//! Claims and queues.

use std::{
    collections::hash_map::Entry,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ahash::AHashMap;
use signalbox_peerserver::{Queue, queue::Queued};

use crate::{
    Config,
    command::{Letter, PeerAt, RealmId},
    store::Reply,
};

/// Most queues at once; an absent id costs memory, so their number is bounded too.
const MAX_QUEUES: usize = 65_536;
/// Most bytes in all queues together.
const MAX_QUEUED: usize = 64 << 20;
/// Waits are looked over for senders that went away once in so many queued letters.
const PURGE_EVERY: u64 = 1024;

#[derive(Debug)]
struct Claim {
    at: PeerAt,
    token: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Peers {
    limit: Option<usize>,
    expire_timeout: Duration,
    claims: Vec<AHashMap<Arc<str>, Claim>>,
    queues: AHashMap<(RealmId, Arc<str>), Queue>,
    held: usize,
    /// Bytes in all queues.
    queued: usize,
    last_generation: u64,
    numbers: u64,
}

impl Peers {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            limit: config.concurrent_limit,
            expire_timeout: config.expire_timeout,
            claims: config.realms.iter().map(|_| AHashMap::new()).collect(),
            queues: AHashMap::new(),
            held: 0,
            queued: 0,
            last_generation: 0,
            numbers: 0,
        }
    }

    /// Later than every generation before, and later than those of earlier starts.
    fn next_generation(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        self.last_generation = now.max(self.last_generation + 1);
        self.last_generation
    }

    pub(super) fn claim(&mut self, at: PeerAt, realm: RealmId, id: Arc<str>, token: Arc<str>) -> Reply {
        let generation = self.next_generation();
        let at = PeerAt { generation, ..at };
        let Some(claims) = self.claims.get_mut(usize::from(realm)) else { return Reply::Taken };
        let is_full = self.limit.is_some_and(|limit| self.held >= limit);
        let superseded = match claims.entry(id.clone()) {
            Entry::Occupied(mut held) => {
                if !is_same(&held.get().token, &token) {
                    return Reply::Taken;
                }
                Some(held.insert(Claim { at, token }).at)
            }
            Entry::Vacant(_) if is_full => return Reply::LimitReached,
            Entry::Vacant(free) => {
                free.insert(Claim { at, token });
                self.held += 1;
                None
            }
        };
        let queue = self.queues.remove(&(realm, id)).unwrap_or_default();
        self.queued -= queue.bytes();
        let waiting = queue.take().collect();
        Reply::Granted { generation, superseded, waiting }
    }

    pub(super) fn release(&mut self, realm: RealmId, id: &str, generation: u64) -> Reply {
        if let Some(claims) = self.claims.get_mut(usize::from(realm))
            && claims.get(id).is_some_and(|claim| claim.at.generation == generation)
        {
            claims.remove(id);
            self.held -= 1;
        }
        Reply::Done
    }

    pub(super) fn holder(&self, realm: RealmId, id: &str) -> Option<PeerAt> {
        Some(self.claims.get(usize::from(realm))?.get(id)?.at)
    }

    pub(super) fn deliver_or_queue(&mut self, letter: Letter, now: Instant) -> Reply {
        if let Some(at) = self.holder(letter.realm, &letter.dst) {
            return Reply::Holder(at, letter);
        }
        if !letter.kind.is_queued() {
            return Reply::Dropped { overflow: false };
        }
        self.numbers += 1;
        if self.numbers.is_multiple_of(PURGE_EVERY) {
            self.queues.retain(|_, queue| {
                queue.purge(now);
                !queue.is_empty()
            });
            self.queued = self.queues.values().map(Queue::bytes).sum();
        }
        let key = (letter.realm, letter.dst.clone());
        if self.queues.len() >= MAX_QUEUES && !self.queues.contains_key(&key) {
            return Reply::Dropped { overflow: true };
        }
        let claim = self.claims.get(usize::from(letter.realm)).and_then(|claims| claims.get(&letter.src));
        let Some(token) = claim.map(|claim| claim.token.clone()) else {
            return Reply::Dropped { overflow: false };
        };
        let room = MAX_QUEUED.saturating_sub(self.queued);
        let queue = self.queues.entry(key).or_default();
        let before = queue.bytes();
        let (opened, kept) = match queue.push(
            (&letter.src, &token),
            letter.frame.clone(),
            self.numbers,
            (now, self.expire_timeout),
            room,
        ) {
            Queued::First(number) => (Some(number), true),
            Queued::FirstFull(number) => (Some(number), false),
            Queued::More => (None, true),
            Queued::Full => (None, false),
        };
        self.queued += queue.bytes() - before;
        Reply::Queued { letter, opened, kept }
    }

    pub(super) fn expire(&mut self, realm: RealmId, src: &str, dst: &Arc<str>, number: u64) -> Reply {
        let Entry::Occupied(mut queue) = self.queues.entry((realm, dst.clone())) else { return Reply::Done };
        let before = queue.get().bytes();
        let Some(token) = queue.get_mut().expire(number) else { return Reply::Done };
        self.queued -= before - queue.get().bytes();
        if queue.get().is_empty() {
            queue.remove();
        }
        // Somebody else may have the sender's id by now, who never called anybody.
        let claim = self.claims.get(usize::from(realm)).and_then(|claims| claims.get(src));
        Reply::Expired { sender: claim.filter(|claim| is_same(&claim.token, &token)).map(|claim| claim.at) }
    }

    pub(super) fn ids(&self, realm: RealmId) -> Vec<Arc<str>> {
        self.claims.get(usize::from(realm)).map(|claims| claims.keys().cloned().collect()).unwrap_or_default()
    }
}

/// Compares tokens in a time that depends on their lengths only.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
