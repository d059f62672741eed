//! PeerServer clients, and messages that wait for their addressees.

use std::{
    collections::hash_map::Entry,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use signalbox_cluster::{PeerAt, RealmId};
use signalbox_peerserver::Liveness;
use slab::Slab;
use smallvec::SmallVec;

use super::{offers::Offers, shrink::Shrink};
use crate::{
    client_log::Who,
    limits::{Place, Rates},
    policy::Principal,
    session::TokenExpiry,
    transport::{Conn, Role},
};

/// Absent addressees that one client's messages may wait for at a time, their bytes, and the bytes of what is under way to the store
/// or to another node. A client with more is not read on until there is less.
const MAX_WAITS: u32 = 1024;
const MAX_WAITING: usize = 4 << 20;
const MAX_UNDER_WAY: usize = 1 << 20;
/// What a message under way costs beside its payload.
const MESSAGE_OVERHEAD: usize = 256;
/// EXPIREs that are remembered before old ones are looked for.
const MANY_TOLD: usize = 256;

/// A client.
pub(in crate::shard) struct Peer {
    pub(in crate::shard) conn: Rc<Conn>,
    /// Tells it from an earlier one with the same key.
    pub(in crate::shard) number: u64,
    pub(in crate::shard) realm: RealmId,
    pub(in crate::shard) id: Arc<str>,
    /// When it connected.
    pub(in crate::shard) opened: Option<Instant>,
    /// Its claim's generation, once it was granted and until it is given up.
    pub(in crate::shard) claim: Option<u64>,
    pub(in crate::shard) liveness: Liveness,
    /// Absent addressees that its messages wait for.
    waits: u32,
    /// The latest wait for each of them.
    open_waits: AHashMap<Arc<str>, u32>,
    /// Bytes of them, about.
    waiting: usize,
    /// Bytes of its messages that are under way to the store or to another node.
    under_way: usize,
    /// Whose absence it was told of, and until when it is not told again: one EXPIRE for all of one call.
    told: AHashMap<Arc<str>, Instant>,
    /// Its place among the connections of its subject, where they are counted.
    pub(in crate::shard) place: Option<Place>,
    /// Calls that it has offered and that have no answer yet.
    pub(in crate::shard) offers: Offers,
    /// Counted among the connections: it was let in.
    pub(in crate::shard) is_counted: bool,
    /// Who it is. It never becomes another holder's.
    pub(in crate::shard) principal: Option<Arc<Principal>>,
    /// The token that it was opened with, where another one has taken its place.
    pub(in crate::shard) opened_with: Option<Arc<Principal>>,
    /// What it may send.
    pub(in crate::shard) rates: Rates,
    /// The `traceparent` of its request, where traces are kept.
    pub(in crate::shard) trace: Option<Arc<str>>,
    /// When it has to go.
    pub(in crate::shard) expiry: Option<TokenExpiry>,
}

impl Peer {
    pub(in crate::shard) fn new(
        conn: Rc<Conn>,
        number: u64,
        (realm, id): (RealmId, Arc<str>),
        liveness: Liveness,
    ) -> Self {
        Self {
            conn,
            number,
            realm,
            id,
            opened: None,
            claim: None,
            liveness,
            waits: 0,
            open_waits: AHashMap::new(),
            waiting: 0,
            under_way: 0,
            told: AHashMap::new(),
            place: None,
            offers: Offers::default(),
            is_counted: false,
            principal: None,
            opened_with: None,
            rates: Rates::default(),
            trace: None,
            expiry: None,
        }
    }

    /// Who it is, for the log.
    pub(in crate::shard) fn who(&self) -> Who<'_> {
        let subject = self.principal.as_deref().map(|known| &*known.subject);
        Who { address: self.conn.address(), peer: Some(&self.id), subject, ..Who::default() }
    }

    /// It is not read on: too much of it waits, or is under way.
    pub(in crate::shard) fn is_held_back(&self) -> bool {
        let waits_too_much = self.waits >= MAX_WAITS || self.waits > 0 && self.waiting > MAX_WAITING;
        waits_too_much || self.under_way > MAX_UNDER_WAY
    }

    fn read_if_allowed(&self) {
        if self.is_held_back() {
            self.conn.pause();
        } else {
            self.conn.resume();
        }
    }

    /// A message of this length is under way.
    pub(in crate::shard) fn message_begins(&mut self, bytes: usize) {
        self.under_way += bytes + MESSAGE_OVERHEAD;
        self.read_if_allowed();
    }

    /// It is no longer.
    pub(in crate::shard) fn message_settled(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes + MESSAGE_OVERHEAD);
        self.read_if_allowed();
    }

    /// A message of this length waits for its addressee.
    pub(in crate::shard) fn message_waits(&mut self, bytes: usize) {
        self.waiting += bytes;
        self.read_if_allowed();
    }

    /// It gives its id up: nothing that is under way, or waits, is its own any more.
    pub(in crate::shard) fn release(&mut self) -> Option<u64> {
        (self.waits, self.waiting, self.under_way) = (0, 0, 0);
        self.open_waits.clear();
        self.conn.resume();
        self.claim.take()
    }

    /// Whether it is to be told that this peer is absent: not again within `period`.
    pub(in crate::shard) fn needs_notice(
        &mut self,
        now: Instant,
        absent: &Arc<str>,
        period: Duration,
    ) -> bool {
        if self.told.len() >= MANY_TOLD {
            self.told.retain(|_, until| now < *until);
        }
        let is_due = self.told.get(absent).is_none_or(|until| *until <= now);
        if is_due {
            self.told.insert(absent.clone(), now + period);
        }
        is_due
    }
}

