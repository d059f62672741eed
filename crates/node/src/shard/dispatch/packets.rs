//! What a client sends: messages on its connection, packets in these, namespaces and tokens in those.

use std::{rc::Rc, time::Instant};

use bytes::Bytes;
use signalbox_auth::grants::Limit;
use signalbox_cluster::Address;
use signalbox_engineio::{CloseReason, Packet, session::Received};
use signalbox_socketio::Event;
use signalbox_telemetry::traces;
use signalbox_websocket::Message;

use crate::{
    limits::Taken,
    panics::{Panicked, report},
    policy::{AccessRequest, Decided, Denial},
    shard::{
        Shard, acks, closing, counting, engineio,
        expiry::{self, REFRESH},
        mailbox::CloseCommand,
        peerserver,
        replies::{self, Refusal},
        requests,
        socketio::{self, Incoming},
        story::{self, Direction},
        tables::{PendingRequest, pending::Connecting},
        tasks::Task,
        upgrades,
    },
    transport::{Conn, Role},
};

/// An event as it arrived, for the socket in a slot.
pub(super) struct ArrivedEvent<'a> {
    pub(super) slot: usize,
    pub(super) id: Option<u64>,
    pub(super) body: &'a str,
    pub(super) attachments: &'a [Bytes],
}

impl Shard {
    /// A message has arrived on a connection.
    pub(crate) fn connection_message(&mut self, now: Instant, conn: &Rc<Conn>, message: Message<'_>) {
        self.step.now = now;
        match conn.role.get() {
            Role::Session(key) => self.session_message(key, message),
            Role::Probe(key) => upgrades::probe_message(&mut self.step, &mut self.probes, key, message),
            Role::Peer(key) => peerserver::receive(&mut self.step, &mut self.peers, key, message),
            Role::Superseded(key) if matches!(message, Message::Close(_)) => {
                conn.role.set(Role::Nobody);
                peerserver::superseded_answered(&mut self.step, &mut self.peers, key);
            }
            Role::Superseded(_) | Role::Nobody => {}
        }
    }

    /// The connection is lost; `role` is what it belonged to.
    pub(crate) fn lost(&mut self, now: Instant, role: Role, reason: CloseReason) {
        self.step.now = now;
        self.connection_lost(role, reason);
    }

    pub(in crate::shard) fn connection_lost(&mut self, role: Role, reason: CloseReason) {
        match role {
            Role::Session(key) => self.end(key, CloseCommand::Lost(reason)),
            Role::Probe(key) => upgrades::probe_lost(&mut self.step, &mut self.probes, key),
            Role::Peer(key) => self.end_peer(key, &reason.to_string(), None),
            Role::Superseded(key) => drop(self.peers.remove_superseded(key)),
            Role::Nobody => {}
        }
    }

    fn session_message(&mut self, key: u32, message: Message<'_>) {
        match message {
            Message::Text(text) => self.receive_part(key, text),
            Message::Binary(bytes) => self.receive(key, Packet::Binary(bytes.into())),
            Message::Ping(payload) | Message::Pong(payload) => self.control_frame(key, payload.len()),
            Message::Close(_) => {}
        }
    }

    /// A ping or a pong of the WebSocket costs what a packet costs. There is no answer that could refuse it.
    fn control_frame(&mut self, key: u32, bytes: usize) {
        let Self { step, sessions, .. } = self;
        let Some(session) = sessions.get_mut(key) else { return };
        if session.local.rates.received(step.nanos(), bytes, false) == Taken::FarOver {
            step.context.metrics.connections_dropped.with_label_values(&["rate_limited"]).inc();
            self.end(key, CloseCommand::Close);
        }
    }

    /// A packet has arrived as text.
    pub(super) fn receive_part(&mut self, key: u32, text: &str) {
        match Packet::decode(text) {
            Ok(packet) => self.receive(key, packet),
            Err(_) => {
                self.sessions[key].engine.receive_invalid();
                self.after_engine(key);
            }
        }
    }

