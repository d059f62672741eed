//! The node's ledger, and the accounts in it.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ahash::AHashMap;
use signalbox_cluster::ShardId;
use slab::Slab;
use tokio::sync::Mutex as Turns;

use super::{hangup::Hangup, holder::HolderKey, waiting::Waiting};

/// What an item costs beside its bytes: its place in a queue, the allocation's header, the count of its holders.
pub(crate) const OVERHEAD: usize = 64;
/// Who has taken nothing of what waits for it for so long, and has sent less than [`MOVE`], does not move.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);
/// How long one that is cut off may take to let go of what it has before the next one is.
pub(super) const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How much more than one that moves a client that does not move weighs when somebody has to go.
const STUCK_WEIGHT: f64 = 4.0;
/// So much has to come of a client for it to have moved: who sends a byte now and then holds room that others wait for.
pub(crate) const MOVE: usize = 4 * 1024;
/// Which part of the budget is a reserve for clients whose addresses hold little, while another holds much. In it there is room, too, for
/// what is on its way and nobody's yet, and for memory that was given up a moment ago.
const RESERVE: usize = 4;
/// Nobody is cut off for less while the budget is kept.
pub(super) const LEAST_GAIN: usize = 16 * 1024;

/// The node's ledger, shared by its threads.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// What all clients may hold; above it somebody is cut off.
    pub(super) limit: usize,
    /// The same with the reserve for those whose addresses hold little.
    pub(super) budget: usize,
    started: Instant,
    /// Milliseconds since the start, as those who know the time have told.
    now: AtomicU64,
    /// Bytes that are held for one client each.
    pub(super) private: AtomicUsize,
    /// Bytes that clients share, each counted once,
    pub(super) shared: AtomicUsize,
    /// and the same as often as they wait for a client.
    pub(super) unread: AtomicUsize,
    /// Since when a client is being cut off, 0 for none.
    evicting_since: AtomicU64,
    pub(super) holders: Mutex<AHashMap<HolderKey, Weak<Holder>>>,
    /// Those who wait for room.
    pub(super) waiting: Waiting,
}

