//! The node's lease, under which its records stand, and what its heartbeats tell about other nodes.

use std::{collections::VecDeque, sync::Arc, time::Duration, time::Instant};

use super::{Machine, Output, Outputs, Pending, Status, rooms::REWRITE_GRACE};
use crate::{
    address::Owner,
    event::{ClusterEvent, DegradedReason},
    model::LEASE,
    partition::PARTITIONS,
    store::{Call, Counters, HeartbeatReply, NodeInfo, Reply},
};

/// How often a lease is renewed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How soon a heartbeat reports that ids were released, or asks whether others were.
const REPORT: Duration = Duration::from_millis(100);
/// How soon a heartbeat is sent again while the store is away.
pub(super) const RETRY: Duration = Duration::from_millis(250);
/// The node stops relying on its lease this long before the store lets it expire.
const MARGIN: Duration = Duration::from_millis(500);
/// A heartbeat that is not confirmed is sent once more; when that is not confirmed either, the node is degraded.
const MAX_FAILED: u32 = 2;
/// How many dead owners are remembered, so that their late messages are dropped.
const MAX_DEAD: usize = 256;

#[derive(Debug)]
pub(super) struct Lease {
    /// `None` when the node is alone.
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// When the machine was made, and what the node's clock showed then, in microseconds since 1970.
    began: (Instant, u64),
    node: Arc<NodeInfo>,
    status: Status,
    /// When the last heartbeat was sent that renewed the lease.
    confirmed: Option<Instant>,
    heartbeat_in_flight: bool,
    next_heartbeat: Instant,
    /// Heartbeats that failed since the last one that was confirmed.
    failed: u32,
    run_id: Arc<str>,
    /// Since when the store has been there without a break. A node reaps others only after a full lease of that.
    stable_since: Option<Instant>,
    /// The store was whole when the node joined for the first time, and has been there since.
    was_whole: bool,
    degraded_since: Option<Instant>,
    /// The present epoch has begun, or may have: the next attempt to join needs another.
    is_epoch_used: bool,
    /// Epochs that are over. Their records are removed once everything is written under the new epoch.
    past: Vec<u64>,
    /// When the records of past epochs are removed, if they have to stay for a while.
    past_ends_at: Option<Instant>,
    /// When a session last moved away.
    released: Option<Instant>,
    /// Epochs that may have begun, under which nothing was written.
    tried: Vec<u64>,
    membership: u64,
    known: Vec<NodeInfo>,
    /// Another node says that it is writing its records again.
    is_other_rewriting: bool,
    /// Nodes may be known that are gone: the list is asked for once more when the store has been there for a while.
    lists_again: bool,
    dead: VecDeque<Owner>,
}

impl Shared {
    /// The pause before the next attempt. Nodes that lost the store together have different ones, so that they do not come back in the
    /// same moment, all writing everything again.
    fn retry(&self) -> Duration {
        RETRY + RETRY * (self.node.owner.tag.0 % 256) / 256
    }
}

impl Lease {
    pub(super) fn standalone() -> Self {
        Self { shared: None }
    }

    pub(super) fn new(node: NodeInfo, now: Instant, wall_clock: u64) -> Self {
        let shared = Shared {
            began: (now, wall_clock),
            node: Arc::new(node),
            status: Status::Joining,
            confirmed: None,
            heartbeat_in_flight: false,
            next_heartbeat: now,
            failed: 0,
            run_id: "".into(),
            stable_since: None,
            was_whole: false,
            degraded_since: None,
            is_epoch_used: false,
            past: Vec::new(),
            past_ends_at: None,
            released: None,
            tried: Vec::new(),
            membership: 0,
            known: Vec::new(),
            is_other_rewriting: false,
            lists_again: false,
            dead: VecDeque::new(),
        };
        Self { shared: Some(shared) }
    }

    /// Whether the node has joined the cluster, as far as it knows.
    pub(super) fn has_joined(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.status == Status::Online)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    pub(super) fn owner(&self) -> Owner {
        self.shared.as_ref().map(|shared| shared.node.owner).unwrap_or_default()
    }

    /// Whether the store is there and the lease certainly valid. A process that was paused finds out here, before it acts.
    pub(super) fn is_valid(&self, now: Instant) -> bool {
        let Some(shared) = &self.shared else { return true };
        shared.status == Status::Online && shared.confirmed.is_some_and(|at| now < at + LEASE - MARGIN)
    }

    /// Whether the store has been there without a break for this long, as of the last heartbeat. A node that has just joined a
    /// store that is whole takes the word of it.
    pub(super) fn is_stable(&self, period: Duration) -> bool {
        let Some(shared) = &self.shared else { return true };
        if shared.was_whole && shared.confirmed.is_some() {
            return true;
        }
        let beats = shared.confirmed.zip(shared.stable_since);
        beats.is_some_and(|(last, since)| last.saturating_duration_since(since) >= period)
    }

