//! What a client sends: messages on its connection or in a POST, packets in these, events in those.

use std::{rc::Rc, time::Instant};

use bytes::Bytes;
use signalbox_auth::grants::Limit;
use signalbox_cluster::Address;
use signalbox_engineio::{CloseReason, Packet, payload, session::Received};
use signalbox_socketio::Event;
use signalbox_telemetry::traces;
use signalbox_websocket::Message;

use crate::{
    app::{Action, Handler},
    limits::Taken,
    panics::{Panicked, report},
    policy::{AccessRequest, Decided, Denial},
    session::HeldPost,
    shard::{
        Shard, actions, closing, engineio,
        expiry::{self, REFRESH},
        mailbox::{CloseCommand, ShardMessage},
        membership, peerserver,
        replies::{self, RATE_LIMITED, Refusal, Refused},
        requests,
        socketio::{self, Incoming},
        tables::{
            PendingRequest,
            pending::{Connecting, HeldEvent, JoinRequest, ReplyTo},
        },
        tasks::{Task, TaskResult},
        upgrades,
    },
    transport::{Conn, Role, reader::DELIVERIES_A_TURN},
};

const TOO_LARGE: Refused =
    ("message-too-large", "what your token grants does not include messages of this size");

/// An event as it arrived, for the socket in a slot.
struct ArrivedEvent<'a> {
    slot: usize,
    id: Option<u64>,
    body: &'a str,
    attachments: &'a [Bytes],
}

