//! Room in the budget, for what clients would have the node take: it is charged before it is taken, or waited for.
//!
//! Who needs more than is left waits in one of two lanes. Of each address only the first is in a lane, the others wait behind it, and after
//! its turn the next one goes to the end: so addresses take turns, however many of one wait. Those whose address holds little have a lane
//! of their own, and the last part of the budget as a reserve while some address holds much: what they take then is at the expense of that
//! address, since it is its clients that are cut off for it. Whoever's address has come to hold more leaves that lane for the other. So
//! nothing that one address holds, or waits for, keeps the others waiting.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::sync::{MutexGuard, futures::Notified};

use super::{
    accounts::{Account, LEAST_GAIN, Least, Ledger},
    charge::Charge,
    waiting::Lane,
};

/// Parts of what all clients may hold without the reserve. What an address may hold and still hold little;
const LITTLE: usize = 16;
/// from where on it holds much;
const MUCH: usize = 4;
/// and what is waited for at most, since a larger budget than this may never be there at once.
const MOST: usize = 4;
/// For how many milliseconds it is known whether an address holds much: it is a look at all clients.
const LOOK: u64 = 50;

/// Somebody waits: it counts as one that moves, and whoever comes later waits behind it.
pub(crate) struct Waits {
    account: Arc<Account>,
    lane: Cell<Lane>,
}

/// For as long as it is kept, somebody is the first of its address and of its lane.
pub(crate) struct Turn<'a> {
    of_lane: Option<MutexGuard<'a, ()>>,
    _of_address: MutexGuard<'a, ()>,
}

impl Waits {
    /// Waits until it is the first of its address, and then of the lane that its address belongs to by then if it charges so many bytes.
    pub(crate) async fn turn(&self, charge: &Charge, bytes: usize) -> Turn<'_> {
        let ledger = &*self.account.ledger;
        let of_address = self.account.address.turn.lock().await;
        self.enter(ledger.lane_of(charge, bytes));
        let of_lane = ledger.waiting.queue(self.lane()).turn.lock().await;
        Turn { of_lane: Some(of_lane), _of_address: of_address }
    }

    /// Leaves the lane and waits in this one, as the last of those who are the first of their address.
    pub(crate) async fn change<'a>(&'a self, turn: &mut Turn<'a>, lane: Lane) {
        turn.of_lane = None;
        self.enter(lane);
        turn.of_lane = Some(self.account.ledger.waiting.queue(lane).turn.lock().await);
    }

    /// Where it waits.
    pub(crate) fn lane(&self) -> Lane {
        self.lane.get()
    }

    fn enter(&self, lane: Lane) {
        let waiting = &self.account.ledger.waiting;
        waiting.queue(lane).count.fetch_add(1, Relaxed);
        waiting.queue(self.lane.replace(lane)).count.fetch_sub(1, Relaxed);
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.account.wait(false);
        self.account.moved();
        self.account.ledger.waiting.queue(self.lane()).count.fetch_sub(1, Relaxed);
    }
}

impl Ledger {
    /// Charges a client for `bytes` instead of what its guard held before, if there is room for them and nobody waits in its lane.
    ///
    /// # Errors
    /// The lane to wait in.
    pub(crate) fn take_room(&self, charge: &Charge, bytes: usize) -> Result<(), Lane> {
        if self.waiting.is_empty() && self.take_within_budget(charge, bytes) {
            return Ok(());
        }
        let lane = self.lane_of(charge, bytes);
        let is_first = self.waiting.queue(lane).count.load(Relaxed) == 0;
        let has_room = is_first
            && (self.take_within_budget(charge, bytes)
                || lane == Lane::Light && self.take_reserve(charge, bytes));
        if has_room { Ok(()) } else { Err(lane) }
    }

    /// The same, without regard to those who wait, if the budget has room.
    pub(crate) fn take_within_budget(&self, charge: &Charge, bytes: usize) -> bool {
        charge.try_raise(self.at_most(bytes), self.limit)
    }

    /// The same out of the reserve, while some address holds much: for clients of the light lane.
    pub(crate) fn take_reserve(&self, charge: &Charge, bytes: usize) -> bool {
        self.is_burdened() && charge.try_raise(self.at_most(bytes), self.budget)
    }

    /// The same for one that has waited long, unless the reserve is in use already. Somebody else goes for it.
    pub(crate) fn force_room(&self, charge: &Charge, bytes: usize) -> bool {
        !self.is_over() && charge.try_raise(self.at_most(bytes), usize::MAX)
    }

    /// While this one waits for room for so many bytes: of those who do not move, and hold enough for it to be a gain, the one that would
    /// go first. Their address has to weigh at least what the one that waits would cost then, or whoever fills the budget would have the
    /// others cut off for whatever more it asks for. One at a time, too.
    pub(crate) fn next_stuck(&self, waiting: &Charge, bytes: usize) -> Option<Arc<Account>> {
        let least = Least { of_account: LEAST_GAIN as f64, of_address: self.cost_with(waiting, bytes) };
        self.choose(least, |account| self.is_stuck(account))
    }

    /// Has a client wait.
    pub(crate) fn wait(&self, account: &Arc<Account>, lane: Lane) -> Waits {
        account.wait(true);
        self.waiting.queue(lane).count.fetch_add(1, Relaxed);
        Waits { account: account.clone(), lane: Cell::new(lane) }
    }

    /// Waits until something is released from now on; now is when the result is first polled or enabled.
    pub(crate) fn released(&self) -> Notified<'_> {
        self.waiting.released.notified()
    }

    /// Whether the node holds more than even the reserve is for.
    pub(crate) fn is_beyond_reserve(&self) -> bool {
        self.held() > self.budget
    }

    fn at_most(&self, bytes: usize) -> usize {
        bytes.min(self.limit / MOST)
    }

    /// Where a client waits who would charge so many bytes.
    pub(crate) fn lane_of(&self, charge: &Charge, bytes: usize) -> Lane {
        let cost = self.cost_with(charge, bytes);
        if cost <= (self.limit / LITTLE) as f64 { Lane::Light } else { Lane::Heavy }
    }

    /// What the address costs that a guard charges, once it charges so many bytes.
    fn cost_with(&self, charge: &Charge, bytes: usize) -> f64 {
        let more = self.at_most(bytes).saturating_sub(charge.private());
        self.cost_of(&charge.account().address) + more as f64
    }

    fn is_burdened(&self) -> bool {
        let (now, looked_at) = (self.now().max(1), self.waiting.looked_at.load(Relaxed));
        let is_due = looked_at == 0 || now >= looked_at + LOOK;
        if is_due && self.waiting.looked_at.compare_exchange(looked_at, now, Relaxed, Relaxed).is_ok() {
            let is_burdened = self.highest_cost() > (self.limit / MUCH) as f64;
            self.waiting.is_burdened.store(is_burdened, Relaxed);
        }
        self.waiting.is_burdened.load(Relaxed)
    }
}