/// A message's wait for its addressee.
pub(in crate::shard) struct PeerWait {
    pub(in crate::shard) from: PeerAt,
    pub(in crate::shard) realm: RealmId,
    pub(in crate::shard) src: Arc<str>,
    pub(in crate::shard) dst: Arc<str>,
    pub(in crate::shard) number: u64,
    /// The sender was told meanwhile, of something that was refused.
    pub(in crate::shard) is_notified: bool,
}

/// The PeerServer clients of a shard.
#[derive(Default)]
pub(in crate::shard) struct Peers {
    peers: Slab<Peer>,
    /// Keys of those with tokens, by a hash of the holder: a new token looks at those of its holder alone.
    by_holder: AHashMap<u64, SmallVec<[u32; 2]>>,
    waits: Slab<PeerWait>,
    /// Ids that connections have lost which are being closed.
    superseded: Slab<(RealmId, Arc<str>)>,
}

impl Peers {
    /// Adds a client, whose connection has this role from now on.
    pub(in crate::shard) fn insert(&mut self, peer: Peer) -> u32 {
        let conn = peer.conn.clone();
        let holder = peer.principal.as_ref().map(|principal| self.hash(principal));
        let key = self.peers.insert(peer) as u32;
        if let Some(holder) = holder {
            self.by_holder.entry(holder).or_default().push(key);
        }
        conn.role.set(Role::Peer(key));
        key
    }

    pub(in crate::shard) fn remove(&mut self, key: u32) -> Option<Peer> {
        let peer = self.peers.try_remove(key as usize)?;
        let holder = peer.principal.as_ref().map(|principal| self.hash(principal));
        if let Some(Entry::Occupied(mut keys)) = holder.map(|holder| self.by_holder.entry(holder)) {
            keys.get_mut().retain(|held| *held != key);
            if keys.get().is_empty() {
                keys.remove();
            }
        }
        Some(peer)
    }

    /// The keys of the clients of a holder, and by chance of another's.
    pub(in crate::shard) fn of_holder(&self, principal: &Principal) -> SmallVec<[u32; 2]> {
        self.by_holder.get(&self.hash(principal)).cloned().unwrap_or_default()
    }