/// Packets of one POST before others have their turn.
const PACKETS_A_TURN: usize = 256;

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
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    /// A packet has arrived as text.
    fn receive_part(&mut self, key: u32, text: &str) {
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
        if taken == Taken::FarOver {
            step.context.metrics.connections_dropped.with_label_values(&["rate_limited"]).inc();
            self.end(key, CloseCommand::Close);
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
            step.context.metrics.refusals.with_label_values(&[RATE_LIMITED.0]).inc();
            let data = format!("{{\"code\":\"rate-limited\",\"retryAfter\":{}}}", wait.as_millis());
            socketio::refuse_namespace(step, sessions, key, namespace, (RATE_LIMITED.1, Some(&data)));
            return;
        }
        match event {
            // Such as the first part of a binary event.
            Event::Nothing => sessions[key].update_charge(),
            Event::Connect { namespace, auth } => self.connect(key, namespace, auth),
            Event::Disconnect { slot } => {
                if let Some(joined) = sessions[key].connection.leave(slot) {
                    closing::socket_gone(step, sessions, rooms, joined, "client namespace disconnect");
                }
            }
            Event::Event { slot, id, body, attachments } => {
                let event = ArrivedEvent { slot, id, body, attachments };
                self.event(key, event, taken);
            }
            Event::Ack { slot, id, body, attachments } => {
                socketio::acked(step, &mut sessions[key], slot, id, (body, attachments));
            }
        }
    }

    /// The client asks to join a namespace.
    fn connect(&mut self, key: u32, name: &str, auth: Option<&str>) {
        let Self { step, sessions, pending, .. } = self;
        let app = match step.context.app.find(name) {
            Ok(Some(app)) if !app.is_ruled || step.rules.as_ref().is_some_and(|rules| rules.serves(name)) => {
                app
            }
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
        let ask = AccessRequest::Namespace { handshake: session.handshake.as_deref(), namespace: name, auth };
        let decided = step.context.policy.decide(session.principal.as_ref(), ask).now();
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
                step.context.metrics.refusals.with_label_values(&[denial.code]).inc();
                let data = denial.connect_data();
                let refused = (&*denial.message, Some(&*data));
                socketio::refuse_namespace(step, sessions, key, &connecting.name, refused);
            }
            Decided::Allow(principal) => {
                let own = principal.as_deref().and_then(|it| it.grants.limits().get(Limit::Namespaces));
                let most = own.unwrap_or(step.context.config.limits.namespaces as u64);
                if sessions[key].connection.sockets().len() as u64 >= most {
                    step.context.metrics.refusals.with_label_values(&["too-many-namespaces"]).inc();
                    let refused = ("too many namespaces", Some("{\"code\":\"too-many-namespaces\"}"));
                    socketio::refuse_namespace(step, sessions, key, &connecting.name, refused);
                    return;
                }
                let connecting = Connecting { principal, ..connecting };
                if let Some(connected) = socketio::namespace_allowed(step, sessions, pending, key, connecting)
                {
                    self.socket_connected(key, connected);
                }
            }
        }
    }

    /// An event for one of the client's sockets.
    fn event(&mut self, key: u32, event: ArrivedEvent<'_>, taken: Taken) {
        let Self { step, sessions, pending, .. } = self;
        let ArrivedEvent { slot, id, body, attachments } = event;
        // The connection has checked the body, so it splits. An empty one is an event without even a name.
        let elements = signalbox_socketio::args::split(body).unwrap_or_default();
        let name = socketio::event_name(&elements);
        let session = &mut sessions[key];
        let joined = &session.connection.sockets()[slot];
        let (socket, namespace) = (joined.socket.id, joined.namespace.clone());
        let is_too_large = joined.socket.principal.as_deref().is_some_and(|principal| {
            let bytes = body.len() + attachments.iter().map(Bytes::len).sum::<usize>();
            principal.grants.limits().get(Limit::MessageBytes).is_some_and(|most| bytes as u64 > most)
        });
        let refusal = Refusal { namespace: &namespace, event: &name, id };
        if let Taken::Over(wait) = taken {
            replies::refuse_for_now(step, sessions, key, &refusal, wait);
            return;
        }
        if is_too_large {
            replies::refuse(step, sessions, key, &refusal, TOO_LARGE);
            return;
        }
        let ask = AccessRequest::Emit { namespace: &namespace, event: &name };
        match step.context.policy.decide(joined.socket.principal.as_ref(), ask).now() {
            Ok(decided) => {
                let args = elements.get(1..).unwrap_or_default();
                self.event_decided(Incoming { key, socket, namespace, name, id, args, attachments }, decided);
            }
            Err(verdict) => {
                let event =
                    HeldEvent { socket, id, body: body.to_owned(), attachments: attachments.to_vec() };
                let number = session.local.number;
                let request = PendingRequest::Emit { key, number, event: Box::new(event) };
                let ticket = requests::hold(step, session, pending, request);
                step.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// A slow verdict on an event has come.
    pub(super) fn held_event_decided(&mut self, key: u32, event: &HeldEvent, decided: Decided) {
        let session = &self.sessions[key];
        let Some(slot) = session.slot_of(event.socket) else { return };
        let namespace = session.connection.sockets()[slot].namespace.clone();
        let elements = signalbox_socketio::args::split(&event.body).unwrap_or_default();
        let name = socketio::event_name(&elements);
        let args = elements.get(1..).unwrap_or_default();
        let attachments = &event.attachments;
        let incoming =
            Incoming { key, socket: event.socket, namespace, name, id: event.id, args, attachments };
        self.event_decided(incoming, decided);
    }

    fn event_decided(&mut self, event: Incoming<'_>, decided: Decided) {
        let Self { step, sessions, .. } = self;
        match decided {
            Decided::Deny(denial) if denial.is_failure() => self.end(event.key, CloseCommand::Close),
            Decided::Deny(denial) => {
                let refused = (denial.code, &*denial.message);
                replies::refuse(step, sessions, event.key, &event.refusal(), refused);
            }
            Decided::Allow(_) => {
                let session = &sessions[event.key];
                let Some(slot) = session.slot_of(event.socket) else { return };
                let app = session.connection.sockets()[slot].socket.app.clone();
                if app.is_ruled && self.rule_begins(&event, slot) {
                    return;
                }
                let Self { step, sessions, .. } = self;
                let session = &sessions[event.key];
                match app.handler(&event.name) {
                    Some(Handler::Action(action)) => self.act(action, &event),
                    Some(Handler::Call(handler)) => socketio::start_handler(step, session, handler, event),
                    None if event.name == REFRESH => self.refresh(&event),
                    None => {
                        let refused = ("unknown-event", "nothing is defined for this event");
                        replies::refuse(step, sessions, event.key, &event.refusal(), refused);
                    }
                }
            }
        }
    }

    /// Does an action on an event.
    fn act(&mut self, action: &Action, event: &Incoming<'_>) {
        let Self { step, sessions, rooms, pending, transfers, sequences, .. } = self;
        let done = match action {
            Action::Join(join) => actions::join_request(&step.context, &sessions[event.key], join, event)
                .map(|request| self.join_requested(event.key, request)),
            Action::Leave => actions::leave(step, sessions, rooms, event),
            Action::Members => actions::members(step, sessions, rooms, pending, event),
            Action::Users => actions::users(step, sessions, pending, event),
            Action::Broadcast { event: name, chat } => {
                let said = match chat {
                    Some(chat) if event.args.len() == 1 => {
                        actions::chat(step, sessions, rooms, transfers, sequences, chat, event)
                    }
                    _ => Ok(false),
                };
                match said {
                    Ok(false) => actions::broadcast(step, sessions, rooms, transfers, sequences, name, event),
                    said => said.map(drop),
                }
            }
            Action::SendTo { event: name } => actions::send_to(step, sessions, pending, name, event)
                .map(|here| here.into_iter().for_each(|command| self.socket_command(command))),
        };
        match done {
            Ok(()) => {}
            Err((Denial::FAILED, _)) => self.end(event.key, CloseCommand::Close),
            Err(refused) => {
                replies::refuse(&mut self.step, &mut self.sessions, event.key, &event.refusal(), refused);
            }
        }
    }

    /// A client shows a new token.
    fn refresh(&mut self, event: &Incoming<'_>) {
        let Self { step, sessions, pending, .. } = self;
        let token = event.args.first().and_then(|token| serde_json::from_str::<String>(token.get()).ok());
        let token = token.unwrap_or_default();
        let session = &mut sessions[event.key];
        let ask = AccessRequest::Refresh { namespace: &event.namespace, token: &token };
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
                expiry::refreshed(step, key, &mut sessions[key], socket, &principal);
                if let Some(id) = id {
                    replies::answer(step, sessions, key, (namespace, id), "{\"ok\":true}");
                }
                return;
            }
            Decided::Allow(None) => Denial::new("unknown-event", "there are no tokens to refresh here"),
            Decided::Deny(denial) => denial,
        };
        let refusal = Refusal { namespace, event: REFRESH, id };
        replies::refuse(step, sessions, key, &refusal, (denial.code, &denial.message));
    }

    /// A client asks to join a room.
    pub(super) fn join_requested(&mut self, key: u32, join: JoinRequest) {
        let Self { step, sessions, pending, .. } = self;
        let session = &mut sessions[key];
        let taken = session.local.rates.joins(step.nanos());
        let asked = match &join.reply_to {
            ReplyTo::Client { event, id } => Some((event.as_str(), *id)),
            ReplyTo::Rule(rule, _) => Some((rule.run.event_name(), rule.id)),
            ReplyTo::Handler(_) | ReplyTo::Nobody => None,
        };
        if let (Err(wait), Some((event, id))) = (taken, asked) {
            let refusal = Refusal { namespace: &join.room.namespace, event, id };
            replies::refuse_for_now(step, sessions, key, &refusal, wait);
            return;
        }
        let ask = AccessRequest::Join { namespace: &join.room.namespace, room: &join.room.name };
        match step.context.policy.decide(session.principal_of(join.socket), ask).now() {
            Ok(decided) => self.join_decided(key, join, decided),
            Err(verdict) => {
                let number = session.local.number;
                let request = PendingRequest::JoinVerdict { key, number, join: Box::new(join) };
                let ticket = requests::hold(step, session, pending, request);
                step.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// The policy allows the join, or not.
    pub(super) fn join_decided(&mut self, key: u32, join: JoinRequest, decided: Decided) {
        let Self { step, sessions, rooms, pending, .. } = self;
        match decided {
            Decided::Allow(_) => membership::join(step, sessions, rooms, pending, key, join),
            Decided::Deny(denial) if denial.is_failure() => self.end(key, CloseCommand::Close),
            Decided::Deny(denial) => {
                membership::refuse_join(step, sessions, key, join, (denial.code, &denial.message));
            }
        }
    }

    /// Takes the packets of a POST, until one must wait for an answer. The POST is answered when all were taken.
    pub(super) fn take_post(&mut self, key: u32, mut post: HeldPost) {
        let bytes = post.body.clone();
        let Ok(body) = std::str::from_utf8(&bytes) else {
            self.sessions[key].engine.receive_invalid();
            self.end_post(key, post);
            return;
        };
        let number = self.sessions[key].local.number;
        let (mut packets, deliveries) = (0, self.step.outboxes.deliveries());
        while post.offset <= body.len() {
            let rest = &body[post.offset..];
            let part = rest.split(payload::SEPARATOR).next().unwrap_or_default();
            post.offset += part.len() + 1;
            self.receive_part(key, part);
            let Self { step, sessions, pending, .. } = self;
            let Some(session) = sessions.checked(key, number) else {
                // The session is over. What it had applied was applied.
                step.effects.answer(post.reply, ());
                return;
            };
            if session.is_held() {
                session.held_post = Some(Box::new(post));
                return;
            }
            packets += 1;
            if packets >= PACKETS_A_TURN || step.outboxes.deliveries() - deliveries > DELIVERIES_A_TURN {
                // The rest waits for its turn, like anything that waits for an answer.
                let ticket = requests::hold(step, session, pending, PendingRequest::Yield { key, number });
                session.held_post = Some(Box::new(post));
                let turn = ShardMessage::TaskDone(ticket, TaskResult::Yield);
                step.effects.send(step.context.id, turn);
                return;
            }
        }
        self.end_post(key, post);
    }

    fn end_post(&mut self, key: u32, post: HeldPost) {
        let Self { step, sessions, rooms, transfers, .. } = self;
        requests::end_post(step, sessions, rooms, transfers, key, post);
        self.continue_upgrade(key);
    }

    /// A request of the session was answered; `blocking` if the client's frames waited for it. Goes on with what waited.
    pub(in crate::shard) fn request_done(&mut self, key: u32, blocking: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let post = session.end_request(blocking);
        if let Some(conn) = session.local.conn.as_ref().filter(|_| !session.is_held()) {
            self.step.outboxes.resume(conn);
        }
        if let Some(post) = post {
            self.take_post(key, post);
        }
        self.continue_upgrade(key);
    }
}
