//! An id that is taken over from another node: it is the new holder's once the old one's node has let go of it, so that nothing of
//! the old connection is relayed any more. A node that does not answer is not waited for long.

use std::{collections::VecDeque, sync::Arc, time::Duration, time::Instant};

use ahash::AHashMap;
use signalbox_websocket::Frame;

use super::{Machine, Output, Outputs, Pending};
use crate::{
    address::Owner,
    command::{PeerAt, RealmId, Ticket},
    store::{Call, DirectMessage, Reply, TakeoverNotice},
};

/// How long the old holder's node may take. One that is paused finds its lease gone before it does anything.
const PATIENCE: Duration = Duration::from_secs(1);

/// A claim that is granted, and not told yet.
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

/// Generations that are remembered because something was said of them before they were granted.
const MAX_EARLY: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Takeovers {
    pending: AHashMap<u64, Takeover>,
    /// Generations that this node was asked to let go of before it heard that they were granted: the bus may be faster than the
    /// store's reply.
    early: VecDeque<u64>,
    /// Generations of which another node said that it has their ids, before this one heard that they were granted.
    contested: VecDeque<u64>,
    last_number: u64,
}

impl Takeovers {
    /// Whether a claim that was just granted is somebody else's by now.
    pub(super) fn was_revoked_early(&mut self, generation: u64) -> bool {
        take(&mut self.early, generation)
    }

    /// Somebody else seems to have the id of a claim that this node does not know, or not yet.
    pub(super) fn contest(&mut self, generation: u64) {
        keep(&mut self.contested, generation);
    }

    /// Whether that was said of a claim that was just granted.
    pub(super) fn was_contested(&mut self, generation: u64) -> bool {
        take(&mut self.contested, generation)
    }

    /// The token of a claim that is on its way to its connection.
    pub(super) fn token(&self, at: PeerAt) -> Option<Arc<str>> {
        let mut takeovers = self.pending.values();
        takeovers.find(|takeover| takeover.at == at).map(|takeover| takeover.token.clone())
    }

    /// The connection that is taking an id over with a claim of this generation.
    pub(super) fn find(&self, generation: u64) -> Option<PeerAt> {
        let mut takeovers = self.pending.values().map(|takeover| takeover.at);
        takeovers.find(|at| at.generation == generation)
    }

    /// What waits for a connection that is taking its id over.
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
            // No answer will come, and the claim is among those that are made again when the store is back.
            self.complete_takeover(number, out);
        }
    }

    /// The old holder's node was told, or there is nobody to tell.
    pub(super) fn revoke_sent(&mut self, number: u64, reply: &Reply, out: &mut Outputs) {
        if matches!(reply, Reply::Receivers(0) | Reply::Failed { .. }) {
            self.complete_takeover(number, out);
        }
    }

    /// Another node asks this one to let go of an id: nothing of its connection is relayed from now on.
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

    /// A claim that somebody else takes may be on its way to its connection still: it is told of its grant before it is told of its
    /// loss.
    pub(super) fn complete_takeover_of(&mut self, at: PeerAt, out: &mut Outputs) {
        let pending = self.takeovers.pending.iter().find(|(_, takeover)| takeover.at == at);
        if let Some(number) = pending.map(|(number, _)| *number) {
            self.complete_takeover(number, out);
        }
    }

    /// The old connection is fenced off: the id is the new one's.
    pub(super) fn complete_takeover(&mut self, number: u64, out: &mut Outputs) {
        let Some(takeover) = self.takeovers.pending.remove(&number) else { return };
        let Takeover { at, ticket, realm, id, token, waiting, .. } = takeover;
        self.grant(at, ticket, (realm, id, token), waiting, out);
    }

    pub(super) fn takeovers_tick(&mut self, now: Instant, out: &mut Outputs) {
        self.complete_takeovers(out, |takeover| takeover.until <= now);
    }

    /// The store was lost: no answer will come, and who claims the same id meanwhile must find it held.
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
