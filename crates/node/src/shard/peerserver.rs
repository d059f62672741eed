//! PeerServer clients: claims, relays, liveness.

use std::{rc::Rc, sync::Arc, time::Duration};

use signalbox_admin::events::{Event, EventKind, Protocol};
use signalbox_cluster::{
    Claimed, Command, MessageTrace, PeerAt, PeerMessage, RealmId, SendOutcome, command::Counted,
};
use signalbox_peerserver::{
    Incoming, Kind, Liveness, Refusal, handshake::open_frame, liveness::LivenessCheck, message,
};
use signalbox_rules::Trigger;
use signalbox_telemetry::{
    CLIENT_EVENTS,
    traces::{Outcome, Span, SpanKind},
};
use signalbox_websocket::{Frame, Message};

use super::{
    context::ShardContext,
    counting,
    effects::Effect,
    expiry::begin_peer_expiry,
    rules,
    step::Step,
    story::{self, Direction},
    subjects::{self, TOO_MANY_TEXT},
    tables::{Offer, Peer, PeerWait, Peers, PendingRequest, PendingRequests, Timer},
};
use crate::{
    client_log::head,
    limits::{Place, RateLimits, Taken},
    policy::Principal,
    routing::Reply,
    transport::Conn,
};

/// How often a message is sent on because its addressee was not where it was said to be.
const MAX_HOPS: u8 = 2;

/// The code of the close frame for a client that sends more than it may.
const POLICY_VIOLATION: u16 = 1008;

/// Why a client is gone that has lost its id to another connection.
const SUPERSEDED: &str = "superseded";

/// A PeerServer client's claim of an id.
pub(crate) struct PeerClaim {
    pub(crate) realm: RealmId,
    pub(crate) id: Arc<str>,
    pub(crate) token: Arc<str>,
    /// Who the client is.
    pub(crate) principal: Option<Arc<Principal>>,
    /// The `traceparent` of its request.
    pub(crate) trace: Option<Arc<str>>,
}

impl Peer {
    /// What events of this client have in common.
    pub(super) fn event(&self, context: &ShardContext) -> Event {
        Event {
            protocol: Some(Protocol::Peerserver),
            key: context.config.peer.keys.get(usize::from(self.realm)).cloned(),
            peer: Some(self.id.clone()),
            generation: self.claim,
            subject: self.principal.as_ref().map(|principal| principal.subject.clone()),
            ..Event::default()
        }
    }
}

/// A client has connected and claims an id. Until that is decided, what it sends waits.
pub(super) fn open(
    step: &mut Step,
    peers: &mut Peers,
    pending: &mut PendingRequests,
    conn: &Rc<Conn>,
    claim: PeerClaim,
) {
    let number = step.next_number();
    let PeerClaim { realm, id, token, principal, trace } = claim;
    let liveness = Liveness::new(step.now, step.context.config.peer.alive_timeout);
    let mut peer = Peer::new(conn.clone(), number, (realm, id.clone()), liveness);
    peer.principal = principal;
    peer.rates.set(RateLimits::of(&step.context.config.limits, peer.principal.as_deref().into_iter()));
    peer.opened = Some(step.now);
    peer.trace = trace;
    step.tell_of_peer(&peer, "claims its id", "");
    let key = peers.insert(peer);
    conn.pause();
    let Some(peer) = peers.get_mut(key) else { return };
    if !counting::count_peer(step, pending, peer, key, &token) {
        claim_id(step, pending, key, peer, token);
    }
}

/// The client is counted among the connections of its subject, or there was no room for it.
pub(super) fn counted(
    step: &mut Step,
    peers: &mut Peers,
    pending: &mut PendingRequests,
    (key, number): (u32, u64),
    (place, token): (Place, Arc<str>),
    counted: Counted,
) {
    let is_counted = subjects::is_counted(step, counted);
    let Some(peer) = peers.checked(key, number) else {
        // The client has gone meanwhile.
        if is_counted {
            subjects::uncount(step, place);
        }
        return;
    };
    if is_counted {
        peer.place = Some(place);
        claim_id(step, pending, key, peer, token);
    } else {
        let metrics = &step.context.metrics;
        metrics.handshakes.with_label_values(&["peerserver", "too_many_connections"]).inc();
        refuse(step, peers, key, &Refusal::Policy(TOO_MANY_TEXT.to_owned()));
    }
}

