//! Claims and queues.

use std::{collections::hash_map::Entry, sync::Arc, time::Instant};

use ahash::AHashMap;

use super::queues::Queues;

use crate::{
    Config,
    address::Owner,
    command::{Holder, PeerAt, PeerMessage, RealmId, is_same_token},
    partition,
    store::{ClaimRank, MAX_TAKEOVERS, Reply, TAKEOVERS_COUNT, TakeoverNotice},
};

/// Ids that were taken over from holders that were alive, before those are looked for of which that no longer counts.
const MANY_TAKEOVERS: usize = 1024;

#[derive(Debug)]
struct Claim {
    owner: Owner,
    at: PeerAt,
    token: Arc<str>,
    rank: ClaimRank,
}

impl Claim {
    fn holder(&self) -> Holder {
        Holder { owner: self.owner, at: self.at }
    }

    /// Whether this claim stays when another node makes one of the same id again. With the same token it is the same client,
    /// which has connected anew: its later connection is the live one.
    fn prevails(&self, other: &Self) -> bool {
        let rank = |claim: &Self| (claim.rank, claim.at.generation, claim.owner.tag.0);
        if is_same_token(&self.token, &other.token) {
            (self.at.generation, self.owner.tag.0) > (other.at.generation, other.owner.tag.0)
        } else {
            rank(self) < rank(other)
        }
    }
}

#[derive(Debug)]
pub(super) struct Peers {
    realms: Vec<String>,
    limit: Option<usize>,
    claims: Vec<AHashMap<Arc<str>, Claim>>,
    queues: Queues,
    notices: Vec<TakeoverNotice>,
    held: usize,
    /// Takeovers of ids whose holders were alive, and until when they count.
    takeovers: AHashMap<(RealmId, Arc<str>), (u32, Instant)>,
}

