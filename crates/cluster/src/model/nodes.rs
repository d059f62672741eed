//! Leases.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use super::LEASE;
use crate::{
    address::Owner,
    store::{Counters, NodeInfo, Pulse, Reply},
};

/// How long one node has for reaping before another may try.
const REAPING: Duration = Duration::from_secs(2);
/// How long a dead lease is remembered, and reaped again: what its owner wrote late must go too.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often somebody looks for records whose lease is not even remembered.
const SWEEP: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Lease {
    until: Instant,
    /// `None` when it was forgotten, and is only there to be reaped.
    node: Option<Arc<NodeInfo>>,
    counters: Counters,
    reaped_at: Option<Instant>,
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
        let mut pulse = Pulse { run_id: self.run_id.clone(), ..Pulse::default() };
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
                self.leases.insert(owner, Lease { until, node, counters, reaped_at: None });
                self.membership += 1;
                pulse.renewed = true;
            }
            _ => {}
        }
        if reaps {
            self.leases.retain(|_, lease| lease.until + REMEMBERED > now);
            for (owner, lease) in &mut self.leases {
                let is_due = lease.reaped_at.is_none_or(|at| at + REAPING <= now);
                if lease.until <= now && is_due {
                    if lease.reaped_at.is_none() {
                        self.membership += 1;
                    }
                    lease.reaped_at = Some(now);
                    pulse.expired.push(*owner);
                }
            }
            if self.swept_at.is_none_or(|at| at + SWEEP <= now) {
                self.swept_at = Some(now);
                pulse.sweeps = true;
            }
        }
        pulse.membership = self.membership;
        let live = self.leases.values().filter(|lease| lease.until > now);
        pulse.claims = live.map(|lease| lease.counters.claims).sum();
        Reply::Heartbeat(pulse)
    }

    pub(super) fn list(&self) -> Reply {
        let live = self.leases.values().filter(|lease| lease.reaped_at.is_none());
        Reply::Nodes(live.filter_map(|lease| lease.node.as_deref().cloned()).collect())
    }

    pub(super) fn bury(&mut self, by: Owner, owners: Vec<Owner>, now: Instant) -> Reply {
        // Who has lost its own lease saw the owners before others were lost with it.
        if self.leases.get(&by).is_some_and(|lease| lease.until > now) {
            for owner in owners {
                let lease = Lease { until: now, node: None, counters: Counters::default(), reaped_at: None };
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