fn claim_id(step: &mut Step, pending: &mut PendingRequests, key: u32, peer: &Peer, token: Arc<str>) {
    let ticket = step.next_number();
    let (number, realm, id) = (peer.number, peer.realm, peer.id.clone());
    pending.insert(ticket, PendingRequest::Claim { key, number, realm, id: id.clone() });
    let at = PeerAt { shard: step.context.id, key, generation: 0 };
    step.effects.submit(Command::Claim { at, ticket, realm, id, token });
}

/// The claim was decided.
pub(super) fn claimed(
    step: &mut Step,
    peers: &mut Peers,
    (key, number): (u32, u64),
    (realm, id): (RealmId, Arc<str>),
    claimed: Claimed,
) {
    let context = step.context.clone();
    let metrics = context.metrics.clone();
    let outcome = |outcome: &str| metrics.handshakes.with_label_values(&["peerserver", outcome]).inc();
    let Some(peer) = peers.checked(key, number) else {
        // The client has gone meanwhile.
        if let Claimed::Granted { generation, .. } = claimed {
            step.effects.submit(Command::Release { realm, id, generation });
        }
        return;
    };
    let conn = peer.conn.clone();
    match claimed {
        Claimed::Granted { generation, waiting } => {
            peer.is_counted = true;
            peer.claim = Some(generation);
            let (address, told) = (conn.address(), &*peer);
            step.report(EventKind::Claim, || Event { address, ..told.event(&context) });
            if let Some(principal) = &peer.principal {
                let address = peer.conn.address().map(tracing::field::display);
                tracing::debug!(target: CLIENT_EVENTS,
                    address,
                    subject = &*principal.subject,
                    protocol = "peerserver",
                    "client let in"
                );
            }
            step.tell_of_peer(peer, "let in", "");
            peer.liveness.record_activity(step.now);
            let deadline = peer.liveness.deadline();
            step.timers.add(deadline, Timer::Peer { key, number });
            outcome("accepted");
            metrics.connections.with_label_values(&["peerserver", "websocket"]).inc();
            step.outboxes.push(&conn, &open_frame());
            begin_peer_expiry(step, key, peer);
            rules::peer_changed(step, Trigger::Claim, (realm, &id));
            if !waiting.is_empty() {
                let late = metrics.peer_deliveries.with_label_values(&["delivered_late"]);
                late.inc_by(waiting.len() as u64);
            }
            for frame in &waiting {
                // What waited is bounded by itself, and no fault of the client that it waited for.
                step.outboxes.push_unbounded(&conn, frame);
            }
            step.outboxes.resume(&conn);
        }
        Claimed::Taken => {
            outcome("id_taken");
            refuse(step, peers, key, &Refusal::IdTaken);
        }
        Claimed::LimitReached => {
            outcome("limit_reached");
            refuse(step, peers, key, &Refusal::LimitReached);
        }
    }
}

fn refuse(step: &mut Step, peers: &mut Peers, key: u32, refusal: &Refusal) {
    let Some(peer) = peers.remove(key) else { return };
    step.tell_of_peer(&peer, "refused", &refusal.to_string());
    if let Some(place) = peer.place {
        subjects::uncount(step, place);
    }
    step.outboxes.push(&peer.conn, &refusal.frame());
    step.outboxes.close(&peer.conn, &Frame::close(None));
}

/// A message has arrived.
pub(super) fn receive(step: &mut Step, peers: &mut Peers, key: u32, message: Message<'_>) {
    let Some(peer) = peers.get_mut(key) else { return };
    peer.liveness.record_activity(step.now);
    let (bytes, is_control) = match message {
        Message::Text(text) => (text.as_bytes(), false),
        Message::Binary(bytes) => (bytes, false),
        Message::Ping(payload) | Message::Pong(payload) => (payload, true),
        Message::Close(_) => return,
    };
    if !is_control {
        step.outboxes.count_received();
    }
    if peer.rates.received(step.nanos(), bytes.len(), false) != Taken::Within {
        let limit = peer.rates.exceeded();
        step.context.metrics.rate_limited.with_label_values(&[limit]).inc();
        // The protocol has no word for it that would not end the client's Peer object for good.
        step.context.metrics.connections_dropped.with_label_values(&["rate_limited"]).inc();
        end(step, peers, key, "rate limited", &Frame::close(Some(POLICY_VIOLATION)));
        return;
    }
    if is_control {
        return;
    }
    let incoming = message::read(bytes);
    let kind = match &incoming {
        Incoming::Heartbeat => "HEARTBEAT",
        Incoming::Relay(relay) => relay.kind.name(),
        Incoming::ReleaseId => "LEAVE",
        Incoming::Ignored | Incoming::Malformed => "ignored",
    };
    step.context.metrics.peer_messages.with_label_values(&[kind]).inc();
    if step.context.client_log.is_on() {
        let dst = match &incoming {
            Incoming::Relay(relay) => Some(&*relay.dst),
            _ => None,
        };
        let head = head::peer_message(kind, None, dst);
        story::peer_frame(&step.context.client_log, peer.who(), Direction::In, &head, bytes.len());
    }
    match incoming {
        Incoming::Relay(relay) => relay_message(step, peers, key, &relay),
        Incoming::ReleaseId => release_id(step, peers, key),
        Incoming::Malformed => count_dropped(&step.context, "malformed"),
        Incoming::Heartbeat | Incoming::Ignored => {}
    }
}

