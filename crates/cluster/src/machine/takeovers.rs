//! Takeovers of ids from other nodes. The new holder gets its grant once the old holder's node has revoked the old claim, so that
//! nothing of the old connection is relayed after that. A node that does not answer is waited for only briefly.

use std::{collections::VecDeque, sync::Arc, time::Duration, time::Instant};

use ahash::AHashMap;
use signalbox_websocket::Frame;

use super::{Machine, Output, Outputs, Pending};
use crate::{
    address::Owner,
    command::{PeerAt, RealmId, Ticket},
    store::{Call, DirectMessage, Reply, TakeoverNotice},
};

/// How long the old holder's node may take. A process that is paused checks its lease before it acts, so it relays nothing later
/// either.
const PATIENCE: Duration = Duration::from_secs(1);

/// A claim that the store has granted, and whose connection has not been told yet.
#[derive(Debug)]
struct Takeover {
    at: PeerAt,
    ticket: Ticket,
    realm: RealmId,
    id: Arc<str>,
    token: Arc<str>,
    waiting: Vec<Frame>,
    until: Instant,
}

/// How many generations are remembered that were revoked or contested before their grants arrived.
const MAX_EARLY: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Takeovers {
    pending: AHashMap<u64, Takeover>,
    /// Generations that other nodes asked this one to revoke before their grants arrived: the bus may be faster than the store's
    /// reply.
    early: VecDeque<u64>,
    /// Generations that another node says it has superseded, before their grants arrived.
    contested: VecDeque<u64>,
    last_number: u64,
}

impl Takeovers {
    /// Whether a claim that was just granted has been revoked already.
    pub(super) fn was_revoked_early(&mut self, generation: u64) -> bool {
        take(&mut self.early, generation)
    }

    /// Another node seems to have superseded a claim that this node does not know, or not yet.
    pub(super) fn contest(&mut self, generation: u64) {
        keep(&mut self.contested, generation);
    }

    /// Whether another node said that of a claim that was just granted.
    pub(super) fn was_contested(&mut self, generation: u64) -> bool {
        take(&mut self.contested, generation)
    }

    /// The token of a claim whose connection has not been told yet.
    pub(super) fn token(&self, at: PeerAt) -> Option<Arc<str>> {
        let mut takeovers = self.pending.values();
        takeovers.find(|takeover| takeover.at == at).map(|takeover| takeover.token.clone())
    }

    /// The connection that is taking an id over with a claim of this generation.
    pub(super) fn find(&self, generation: u64) -> Option<PeerAt> {
        let mut takeovers = self.pending.values().map(|takeover| takeover.at);
        takeovers.find(|at| at.generation == generation)
    }

    /// The messages for a connection that is taking its id over.
    pub(super) fn waiting(&mut self, at: PeerAt) -> Option<&mut Vec<Frame>> {
        let mut takeovers = self.pending.values_mut();
        takeovers.find(|takeover| takeover.at == at).map(|takeover| &mut takeover.waiting)
    }
}

fn keep(generations: &mut VecDeque<u64>, generation: u64) {
    generations.push_back(generation);
    if generations.len() > MAX_EARLY {
        generations.pop_front();
    }
}

fn take(generations: &mut VecDeque<u64>, generation: u64) -> bool {
    let index = generations.iter().position(|kept| *kept == generation);
    index.and_then(|index| generations.remove(index)).is_some()
}

impl Machine {
    /// The store has granted an id that a connection of another node held.
    pub(super) fn begin_takeover(
        &mut self,
        now: Instant,
        (at, ticket): (PeerAt, Ticket),
        token: Arc<str>,
        waiting: Vec<Frame>,
        notice: TakeoverNotice,
        out: &mut Outputs,
    ) {
        self.takeovers.last_number += 1;
        let number = self.takeovers.last_number;
        let until = now + PATIENCE;
        let TakeoverNotice { realm, ref id, old, .. } = notice;
        let takeover = Takeover { at, ticket, realm, id: id.clone(), token, waiting, until };
        self.takeovers.pending.insert(number, takeover);
        let message = DirectMessage::Revoke { realm, id: id.clone(), at: old.at, number };
        let call = Call::SendDirect { from: self.owner(), to: old.owner.tag, message };
        out.push_back(Output::Call(call, Pending::Revoke(number, notice)));
        if !self.lease.is_valid(now) {
            // No answer will come, and the claim is made again when the store is back.
            self.complete_takeover(number, out);
        }
    }

    /// The message to the old holder's node has left; if nobody received it, there is nothing to wait for.
    pub(super) fn revoke_sent(&mut self, number: u64, reply: &Reply, out: &mut Outputs) {
        if matches!(reply, Reply::Receivers(0) | Reply::Failed { .. }) {
            self.complete_takeover(number, out);
        }
    }

    /// Another node asks this one to revoke a claim: nothing of its connection is relayed from now on.
    pub(super) fn revoke(
        &mut self,
        from: Owner,
        (realm, id): (RealmId, Arc<str>),
        at: PeerAt,
        number: u64,
        out: &mut Outputs,
    ) {
        self.complete_takeover_of(at, out);
        if self.own.claim(realm, &id).is_none_or(|claim| claim.at.generation < at.generation) {
            keep(&mut self.takeovers.early, at.generation);
        }
        self.own.released(realm, &id, at.generation);
        out.push_back(Output::ClaimFreed { realm, id, generation: at.generation });
        self.superseded(at, out);
        let call =
            Call::SendDirect { from: self.owner(), to: from.tag, message: DirectMessage::Revoked(number) };
        out.push_back(Output::Call(call, Pending::None));
    }

    /// If the grant of a superseded claim has not been told yet, it is told now: a connection gets its grant before its loss.
    pub(super) fn complete_takeover_of(&mut self, at: PeerAt, out: &mut Outputs) {
        let pending = self.takeovers.pending.iter().find(|(_, takeover)| takeover.at == at);
        if let Some(number) = pending.map(|(number, _)| *number) {
            self.complete_takeover(number, out);
        }
    }

    /// The old connection is fenced off: the new one gets its grant.
    pub(super) fn complete_takeover(&mut self, number: u64, out: &mut Outputs) {
        let Some(takeover) = self.takeovers.pending.remove(&number) else { return };
        let Takeover { at, ticket, realm, id, token, waiting, .. } = takeover;
        self.grant(at, ticket, (realm, id, token), waiting, out);
    }

    pub(super) fn takeovers_tick(&mut self, now: Instant, out: &mut Outputs) {
        self.complete_takeovers(out, |takeover| takeover.until <= now);
    }

    /// The store was lost: no answer will come, and later claims of the same ids must find them held.
    pub(super) fn complete_all_takeovers(&mut self, out: &mut Outputs) {
        self.complete_takeovers(out, |_| true);
    }

    fn complete_takeovers(&mut self, out: &mut Outputs, which: impl Fn(&Takeover) -> bool) {
        let pending = self.takeovers.pending.iter().filter(|(_, takeover)| which(takeover));
        let mut numbers: Vec<u64> = pending.map(|(number, _)| *number).collect();
        // In the order in which the store granted them.
        numbers.sort_unstable();
        for number in numbers {
            self.complete_takeover(number, out);
        }
    }
}