    /// Whether a node, this one or another, says that it is writing its records again.
    pub(super) fn is_any_rewriting(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.node.is_rewriting || shared.is_other_rewriting)
    }

    /// Everything is written again: the next heartbeat says so. Returns whether others had been told.
    pub(super) fn stop_rewriting(&mut self, now: Instant) -> bool {
        let Some(shared) = self.shared.as_mut().filter(|shared| shared.node.is_rewriting) else {
            return false;
        };
        Arc::make_mut(&mut shared.node).is_rewriting = false;
        shared.next_heartbeat = now;
        true
    }

    /// What the node's clock shows, in microseconds since 1970.
    pub(super) fn wall_clock(&self, now: Instant) -> u64 {
        let Some(Shared { began: (began, shown), .. }) = &self.shared else { return 0 };
        shown + now.saturating_duration_since(*began).as_micros() as u64
    }

    pub(super) fn is_heartbeat_in_flight(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.heartbeat_in_flight)
    }

    /// What heartbeats report has changed, or what they tell is waited for.
    pub(super) fn report_soon(&mut self, now: Instant) {
        if let Some(shared) = &mut self.shared {
            shared.next_heartbeat = shared.next_heartbeat.min(now + REPORT);
        }
    }

    pub(super) fn is_dead(&self, from: Owner) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.dead.contains(&from))
    }

    /// A call failed: the next heartbeat, which shows whether the store is there, comes soon.
    pub(super) fn probe(&mut self, now: Instant) {
        if let Some(shared) = &mut self.shared {
            shared.next_heartbeat = shared.next_heartbeat.min(now + shared.retry());
        }
    }

    /// The nodes of the cluster are to be asked for again.
    pub(super) fn forget_membership(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.membership = u64::MAX;
        }
    }

    /// A session has moved to another node, which may not have written its records yet.
    pub(super) fn session_released(&mut self, now: Instant) {
        if let Some(shared) = &mut self.shared {
            shared.released = Some(now);
        }
    }

    /// The nodes of the cluster: those that the store lists, and while others may have yet to join again, those that were known before.
    pub(super) fn remember_nodes(&mut self, mut nodes: Vec<NodeInfo>) -> Vec<NodeInfo> {
        let is_stable = self.is_stable(REWRITE_GRACE);
        let Some(shared) = &mut self.shared else { return nodes };
        let tag = shared.node.owner.tag;
        // Those alone that the store lists: who is gone writes nothing any more.
        shared.is_other_rewriting = nodes.iter().any(|node| node.is_rewriting && node.owner.tag != tag);
        if !is_stable {
            let is_listed = |known: &NodeInfo| nodes.iter().any(|node| node.owner.tag == known.owner.tag);
            let missing: Vec<_> = shared.known.iter().filter(|known| !is_listed(known)).cloned().collect();
            nodes.extend(missing);
        }
        shared.lists_again = !is_stable;
        shared.known.clone_from(&nodes);
        nodes
    }
}

impl Machine {
    /// How long ago the last renewal was sent that the store confirmed.
    pub(crate) fn lease_age(&self, now: Instant) -> Option<Duration> {
        let confirmed = self.lease.shared.as_ref()?.confirmed?;
        Some(now.saturating_duration_since(confirmed))
    }

    /// Checks whether the lease has expired without being renewed.
    pub(super) fn check_lease(&mut self, now: Instant, out: &mut Outputs) {
        let is_online = self.lease.shared.as_ref().is_some_and(|shared| shared.status == Status::Online);
        if is_online && !self.lease.is_valid(now) {
            self.store_lost(now, DegradedReason::LeaseExpired, out);
        }
    }

    /// The lease was not confirmed in time, or is lost: the node works from its local state until it has joined again.
    fn store_lost(&mut self, now: Instant, reason: DegradedReason, out: &mut Outputs) {
        let Some(shared) = &mut self.lease.shared else { return };
        (shared.stable_since, shared.was_whole) = (None, false);
        if shared.status != Status::Online {
            return;
        }
        shared.status = Status::Degraded;
        shared.past.push(shared.node.owner.epoch);
        shared.next_heartbeat = shared.next_heartbeat.min(now + shared.retry());
        shared.degraded_since = Some(now);
        out.push_back(Output::Status(Status::Degraded));
        out.push_back(Output::Event(ClusterEvent::Degraded(reason)));
        self.complete_all_takeovers(out);
        self.claim_waiting_offline(now, out);
        self.join_all_offline(out);
        self.rooms.give_up_compares();
        self.give_up_repairs(now, out);
    }