impl Peers {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            realms: config.realms.clone(),
            limit: config.concurrent_limit,
            claims: config.realms.iter().map(|_| AHashMap::new()).collect(),
            queues: Queues::new(config.expire_timeout, 0),
            notices: Vec::new(),
            held: 0,
            takeovers: AHashMap::new(),
        }
    }

    pub(super) fn claim(
        &mut self,
        (now, clock): (Instant, u64),
        (owner, at): (Owner, PeerAt),
        realm: RealmId,
        id: Arc<str>,
        (token, other_token): (Arc<str>, Option<Arc<str>>),
        full: bool,
    ) -> Reply {
        let Some(claims) = self.claims.get_mut(usize::from(realm)) else { return Reply::Taken };
        let is_full = full || self.limit.is_some_and(|limit| self.held >= limit);
        let is_fought_for = self
            .takeovers
            .get(&(realm, id.clone()))
            .is_some_and(|(count, until)| *count >= MAX_TAKEOVERS && now < *until);
        let claim = |generation| Claim {
            owner,
            at: PeerAt { generation, ..at },
            token: token.clone(),
            rank: ClaimRank::Granted,
        };
        let (generation, superseded) = match claims.entry(id.clone()) {
            Entry::Occupied(mut held) => {
                let is_same = |token: &Arc<str>| is_same_token(&held.get().token, token);
                if !(is_same(&token) || other_token.as_ref().is_some_and(is_same)) || is_fought_for {
                    return Reply::Taken;
                }
                let generation = clock.max(held.get().at.generation + 1);
                (generation, Some(held.insert(claim(generation)).holder()))
            }
            Entry::Vacant(_) if is_full => return Reply::LimitReached,
            Entry::Vacant(free) => {
                free.insert(claim(clock));
                self.held += 1;
                (clock, None)
            }
        };
        self.record_takeover(owner, realm, &id, superseded);
        Reply::Granted { generation, superseded, waiting: self.queues.take(realm, id) }
    }

    pub(super) fn count_takeover(&mut self, now: Instant, realm: RealmId, id: Arc<str>) -> Reply {
        if self.takeovers.len() >= MANY_TAKEOVERS {
            self.takeovers.retain(|_, (_, until)| now < *until);
        }
        let takeovers = self.takeovers.entry((realm, id)).or_insert((0, now));
        let count = if now < takeovers.1 { takeovers.0 } else { 0 };
        *takeovers = (count + 1, now + TAKEOVERS_COUNT);
        Reply::Done
    }

    pub(super) fn reclaim(
        &mut self,
        (owner, at): (Owner, PeerAt),
        realm: RealmId,
        id: Arc<str>,
        token: Arc<str>,
        rank: ClaimRank,
    ) -> Reply {
        let Some(claims) = self.claims.get_mut(usize::from(realm)) else { return Reply::Taken };
        let claim = Claim { owner, at, token, rank };
        let superseded = match claims.entry(id.clone()) {
            Entry::Occupied(mut held) => {
                let is_own = held.get().owner.tag == owner.tag && held.get().at == at;
                if !is_own && held.get().prevails(&claim) {
                    return Reply::Taken;
                }
                let old = held.insert(claim).holder();
                (!is_own).then_some(old)
            }
            Entry::Vacant(free) => {
                free.insert(claim);
                self.held += 1;
                None
            }
        };
        self.record_takeover(owner, realm, &id, superseded);
        Reply::Kept { superseded, waiting: self.queues.take(realm, id) }
    }

    pub(super) fn release(&mut self, owner: Owner, realm: RealmId, id: &str, generation: u64) -> Reply {
        let is_it = |claim: &Claim| claim.at.generation == generation && claim.owner.tag == owner.tag;
        if let Some(claims) = self.claims.get_mut(usize::from(realm))
            && claims.get(id).is_some_and(is_it)
        {
            claims.remove(id);
            crate::shrink_if_sparse(claims);
            self.held -= 1;
        }
        Reply::Done
    }

    fn record_takeover(&mut self, by: Owner, realm: RealmId, id: &Arc<str>, old: Option<Holder>) {
        if let Some(old) = old.filter(|old| old.owner.tag != by.tag) {
            let notice = TakeoverNotice { by, realm, id: id.clone(), old };
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
        }
    }

    pub(super) fn notices(&self, owner: Owner, realm: RealmId, id: &str) -> Reply {
        let is_of =
            |notice: &&TakeoverNotice| notice.by == owner && notice.realm == realm && *notice.id == *id;
        Reply::Reaped(self.notices.iter().filter(is_of).cloned().collect())
    }

    pub(super) fn acknowledge(&mut self, notice: &TakeoverNotice) -> Reply {
        self.notices.retain(|other| other != notice);
        Reply::Done
    }

    fn claim_of(&self, realm: RealmId, id: &str) -> Option<&Claim> {
        self.claims.get(usize::from(realm))?.get(id)
    }

    pub(super) fn find(&self, realm: RealmId, id: &str, token: &str) -> Option<Holder> {
        self.claim_of(realm, id).filter(|claim| is_same_token(&claim.token, token)).map(Claim::holder)
    }

    pub(super) fn deliver_or_queue(
        &mut self,
        peer_message: PeerMessage,
        token: &Arc<str>,
        forced: bool,
        now: Instant,
    ) -> Reply {
        if let Some(claim) = self.claim_of(peer_message.realm, &peer_message.dst).filter(|_| !forced) {
            return Reply::Holder(claim.holder(), peer_message);
        }
        self.queues.push(peer_message, token, now)
    }

    pub(super) fn expire(&mut self, realm: RealmId, dst: &Arc<str>, number: u64) -> Reply {
        Reply::Expired { token: self.queues.expire(realm, dst, number) }
    }

    pub(super) fn ids(&self, realm: RealmId) -> Vec<Arc<str>> {
        self.claims.get(usize::from(realm)).map(|claims| claims.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = Owner> {
        let claims = self.claims.iter().flat_map(|claims| claims.values().map(|claim| claim.owner));
        claims.chain(self.notices.iter().map(|notice| notice.by))
    }

    pub(super) fn reap(&mut self, owner: Owner, partition: u8) -> Vec<TakeoverNotice> {
        for (realm, claims) in self.realms.iter().zip(&mut self.claims) {
            let before = claims.len();
            claims.retain(|id, claim| claim.owner != owner || partition::of_peer(realm, id) != partition);
            self.held -= before - claims.len();
        }
        let realm = |realm: RealmId| self.realms.get(usize::from(realm)).map_or("", String::as_str);
        let is_of = |notice: &&TakeoverNotice| {
            notice.by == owner && partition::of_peer(realm(notice.realm), &notice.id) == partition
        };
        self.notices.iter().filter(is_of).cloned().collect()
    }
}