    fn hash(&self, principal: &Principal) -> u64 {
        self.by_holder.hasher().hash_one((&principal.issuer, &principal.subject, &principal.session))
    }

    pub(in crate::shard) fn get_mut(&mut self, key: u32) -> Option<&mut Peer> {
        self.peers.get_mut(key as usize)
    }

    /// The client with this key, if it is still the one with this number.
    pub(in crate::shard) fn checked(&mut self, key: u32, number: u64) -> Option<&mut Peer> {
        self.peers.get_mut(key as usize).filter(|peer| peer.number == number)
    }

    /// The client that holds a claim of this generation.
    pub(in crate::shard) fn holder(&mut self, at: PeerAt) -> Option<&mut Peer> {
        self.peers.get_mut(at.key as usize).filter(|peer| peer.claim == Some(at.generation))
    }

    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = (u32, &Peer)> {
        self.peers.iter().map(|(key, peer)| (key as u32, peer))
    }

    /// Remembers what id a connection has lost, until it has answered its close frame or is gone.
    pub(in crate::shard) fn insert_superseded(&mut self, conn: &Conn, realm: RealmId, id: Arc<str>) {
        let key = self.superseded.insert((realm, id)) as u32;
        conn.role.set(Role::Superseded(key));
    }

    pub(in crate::shard) fn remove_superseded(&mut self, key: u32) -> Option<(RealmId, Arc<str>)> {
        self.superseded.try_remove(key as usize)
    }

    /// A message waits from now on.
    pub(in crate::shard) fn wait(&mut self, wait: PeerWait) -> u32 {
        let (from, dst) = (wait.from, wait.dst.clone());
        let key = self.waits.insert(wait) as u32;
        if let Some(sender) = self.holder(from) {
            sender.waits += 1;
            sender.open_waits.insert(dst, key);
            sender.read_if_allowed();
        }
        key
    }

    /// A message's wait is over; its sender, if still there, has one less.
    pub(in crate::shard) fn end_wait(&mut self, key: u32) -> Option<PeerWait> {
        let wait = self.waits.try_remove(key as usize)?;
        if let Some(sender) = self.holder(wait.from).filter(|sender| sender.waits > 0) {
            // Which part of the bytes was this one's is not known here.
            sender.waiting -= sender.waiting / sender.waits as usize;
            sender.waits -= 1;
            if sender.open_waits.get(&wait.dst) == Some(&key) {
                sender.open_waits.remove(&wait.dst);
            }
            sender.read_if_allowed();
        }
        Some(wait)
    }