    /// Changes the node's description; the next heartbeat tells it.
    pub(crate) fn update_node_info(&mut self, now: Instant, change: impl FnOnce(&mut NodeInfo)) {
        if let Some(shared) = &mut self.lease.shared {
            change(Arc::make_mut(&mut shared.node));
            shared.next_heartbeat = now;
        }
    }

    /// Asks for the nodes of the cluster.
    pub(crate) fn refresh_nodes(&mut self, now: Instant, out: &mut Outputs) {
        if self.lease.is_shared() && self.lease.is_valid(now) {
            out.push_back(Output::Call(Call::Nodes, Pending::Nodes));
        }
    }

    pub(super) fn heartbeat_if_due(&mut self, now: Instant, out: &mut Outputs) {
        let claims = self.claims_reported();
        let is_due = |shared: &Shared| !shared.heartbeat_in_flight && now >= shared.next_heartbeat;
        if !self.lease.shared.as_ref().is_some_and(is_due) {
            return;
        }
        let is_rewrite_long = self.is_rewrite_long();
        let Some(shared) = &mut self.lease.shared else { return };
        let joins = shared.status != Status::Online;
        if joins {
            Arc::make_mut(&mut shared.node).is_rewriting = is_rewrite_long;
        }
        if joins && (shared.node.owner.epoch == 0 || shared.is_epoch_used) {
            Arc::make_mut(&mut shared.node).owner.epoch += 1;
            shared.is_epoch_used = false;
        }
        shared.heartbeat_in_flight = true;
        shared.next_heartbeat = now + HEARTBEAT;
        let owner = shared.node.owner;
        let reaps = shared.stable_since.is_some_and(|since| now >= since + LEASE);
        let counters = Counters { claims };
        let call = Call::Heartbeat { owner, joins, node: shared.node.clone(), counters, reaps };
        out.push_back(Output::Call(call, Pending::Heartbeat { sent: now, owner, joins }));
    }

    pub(super) fn heartbeat_answered(
        &mut self,
        now: Instant,
        sent: Instant,
        owner: Owner,
        joins: bool,
        reply: Reply,
        out: &mut Outputs,
    ) {
        let Some(shared) = &mut self.lease.shared else { return };
        shared.heartbeat_in_flight = false;
        let Reply::Heartbeat(pulse) = reply else {
            shared.next_heartbeat = shared.next_heartbeat.min(now + shared.retry());
            (shared.stable_since, shared.was_whole) = (None, false);
            shared.failed += 1;
            if joins && matches!(reply, Reply::Failed { may_have_run: true }) {
                // The epoch may have begun.
                shared.tried.push(owner.epoch);
                shared.is_epoch_used = true;
            }
            if shared.failed >= MAX_FAILED {
                self.store_lost(now, DegradedReason::NoAnswer, out);
            }
            return;
        };
        shared.failed = 0;
        let is_same_store = shared.run_id == pulse.run_id;
        if shared.stable_since.is_none() || !is_same_store {
            shared.stable_since = Some(sent);
        }
        let is_online = shared.status == Status::Online;
        if owner != shared.node.owner || joins == is_online || !pulse.renewed || is_online && !is_same_store {
            // The lease is lost, or another server answered, or the machine's state has changed since the heartbeat was sent:
            // join again.
            shared.next_heartbeat = now;
            if joins && pulse.renewed && owner == shared.node.owner {
                shared.tried.push(owner.epoch);
                shared.is_epoch_used = true;
            }
            if is_online {
                let is_lost = !pulse.renewed && is_same_store;
                let reason = if is_lost { DegradedReason::LeaseLost } else { DegradedReason::StoreReplaced };
                self.store_lost(now, reason, out);
            }
            return;
        }
        if joins {
            shared.is_epoch_used = true;
            // Another node may not be back yet to write the records of a session that has moved there meanwhile: if they were removed
            // before, everybody would be told that its members have left.
            let is_recent =
                |at: Instant| shared.confirmed.is_none_or(|confirmed| at + REWRITE_GRACE >= confirmed);
            let keeps_past = shared.released.is_some_and(is_recent);
            shared.past_ends_at = Some(if keeps_past { now + REWRITE_GRACE } else { now });
            let has_expired =
                is_same_store && shared.confirmed.is_some_and(|confirmed| sent >= confirmed + LEASE - MARGIN);
            shared.was_whole = pulse.is_whole && shared.confirmed.is_none();
            shared.run_id = pulse.run_id.clone();
            // A store that has forgotten everything counts the changes from the beginning, and may have come to the same number.
            shared.membership = u64::MAX;
            shared.status = Status::Online;
            shared.confirmed = Some(sent);
            out.push_back(Output::Status(Status::Online));
            let degraded_for = shared.degraded_since.take().map(|since| now.saturating_duration_since(since));
            out.push_back(Output::Event(ClusterEvent::Online { epoch: owner.epoch, degraded_for }));
            self.rewrite_all(now, has_expired, out);
            self.rooms_online(out);
        } else {
            shared.confirmed = Some(sent);
            self.lease_confirmed(now, out);
        }
        self.apply_heartbeat_reply(&pulse, out);
        self.admit_waiting(now, pulse.claims, out);
        if pulse.sweeps {
            out.push_back(Output::Call(Call::Owners, Pending::Owners(owner)));
        }
    }