fn relay_message(step: &mut Step, peers: &mut Peers, key: u32, relay: &message::Relay<'_>) {
    let shard = step.context.id;
    let Some(peer) = peers.get_mut(key) else { return };
    let Some(generation) = peer.claim else {
        count_dropped(&step.context, "fenced");
        return;
    };
    let span = Span::begin(relay.kind.name(), SpanKind::Producer, "peerserver", peer.trace.as_deref());
    if relay.kind == Kind::Offer {
        let trace = span.as_ref().map(|span| span.traceparent());
        let abandoned = peer.offers.offered(step.now, &relay.dst, trace);
        step.context.metrics.calls.with_label_values(&["offered"]).inc();
        step.context.metrics.calls.with_label_values(&["abandoned"]).inc_by(abandoned);
    }
    let message = PeerMessage {
        from: PeerAt { shard, key, generation },
        realm: peer.realm,
        kind: relay.kind,
        src: peer.id.clone(),
        dst: relay.dst.as_ref().into(),
        frame: relay.frame(&peer.id),
        hops: 0,
        sender: None,
        trace: span.as_ref().map(|span| MessageTrace { parent: span.traceparent(), sent: step.now }),
    };
    step.effects.push(Effect::SendPeerMessage(message));
    if let Some(span) = span {
        span.end(Outcome::Ok);
    }
}

/// The cluster has taken a message of this length, or not.
pub(super) fn message_sent(
    step: &mut Step,
    peers: &mut Peers,
    from: PeerAt,
    bytes: usize,
    outcome: SendOutcome,
) {
    match outcome {
        SendOutcome::Taken => {}
        SendOutcome::Waits => {
            if let Some(peer) = peers.holder(from) {
                peer.message_waits(bytes);
                step.outboxes.list_resumed(&peer.conn);
            }
        }
        SendOutcome::UnderWay => {
            if let Some(peer) = peers.holder(from) {
                peer.message_begins(bytes);
                step.outboxes.list_resumed(&peer.conn);
            }
        }
        SendOutcome::Fenced => count_dropped(&step.context, "fenced"),
    }
}

/// A message is no longer under way.
pub(super) fn message_settled(step: &mut Step, peers: &mut Peers, from: PeerAt, bytes: usize, waits: bool) {
    let Some(peer) = peers.holder(from) else { return };
    peer.message_settled(bytes);
    if waits {
        peer.message_waits(bytes);
    }
    step.outboxes.list_resumed(&peer.conn);
}

/// Messages were dropped because a queue was full.
pub(super) fn messages_dropped(context: &ShardContext, count: u64) {
    context.metrics.peer_dropped.with_label_values(&["overflow"]).inc_by(count);
}

fn count_dropped(context: &ShardContext, reason: &str) {
    context.metrics.peer_dropped.with_label_values(&[reason]).inc();
}

