//! PeerServer clients: claims, relays, liveness.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_cluster::{Claimed, Command, PeerAt, PeerMessage, RealmId, SendOutcome};
use signalbox_peerserver::{
    Incoming, Kind, Liveness, Refusal, handshake::open_frame, liveness::LivenessCheck, message,
};
use signalbox_telemetry::CLIENT_EVENTS;
use signalbox_websocket::{Frame, Message};

use super::{
    PeerClaim, Shard,
    effects::Effect,
    tables::{Peer, PeerWait, PendingRequest, Timer},
};
use crate::{routing::Reply, transport::Conn};

/// How often a message is sent on because its addressee was not where it was said to be.
const MAX_HOPS: u8 = 2;

impl Shard {
    /// A client has connected and claims an id. Until that is decided, what it sends waits.
    pub(crate) fn open_peer(&mut self, now: Instant, conn: &Rc<Conn>, claim: PeerClaim) {
        let number = self.next_number();
        let PeerClaim { realm, id, token, principal } = claim;
        let liveness = Liveness::new(now, self.context.config.peer.alive_timeout);
        let mut peer = Peer::new(conn.clone(), number, (realm, id.clone()), liveness);
        peer.principal = principal;
        let key = self.peers.insert(peer);
        conn.pause();
        let ticket = self.next_number();
        self.pending.insert(ticket, PendingRequest::Claim { key, number, realm, id: id.clone() });
        let at = PeerAt { shard: self.context.id, key, generation: 0 };
        self.effects.submit(Command::Claim { at, ticket, realm, id, token });
    }

    /// The claim was decided.
    pub(super) fn claimed(
        &mut self,
        now: Instant,
        key: u32,
        number: u64,
        (realm, id): (RealmId, Arc<str>),
        claimed: Claimed,
    ) {
        let metrics = self.context.metrics.clone();
        let outcome = |outcome: &str| metrics.handshakes.with_label_values(&["peerserver", outcome]).inc();
        let Some(peer) = self.peers.checked(key, number) else {
            // The client has gone meanwhile.
            if let Claimed::Granted { generation, .. } = claimed {
                self.effects.submit(Command::Release { realm, id, generation });
            }
            return;
        };
        let conn = peer.conn.clone();
        match claimed {
            Claimed::Granted { generation, waiting } => {
                peer.is_counted = true;
                peer.claim = Some(generation);
                if let Some(principal) = &peer.principal {
                    let address = peer.conn.address().map(tracing::field::display);
                    tracing::debug!(target: CLIENT_EVENTS,
                        address,
                        subject = &*principal.subject,
                        protocol = "peerserver",
                        "client let in"
                    );
                }
                peer.liveness.record_activity(now);
                let deadline = peer.liveness.deadline();
                self.timers.add(deadline, Timer::Peer { key, number });
                outcome("accepted");
                metrics.connections.with_label_values(&["peerserver", "websocket"]).inc();
                self.outboxes.push(&conn, &open_frame());
                self.begin_peer_expiry(now, key);
                for frame in &waiting {
                    // What waited is bounded by itself, and no fault of the client that it waited for.
                    self.outboxes.push_unbounded(&conn, frame);
                }
                conn.resume();
            }
            Claimed::Taken => {
                outcome("id_taken");
                self.refuse_peer(key, &Refusal::IdTaken);
            }
            Claimed::LimitReached => {
                outcome("limit_reached");
                self.refuse_peer(key, &Refusal::LimitReached);
            }
        }
    }

    fn refuse_peer(&mut self, key: u32, refusal: &Refusal) {
        let Some(peer) = self.peers.remove(key) else { return };
        self.outboxes.push(&peer.conn, &refusal.frame());
        peer.conn.close(&Frame::close(None));
        self.outboxes.mark_dirty(&peer.conn);
    }

