//! Socket.IO: how a client joins a namespace, handlers of events, acks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use signalbox_admin::events::{Event, EventKind, Protocol};
use signalbox_cluster::{Address, Command};
use signalbox_socketio::{Args, Message, args::Split};
use signalbox_telemetry::CLIENT_EVENTS;

use super::{
    context::ShardContext,
    expiry::begin_expiry,
    replies::{RATE_LIMITED, Refusal},
    requests,
    step::Step,
    tables::{PendingRequest, PendingRequests, Sessions, pending::Connecting},
    tasks::Task,
};
use crate::{
    app::{self, ConnectRefused, EventHandler, socket},
    client_log::head,
    events::shown,
    session::{Session, Socket},
};

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

impl Incoming<'_> {
    /// Where its refusal goes.
    pub(super) fn refusal(&self) -> Refusal<'_> {
        Refusal { namespace: &self.namespace, event: &self.name, id: self.id }
    }
}

/// A socket, as handlers have it.
fn handle(context: &ShardContext, namespace: Arc<str>, id: Address) -> app::Socket {
    app::Socket { router: context.router.clone(), namespace, id }
}

/// Tells a client why it is not let into a namespace: a message, and JSON.
pub(super) fn refuse_namespace(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    name: &str,
    (message, data): (&str, Option<&str>),
) {
    step.send(sessions, key, &Message::connect_error(name, message, data));
}

/// A client is not let into a namespace: counts it, and reports it.
pub(super) fn note_refused(step: &mut Step, sessions: &Sessions, key: u32, name: &str, code: &str) {
    step.context.metrics.refusals.with_label_values(&[code]).inc();
    step.report(EventKind::Refuse, || Event {
        protocol: Some(Protocol::Socketio),
        namespace: Some(shown(name).into()),
        address: sessions.get(key).and_then(|session| session.address()),
        reason: Some(shown(code)),
        ..Event::default()
    });
}

/// A socket that has just connected, and the CONNECT payload.
pub(super) struct Connected {
    pub(super) socket: Address,
    pub(super) auth: Option<String>,
}

/// Tells a client that it asks to be let in too often, and in how many milliseconds it may again.
pub(super) fn refuse_namespace_for_now(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    name: &str,
    wait: Duration,
) {
    let (code, hint) = RATE_LIMITED;
    note_refused(step, sessions, key, name, code);
    let data = format!("{{\"code\":\"{code}\",\"retryAfter\":{}}}", wait.as_millis().max(1));
    refuse_namespace(step, sessions, key, name, (hint, Some(&data)));
}

/// The policy lets the client into a namespace: it is in, once the middlewares say so too. Gives back the socket if it is in.
#[must_use]
pub(super) fn namespace_allowed(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    key: u32,
    connecting: Connecting,
) -> Option<Connected> {
    let id = step.new_address();
    if connecting.app.middlewares.is_empty() {
        return join_namespace(step, sessions, key, id, connecting);
    }
    let session = &mut sessions[key];
    let Connecting { name, app, auth, .. } = &connecting;
    let socket = handle(&step.context, name.clone(), id);
    let (middlewares, auth) = (app.middlewares.clone(), auth.clone());
    let request = PendingRequest::Middleware { key, number: session.local.number, id, connecting };
    let ticket = requests::hold(step, session, pending, request);
    step.start(Task::Middlewares { ticket, middlewares, socket, auth });
    None
}

/// The middlewares let the client into the namespace, or not.
#[must_use]
pub(super) fn middlewares_done(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    id: Address,
    connecting: Connecting,
    result: Result<(), ConnectRefused>,
) -> Option<Connected> {
    match result {
        Ok(()) => join_namespace(step, sessions, key, id, connecting),
        Err(ConnectRefused { message, data }) => {
            refuse_namespace(step, sessions, key, &connecting.name, (&message, data.as_deref()));
            None
        }
    }
}

/// The client is let into the namespace.
fn join_namespace(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    id: Address,
    Connecting { name, app, auth, principal }: Connecting,
) -> Option<Connected> {
    let session = &mut sessions[key];
    if !session.engine.is_open() || session.connection.slot(&name).is_some() {
        return None;
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
        data: Vec::new(),
        pending_acks: Default::default(),
        next_ack: 0,
        acks_timer_at: None,
    };
    let address = session.address();
    step.report(EventKind::Connect, || Event { address, ..socket.event(&name) });
    session.connection.join(name.clone(), socket);
    step.tell_of(session, "let into a namespace", || match app.is_named() {
        true => name.to_string(),
        false => head::name(&name),
    });
    session.update_rates(&step.context.config.limits);
    session.handshake = None;
    session.update_charge();
    sessions.add_socket(id, key);
    step.socket_counts.add(&name, 1);
    step.effects.submit(Command::Connected { namespace: name.clone(), socket: id });
    step.send(sessions, key, &Message::connect(&name, &id.written()));
    begin_expiry(step, key, &mut sessions[key], id);
    for handler in &app.on_connect {
        let socket = handle(&step.context, name.clone(), id);
        step.start(Task::Connected { handler: handler.clone(), socket, auth: auth.clone() });
    }
    Some(Connected { socket: id, auth })
}

/// Starts the handler of an event.
pub(super) fn start_handler(step: &mut Step, session: &Session, handler: &EventHandler, event: Incoming<'_>) {
    let socket = handle(&step.context, event.namespace, event.socket);
    let joined: Vec<&str> = event.args.iter().map(|arg| arg.get()).collect();
    let json = format!("[{}]", joined.join(","));
    let args = Args::from_raw(&json, event.attachments.to_vec()).unwrap_or_default();
    let ack = event.id.map(|id| (socket.clone(), id));
    let principal = session.principal_of(event.socket).cloned();
    let address = session.address();
    let event = socket::Event { name: event.name, args, ack, principal, address };
    step.start(Task::Event { handler: handler.clone(), socket, event });
}

/// An event's name: text, or the text of a number; empty for the event without anything.
pub(super) fn event_name(elements: &Split<'_>) -> String {
    let Some(name) = elements.first().map(|name| name.get()) else { return String::new() };
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => plain.to_owned(),
        // A name that is no valid Unicode is nobody's; its raw text serves.
        Some(escaped) => serde_json::from_str(name).unwrap_or_else(|_| escaped.to_owned()),
        None => name.to_owned(),
    }
}