impl Ledger {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            limit: budget - budget / RESERVE,
            budget,
            started: Instant::now(),
            now: AtomicU64::new(0),
            private: AtomicUsize::new(0),
            shared: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            evicting_since: AtomicU64::new(0),
            holders: Mutex::default(),
            waiting: Waiting::default(),
        }
    }

    /// Opens the account of a client at this address.
    pub(crate) fn account(self: &Arc<Self>, address: Option<IpAddr>, evict_at: EvictAt) -> Arc<Account> {
        Account::open(self.clone(), self.holder(HolderKey::of_address(address)), evict_at)
    }

    /// The holder of this key, made if there is none. An account of a principal will have one for its subject beside its address's.
    fn holder(&self, key: HolderKey) -> Arc<Holder> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = holders.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        if holders.len() == holders.capacity() {
            holders.retain(|_, holder| holder.strong_count() > 0);
        }
        let holder = Arc::new(Holder::new(key));
        holders.insert(key, Arc::downgrade(&holder));
        holder
    }

    /// A holder's last account is closed, unless another was opened meanwhile.
    fn forget(&self, holder: &Arc<Holder>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        // The caller's.
        if Arc::strong_count(holder) <= 1 {
            holders.remove(&holder.key);
        }
        if holders.capacity() > 1024 && holders.len() < holders.capacity() / 8 {
            holders.shrink_to_fit();
        }
    }

    /// The time, from whoever has a clock.
    pub(crate) fn observe(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started);
        self.now.store(since.as_millis() as u64, Relaxed);
    }

    /// In milliseconds since the start, as it was told last.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Bytes that the node holds for its clients: what the budget is for.
    pub(crate) fn held(&self) -> usize {
        self.private.load(Relaxed) + self.shared.load(Relaxed)
    }

    /// Bytes that wait for clients or have not arrived whole, shared ones counted for each client.
    pub(crate) fn waiting(&self) -> usize {
        self.private.load(Relaxed) + self.unread.load(Relaxed)
    }

    /// Whether the node holds more than its budget.
    pub(crate) fn is_over(&self) -> bool {
        self.held() > self.limit
    }

    /// When the node holds more than its budget, the client to cut off: of the address that costs most the client that costs most,
    /// those that do not move before those that do. One at a time, so that each has its effect before the next:
    /// [`Ledger::evicted`] ends its turn.
    pub(crate) fn next_victim(&self) -> Option<Arc<Account>> {
        if self.is_over() { self.choose(Least::default(), |_| true) } else { None }
    }

    /// The client to cut off.
    pub(super) fn choose(
        &self,
        least: Least,
        is_eligible: impl Fn(&Account) -> bool,
    ) -> Option<Arc<Account>> {
        let (now, since) = (self.now().max(1), self.evicting_since.load(Relaxed));
        let is_evicting = since > 0 && now.saturating_sub(since) < EVICTION_TIMEOUT.as_millis() as u64;
        if is_evicting || self.evicting_since.compare_exchange(since, now, Relaxed, Relaxed).is_err() {
            return None;
        }
        let victim = self.most_expensive(least, is_eligible);
        match &victim {
            Some(victim) => victim.mark_victim(),
            None => self.evicted(),
        }
        victim
    }

    /// The victim was cut off, or is gone.
    pub(crate) fn evicted(&self) {
        self.evicting_since.store(0, Relaxed);
    }

    /// Looking through all accounts is fine: it happens once per client that is cut off.
    fn most_expensive(&self, least: Least, is_eligible: impl Fn(&Account) -> bool) -> Option<Arc<Account>> {
        let holders = self.holders();
        let part = self.part_of_shared();
        let of_holder = |holder: &Arc<Holder>| {
            let mut total = 0.0;
            let mut most: Option<(f64, f64, Arc<Account>)> = None;
            for account in holder.accounts() {
                let is_stuck = self.is_stuck(&account);
                let cost = account.cost(part, is_stuck);
                total += cost;
                let weight = if is_stuck { STUCK_WEIGHT } else { 1.0 };
                // There has to be something to be gained by it.
                if cost > 0.0
                    && cost >= least.of_account
                    && most.as_ref().is_none_or(|(most, ..)| cost * weight >= *most)
                    && account.may_be_cut_off()
                    && is_eligible(&account)
                {
                    most = Some((cost * weight, weight, account));
                }
            }
            let (_, weight, victim) = most?;
            Some((total * weight, victim)).filter(|(total, _)| *total >= least.of_address)
        };
        let candidates = holders.iter().filter_map(of_holder);
        let (_, victim) = candidates.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        Some(victim)
    }

    fn holders(&self) -> Vec<Arc<Holder>> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.values().filter_map(Weak::upgrade).collect()
    }

    /// What the address costs that costs most.
    pub(super) fn highest_cost(&self) -> f64 {
        self.holders().iter().map(|holder| self.cost_of(holder)).fold(0.0, f64::max)
    }

    /// What all accounts of a holder cost.
    pub(super) fn cost_of(&self, holder: &Holder) -> f64 {
        let part = self.part_of_shared();
        holder.accounts().iter().map(|account| account.cost(part, self.is_stuck(account))).sum()
    }

    /// How much of a byte that clients share is attributed to each of them.
    fn part_of_shared(&self) -> f64 {
        let (shared, unread) = (self.shared.load(Relaxed) as f64, self.unread.load(Relaxed) as f64);
        if unread > shared { shared / unread } else { 1.0 }
    }

    pub(super) fn is_stuck(&self, account: &Account) -> bool {
        let now = self.now.load(Relaxed);
        now.checked_sub(STUCK_AFTER.as_millis() as u64).is_some_and(|time| account.is_stuck_since(time))
    }
}

/// What whoever is to be cut off has to cost.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Least {
    /// In bytes,
    pub(super) of_account: f64,
    /// and its address, where clients that do not move weigh more.
    pub(super) of_address: f64,
}

/// Whom several accounts belong to.
#[derive(Debug)]
pub(super) struct Holder {
    key: HolderKey,
    /// Whoever has it waits for room in a lane; the others of the address wait behind it.
    pub(super) turn: Turns<()>,
    accounts: Mutex<Slab<Weak<Account>>>,
}

impl Holder {
    pub(super) fn new(key: HolderKey) -> Self {
        Self { key, turn: Turns::default(), accounts: Mutex::default() }
    }

    /// Adds an account; the result is for [`Holder::remove`].
    pub(super) fn add(&self, account: Weak<Account>) -> usize {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(account)
    }