    /// A message has arrived.
    pub(super) fn peer_message(&mut self, now: Instant, key: u32, message: Message<'_>) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.liveness.record_activity(now);
        let bytes = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return,
        };
        self.outboxes.count_received();
        let incoming = message::read(bytes);
        let kind = match &incoming {
            Incoming::Heartbeat => "HEARTBEAT",
            Incoming::Relay(relay) => relay.kind.name(),
            Incoming::ReleaseId => "LEAVE",
            Incoming::Ignored | Incoming::Malformed => "ignored",
        };
        self.context.metrics.peer_messages.with_label_values(&[kind]).inc();
        match incoming {
            Incoming::Relay(relay) => self.relay(key, &relay),
            Incoming::ReleaseId => self.release_id(key),
            Incoming::Malformed => self.drop_message("malformed"),
            Incoming::Heartbeat | Incoming::Ignored => {}
        }
    }

    fn relay(&mut self, key: u32, relay: &message::Relay<'_>) {
        let shard = self.context.id;
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(generation) = peer.claim else {
            self.drop_message("fenced");
            return;
        };
        let message = PeerMessage {
            from: PeerAt { shard, key, generation },
            realm: peer.realm,
            kind: relay.kind,
            src: peer.id.clone(),
            dst: relay.dst.as_ref().into(),
            frame: relay.frame(&peer.id),
            hops: 0,
            sender: None,
        };
        self.effects.push(Effect::SendPeerMessage(message));
    }

    /// The cluster has taken a message of this length, or not.
    pub(crate) fn peer_message_sent(&mut self, from: PeerAt, bytes: usize, outcome: SendOutcome) {
        match outcome {
            SendOutcome::Taken => {}
            SendOutcome::Waits => {
                if let Some(peer) = self.peers.holder(from) {
                    peer.message_waits(bytes);
                }
            }
            SendOutcome::UnderWay => {
                if let Some(peer) = self.peers.holder(from) {
                    peer.message_begins(bytes);
                }
            }
            SendOutcome::Fenced => self.drop_message("fenced"),
        }
    }

    /// A message is no longer under way.
    pub(super) fn peer_message_settled(&mut self, from: PeerAt, bytes: usize, waits: bool) {
        let Some(peer) = self.peers.holder(from) else { return };
        peer.message_settled(bytes);
        if waits {
            peer.message_waits(bytes);
        }
    }

    pub(super) fn peer_messages_dropped(&self, count: u64) {
        self.context.metrics.peer_dropped.with_label_values(&["overflow"]).inc_by(count);
    }

    fn drop_message(&self, reason: &str) {
        self.context.metrics.peer_dropped.with_label_values(&[reason]).inc();
    }

    /// A message for a client of this shard. Who is gone meanwhile may have come back elsewhere.
    pub(super) fn peer_message_arrived(&mut self, now: Instant, to: PeerAt, mut message: PeerMessage) {
        if message.is_expiry(to) && !self.is_to_be_told(now, to, &message.src) {
            return;
        }
        match self.peers.holder(to).map(|peer| peer.conn.clone()) {
            Some(conn) => {
                self.outboxes.count_sent();
                self.outboxes.push(&conn, &message.frame);
            }
            None if message.hops < MAX_HOPS && message.kind != Kind::Expire => {
                message.hops += 1;
                self.effects.push(Effect::SendPeerMessage(message));
            }
            None => self.drop_message("overflow"),
        }
    }

    /// Whether a client is to be told that a peer is absent. All messages of one call end in one EXPIRE, also when some of them were
    /// refused and others waited.
    fn is_to_be_told(&mut self, now: Instant, at: PeerAt, absent: &Arc<str>) -> bool {
        let period = self.expiry_period();
        self.peers.was_told(at, absent);
        self.peers.holder(at).is_none_or(|peer| peer.is_to_be_told(now, absent, period))
    }

    /// Shorter than the time from one wait's end to the next one's.
    fn expiry_period(&self) -> Duration {
        self.context.config.peer.expire_timeout / 2
    }

    /// A message of a client of this shard waits for its addressee.
    pub(super) fn peer_message_waits(
        &mut self,
        now: Instant,
        from: PeerAt,
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
        number: u64,
    ) {
        // The wait ends in time also when its sender is gone by now: the addressee is not to hear of it later.
        let key = self.peers.wait(PeerWait { from, realm, src, dst, number, is_told: false });
        self.timers.add_after(now, self.context.config.peer.expire_timeout, Timer::Wait { key });
    }

    pub(super) fn wait_is_over(&mut self, now: Instant, key: u32) {
        let Some(wait) = self.peers.end_wait(key) else { return };
        let period = self.expiry_period();
        let PeerWait { from, realm, src, dst, number, is_told } = wait;
        if let Some(peer) = self.peers.holder(from).filter(|_| is_told) {
            peer.is_to_be_told(now, &dst, period);
        }
        self.effects.submit(Command::Expire { realm, src, dst, number });
    }

    pub(super) fn peer_timer(&mut self, now: Instant, key: u32, number: u64) {
        let Some(peer) = self.peers.checked(key, number) else { return };
        if peer.is_held_back() {
            // It is not silent, but not listened to.
            peer.liveness.record_activity(now);
        }
        match peer.liveness.tick(now) {
            LivenessCheck::TimedOut => {
                self.end_peer(key, "alive timeout", &Frame::close(None));
                return;
            }
            LivenessCheck::SendPing => self.outboxes.push(&peer.conn, &Frame::ping()),
            LivenessCheck::Nothing => {}
        }
        let deadline = peer.liveness.deadline();
        self.timers.add(deadline, Timer::Peer { key, number });
    }

    /// Another connection took the id over: this one is closed, and nothing it does counts any more.
    pub(super) fn superseded(&mut self, at: PeerAt) {
        let Some(peer) = self.peers.holder(at) else { return };
        let (conn, realm, id) = (peer.conn.clone(), peer.realm, peer.id.clone());
        self.end_peer(at.key, "superseded", &Frame::close(None));
        self.peers.insert_superseded(&conn, realm, id);
    }

    /// A client that has lost its id was alive: if that happens again and again, two clients fight for the id.
    pub(super) fn superseded_peer_answered(&mut self, key: u32) {
        if let Some((realm, id)) = self.peers.remove_superseded(key) {
            self.effects.submit(Command::CountTakeover { realm, id });
        }
    }

    /// The client gives its id up, and stays.
    fn release_id(&mut self, key: u32) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(generation) = peer.release() {
            let (realm, id) = (peer.realm, peer.id.clone());
            self.effects.submit(Command::Release { realm, id, generation });
        }
    }

    /// Ends a client: its id is free the moment its connection is gone.
    pub(super) fn end_peer(&mut self, key: u32, reason: &str, close: &Frame) {
        let Some(peer) = self.peers.remove(key) else { return };
        self.client_gone();
        if let Some(generation) = peer.claim {
            self.effects.submit(Command::Release { realm: peer.realm, id: peer.id, generation });
        }
        let address = peer.conn.address().map(tracing::field::display);
        tracing::debug!(target: CLIENT_EVENTS, address, protocol = "peerserver", reason, "client disconnected");
        let metrics = &self.context.metrics;
        if peer.is_counted {
            metrics.disconnects.with_label_values(&["peerserver", reason]).inc();
            metrics.connections.with_label_values(&["peerserver", "websocket"]).dec();
        }
        peer.conn.resume();
        peer.conn.close(close);
        self.outboxes.mark_dirty(&peer.conn);
    }

    /// Lists the ids of a realm.
    pub(crate) fn list_peers(&mut self, realm: RealmId, reply: Reply<Vec<Arc<str>>>) {
        let ticket = self.next_number();
        self.pending.insert(ticket, PendingRequest::Peers { reply });
        self.effects.submit(Command::Peers { shard: self.context.id, ticket, realm });
    }
}
