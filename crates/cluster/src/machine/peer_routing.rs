//! Routing of PeerServer messages whose addressee is not known to be on this node.

use std::{sync::Arc, time::Duration, time::Instant};

use ahash::AHashMap;
use signalbox_peerserver::{Kind, message};

use super::{Machine, Output, Outputs, Pending, local_state::LOCAL_WAITS, pending::Charge};
use crate::{
    address::ShardId,
    command::{Delivery, Holder, PeerAt, PeerMessage, RealmId, Sender},
    store::{Call, DirectMessage, Reply},
};

/// How long the node of a peer is remembered. A message that goes to the wrong node is sent on from there.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Most peers that are remembered.
const MAX_REMEMBERED: usize = 65_536;
/// How often a message is sent on because its addressee was not where it was expected; then it is queued.
const MAX_HOPS: u8 = 2;

fn settle(charge: Option<Box<Charge>>, waits: bool, out: &mut Outputs) {
    if let Some(charge) = charge {
        let Charge { from, bytes, .. } = *charge;
        out.push_back(Output::Settled { from, bytes, waits });
    }
}

/// The nodes of peers, as far as they are remembered.
#[derive(Debug, Default)]
pub(super) struct PeerRoutes {
    known: AHashMap<(RealmId, Arc<str>), (Holder, Instant)>,
    /// How many messages for a peer wait for the store's reply. Later messages for the same peer take the same way, or they would
    /// overtake these.
    asked: AHashMap<(RealmId, Arc<str>), u32>,
}

impl PeerRoutes {
    /// The store has replied for one of the messages for a peer.
    pub(super) fn answered(&mut self, peer: &(RealmId, Arc<str>)) {
        if let Some(asked) = self.asked.get_mut(peer) {
            *asked -= 1;
            if *asked == 0 {
                self.asked.remove(peer);
                crate::shrink_if_sparse(&mut self.asked);
            }
        }
    }

    fn find(&self, realm: RealmId, id: &Arc<str>, now: Instant) -> Option<Holder> {
        let (holder, at) = self.known.get(&(realm, id.clone()))?;
        (now < *at + REMEMBERED).then_some(*holder)
    }

    fn keep(&mut self, realm: RealmId, id: &Arc<str>, holder: Holder, now: Instant) {
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert((realm, id.clone()), (holder, now));
    }

    fn forget(&mut self, realm: RealmId, id: &Arc<str>) {
        self.known.remove(&(realm, id.clone()));
    }
}

impl Machine {
    /// Whether an id is remembered to be held on another node.
    pub(crate) fn remembers(&self, now: Instant, realm: RealmId, id: &str) -> bool {
        self.peer_routes.find(realm, &id.into(), now).is_some()
    }

    /// Routes a message whose addressee is not known to be on this node. `shard` sends it (on), and holds the timer if it has to
    /// wait. If there is a `charge`, [`Output::Settled`] follows when the message is no longer under way.
    pub(crate) fn route_peer_message(
        &mut self,
        now: Instant,
        shard: ShardId,
        peer_message: PeerMessage,
        charge: Option<Box<Charge>>,
        out: &mut Outputs,
    ) {
        self.check_lease(now, out);
        let sender = peer_message.sender.as_ref().map(|sender| sender.token.clone());
        let own = || {
            let own = self.own.claim(peer_message.realm, &peer_message.src);
            own.map(|claim| self.written_token(&peer_message.src, &claim.token))
        };
        let Some(token) = sender.or_else(own) else {
            settle(charge, false, out);
            return;
        };
        if !self.lease.is_valid(now) {
            let reply = self.own.queues.push(peer_message, &token, now);
            self.peer_message_routed(now, shard, charge, reply, out);
            return;
        }
        let peer = (peer_message.realm, peer_message.dst.clone());
        let is_sent = peer_message.hops == 0 && !self.peer_routes.asked.contains_key(&peer);
        match self.peer_routes.find(peer_message.realm, &peer_message.dst, now).filter(|_| is_sent) {
            Some(holder) => self.send_peer_message(shard, holder, peer_message, charge, out),
            None => {
                let forced = peer_message.hops >= MAX_HOPS;
                let call = Call::DeliverOrQueue { peer_message, token, forced };
                *self.peer_routes.asked.entry(peer.clone()).or_default() += 1;
                out.push_back(Output::Call(call, Pending::PeerMessage(shard, peer, charge)));
            }
        }
    }

