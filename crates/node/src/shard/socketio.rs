//! Socket.IO packets: joining namespaces, events, acks.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use signalbox_cluster::{Address, Command};
use signalbox_socketio::{Args, Event, Message, args::Split};
use signalbox_telemetry::CLIENT_EVENTS;

use super::{
    Shard,
    mailbox::CloseCommand,
    tables::{
        PendingRequest,
        pending::{Entry, HeldEvent},
    },
    tasks::{Task, TaskResult},
};
use crate::{
    app::{self, ConnectRefused, Handler, Namespace, socket},
    panics::{Panicked, report},
    policy::{AccessRequest, Decided},
    session::{PendingAck, Socket},
};

/// The event by which a client shows a new token.
pub(super) const REFRESH: &str = "auth:refresh";

/// An event, split.
pub(super) struct Incoming<'a> {
    pub(super) key: u32,
    pub(super) socket: Address,
    pub(super) namespace: Arc<str>,
    /// The event's name.
    pub(super) name: String,
    /// Its id, if the client wants an ack.
    pub(super) id: Option<u64>,
    /// Its arguments, behind the name.
    pub(super) args: &'a [&'a serde_json::value::RawValue],
    pub(super) attachments: &'a [Bytes],
}

impl Shard {
    /// A text message has arrived.
    pub(super) fn text(&mut self, now: Instant, key: u32, text: &str) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.connection.receive_text(text) {
            Ok(event) => self.packet(now, key, event),
            Err(_) => self.end(now, key, CloseCommand::Close),
        }
    }

    /// A binary message has arrived.
    pub(super) fn binary(&mut self, now: Instant, key: u32, bytes: Bytes) {
        let limit = self.context.config.outbox_limit;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let arrived = session.connection.receive_attachment(bytes);
        let held = session.connection.buffered();
        self.account_session(key);
        match arrived {
            Ok(Some(packet)) => match self.sessions[key].connection.interpret_binary(&packet) {
                Ok(event) => self.packet(now, key, event),
                Err(_) => self.end(now, key, CloseCommand::Close),
            },
            // Attachments are bounded one by one by the transport, and all together here.
            Ok(None) if held <= limit => {}
            _ => self.end(now, key, CloseCommand::Close),
        }
    }

    fn packet(&mut self, now: Instant, key: u32, event: Event<'_>) {
        match event {
            // Such as the first part of a binary event.
            Event::Nothing => self.account_session(key),
            Event::Connect { namespace, auth } => self.connect(now, key, namespace, auth),
            Event::Disconnect { slot } => {
                if let Some(joined) = self.sessions[key].connection.leave(slot) {
                    self.socket_gone(joined, "client namespace disconnect");
                }
            }
            Event::Event { slot, id, body, attachments } => self.event(now, key, slot, id, body, attachments),
            Event::Ack { slot, id, body, attachments } => self.acked(key, slot, id, body, attachments),
        }
    }

    /// The client asks to join a namespace.
    fn connect(&mut self, now: Instant, key: u32, name: &str, auth: Option<&str>) {
        let app = match self.context.app.find(name) {
            Ok(Some(app)) => app,
            Ok(None) => {
                self.send(key, &Message::connect_error(name, "Invalid namespace", None), false);
                return;
            }
            Err(Panicked) => {
                report(&self.context.metrics, "matcher", name);
                self.end(now, key, CloseCommand::Close);
                return;
            }
        };
        let context = self.context.clone();
        let session = &self.sessions[key];
        let ask = AccessRequest::Namespace { handshake: session.handshake.as_deref(), namespace: name, auth };
        let (name, auth) = (Arc::<str>::from(name), auth.map(str::to_owned));
        match context.policy.decide(session.principal.as_ref(), ask).now() {
            Ok(decided) => self.connect_decided(now, key, (name, app, auth), decided),
            Err(verdict) => {
                let pending = PendingRequest::Connect { key, number: session.local.number, name, app, auth };
                let ticket = self.hold(key, pending);
                self.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// Remembers what waits for a slow answer while the client's frames wait too.
    pub(super) fn hold(&mut self, key: u32, pending: PendingRequest) -> u64 {
        self.request_begins(key, true);
        let ticket = self.next_number();
        self.pending.insert(ticket, pending);
        ticket
    }

    pub(super) fn connect_decided(
        &mut self,
        now: Instant,
        key: u32,
        (name, app, auth): (Arc<str>, Arc<Namespace>, Option<String>),
        decided: Decided,
    ) {
        match decided {
            Decided::Deny(denial) if denial.is_failure() => self.end(now, key, CloseCommand::Close),
            Decided::Deny(denial) => {
                self.context.metrics.refusals.with_label_values(&[denial.code]).inc();
                let message = Message::connect_error(&name, &denial.message, Some(&denial.connect_data()));
                self.send(key, &message, false);
            }
            Decided::Allow(principal) => {
                let id = self.new_address();
                let entry = Entry { name, app, auth, principal };
                if entry.app.middlewares.is_empty() {
                    self.connected(now, key, id, entry);
                    return;
                }
                let Entry { name, app, auth, principal } = entry;
                let socket = app::Socket { router: self.context.router.clone(), namespace: name.clone(), id };
                let middlewares = app.middlewares.clone();
                let number = self.sessions[key].local.number;
                let entry = Entry { name, app, auth: auth.clone(), principal };
                let pending = PendingRequest::Middleware { key, number, id, entry };
                let ticket = self.hold(key, pending);
                self.start(Task::Middlewares { ticket, middlewares, socket, auth });
            }
        }
    }

    pub(super) fn middlewares_done(
        &mut self,
        now: Instant,
        key: u32,
        id: Address,
        entry: Entry,
        result: Result<(), ConnectRefused>,
    ) {
        match result {
            Ok(()) => self.connected(now, key, id, entry),
            Err(ConnectRefused { message, data }) => {
                self.send(key, &Message::connect_error(&entry.name, &message, data.as_deref()), false);
            }
        }
    }

    /// The client is let into the namespace.
    fn connected(&mut self, now: Instant, key: u32, id: Address, entry: Entry) {
        let Entry { name, app, auth, principal } = entry;
        let session = &mut self.sessions[key];
        if !session.engine.is_open() || session.connection.slot(&name).is_some() {
            return;
        }
        if let Some(principal) = &principal {
            let address = session.address().map(tracing::field::display);
            tracing::debug!(target: CLIENT_EVENTS, address, subject = &*principal.subject, namespace = &*name, "client let in");
        }
        let socket = Socket {
            id,
            app: app.clone(),
            principal,
            expiry: None,
            rooms: Default::default(),
            records: Vec::new(),
            pending_acks: Default::default(),
            next_ack: 0,
            acks_timer_at: None,
        };
        session.connection.join(name.clone(), socket);
        session.handshake = None;
        session.settle();
        self.sessions.add_socket(id, key);
        self.effects.submit(Command::Connected { namespace: name.clone(), socket: id });
        self.send(key, &Message::connect(&name, &id.written()), false);
        self.begin_expiry(now, key, id);
        for handler in &app.on_connect {
            let socket = app::Socket { router: self.context.router.clone(), namespace: name.clone(), id };
            self.start(Task::Connected { handler: handler.clone(), socket, auth: auth.clone() });
        }
    }

    /// An event for one of the client's sockets.
    fn event(
        &mut self,
        now: Instant,
        key: u32,
        slot: usize,
        id: Option<u64>,
        body: &str,
        attachments: &[Bytes],
    ) {
        // The connection has checked the body, so it splits. An empty one is an event without even a name.
        let elements = signalbox_socketio::args::split(body).unwrap_or_default();
        let name = event_name(&elements);
        let session = &self.sessions[key];
        let joined = &session.connection.sockets()[slot];
        let (socket, namespace) = (joined.socket.id, joined.namespace.clone());
        let context = self.context.clone();
        let ask = AccessRequest::Emit { namespace: &namespace, event: &name };
        match context.policy.decide(joined.socket.principal.as_ref(), ask).now() {
            Ok(decided) => {
                let args = elements.get(1..).unwrap_or_default();
                let incoming = Incoming { key, socket, namespace, name, id, args, attachments };
                self.event_decided(now, incoming, decided);
            }
            Err(verdict) => {
                let event =
                    HeldEvent { socket, id, body: body.to_owned(), attachments: attachments.to_vec() };
                let number = session.local.number;
                let ticket = self.hold(key, PendingRequest::Emit { key, number, event: Box::new(event) });
                self.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// A slow verdict on an event has come.
    pub(super) fn held_event_decided(&mut self, now: Instant, key: u32, event: &HeldEvent, decided: Decided) {
        let Some(slot) = self.sessions[key].slot_of(event.socket) else { return };
        let namespace = self.sessions[key].connection.sockets()[slot].namespace.clone();
        let elements = signalbox_socketio::args::split(&event.body).unwrap_or_default();
        let name = event_name(&elements);
        let args = elements.get(1..).unwrap_or_default();
        let attachments = &event.attachments;
        let incoming =
            Incoming { key, socket: event.socket, namespace, name, id: event.id, args, attachments };
        self.event_decided(now, incoming, decided);
    }

    fn event_decided(&mut self, now: Instant, event: Incoming<'_>, decided: Decided) {
        match decided {
            Decided::Deny(denial) if denial.is_failure() => self.end(now, event.key, CloseCommand::Close),
            Decided::Deny(denial) => self.refuse(&event, denial.code, &denial.message),
            Decided::Allow(_) => self.dispatch(now, event),
        }
    }

    fn dispatch(&mut self, now: Instant, event: Incoming<'_>) {
        let session = &self.sessions[event.key];
        let Some(slot) = session.slot_of(event.socket) else { return };
        let app = session.connection.sockets()[slot].socket.app.clone();
        match app.handler(&event.name) {
            Some(Handler::Action(action)) => self.act(now, action, event),
            Some(Handler::Call(handler)) => {
                let socket = app::Socket {
                    router: self.context.router.clone(),
                    namespace: event.namespace.clone(),
                    id: event.socket,
                };
                let joined: Vec<&str> = event.args.iter().map(|arg| arg.get()).collect();
                let json = format!("[{}]", joined.join(","));
                let args = Args::from_raw(&json, event.attachments.to_vec()).unwrap_or_default();
                let ack = event.id.map(|id| (socket.clone(), id));
                let principal = session.principal_of(event.socket).cloned();
                let address = session.address();
                let event = socket::Event { name: event.name, args, ack, principal, address };
                self.start(Task::Event { handler: handler.clone(), socket, event });
            }
            None if event.name == REFRESH => self.refresh(now, &event),
            None => self.refuse(&event, "unknown-event", "nothing is defined for this event"),
        }
    }

    /// Tells a client that its event was refused: by the ack if it wants one, else by the event `error`.
    pub(super) fn refuse(&mut self, event: &Incoming<'_>, code: &str, hint: &str) {
        self.context.metrics.refusals.with_label_values(&[code]).inc();
        let refusal = Refusal { namespace: &event.namespace, event: &event.name, id: event.id };
        let message = refusal.message(code, hint);
        self.send(event.key, &message, false);
    }

    /// The client answers an event of the server.
    fn acked(&mut self, key: u32, slot: usize, id: u64, body: &str, attachments: &[Bytes]) {
        let Some(joined) = self.sessions[key].connection.socket_mut(slot) else { return };
        let pending = &mut joined.socket.pending_acks;
        let Some(index) = pending.iter().position(|pending| pending.id == id) else { return };
        if let Some(PendingAck { reply, .. }) = pending.remove(index) {
            let args = Args::from_raw(body, attachments.to_vec()).unwrap_or_default();
            // A handler that does not wait any more does not care.
            self.effects.answer(reply, Ok(args));
        }
    }

    /// A slow verdict or a middleware has come to an end.
    pub(super) fn task_done(&mut self, now: Instant, ticket: u64, result: TaskResult) {
        match result {
            TaskResult::Signalled(found) => {
                self.signal_answered(now, ticket, found);
                return;
            }
            TaskResult::SignalRefused => {
                self.signal_refused(now, ticket);
                return;
            }
            _ => {}
        }
        let Some(pending) = self.pending.remove(ticket) else { return };
        let (key, number) = match &pending {
            PendingRequest::Connect { key, number, .. }
            | PendingRequest::Middleware { key, number, .. }
            | PendingRequest::Refresh { key, number, .. }
            | PendingRequest::Emit { key, number, .. }
            | PendingRequest::JoinVerdict { key, number, .. }
            | PendingRequest::Yield { key, number } => (*key, *number),
            _ => return,
        };
        if self.sessions.checked(key, number).is_none() {
            return;
        }
        match (pending, result) {
            (_, TaskResult::Failed) => self.end(now, key, CloseCommand::Close),
            (PendingRequest::Connect { name, app, auth, .. }, TaskResult::Decided(decided)) => {
                self.connect_decided(now, key, (name, app, auth), decided);
            }
            (PendingRequest::Middleware { id, entry, .. }, TaskResult::Middlewares(result)) => {
                self.middlewares_done(now, key, id, entry, result);
            }
            (PendingRequest::Refresh { socket, namespace, id, .. }, TaskResult::Decided(decided)) => {
                self.refresh_decided(now, key, (socket, &namespace, id), decided);
            }
            (PendingRequest::Emit { event, .. }, TaskResult::Decided(decided)) => {
                self.held_event_decided(now, key, &event, decided);
            }
            (PendingRequest::JoinVerdict { join, .. }, TaskResult::Decided(decided)) => {
                self.join_decided(now, key, *join, decided);
            }
            _ => {}
        }
        if self.sessions.checked(key, number).is_some() {
            self.request_done(now, key, true);
            self.after_engine(now, key);
        }
    }
}

/// Where a refusal goes.
pub(super) struct Refusal<'a> {
    pub(super) namespace: &'a str,
    pub(super) event: &'a str,
    pub(super) id: Option<u64>,
}

impl Refusal<'_> {
    pub(super) fn message(&self, code: &str, hint: &str) -> Message {
        let json = |text: &str| serde_json::to_string(text).unwrap_or_default();
        match self.id {
            Some(id) => {
                Message::ack(self.namespace, id, &["{\"ok\":false,\"error\":", &json(code), "}"], &[])
            }
            None => {
                let (event, code, hint) = (json(self.event), json(code), json(hint));
                let args = ["{\"event\":", &event, ",\"error\":", &code, ",\"hint\":", &hint, "}"];
                Message::event(self.namespace, None, "error", &args, &[])
            }
        }
    }
}

/// An event's name: text, or the text of a number; empty for the event without anything.
fn event_name(elements: &Split<'_>) -> String {
    let Some(name) = elements.first().map(|name| name.get()) else { return String::new() };
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => plain.to_owned(),
        // A name that is no valid Unicode is nobody's; its raw text serves.
        Some(escaped) => serde_json::from_str(name).unwrap_or_else(|_| escaped.to_owned()),
        None => name.to_owned(),
    }
}
