//! Peer ids: claimed from the store, or granted by the node itself while the store is away.

use std::{sync::Arc, time::Instant};

use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::{Machine, Output, Outputs, Pending, local_state::LocalClaim};
use crate::{
    address::{Owner, ShardId},
    command::{Claimed, Delivery, PeerAt, PeerMessage, RealmId, Ticket, is_same_token},
    store::{Call, ClaimRank, DirectMessage, Reply, TakeoverNotice},
};

type Wanted = (RealmId, Arc<str>, Arc<str>);

impl Machine {
    pub(super) fn claim(
        &mut self,
        now: Instant,
        at: PeerAt,
        ticket: Ticket,
        (realm, id, token): Wanted,
        out: &mut Outputs,
    ) {
        if !self.lease.is_valid(now) {
            self.claim_offline(now, at, ticket, (realm, id, token), out);
            return;
        }
        self.reclaim_first(realm, &id, out);
        // A node that is alone has a store that knows the limit.
        let full = self.limit.is_some() && self.lease.is_shared();
        self.ask_for(now, (at, ticket), (realm, id, token), full, false, out);
    }

    /// Claims a free id for which the store has admitted one more.
    pub(super) fn claim_admitted(
        &mut self,
        now: Instant,
        at: PeerAt,
        ticket: Ticket,
        wanted: Wanted,
        out: &mut Outputs,
    ) {
        self.ask_for(now, (at, ticket), wanted, false, true, out);
    }

    fn ask_for(
        &mut self,
        now: Instant,
        (at, ticket): (PeerAt, Ticket),
        (realm, id, token): Wanted,
        full: bool,
        is_admitted: bool,
        out: &mut Outputs,
    ) {
        let owner = self.owner();
        let asked = (owner, self.bus_changes);
        let other_token = self.other_token(now, &id, &token);
        let written = self.written_token(&id, &token);
        let call = Call::Claim { owner, at, realm, id: id.clone(), token: written, other_token, full };
        let pending = Pending::Claim { at, ticket, realm, id, token, asked, is_admitted };
        out.push_back(Output::Call(call, pending));
    }

    /// Whether the node holds as many ids as all nodes may: while the store is away, it does not know what others hold.
    fn is_full_offline(&self) -> bool {
        self.limit.is_some_and(|limit| self.own.held() >= limit)
    }

    pub(super) fn claim_answered(
        &mut self,
        now: Instant,
        (at, ticket, asked): (PeerAt, Ticket, (Owner, u64)),
        (realm, id, token): Wanted,
        reply: Reply,
        out: &mut Outputs,
    ) {
        let claimed = match reply {
            Reply::Granted { generation, superseded, waiting } => {
                let at = PeerAt { generation, ..at };
                let is_contested = self.takeovers.was_contested(generation);
                let is_old = asked != (self.owner(), self.bus_changes);
                if (is_old || is_contested) && self.lease.is_valid(now) {
                    // Either this node reclaimed everything before it knew of this claim, or another node has said that it took
                    // the id, perhaps in vain: the store decides.
                    let (owner, rank) = (self.owner(), ClaimRank::Granted);
                    let pending = Pending::Reclaim { owner, realm, id: id.clone(), generation };
                    let (id, token) = (id.clone(), self.written_token(&id, &token));
                    let call = Call::Reclaim { owner, at, realm, id, token, rank };
                    out.push_back(Output::Call(call, pending));
                }
                self.has_contested_claims |= is_contested && !self.lease.is_valid(now);
                if self.takeovers.was_revoked_early(generation) {
                    // The connection gets its grant and then its loss; the holder from which it took the id has lost it all the
                    // same.
                    if let Some(old) = superseded {
                        self.notify_takeover(TakeoverNotice { by: asked.0, realm, id: id.clone(), old }, out);
                    }
                    self.grant(at, ticket, (realm, id.clone(), token), waiting, out);
                    self.own.released(realm, &id, generation);
                    out.push_back(Output::ClaimFreed { realm, id, generation });
                    self.superseded(at, out);
                    return;
                }
                match superseded {
                    Some(old) if old.owner.tag != self.owner().tag => {
                        let notice = TakeoverNotice { by: asked.0, realm, id, old };
                        self.begin_takeover(now, (at, ticket), token, waiting, notice, out);
                    }
                    old => {
                        if let Some(old) = old {
                            self.complete_takeover_of(old.at, out);
                            self.superseded(old.at, out);
                        }
                        self.grant(at, ticket, (realm, id, token), waiting, out);
                    }
                }
                return;
            }
            Reply::LimitReached if self.lease.is_shared() => {
                self.find_room(now, (at, ticket), (realm, id, token), out);
                return;
            }
            Reply::LimitReached => Claimed::LimitReached,
            Reply::Failed { .. } => {
                self.claim_offline(now, at, ticket, (realm, id, token), out);
                return;
            }
            _ => Claimed::Taken,
        };
        out.push_back(Output::Deliver(at.shard, Delivery::Claimed { ticket, claimed }));
    }

