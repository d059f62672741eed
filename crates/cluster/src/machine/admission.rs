//! `--concurrent_limit` of a cluster: a new id needs room, and the store decides whether there is some.
//!
//! A claim is made twice where there is a limit: first of an id that somebody holds, which needs no room; then, once the store has
//! admitted one more id of this node, of a free one. What the store counts may include ids that other nodes have released since. So
//! a claim that finds no room waits for the heartbeats that say so, and is refused only if there is none then either.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Machine, Output, Outputs, Pending, pending::Claimant};
use crate::{
    command::{Claimed, Delivery, PeerAt, RealmId, Ticket},
    store::{Call, Reply},
};

/// How long a claim waits for room at least: two heartbeats of every node.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Ids that the store is asked to admit, and admitted ones that are not held yet.
    in_flight: u64,
    /// Claims that wait for room.
    waiting: VecDeque<Claimant>,
}

impl Machine {
    /// How many ids the node holds, with those that are about to be claimed.
    pub(super) fn claims_reported(&self) -> u64 {
        self.own.held() as u64 + self.admission.in_flight
    }

    /// Nobody holds the id, and it needs room.
    pub(super) fn find_room(
        &mut self,
        now: Instant,
        (at, ticket): (PeerAt, Ticket),
        (realm, id, token): (RealmId, Arc<str>, Arc<str>),
        out: &mut Outputs,
    ) {
        let claimant = Claimant { at, ticket, realm, id, token, until: now + PATIENCE };
        if self.lease.is_heartbeat_in_flight() {
            // It does not count this one, and may be executed later.
            self.admission.waiting.push_back(claimant);
        } else {
            self.admit(now, claimant, out);
        }
    }

    fn admit(&mut self, now: Instant, claimant: Claimant, out: &mut Outputs) {
        let Claimant { at, ticket, realm, ref id, ref token, .. } = claimant;
        match self.limit.filter(|_| self.lease.is_valid(now)) {
            Some(limit) => {
                self.admission.in_flight += 1;
                let (owner, claims) = (self.owner(), self.claims_reported());
                let call = Call::Admit { owner, claims, limit: limit as u64 };
                out.push_back(Output::Call(call, Pending::Admit(claimant)));
            }
            None => self.claim_offline(now, at, ticket, (realm, id.clone(), token.clone()), out),
        }
    }

    /// The store has answered a call for which an id was counted.
    pub(super) fn no_longer_in_flight(&mut self) {
        self.admission.in_flight = self.admission.in_flight.saturating_sub(1);
    }

    pub(super) fn admission_answered(
        &mut self,
        now: Instant,
        claimant: Claimant,
        reply: &Reply,
        out: &mut Outputs,
    ) {
        let Claimant { at, ticket, realm, ref id, ref token, .. } = claimant;
        match reply {
            Reply::Admitted(true) => {
                self.admission.in_flight += 1;
                self.claim_admitted(now, at, ticket, (realm, id.clone(), token.clone()), out);
            }
            Reply::Admitted(false) => {
                self.admission.waiting.push_back(claimant);
                self.lease.report_soon(now);
            }
            _ => self.claim_offline(now, at, ticket, (realm, id.clone(), token.clone()), out),
        }
    }

    /// A heartbeat was answered: `claims` ids are held by all nodes. As many claims as there is room for are tried again, and those that
    /// have waited long enough are refused.
    pub(super) fn admit_waiting(&mut self, now: Instant, claims: u64, out: &mut Outputs) {
        let Some(limit) = self.limit else { return };
        let room = (limit as u64).saturating_sub(claims).min(self.admission.waiting.len() as u64);
        let others = self.admission.waiting.split_off(room as usize);
        for claimant in std::mem::take(&mut self.admission.waiting) {
            self.admit(now, claimant, out);
        }
        let (refused, waiting): (VecDeque<_>, _) =
            others.into_iter().partition(|claimant| claimant.until <= now);
        self.admission.waiting.extend::<VecDeque<_>>(waiting);
        if !self.admission.waiting.is_empty() {
            self.lease.report_soon(now);
        }
        for Claimant { at, ticket, .. } in refused {
            let claimed = Claimed::LimitReached;
            out.push_back(Output::Deliver(at.shard, Delivery::Claimed { ticket, claimed }));
        }
    }

    /// The store is away: the node decides by itself.
    pub(super) fn claim_waiting_offline(&mut self, now: Instant, out: &mut Outputs) {
        for Claimant { at, ticket, realm, id, token, .. } in std::mem::take(&mut self.admission.waiting) {
            self.claim_offline(now, at, ticket, (realm, id, token), out);
        }
    }
}