    /// A client is told that a peer is absent: it is not told again when its wait for that peer ends.
    pub(in crate::shard) fn mark_notified(&mut self, at: PeerAt, absent: &Arc<str>) {
        let open = self.holder(at).and_then(|peer| peer.open_waits.get(absent).copied());
        if let Some(wait) = open.and_then(|key| self.waits.get_mut(key as usize)) {
            wait.is_notified = true;
        }
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.peers.shrink_if_sparse();
        self.by_holder.shrink_if_sparse();
        self.waits.shrink_if_sparse();
        self.superseded.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use signalbox_auth::{Grants, GrantsSpec};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn peer(number: u64) -> Peer {
        let liveness = Liveness::new(Instant::now(), MINUTE);
        let mut peer = Peer::new(Conn::pending(), number, (0, "a".into()), liveness);
        peer.claim = Some(number);
        peer
    }

    fn wait(from: PeerAt, dst: &str) -> PeerWait {
        PeerWait { from, realm: 0, src: "a".into(), dst: dst.into(), number: 1, is_notified: false }
    }

    #[test]
    fn a_wait_is_counted_to_the_holder_of_that_generation_only() {
        let mut peers = Peers::default();
        let key = peers.insert(peer(1));
        let from = PeerAt { shard: 0, key, generation: 1 };
        let first = peers.wait(wait(from, "b"));
        assert!(peers.end_wait(first).is_some() && peers.end_wait(first).is_none());
        assert_eq!(peers.holder(from).unwrap().waits, 0);
        let late = peers.wait(wait(from, "b"));
        peers.remove(key);
        assert_eq!(peers.insert(peer(2)), key);
        peers.get_mut(key).unwrap().waits = 1;
        assert!(peers.end_wait(late).is_some());
        assert_eq!(peers.get_mut(key).unwrap().waits, 1);
    }

    #[test]
    fn clients_are_found_by_their_holder_until_they_are_gone() {
        let principal = |subject: &str, session: Option<&str>| {
            let spec = Arc::new(GrantsSpec::everything());
            Arc::new(Principal {
                issuer: None,
                subject: subject.into(),
                session: session.map(Into::into),
                token_id: None,
                issued_at: None,
                expires_at: 0,
                grants: Arc::new(Grants::new(spec, subject)),
            })
        };
        let mut peers = Peers::default();
        let (alice, tab) = (principal("alice", None), principal("alice", Some("tab")));
        let mut open = |held: Option<&Arc<Principal>>| {
            let mut peer = peer(1);
            peer.principal = held.cloned();
            peers.insert(peer)
        };
        let (first, second, other) = (open(Some(&alice)), open(Some(&alice)), open(Some(&tab)));
        open(None);
        assert_eq!(peers.of_holder(&alice).as_slice(), [first, second]);
        assert_eq!(peers.of_holder(&tab).as_slice(), [other]);
        assert!(peers.of_holder(&principal("bob", None)).is_empty());
        peers.remove(first);
        assert_eq!(peers.of_holder(&alice).as_slice(), [second]);
        for key in [second, other] {
            peers.remove(key);
        }
        assert!(peers.by_holder.is_empty());
    }

    #[test]
    fn a_client_of_which_too_much_waits_is_not_read_on_until_less_does() {
        let mut peers = Peers::default();
        let key = peers.insert(peer(1));
        let from = PeerAt { shard: 0, key, generation: 1 };
        let waits: Vec<u32> =
            (0..MAX_WAITS).map(|number| peers.wait(wait(from, &number.to_string()))).collect();
        assert!(peers.holder(from).unwrap().is_held_back());
        peers.end_wait(waits[0]);
        assert!(!peers.holder(from).unwrap().is_held_back());
        let sender = peers.holder(from).unwrap();
        sender.message_waits(MAX_WAITING + 1);
        assert!(sender.is_held_back());
        for wait in &waits[1..] {
            peers.end_wait(*wait);
        }
        let sender = peers.holder(from).unwrap();
        assert!(!sender.is_held_back());
        assert_eq!((sender.waits, sender.waiting), (0, 0));

        sender.message_begins(MAX_UNDER_WAY);
        assert!(sender.is_held_back());
        sender.message_settled(MAX_UNDER_WAY);
        assert!(!sender.is_held_back());
        for _ in 0..=MAX_UNDER_WAY / MESSAGE_OVERHEAD {
            sender.message_begins(0);
        }
        assert!(sender.is_held_back(), "small messages cost something too");
        sender.release();
        assert!(!sender.is_held_back());
    }

    #[test]
    fn a_client_is_told_once_of_one_absence() {
        let now = Instant::now();
        let mut peer = peer(1);
        assert!(peer.needs_notice(now, &"b".into(), MINUTE));
        assert!(!peer.needs_notice(now, &"b".into(), MINUTE));
        assert!(peer.needs_notice(now, &"c".into(), MINUTE));
        assert!(peer.needs_notice(now + MINUTE, &"b".into(), MINUTE));
        for number in 0..2 * MANY_TOLD {
            assert!(peer.needs_notice(now + 3 * MINUTE, &number.to_string().into(), Duration::ZERO));
        }
        assert!(peer.told.len() <= MANY_TOLD);
    }
}