    /// The store has granted an id to a connection of this node.
    pub(super) fn grant(
        &mut self,
        at: PeerAt,
        ticket: Ticket,
        wanted: Wanted,
        waiting: Vec<Frame>,
        out: &mut Outputs,
    ) {
        self.granted(at, ticket, wanted, ClaimRank::Granted, waiting, out);
    }

    fn granted(
        &mut self,
        at: PeerAt,
        ticket: Ticket,
        (realm, id, token): Wanted,
        rank: ClaimRank,
        mut waiting: Vec<Frame>,
        out: &mut Outputs,
    ) {
        let other = self.own.claim(realm, &id).filter(|claim| claim.at != at);
        let later =
            other.filter(|claim| is_same_token(&claim.token, &token) && claim.at.generation > at.generation);
        if let Some(later) = later.map(|claim| claim.at) {
            // Nodes let go of the id at their own pace, so a later takeover may be complete before an earlier one. The earlier connection
            // is told of its grant and of its loss; what waited is for the one that stays.
            let claimed = Claimed::Granted { generation: at.generation, waiting: Vec::new() };
            out.push_back(Output::Deliver(at.shard, Delivery::Claimed { ticket, claimed }));
            self.superseded(at, out);
            deliver_late(later, realm, &id, waiting, out);
            return;
        }
        // Another connection here may have been granted it while the store was away and its answer on its way.
        let other = other.map(|claim| claim.at);
        if let Some(other) = other {
            self.superseded(other, out);
        }
        waiting.extend(self.own.queues.take(realm, id.clone()));
        self.own.claimed(
            realm,
            id.clone(),
            LocalClaim { at, token, rank, is_kept: rank == ClaimRank::Granted },
        );
        // The answer goes into the inbox before the directory shows the id, so that messages that waited come before those sent
        // from now on.
        let claimed = Claimed::Granted { generation: at.generation, waiting };
        out.push_back(Output::Deliver(at.shard, Delivery::Claimed { ticket, claimed }));
        out.push_back(Output::ClaimHeld { realm, id, at });
    }

    /// The store is away: the node grants an id that none of its own connections holds. If another node has granted it too, that
    /// shows when the store is back.
    pub(super) fn claim_offline(
        &mut self,
        now: Instant,
        at: PeerAt,
        ticket: Ticket,
        (realm, id, token): Wanted,
        out: &mut Outputs,
    ) {
        let held = self.own.claim(realm, &id).map(|claim| (claim.at, is_same_token(&claim.token, &token)));
        let refused = match held {
            Some((_, false)) => Some(Claimed::Taken),
            None if self.is_full_offline() => Some(Claimed::LimitReached),
            _ => None,
        };
        if let Some(claimed) = refused {
            out.push_back(Output::Deliver(at.shard, Delivery::Claimed { ticket, claimed }));
            return;
        }
        if let Some((old, true)) = held {
            self.superseded(old, out);
        }
        let generation = self.lease.wall_clock(now).max(held.map_or(0, |(old, _)| old.generation + 1));
        let at = PeerAt { generation, ..at };
        self.granted(at, ticket, (realm, id, token), ClaimRank::Offline, Vec::new(), out);
    }