    pub(super) fn remove(&self, slot: usize) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.try_remove(slot);
        if accounts.is_empty() {
            *accounts = Slab::new();
        }
    }

    /// The accounts that are open.
    pub(super) fn accounts(&self) -> Vec<Arc<Account>> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.iter().filter_map(|(_, account)| account.upgrade()).collect()
    }
}

/// Where a client is cut off.
#[derive(Debug)]
pub(crate) enum EvictAt {
    /// On the shard that has its session or its WebSocket.
    Shard(ShardId),
    /// At the connection of its request.
    Connection(Arc<Hangup>),
}

/// A client's account. One client may have several, such as one for each request.
#[derive(Debug)]
pub(crate) struct Account {
    pub(super) ledger: Arc<Ledger>,
    pub(super) address: Arc<Holder>,
    slot: usize,
    evict_at: EvictAt,
    /// Bytes held for this client alone.
    pub(super) private: AtomicUsize,
    /// Bytes that wait for it and that it shares with others.
    pub(super) unread: AtomicUsize,
    /// Bytes that it sent and others have yet to read, each counted once.
    pub(super) sent: AtomicUsize,
    /// When it took or sent something last, in milliseconds since the ledger's start.
    moved_at: AtomicU64,
    /// It was told to go.
    is_victim: AtomicBool,
    /// It is not read on until there is room: if it does not move, that is the node's doing.
    pub(super) waits: AtomicBool,
}

impl Account {
    pub(super) fn open(ledger: Arc<Ledger>, address: Arc<Holder>, evict_at: EvictAt) -> Arc<Self> {
        let moved_at = AtomicU64::new(ledger.now.load(Relaxed));
        Arc::new_cyclic(|account| Self {
            slot: address.add(account.clone()),
            ledger,
            address,
            evict_at,
            private: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            moved_at,
            is_victim: AtomicBool::new(false),
            waits: AtomicBool::new(false),
        })
    }

    pub(crate) fn evict_at(&self) -> &EvictAt {
        &self.evict_at
    }

    /// The client has taken something, or sent enough, by the time that the ledger was told last.
    pub(super) fn moved(&self) {
        self.moved_at.store(self.ledger.now(), Relaxed);
    }

    /// The same by a clock, for those who have looked at one.
    pub(crate) fn moves(&self, now: Instant) {
        self.ledger.observe(now);
        self.moved();
    }

    /// Whether the node holds more than its budget.
    pub(crate) fn lacks_room(&self) -> bool {
        self.ledger.is_over()
    }

    /// From now on it waits for room, or not any more. If it has something to send then, it moves as soon as that is read.
    pub(crate) fn wait(&self, waits: bool) {
        self.waits.store(waits, Relaxed);
    }

    /// Whether it holds something, and has not moved since this time; nor has its connection, where it has one of its own.
    pub(super) fn is_stuck_since(&self, time: u64) -> bool {
        let holds = self.private.load(Relaxed) + self.unread.load(Relaxed) > 0;
        let of_connection = match &self.evict_at {
            EvictAt::Connection(connection) => connection.moved_at(),
            EvictAt::Shard(_) => 0,
        };
        let moved_at = self.moved_at.load(Relaxed).max(of_connection);
        holds && !self.waits.load(Relaxed) && moved_at <= time
    }

    /// What the client costs. `part` is how much of a shared byte is attributed to each who has yet to read it: nothing to one that
    /// moves, since it only gets what others send; whoever sends it pays for all of it.
    pub(super) fn cost(&self, part: f64, is_stuck: bool) -> f64 {
        let own = self.private.load(Relaxed) as f64 + self.sent.load(Relaxed) as f64;
        if is_stuck { own + self.unread.load(Relaxed) as f64 * part } else { own }
    }

    /// Whether it was not tried to cut it off.
    pub(super) fn may_be_cut_off(&self) -> bool {
        !self.is_victim.load(Relaxed)
    }

    pub(super) fn mark_victim(&self) {
        self.is_victim.store(true, Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.address.remove(self.slot);
        if Arc::strong_count(&self.address) == 1 {
            self.ledger.forget(&self.address);
        }
        if matches!(self.evict_at, EvictAt::Connection(_)) && self.is_victim.load(Relaxed) {
            self.ledger.evicted();
        }
    }
}
