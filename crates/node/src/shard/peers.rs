//! PeerServer clients: claims, relays, liveness.

use std::{rc::Rc, sync::Arc, time::Instant};

use signalbox_cluster::{Claimed, Command, PeerAt, PeerMessage, RealmId, SendOutcome};
use signalbox_peerserver::{
    Incoming, Kind, Liveness, Refusal, handshake::open_frame, liveness::LivenessCheck, message,
};
use signalbox_websocket::{Frame, Message};
use tokio::sync::oneshot;

use super::{State, answers::PendingRequest, timers::Timer};
use crate::transport::{Conn, Role};

/// Most absent addressees that one client's messages wait for at a time.
const MAX_WAITS: u32 = 256;
/// How often a message is sent on because its addressee was not where it was said to be.
const MAX_HOPS: u8 = 2;

/// A client.
pub(crate) struct Peer {
    pub(crate) conn: Rc<Conn>,
    number: u64,
    realm: RealmId,
    id: Arc<str>,
    /// Its claim's generation, once it was granted and until it is given up.
    claim: Option<u64>,
    liveness: Liveness,
    waits: u32,
    /// Counted among the connections: it was let in.
    is_counted: bool,
}

/// A message's wait for its addressee.
pub(crate) struct Wait {
    from: PeerAt,
    realm: RealmId,
    src: Arc<str>,
    dst: Arc<str>,
    number: u64,
}

/// What a client asks for, once it may.
pub(crate) struct Claim {
    pub(crate) realm: RealmId,
    pub(crate) id: Arc<str>,
    pub(crate) token: Arc<str>,
}

impl State {
    /// A client has connected and claims an id. Until that is decided, what it sends waits.
    pub(crate) fn open_peer(&mut self, now: Instant, conn: &Rc<Conn>, claim: Claim) {
        let number = self.next_number();
        let Claim { realm, id, token } = claim;
        let liveness = Liveness::new(now, self.node.config.peer.alive_timeout);
        let peer = Peer {
            conn: conn.clone(),
            number,
            realm,
            id: id.clone(),
            claim: None,
            liveness,
            waits: 0,
            is_counted: false,
        };
        let key = self.peers.insert(peer) as u32;
        conn.owner.set(Role::Peer(key));
        conn.pause();
        let ticket = self.next_number();
        self.waiting.insert(ticket, PendingRequest::Claim { key, number, realm, id: id.clone() });
        let at = PeerAt { shard: self.id, key, generation: 0 };
        self.node.cluster.submit(now, Command::Claim { at, ticket, realm, id, token });
    }