/// A message for a client of this shard. Who is gone meanwhile may have come back elsewhere.
pub(super) fn message_arrived(step: &mut Step, peers: &mut Peers, to: PeerAt, mut message: PeerMessage) {
    if message.is_expiry(to) && !needs_notice(step, peers, to, &message.src) {
        return;
    }
    if step.context.client_log.is_on()
        && let Some(peer) = peers.holder(to)
    {
        let head = head::peer_message(message.kind.name(), Some(&message.src), None);
        let bytes = message.frame.payload().len();
        story::peer_frame(&step.context.client_log, peer.who(), Direction::Out, &head, bytes);
    }
    match peers.holder(to).map(|peer| (peer.conn.clone(), peer.offers.end(message.kind, &message.src))) {
        Some((conn, offered)) => {
            count_delivery(step, to, &message, offered.as_ref());
            let span = message.trace.as_ref().and_then(|trace| {
                let name = delivery_name(message.kind);
                let span = Span::begin(name, SpanKind::Consumer, "peerserver", Some(&trace.parent))?;
                Some(span.since(trace.sent.elapsed()))
            });
            step.outboxes.count_sent();
            step.outboxes.push(&conn, &message.frame);
            if let Some(span) = span {
                span.end(Outcome::Ok);
            }
        }
        None if message.hops < MAX_HOPS && message.kind != Kind::Expire => {
            message.hops += 1;
            step.effects.push(Effect::SendPeerMessage(message));
        }
        None => count_dropped(&step.context, "overflow"),
    }
}

/// Counts what became of a message that is delivered, and of the call that it answers, which was offered at that time.
fn count_delivery(step: &Step, to: PeerAt, message: &PeerMessage, offered: Option<&Offer>) {
    let metrics = &step.context.metrics;
    let outcome = match message.kind {
        Kind::Expire if message.is_expiry(to) => "expired",
        // One that waited, which found its addressee connected already.
        Kind::Expire if message.src == message.dst => "delivered_late",
        _ => "delivered",
    };
    metrics.peer_deliveries.with_label_values(&[outcome]).inc();
    let Some(offered) = offered else { return };
    let waited = step.now.saturating_duration_since(offered.at);
    if message.kind == Kind::Expire {
        metrics.calls.with_label_values(&["expired"]).inc();
        let trace = offered.trace.as_deref();
        let span =
            trace.and_then(|trace| Span::begin("OFFER wait", SpanKind::Consumer, "peerserver", Some(trace)));
        if let Some(span) = span {
            span.since(waited).end(Outcome::Failed("expired"));
        }
    } else {
        metrics.calls.with_label_values(&["answered"]).inc();
        metrics.call_seconds.observe(waited.as_secs_f64());
    }
}

/// What the span of a delivery is called.
fn delivery_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Offer => "OFFER deliver",
        Kind::Answer => "ANSWER deliver",
        Kind::Candidate => "CANDIDATE deliver",
        _ => "peer message deliver",
    }
}

/// Whether a client is to be told that a peer is absent. All messages of one call end in one EXPIRE, also when some of them were
/// refused and others waited.
fn needs_notice(step: &Step, peers: &mut Peers, at: PeerAt, absent: &Arc<str>) -> bool {
    let period = expiry_period(&step.context);
    peers.mark_notified(at, absent);
    peers.holder(at).is_none_or(|peer| peer.needs_notice(step.now, absent, period))
}

/// Shorter than the time from one wait's end to the next one's.
fn expiry_period(context: &ShardContext) -> Duration {
    context.config.peer.expire_timeout / 2
}

/// A message of a client of this shard waits for its addressee.
pub(super) fn message_waits(step: &mut Step, peers: &mut Peers, wait: PeerWait) {
    step.context.metrics.peer_deliveries.with_label_values(&["queued"]).inc();
    // The wait ends in time also when its sender is gone by now: the addressee is not to hear of it later.
    let from = wait.from;
    let key = peers.wait(wait);
    if let Some(peer) = peers.holder(from) {
        step.tell_of_peer(peer, "its message waits for its addressee", "");
        step.outboxes.list_resumed(&peer.conn);
    }
    step.timers.add_after(step.now, step.context.config.peer.expire_timeout, Timer::Wait { key });
}

/// A message has waited long enough.
pub(super) fn wait_is_over(step: &mut Step, peers: &mut Peers, key: u32) {
    let Some(wait) = peers.end_wait(key) else { return };
    let period = expiry_period(&step.context);
    let PeerWait { from, realm, src, dst, number, is_notified } = wait;
    if let Some(peer) = peers.holder(from) {
        step.outboxes.list_resumed(&peer.conn);
        if is_notified {
            peer.needs_notice(step.now, &dst, period);
        }
    }
    step.effects.submit(Command::Expire { realm, src, dst, number });
}