    /// Delivers a message to a connection of this node. If the connection is taking its id over, it gets the message with the
    /// grant.
    pub(super) fn offer(&mut self, to: PeerAt, peer_message: PeerMessage, out: &mut Outputs) {
        match self.takeovers.waiting(to) {
            Some(waiting) => waiting.push(peer_message.frame),
            None if peer_message.is_expiry(to) => {
                out.push_back(Output::Deliver(to.shard, Delivery::PeerMessage { to, peer_message }))
            }
            None => out.push_back(Output::Offer(to, peer_message)),
        }
    }

    /// A message was dropped, for want of memory or of its addressee's node, before anybody waits for its addressee. Its sender is told
    /// at once, wherever it is.
    pub(crate) fn refuse_peer_message(&mut self, now: Instant, peer_message: PeerMessage, out: &mut Outputs) {
        let PeerMessage { from, realm, kind, src, dst, sender, .. } = peer_message;
        out.push_back(Output::Dropped(1));
        if kind.is_queued() {
            let own = || {
                let own = self.own.claim(realm, &src).filter(|claim| claim.at.generation == from.generation);
                own.map(|claim| self.written_token(&src, &claim.token))
            };
            let token = sender.map(|sender| sender.token).or_else(own);
            self.expired(now, realm, src, dst, Reply::Expired { token }, out);
        }
    }

    /// Sends a message to the node of its addressee.
    fn send_peer_message(
        &mut self,
        shard: ShardId,
        holder: Holder,
        peer_message: PeerMessage,
        charge: Option<Box<Charge>>,
        out: &mut Outputs,
    ) {
        let from = self.owner();
        let mut sent = peer_message.clone();
        if sent.sender.is_none() {
            let own = self.own.claim(peer_message.realm, &peer_message.src);
            let token = own.map(|claim| self.written_token(&peer_message.src, &claim.token));
            sent.sender = Some(Sender { node: from.tag, token: token.unwrap_or_default() });
        }
        let message = DirectMessage::PeerMessage { to: holder.at, peer_message: sent };
        let call = Call::SendDirect { from, to: holder.owner.tag, message };
        out.push_back(Output::Call(call, Pending::SendPeerMessage(shard, peer_message, charge)));
    }

    /// Nobody received the message: the node is gone, or has lost the bus. The message is routed again by the store; after two
    /// hops it is queued, whoever the store says holds the id.
    pub(super) fn peer_message_sent(
        &mut self,
        now: Instant,
        shard: ShardId,
        mut peer_message: PeerMessage,
        charge: Option<Box<Charge>>,
        reply: &Reply,
        out: &mut Outputs,
    ) {
        match reply {
            Reply::Receivers(0) | Reply::Failed { may_have_run: false } => {
                self.peer_routes.forget(peer_message.realm, &peer_message.dst);
                peer_message.hops += 1;
                if peer_message.kind == Kind::Expire || peer_message.hops > MAX_HOPS {
                    settle(charge, false, out);
                    self.refuse_peer_message(now, peer_message, out);
                } else {
                    self.route_peer_message(now, shard, peer_message, charge, out);
                }
            }
            // It was delivered, or may have been. It is not sent again: a message that arrives twice tears a connection down.
            _ => settle(charge, false, out),
        }
    }