    /// Finds owners that have records but no lease that the store remembers (it forgot everything, or the lease ended long ago):
    /// a node that has died since shows only in its records.
    pub(super) fn owners_answered(&mut self, now: Instant, by: Owner, reply: Reply, out: &mut Outputs) {
        let Reply::Owners(mut owners) = reply else { return };
        owners.retain(|owner| *owner != by);
        if by == self.owner() && self.lease.is_valid(now) && !owners.is_empty() {
            out.push_back(Output::Call(Call::MarkDead { by, owners }, Pending::None));
        }
    }

    /// Takes what the reply tells beside the lease: changed membership, owners to reap.
    fn apply_heartbeat_reply(&mut self, pulse: &HeartbeatReply, out: &mut Outputs) {
        let is_stable = self.lease.is_stable(REWRITE_GRACE);
        let Some(shared) = &mut self.lease.shared else { return };
        if shared.membership != pulse.membership {
            shared.membership = pulse.membership;
            out.push_back(Output::Call(Call::Nodes, Pending::Nodes));
        }
        if shared.lists_again && is_stable {
            shared.lists_again = false;
            out.push_back(Output::Call(Call::Nodes, Pending::Nodes));
        }
        let own = shared.node.owner;
        for dead in pulse.expired.iter().filter(|dead| **dead != own) {
            if !shared.dead.contains(dead) {
                shared.dead.push_back(*dead);
                if shared.dead.len() > MAX_DEAD {
                    shared.dead.pop_front();
                }
            }
        }
        for dead in pulse.expired.iter().filter(|dead| **dead != own) {
            reap(*dead, out);
        }
    }

    /// What was left under earlier epochs is removed, once everything is written under the present one.
    pub(super) fn end_past_epochs_if_due(&mut self, now: Instant, out: &mut Outputs) {
        let is_due = self.lease.is_valid(now) && self.rewrite.is_done();
        let Some(shared) = &mut self.lease.shared else { return };
        if !is_due || shared.past_ends_at.is_none_or(|at| now < at) {
            return;
        }
        shared.past_ends_at = None;
        let tag = shared.node.owner.tag;
        for epoch in &shared.past {
            reap(Owner { tag, epoch: *epoch }, out);
        }
        let epochs: Vec<u64> = shared.past.iter().chain(&shared.tried).copied().collect();
        for epoch in epochs {
            self.end_epoch(epoch, out);
        }
    }

    pub(super) fn end_epoch(&mut self, epoch: u64, out: &mut Outputs) {
        let owner = Owner { tag: self.owner().tag, epoch };
        out.push_back(Output::Call(Call::Leave { owner }, Pending::EndEpoch(epoch)));
    }

    /// The lease of an earlier epoch has ended, after its records were removed.
    pub(super) fn past_epoch_ended(&mut self, epoch: u64, reply: &Reply) {
        if let (Some(shared), Reply::Done) = (&mut self.lease.shared, reply) {
            shared.past.retain(|past| *past != epoch);
            shared.tried.retain(|tried| *tried != epoch);
        }
    }

    /// Leaves the cluster: the node's records are removed first, then its lease ends.
    pub(crate) fn leave_cluster(&mut self, now: Instant, out: &mut Outputs) {
        if !self.lease.is_shared() || !self.lease.is_valid(now) {
            return;
        }
        let owner = self.owner();
        reap(owner, out);
        out.push_back(Output::Call(Call::Leave { owner }, Pending::None));
        if let Some(shared) = &mut self.lease.shared {
            shared.status = Status::Degraded;
            shared.heartbeat_in_flight = true;
        }
    }
}

fn reap(owner: Owner, out: &mut Outputs) {
    for partition in 0..PARTITIONS {
        let partition = partition as u8;
        out.push_back(Output::Call(Call::Reap { owner, partition }, Pending::Reap(owner, partition)));
    }
}