/// Looks whether a client is still there.
pub(super) fn liveness_timer(step: &mut Step, peers: &mut Peers, key: u32, number: u64) {
    let Some(peer) = peers.checked(key, number) else { return };
    if peer.is_held_back() {
        // It is not silent, but not listened to.
        peer.liveness.record_activity(step.now);
    }
    match peer.liveness.tick(step.now) {
        LivenessCheck::TimedOut => {
            end(step, peers, key, "alive timeout", &Frame::close(None));
            return;
        }
        LivenessCheck::SendPing => step.outboxes.push(&peer.conn, &Frame::ping()),
        LivenessCheck::Nothing => {}
    }
    let deadline = peer.liveness.deadline();
    step.timers.add(deadline, Timer::Peer { key, number });
}

/// Another connection took the id over: this one is closed, and nothing it does counts any more.
pub(super) fn superseded(step: &mut Step, peers: &mut Peers, at: PeerAt) {
    let Some(peer) = peers.holder(at) else { return };
    step.context.metrics.peer_takeovers.inc();
    let (conn, realm, id) = (peer.conn.clone(), peer.realm, peer.id.clone());
    end(step, peers, at.key, SUPERSEDED, &Frame::close(None));
    peers.insert_superseded(&conn, realm, id);
}

/// A client that has lost its id was alive: if that happens again and again, two clients fight for the id.
pub(super) fn superseded_answered(step: &mut Step, peers: &mut Peers, key: u32) {
    if let Some((realm, id)) = peers.remove_superseded(key) {
        step.effects.submit(Command::CountTakeover { realm, id });
    }
}

/// The client gives its id up, and stays.
fn release_id(step: &mut Step, peers: &mut Peers, key: u32) {
    let Some(peer) = peers.get_mut(key) else { return };
    let context = step.context.clone();
    if peer.claim.is_some() {
        let reason = Some("released".to_owned());
        step.report(EventKind::Release, || Event { reason, ..peer.event(&context) });
    }
    let generation = peer.release();
    step.outboxes.list_resumed(&peer.conn);
    if let Some(generation) = generation {
        let (realm, id) = (peer.realm, peer.id.clone());
        rules::peer_changed(step, Trigger::Release, (realm, &id));
        step.effects.submit(Command::Release { realm, id, generation });
    }
}

/// Ends a client: its id is free the moment its connection is gone.
pub(super) fn end(step: &mut Step, peers: &mut Peers, key: u32, reason: &str, close: &Frame) {
    let Some(mut peer) = peers.remove(key) else { return };
    step.clients_gone += 1;
    step.tell_of_peer(&peer, "disconnected", reason);
    if let Some(place) = peer.place.take() {
        subjects::uncount(step, place);
    }
    if let Some(generation) = peer.claim {
        // Of one that was taken over, the id is not free.
        if reason != SUPERSEDED {
            rules::peer_changed(step, Trigger::Release, (peer.realm, &peer.id));
        }
        let context = step.context.clone();
        step.report(EventKind::Release, || Event { reason: Some(reason.to_owned()), ..peer.event(&context) });
        step.effects.submit(Command::Release { realm: peer.realm, id: peer.id, generation });
    }
    let address = peer.conn.address().map(tracing::field::display);
    tracing::debug!(target: CLIENT_EVENTS, address, protocol = "peerserver", reason, "client disconnected");
    let metrics = &step.context.metrics;
    metrics.calls.with_label_values(&["abandoned"]).inc_by(peer.offers.len());
    if peer.is_counted {
        metrics.disconnects.with_label_values(&["peerserver", reason]).inc();
        metrics.connections.with_label_values(&["peerserver", "websocket"]).dec();
    }
    step.outboxes.resume(&peer.conn);
    step.outboxes.close(&peer.conn, close);
}

/// Something for a client, from nobody in the cluster.
pub(super) fn tell(step: &mut Step, peers: &mut Peers, at: PeerAt, frame: &Frame) {
    if let Some(peer) = peers.holder(at) {
        step.tell_of_peer(peer, "is told something by an operator", "");
        step.outboxes.count_sent();
        step.outboxes.push(&peer.conn, frame);
    }
}

/// Lists the ids of a realm.
pub(super) fn list(
    step: &mut Step,
    pending: &mut PendingRequests,
    realm: RealmId,
    reply: Reply<Vec<Arc<str>>>,
) {
    let ticket = step.next_number();
    pending.insert(ticket, PendingRequest::Peers { reply });
    step.effects.submit(Command::Peers { shard: step.context.id, ticket, realm });
}