    /// Tells the old holder, on this node or another, that it seems to have lost its id.
    pub(super) fn notify_takeover(&mut self, notice: TakeoverNotice, out: &mut Outputs) {
        let TakeoverNotice { realm, ref id, old, .. } = notice;
        if old.owner.tag == self.owner().tag {
            self.complete_takeover_of(old.at, out);
            self.superseded(old.at, out);
        } else {
            let (from, to) = (self.owner(), old.owner.tag);
            let message = DirectMessage::Superseded { realm, id: id.clone(), at: old.at };
            out.push_back(Output::Call(
                Call::SendDirect { from, to, message },
                Pending::NotifyTakeover(notice),
            ));
        }
    }

    /// The old holder's node was told. If it did not receive the message, it has lost the bus, and reclaims its ids when the bus
    /// is restored: the notice has served its purpose either way.
    pub(super) fn takeover_notified(&mut self, notice: TakeoverNotice, reply: &Reply, out: &mut Outputs) {
        if matches!(reply, Reply::Receivers(_)) {
            let pending = Pending::Acknowledge(notice.clone());
            out.push_back(Output::Call(Call::Acknowledge(notice), pending));
        }
    }

    /// The records of a dead owner (it may be an earlier epoch of this node) are removed. Tell the holders whose ids it took and
    /// that it could not tell any more.
    pub(super) fn reaped(&mut self, now: Instant, reply: Reply, out: &mut Outputs) {
        let Reply::Reaped(notices) = reply else { return };
        if !self.lease.is_valid(now) {
            // The next node that reaps gets these notices too.
            return;
        }
        for notice in notices {
            if notice.old.owner.tag == self.owner().tag {
                self.contested(now, notice.realm, &notice.id, notice.old.at, out);
                let pending = Pending::Acknowledge(notice.clone());
                out.push_back(Output::Call(Call::Acknowledge(notice), pending));
            } else {
                self.notify_takeover(notice, out);
            }
        }
    }

    /// Another node says that it took the id of one of this node's claims. That may be out of date, so the store decides.
    pub(super) fn contested(
        &mut self,
        now: Instant,
        realm: RealmId,
        id: &Arc<str>,
        at: PeerAt,
        out: &mut Outputs,
    ) {
        if !self.lease.is_valid(now) {
            // All ids are reclaimed when the store is back, or when the lease turns out to be valid.
            self.has_contested_claims = true;
            return;
        }
        let own = self.own.claim(realm, id).filter(|claim| claim.at == at);
        let own = own.map(|claim| (claim.token.clone(), claim.rank));
        let taking_over = || self.takeovers.token(at).map(|token| (token, ClaimRank::Granted));
        let Some((token, rank)) = own.or_else(taking_over) else {
            // The claim was released, or its grant has not arrived yet.
            self.takeovers.contest(at.generation);
            return;
        };
        let owner = self.owner();
        let pending = Pending::Reclaim { owner, realm, id: id.clone(), generation: at.generation };
        let (id, token) = (id.clone(), self.written_token(id, &token));
        out.push_back(Output::Call(Call::Reclaim { owner, at, realm, id, token, rank }, pending));
    }

    /// A claim of this node has lost its id.
    pub(super) fn lost(&mut self, realm: RealmId, id: Arc<str>, at: PeerAt, out: &mut Outputs) {
        let generation = at.generation;
        self.own.released(realm, &id, generation);
        out.push_back(Output::ClaimFreed { realm, id, generation });
        self.superseded(at, out);
    }

    /// Tells a connection of this node that it has lost its id.
    pub(super) fn superseded(&mut self, at: PeerAt, out: &mut Outputs) {
        out.push_back(Output::Deliver(at.shard, Delivery::Superseded(at)));
    }

    pub(super) fn release(
        &mut self,
        now: Instant,
        realm: RealmId,
        id: Arc<str>,
        generation: u64,
        out: &mut Outputs,
    ) {
        self.own.released(realm, &id, generation);
        if self.limit.is_some() {
            self.lease.report_soon(now);
        }
        if self.lease.is_valid(now) {
            let call = Call::Release { owner: self.owner(), realm, id: id.clone(), generation };
            out.push_back(Output::Call(call, Pending::Release { realm, id, generation }));
        } else {
            out.push_back(Output::ClaimFreed { realm, id, generation });
        }
    }