    /// A packet of the session has arrived on its transport.
    fn receive(&mut self, key: u32, packet: Packet<'_>) {
        let Self { step, sessions, .. } = self;
        let Some(session) = sessions.get_mut(key) else { return };
        if step.context.client_log.is_on() {
            story::session_packet(&step.context.client_log, session, Direction::In, &packet);
        }
        if let Packet::Pong(_) = packet
            && let Some(pinged) = session.engine.pinged(&step.context.config.engine)
        {
            let waited = step.now.saturating_duration_since(pinged);
            step.context.metrics.ping_seconds.observe(waited.as_secs_f64());
        }
        let (bytes, is_part) = match &packet {
            Packet::Message(text) => (text.len(), false),
            Packet::Binary(bytes) => (bytes.len(), true),
            _ => (0, false),
        };
        let taken = session.local.rates.received(step.nanos(), bytes, is_part);
        if taken != Taken::Within {
            let limit = session.local.rates.exceeded();
            step.context.metrics.rate_limited.with_label_values(&[limit]).inc();
        }
        if taken == Taken::FarOver {
            self.drop_client(key, "rate_limited");
            return;
        }
        match session.engine.receive(step.now, &step.context.config.engine, packet) {
            Received::Message(text) => {
                step.outboxes.count_received();
                match session.connection.receive_text(text) {
                    Ok(event) => self.packet(key, event, taken),
                    Err(_) => self.end(key, CloseCommand::Close),
                }
            }
            Received::Binary(bytes) => {
                step.outboxes.count_received();
                self.attachment(key, Bytes::copy_from_slice(&bytes), taken);
            }
            Received::Nothing => {}
        }
        if let Some(session) = self.sessions.get_mut(key) {
            engineio::watch_half_event(&mut self.step, key, session);
        }
        self.after_engine(key);
    }

    fn after_engine(&mut self, key: u32) {
        let Self { step, sessions, rooms, transfers, .. } = self;
        closing::after_engine(step, sessions, rooms, transfers, key);
    }

    /// A binary message has arrived.
    fn attachment(&mut self, key: u32, bytes: Bytes, taken: Taken) {
        let limit = self.step.context.config.outbox_limit;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let arrived = session.connection.receive_attachment(bytes);
        let held = session.connection.buffered();
        session.update_charge();
        match arrived {
            Ok(Some(packet)) => match session.connection.interpret_binary(&packet) {
                Ok(event) => self.packet(key, event, taken),
                Err(_) => self.end(key, CloseCommand::Close),
            },
            // Attachments are bounded one by one by the transport, and all together here.
            Ok(None) if held <= limit => {}
            _ => self.end(key, CloseCommand::Close),
        }
    }

    /// A Socket.IO packet has arrived whole, within the client's rates or not.
    fn packet(&mut self, key: u32, event: Event<'_>, taken: Taken) {
        let Self { step, sessions, rooms, .. } = self;
        if let (Event::Connect { namespace, .. }, Taken::Over(wait)) = (&event, taken) {
            socketio::refuse_namespace_for_now(step, sessions, key, namespace, wait);
            return;
        }
        match event {
            // Such as the first part of a binary event.
            Event::Nothing => sessions[key].update_charge(),
            Event::Connect { namespace, auth } => self.connect(key, namespace, auth),
            Event::Disconnect { slot } => {
                if let Some(joined) = sessions[key].connection.leave(slot) {
                    closing::socket_gone(step, sessions, rooms, joined, "client namespace disconnect", None);
                }
            }
            Event::Event { slot, id, body, attachments } => {
                let event = ArrivedEvent { slot, id, body, attachments };
                self.event(key, event, taken);
            }
            Event::Ack { slot, id, body, attachments } => {
                acks::acked(step, &mut sessions[key], slot, id, (body, attachments));
            }
        }
    }

