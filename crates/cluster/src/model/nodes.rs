//! Leases.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use super::LEASE;
use crate::{
    address::Owner,
    store::{Counters, HeartbeatReply, NodeInfo, Reply},
};

/// How long one node has for reaping before another may try.
pub const REAPING: Duration = Duration::from_secs(2);
/// How long a dead lease is remembered from when it was first reaped, and reaped again: what its owner wrote late must go too.
pub const REMEMBERED: Duration = Duration::from_secs(60);
/// Leases that one heartbeat buries, reaps and forgets at most.
pub const AT_ONCE: usize = 16;
/// How often somebody looks for records whose lease is not even remembered.
pub const SWEEP: Duration = Duration::from_secs(8);

#[derive(Debug)]
struct Lease {
    until: Instant,
    /// `None` when it was forgotten, and is only there to be reaped.
    node: Option<Arc<NodeInfo>>,
    counters: Counters,
    dead: Option<Dead>,
}

/// A lease that has run out, once somebody reaps.
#[derive(Debug, Clone, Copy)]
struct Dead {
    since: Instant,
    /// When it is to be reaped again.
    due: Instant,
}

#[derive(Debug)]
pub(super) struct Nodes {
    run_id: Arc<str>,
    leases: BTreeMap<Owner, Lease>,
    membership: u64,
    swept_at: Option<Instant>,
}

impl Nodes {
    pub(super) fn new(origin: u64) -> Self {
        Self { run_id: format!("{origin:x}").into(), leases: BTreeMap::new(), membership: 0, swept_at: None }
    }

    pub(super) fn heartbeat(
        &mut self,
        owner: Owner,
        joins: bool,
        node: &Arc<NodeInfo>,
        counters: Counters,
        reaps: bool,
        now: Instant,
    ) -> Reply {
        let mut pulse = HeartbeatReply { run_id: self.run_id.clone(), ..HeartbeatReply::default() };
        match self.leases.get_mut(&owner) {
            // A lease that has run out is never renewed: somebody may be acting on its end already.
            Some(lease) if lease.until > now => {
                lease.until = now + LEASE;
                lease.counters = counters;
                if lease.node.as_ref() != Some(node) {
                    lease.node = Some(node.clone());
                    self.membership += 1;
                }
                pulse.renewed = true;
            }
            None if joins => {
                let (until, node) = (now + LEASE, Some(node.clone()));
                self.leases.insert(owner, Lease { until, node, counters, dead: None });
                self.membership += 1;
                pulse.renewed = true;
            }
            _ => {}
        }
        if reaps {
            self.mark_dead(now);
            for owner in self.first(now, |lease| Some(lease.dead?.due)) {
                if let Some(Lease { dead: Some(dead), .. }) = self.leases.get_mut(&owner) {
                    dead.due = now + REAPING;
                    pulse.expired.push(owner);
                }
            }
            if self.swept_at.is_none_or(|at| at + SWEEP <= now) {
                self.swept_at = Some(now);
                pulse.sweeps = true;
            }
        }
        pulse.membership = self.membership;
        // What a dead node holds is held until somebody reaps it.
        pulse.claims = self
            .leases
            .values()
            .filter(|lease| lease.dead.is_none())
            .map(|lease| lease.counters.claims)
            .sum();
        Reply::Heartbeat(pulse)
    }

    /// Forgets old dead leases, and finds new ones.
    fn mark_dead(&mut self, now: Instant) {
        for owner in self.first(now, |lease| Some(lease.dead?.since + REMEMBERED)) {
            self.leases.remove(&owner);
        }
        for owner in self.first(now, |lease| lease.dead.is_none().then_some(lease.until)) {
            if let Some(lease) = self.leases.get_mut(&owner) {
                lease.dead = Some(Dead { since: now, due: now });
                self.membership += 1;
            }
        }
    }

    /// Those whose time has come, the earliest first.
    fn first(&self, now: Instant, time: impl Fn(&Lease) -> Option<Instant>) -> Vec<Owner> {
        let times = self.leases.iter().filter_map(|(owner, lease)| Some((time(lease)?, *owner)));
        let mut come: Vec<_> = times.filter(|(time, _)| *time <= now).collect();
        come.sort_unstable();
        come.into_iter().map(|(_, owner)| owner).take(AT_ONCE).collect()
    }

    pub(super) fn list(&self) -> Reply {
        let live = self.leases.values().filter(|lease| lease.dead.is_none());
        Reply::Nodes(live.filter_map(|lease| lease.node.as_deref().cloned()).collect())
    }

    pub(super) fn mark_unknown_dead(&mut self, by: Owner, owners: Vec<Owner>, now: Instant) -> Reply {
        // Who has lost its own lease saw the owners before others were lost with it.
        if self.leases.get(&by).is_some_and(|lease| lease.until > now) {
            for owner in owners {
                let lease = Lease { until: now, node: None, counters: Counters::default(), dead: None };
                self.leases.entry(owner).or_insert(lease);
            }
        }
        Reply::Done
    }

    pub(super) fn leave(&mut self, owner: Owner) -> Reply {
        if self.leases.remove(&owner).is_some() {
            self.membership += 1;
        }
        Reply::Done
    }
}