    pub(super) fn peer_message_routed(
        &mut self,
        now: Instant,
        shard: ShardId,
        charge: Option<Box<Charge>>,
        reply: Reply,
        out: &mut Outputs,
    ) {
        match reply {
            Reply::Holder(holder, peer_message) if holder.owner.tag == self.owner().tag => {
                settle(charge, false, out);
                self.offer(holder.at, peer_message, out);
            }
            Reply::Holder(holder, peer_message) => {
                self.peer_routes.keep(peer_message.realm, &peer_message.dst, holder, now);
                self.send_peer_message(shard, holder, peer_message, charge, out);
            }
            Reply::Queued { peer_message, opened, is_kept, displaced } => {
                settle(charge, is_kept, out);
                let dropped = displaced + usize::from(!is_kept);
                if dropped > 0 {
                    out.push_back(Output::Dropped(dropped as u64));
                }
                if let Some(number) = opened {
                    let PeerMessage { from, realm, src, dst, .. } = peer_message;
                    let waiting = Delivery::Waiting { from, realm, src, dst, number };
                    out.push_back(Output::Deliver(shard, waiting));
                }
            }
            Reply::Failed { may_have_run } => {
                out.push_back(Output::Dropped(1));
                // If it may wait in the store, its sender may not be told: it could be delivered yet.
                if let Some(Charge { from, realm, src, dst, is_queued: true, .. }) =
                    charge.as_deref().filter(|_| !may_have_run)
                {
                    let own =
                        self.own.claim(*realm, src).filter(|claim| claim.at.generation == from.generation);
                    let token = own.map(|claim| self.written_token(src, &claim.token));
                    self.expired(now, *realm, src.clone(), dst.clone(), Reply::Expired { token }, out);
                }
                settle(charge, false, out);
            }
            _ => settle(charge, false, out),
        }
    }

    /// The timer of a wait has fired.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
        number: u64,
        out: &mut Outputs,
    ) {
        if number >= LOCAL_WAITS {
            let token = self.own.queues.expire(realm, &dst, number);
            self.expired(now, realm, src, dst, Reply::Expired { token }, out);
        } else if self.lease.is_valid(now) {
            let call = Call::Expire { realm, src: src.clone(), dst: dst.clone(), number };
            out.push_back(Output::Call(call, Pending::Expire { realm, src, dst }));
        } else {
            // The store drops the message in time. Its sender is not told, which is counted.
            out.push_back(Output::Dropped(1));
        }
    }

    /// The store has ended the wait. If the wait was open and its sender has the same token still, the sender is told.
    pub(super) fn expired(
        &mut self,
        now: Instant,
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
        reply: Reply,
        out: &mut Outputs,
    ) {
        match reply {
            Reply::Expired { token: Some(token) } => {
                let own =
                    self.own.claim(realm, &src).filter(|claim| self.is_token(&src, &claim.token, &token));
                if let Some(at) = own.map(|claim| claim.at) {
                    self.send_expire(None, at, realm, src, dst, out);
                } else if self.lease.is_shared() && self.lease.is_valid(now) {
                    // The sender may have connected to another node meanwhile.
                    let call = Call::FindPeer { realm, id: src.clone(), token };
                    out.push_back(Output::Call(call, Pending::FindSender { realm, src, dst }));
                }
            }
            Reply::Failed { .. } => out.push_back(Output::Dropped(1)),
            _ => {}
        }
    }

    pub(super) fn sender_found(
        &mut self,
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
        reply: Reply,
        out: &mut Outputs,
    ) {
        if let Reply::Peer(Some(holder)) = reply {
            self.send_expire(Some(holder), holder.at, realm, src, dst, out);
        }
    }

    fn send_expire(
        &mut self,
        holder: Option<Holder>,
        at: PeerAt,
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
        out: &mut Outputs,
    ) {
        let frame = message::expire_frame(&dst, &src);
        let peer_message = PeerMessage {
            from: at,
            realm,
            kind: Kind::Expire,
            src: dst,
            dst: src,
            frame,
            hops: 0,
            sender: None,
            trace: None,
        };
        match holder.filter(|holder| holder.owner.tag != self.owner().tag) {
            Some(holder) => self.send_peer_message(at.shard, holder, peer_message, None, out),
            None => self.offer(at, peer_message, out),
        }
    }
}