    /// The client asks to join a namespace.
    fn connect(&mut self, key: u32, name: &str, auth: Option<&str>) {
        let Self { step, sessions, pending, .. } = self;
        let app = match step.context.app.find(name) {
            Ok(Some(app)) if step.serves(&app, name) => app,
            Ok(_) => {
                socketio::refuse_namespace(step, sessions, key, name, ("Invalid namespace", None));
                return;
            }
            Err(Panicked) => {
                report(&step.context.metrics, "matcher", name);
                self.end(key, CloseCommand::Close);
                return;
            }
        };
        let session = &mut sessions[key];
        if let Some(trace) = traces::of_auth(auth) {
            session.trace = Some(trace);
        }
        let handshake = session.state.handshake.as_deref();
        let ask = AccessRequest::Namespace { handshake, namespace: name, auth };
        if step.context.policy.judges_token(session.state.principal.as_ref(), &ask) {
            let namespaces = step.context.config.limits.namespaces;
            match session.local.token_checks.begin(step.nanos(), namespaces) {
                Taken::Within => {}
                Taken::Over(wait) => {
                    socketio::refuse_namespace_for_now(step, sessions, key, name, wait);
                    return;
                }
                Taken::FarOver => {
                    self.drop_client(key, "rate_limited");
                    return;
                }
            }
        }
        let decided = step.context.policy.decide(session.state.principal.as_ref(), ask).now();
        let connecting =
            Connecting { name: name.into(), app, auth: auth.map(str::to_owned), principal: None };
        match decided {
            Ok(decided) => self.connect_decided(key, connecting, decided),
            Err(verdict) => {
                let number = session.local.number;
                let request = PendingRequest::Connect { key, number, connecting };
                let ticket = requests::hold(step, session, pending, request);
                step.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// The policy lets the client into a namespace, or not.
    pub(super) fn connect_decided(&mut self, key: u32, connecting: Connecting, decided: Decided) {
        let Self { step, sessions, pending, .. } = self;
        match decided {
            Decided::Deny(denial) if denial.is_failure() => self.end(key, CloseCommand::Close),
            Decided::Deny(denial) => {
                step.tell(&sessions[key], "not let into a namespace", denial.code);
                socketio::note_refused(step, sessions, key, &connecting.name, denial.code);
                let data = denial.connect_data();
                let refused = (&*denial.message, Some(&*data));
                socketio::refuse_namespace(step, sessions, key, &connecting.name, refused);
                self.token_refused(key, &denial);
            }
            Decided::Allow(principal) => {
                if principal.is_some() {
                    sessions[key].local.token_checks.found_good();
                }
                let own = principal.as_deref().and_then(|it| it.grants.limits().get(Limit::Namespaces));
                let most = own.unwrap_or(step.context.config.limits.namespaces as u64);
                if sessions[key].connection.sockets().len() as u64 >= most {
                    socketio::note_refused(step, sessions, key, &connecting.name, "too-many-namespaces");
                    let refused = ("too many namespaces", Some("{\"code\":\"too-many-namespaces\"}"));
                    socketio::refuse_namespace(step, sessions, key, &connecting.name, refused);
                    return;
                }
                let connecting = Connecting { principal, ..connecting };
                if let Some(connected) = counting::count_session(step, sessions, pending, key, connecting) {
                    self.socket_connected(key, connected);
                }
            }
        }
    }

    /// A client's token was refused: it has so many tries.
    fn token_refused(&mut self, key: u32, denial: &Denial) {
        let Some(session) = self.sessions.get_mut(key).filter(|_| denial.is_bad_token) else { return };
        if session.local.token_checks.found_bad() {
            self.drop_client(key, "bad_tokens");
        }
    }

    /// Closes the connection of a client for what it has done.
    fn drop_client(&mut self, key: u32, reason: &str) {
        self.step.context.metrics.connections_dropped.with_label_values(&[reason]).inc();
        self.end(key, CloseCommand::Close);
    }

    /// A client shows a new token.
    pub(super) fn refresh(&mut self, event: &Incoming<'_>) {
        let Self { step, sessions, pending, .. } = self;
        let token = event.args.first().and_then(|token| serde_json::from_str::<String>(token.get()).ok());
        let token = token.unwrap_or_default();
        let session = &mut sessions[event.key];
        let ask = AccessRequest::Refresh { namespace: &event.namespace, token: &token };
        if step.context.policy.judges_token(session.principal_of(event.socket), &ask) {
            let namespaces = step.context.config.limits.namespaces;
            match session.local.token_checks.begin(step.nanos(), namespaces) {
                Taken::Within => {}
                Taken::Over(wait) => {
                    replies::refuse_for_now(step, sessions, event.key, &event.refusal(), wait);
                    return;
                }
                Taken::FarOver => {
                    self.drop_client(event.key, "rate_limited");
                    return;
                }
            }
        }
        match step.context.policy.decide(session.principal_of(event.socket), ask).now() {
            Ok(decided) => {
                self.refresh_decided(event.key, (event.socket, &event.namespace, event.id), decided);
            }
            Err(verdict) => {
                let (key, number, socket) = (event.key, session.local.number, event.socket);
                let (namespace, id) = (event.namespace.clone(), event.id);
                let request = PendingRequest::Refresh { key, number, socket, namespace, id };
                let ticket = requests::hold(step, session, pending, request);
                step.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// The policy lets a client go on with its new token, or not.
    pub(super) fn refresh_decided(
        &mut self,
        key: u32,
        (socket, namespace, id): (Address, &str, Option<u64>),
        decided: Decided,
    ) {
        let Self { step, sessions, .. } = self;
        let denial = match decided {
            Decided::Deny(denial) if denial.is_failure() => {
                self.end(key, CloseCommand::Close);
                return;
            }
            Decided::Allow(Some(principal)) => {
                sessions[key].local.token_checks.found_good();
                expiry::refreshed(step, key, &mut sessions[key], socket, &principal);
                if let Some(id) = id {
                    replies::answer(step, sessions, key, (namespace, id), replies::OK);
                }
                return;
            }
            Decided::Allow(None) => Denial::new("unknown-event", "there are no tokens to refresh here"),
            Decided::Deny(denial) => denial,
        };
        let refusal = Refusal { namespace, event: REFRESH, id };
        replies::refuse(step, sessions, key, &refusal, (denial.code, &denial.message));
        self.token_refused(key, &denial);
    }
}