    fn peer(&mut self, key: u32, number: u64) -> Option<&mut Peer> {
        self.peers.get_mut(key as usize).filter(|peer| peer.number == number)
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
        let metrics = self.node.metrics.clone();
        let outcome = |outcome: &str| metrics.handshakes.with_label_values(&["peerserver", outcome]).inc();
        let Some(peer) = self.peer(key, number) else {
            // The client has gone meanwhile.
            if let Claimed::Granted { generation, .. } = claimed {
                self.node.cluster.submit(now, Command::Release { realm, id, generation });
            }
            return;
        };
        let conn = peer.conn.clone();
        match claimed {
            Claimed::Granted { generation, waiting } => {
                peer.is_counted = true;
                peer.claim = Some(generation);
                peer.liveness.record_activity(now);
                let deadline = peer.liveness.deadline();
                self.timers.add(deadline, Timer::Peer { key, number });
                outcome("accepted");
                metrics.connections.with_label_values(&["peerserver", "websocket"]).inc();
                self.push(&conn, &open_frame());
                for frame in &waiting {
                    // What waited is bounded by itself, and no fault of the client that it waited for.
                    self.push_unbounded(&conn, frame);
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
        let peer = self.peers.remove(key as usize);
        self.push(&peer.conn, &refusal.frame());
        peer.conn.close(&Frame::close(None));
        self.mark_dirty(&peer.conn);
    }

    /// A message has arrived.
    pub(super) fn peer_message(&mut self, now: Instant, key: u32, message: Message<'_>) {
        let Some(peer) = self.peers.get_mut(key as usize) else { return };
        peer.liveness.record_activity(now);
        let bytes = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return,
        };
        self.counters.received += 1;
        let incoming = message::read(bytes);
        let kind = match &incoming {
            Incoming::Heartbeat => "HEARTBEAT",
            Incoming::Relay(relay) => relay.kind.name(),
            Incoming::ReleaseId => "LEAVE",
            Incoming::Ignored | Incoming::Malformed => "ignored",
        };
        self.node.metrics.peer_messages.with_label_values(&[kind]).inc();
        match incoming {
            Incoming::Relay(relay) => self.relay(now, key, &relay),
            Incoming::ReleaseId => self.resign(now, key),
            Incoming::Malformed => self.drop_letter("malformed"),
            Incoming::Heartbeat | Incoming::Ignored => {}
        }
    }

    fn relay(&mut self, now: Instant, key: u32, relay: &message::Relay<'_>) {
        let shard = self.id;
        let peer = &self.peers[key as usize];
        let Some(generation) = peer.claim else {
            self.drop_letter("fenced");
            return;
        };
        let letter = PeerMessage {
            from: PeerAt { shard, key, generation },
            realm: peer.realm,
            kind: relay.kind,
            src: peer.id.clone(),
            dst: relay.dst.as_ref().into(),
            frame: relay.frame(&peer.id),
            hops: 0,
            sender: None,
        };
        let may_wait = !relay.kind.is_queued()
            || peer.waits < MAX_WAITS
            || self.node.cluster.is_held(now, letter.realm, &letter.dst);
        if may_wait {
            // With a shared store it turns out later whether it waits; that is counted then.
            if self.send_letter(now, letter) == SendOutcome::Waits && !self.node.cluster.is_shared() {
                self.peers[key as usize].waits += 1;
            }
        } else {
            self.drop_letter("waits");
        }
    }

    fn send_letter(&mut self, now: Instant, letter: PeerMessage) -> SendOutcome {
        let sent = self.node.cluster.send(now, self.id, letter);
        match sent {
            SendOutcome::Taken | SendOutcome::Waits => {}
            SendOutcome::Overflow => self.drop_letter("overflow"),
            SendOutcome::Fenced => self.drop_letter("fenced"),
        }
        sent
    }

    fn drop_letter(&self, reason: &str) {
        self.node.metrics.peer_dropped.with_label_values(&[reason]).inc();
    }

    /// A letter for a client of this shard. Who is gone meanwhile may have come back elsewhere.
    pub(super) fn letter_for_peer(&mut self, now: Instant, to: PeerAt, mut letter: PeerMessage) {
        let holder = self.peers.get(to.key as usize).filter(|peer| peer.claim == Some(to.generation));
        match holder.map(|peer| peer.conn.clone()) {
            Some(conn) => {
                self.counters.sent += 1;
                self.push(&conn, &letter.frame);
            }
            None if letter.hops < MAX_HOPS && letter.kind != Kind::Expire => {
                letter.hops += 1;
                let _ = self.send_letter(now, letter);
            }
            None => self.drop_letter("overflow"),
        }
    }

    /// A letter of a client of this shard waits for its addressee.
    pub(super) fn letter_waits(
        &mut self,
        now: Instant,
        from: PeerAt,
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
        number: u64,
    ) {
        let sender = self.peers.get_mut(from.key as usize);
        if let Some(peer) = sender.filter(|peer| peer.claim == Some(from.generation))
            && self.node.cluster.is_shared()
        {
            peer.waits += 1;
        }
        // The wait ends in time also when its sender is gone by now: the addressee is not to hear of it later.
        let key = self.waits.insert(Wait { from, realm, src, dst, number }) as u32;
        self.timers.add(now + self.node.config.peer.expire_timeout, Timer::Wait { key });
    }

    pub(super) fn wait_is_over(&mut self, now: Instant, key: u32) {
        let Some(wait) = self.waits.try_remove(key as usize) else { return };
        let Wait { from, realm, src, dst, number } = wait;
        let sender = self.peers.get_mut(from.key as usize);
        if let Some(peer) = sender.filter(|peer| peer.claim == Some(from.generation)) {
            peer.waits = peer.waits.saturating_sub(1);
        }
        self.node.cluster.submit(now, Command::Expire { realm, src, dst, number });
    }

    pub(super) fn peer_timer(&mut self, now: Instant, key: u32, number: u64) {
        let Some(peer) = self.peer(key, number) else { return };
        match peer.liveness.tick(now) {
            LivenessCheck::TimedOut => {
                self.end_peer(now, key, "alive timeout", &Frame::close(None));
                return;
            }
            LivenessCheck::SendPing => {
                let conn = peer.conn.clone();
                self.push(&conn, &Frame::ping());
            }
            LivenessCheck::Nothing => {}
        }
        if let Some(peer) = self.peer(key, number) {
            let deadline = peer.liveness.deadline();
            self.timers.add(deadline, Timer::Peer { key, number });
        }
    }

    /// Another connection took the id over: this one is closed, and nothing it does counts any more.
    pub(super) fn superseded(&mut self, now: Instant, at: PeerAt) {
        let blocking = self.peers.get(at.key as usize).is_some_and(|peer| peer.claim == Some(at.generation));
        if blocking {
            self.end_peer(now, at.key, "superseded", &Frame::close(None));
        }
    }

    /// The client gives its id up, and stays.
    fn resign(&mut self, now: Instant, key: u32) {
        let peer = &mut self.peers[key as usize];
        if let Some(generation) = peer.claim.take() {
            let (realm, id) = (peer.realm, peer.id.clone());
            self.node.cluster.submit(now, Command::Release { realm, id, generation });
        }
    }

    /// Ends a client: its id is free the moment its connection is gone.
    pub(super) fn end_peer(&mut self, now: Instant, key: u32, reason: &str, close: &Frame) {
        let Some(peer) = self.peers.try_remove(key as usize) else { return };
        self.client_gone();
        if let Some(generation) = peer.claim {
            self.node.cluster.submit(now, Command::Release { realm: peer.realm, id: peer.id, generation });
        }
        let metrics = &self.node.metrics;
        if peer.is_counted {
            metrics.disconnects.with_label_values(&["peerserver", reason]).inc();
            metrics.connections.with_label_values(&["peerserver", "websocket"]).dec();
        }
        peer.conn.resume();
        peer.conn.close(close);
        self.mark_dirty(&peer.conn);
    }

    /// Asks for the ids of a realm.
    pub(crate) fn list_peers(&mut self, now: Instant, realm: RealmId) -> oneshot::Receiver<Vec<Arc<str>>> {
        let (reply, ids) = oneshot::channel();
        let ticket = self.next_number();
        self.waiting.insert(ticket, PendingRequest::Peers { reply });
        self.node.cluster.submit(now, Command::Peers { shard: self.id, ticket, realm });
        ids
    }
}
