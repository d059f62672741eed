//! Leases of nodes, and their ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use super::{LEASE, REWRITE_GRACE};
use crate::{
    address::Owner,
    store::{Counters, HeartbeatReply, NodeInfo, Reply},
};

/// How long one node has to reap a dead owner before another may try.
pub const REAPING: Duration = Duration::from_secs(2);
/// How long a dead lease is remembered after it was first reaped. It is reaped repeatedly in that time, for what its owner wrote
/// late.
pub const REMEMBERED: Duration = Duration::from_secs(60);
/// Most leases that one heartbeat marks dead, has reaped, or forgets.
pub const AT_ONCE: usize = 16;
/// How often a node looks for records whose owner has no remembered lease.
pub const SWEEP: Duration = Duration::from_secs(8);

#[derive(Debug)]
struct Lease {
    until: Instant,
    /// `None` for a lease that was forgotten, and is back only to be reaped.
    node: Option<Arc<NodeInfo>>,
    counters: Counters,
    dead: Option<Dead>,
}

/// A lease that has expired, once a node reaps.
#[derive(Debug, Clone, Copy)]
struct Dead {
    since: Instant,
    /// When it is to be reaped again.
    due: Instant,
}

#[derive(Debug)]
pub(super) struct Nodes {
    run_id: Arc<str>,
    /// When the first heartbeat came.
    since: Option<Instant>,
    leases: BTreeMap<Owner, Lease>,
    membership: u64,
    swept_at: Option<Instant>,
}

impl Nodes {
    pub(super) fn new(origin: u64) -> Self {
        Self {
            run_id: format!("{origin:x}").into(),
            leases: BTreeMap::new(),
            membership: 0,
            swept_at: None,
            since: None,
        }
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
            // An expired lease is never renewed: a node may be reaping it already.
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
        let since = *self.since.get_or_insert(now);
        pulse.is_whole = now >= since + REWRITE_GRACE;
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
        // A dead node's claims count until they are reaped.
        pulse.claims = self.claims();
        Reply::Heartbeat(pulse)
    }

    fn claims(&self) -> u64 {
        let live = self.leases.values().filter(|lease| lease.dead.is_none());
        live.map(|lease| lease.counters.claims).sum()
    }

    pub(super) fn admit(&mut self, owner: Owner, claims: u64, limit: u64, now: Instant) -> Reply {
        let all = self.claims();
        let Some(lease) = self.leases.get_mut(&owner).filter(|lease| lease.until > now) else {
            return Reply::Admitted(false);
        };
        let is_admitted = all - lease.counters.claims + claims <= limit;
        if is_admitted {
            lease.counters.claims = claims;
        }
        Reply::Admitted(is_admitted)
    }

    /// Forgets old dead leases, and marks expired ones dead.
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

    /// The owners whose time has come, the earliest first.
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
        // A node that has lost its own lease listed the owners before the store lost leases that are valid now.
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