    pub(super) fn peers(
        &mut self,
        now: Instant,
        shard: ShardId,
        ticket: Ticket,
        realm: RealmId,
        out: &mut Outputs,
    ) {
        if self.lease.is_valid(now) {
            out.push_back(Output::Call(Call::Peers { realm }, Pending::ListPeers { shard, ticket, realm }));
        } else {
            let ids = self.own.ids(realm);
            out.push_back(Output::Deliver(shard, Delivery::Peers { ticket, ids }));
        }
    }

    /// The bus is restored. Another node may have taken an id meanwhile, and its message was missed: all ids are reclaimed.
    pub(crate) fn bus_restored(&mut self, now: Instant, out: &mut Outputs) {
        // Claims whose grants have not arrived yet are reclaimed when they do.
        self.bus_changes += 1;
        self.has_contested_claims = !self.lease.is_valid(now);
        if !self.has_contested_claims {
            // Claims that wait for the old holder's node may be lost too.
            self.complete_all_takeovers(out);
            self.reclaim_all(now, out);
        }
    }

    /// The lease was confirmed: if the bus was restored while it was in doubt, ids are reclaimed now.
    pub(super) fn lease_confirmed(&mut self, now: Instant, out: &mut Outputs) {
        if self.has_contested_claims {
            self.bus_restored(now, out);
        }
    }

    /// The store is back, and every claim is made again. One that the store had granted keeps its rank, unless its lease has run out
    /// since.
    pub(super) fn rerank_claims(&mut self, has_expired: bool) {
        for claim in self.own.claims.iter_mut().flat_map(|claims| claims.values_mut()) {
            if std::mem::take(&mut claim.is_kept) {
                claim.rank = if has_expired { ClaimRank::Expired } else { ClaimRank::Granted };
            }
        }
    }

    /// Makes a claim again, as the local state has it; `false` if nobody here holds the id any more.
    pub(super) fn reclaim(&mut self, realm: RealmId, id: &Arc<str>, out: &mut Outputs) -> bool {
        let Some(claim) = self.own.claim(realm, id) else { return false };
        let (owner, at, rank) = (self.owner(), claim.at, claim.rank);
        let token = self.written_token(id, &claim.token);
        let pending = Pending::Reclaim { owner, realm, id: id.clone(), generation: at.generation };
        out.push_back(Output::Call(Call::Reclaim { owner, at, realm, id: id.clone(), token, rank }, pending));
        true
    }

    pub(super) fn reclaimed(
        &mut self,
        owner: Owner,
        (realm, id): (RealmId, Arc<str>),
        generation: u64,
        reply: Reply,
        out: &mut Outputs,
    ) {
        let claims = self.own.claims.get_mut(usize::from(realm));
        let claim = claims.and_then(|claims| claims.get_mut(&id));
        let Some(claim) = claim.filter(|claim| claim.at.generation == generation) else {
            match reply {
                // The claim was released meanwhile, and its release follows. The other node's holder, which had to give way, may
                // reclaim the id.
                Reply::Kept { superseded: Some(old), .. } => {
                    self.notify_takeover(TakeoverNotice { by: owner, realm, id, old }, out);
                }
                // Its grant waited for the old holder's node, and the id is lost already.
                Reply::Taken => {
                    if let Some(at) = self.takeovers.find(generation) {
                        self.complete_takeover_of(at, out);
                        self.lost(realm, id, at, out);
                    }
                }
                _ => {}
            }
            return;
        };
        let at = claim.at;
        match reply {
            Reply::Kept { superseded, waiting } => {
                claim.is_kept = true;
                if let Some(old) = superseded {
                    self.notify_takeover(TakeoverNotice { by: owner, realm, id: id.clone(), old }, out);
                }
                deliver_late(at, realm, &id, waiting, out);
            }
            Reply::Taken => {
                self.lost(realm, id, at, out);
            }
            _ => {}
        }
    }
}

/// Gives messages that waited to a connection that holds its id already.
fn deliver_late(to: PeerAt, realm: RealmId, id: &Arc<str>, waiting: Vec<Frame>, out: &mut Outputs) {
    for frame in waiting {
        let late = PeerMessage {
            from: to,
            realm,
            kind: Kind::Expire,
            src: id.clone(),
            dst: id.clone(),
            frame,
            hops: u8::MAX,
            sender: None,
            trace: None,
        };
        out.push_back(Output::Offer(to, late));
    }
}
