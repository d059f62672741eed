//! What every handler has: the time, what the shard knows of its node, and where it puts what is to follow.

use std::{rc::Rc, sync::Arc, time::Instant};

use signalbox_admin::events::{Event, EventKind};
use signalbox_cluster::Address;
use signalbox_rules::RuleSet;
use signalbox_socketio::Message;

use crate::app::{Action, Namespace, vocabulary};

use super::{
    context::ShardContext,
    effects::{Effect, Effects},
    lists::Lists,
    socket_counts::SocketCounts,
    story,
    tables::{Outboxes, Peer, Sessions, Timers, pending::PublishAck},
    tasks::Task,
    transfer::message::TransferMessage,
};
use crate::{routing::Location, session::Session};

/// One step of a shard: from an input until the shard waits for the next one. What a handler reads and changes besides, its signature
/// names: the tables.
pub(super) struct Step {
    /// When the input came.
    pub(super) now: Instant,
    /// When the first one came.
    began: Instant,
    pub(super) context: Rc<ShardContext>,
    pub(super) effects: Effects,
    pub(super) outboxes: Outboxes,
    pub(super) timers: Timers,
    /// Acks that wait until what this step publishes has been published.
    pub(super) publish_acks: Vec<PublishAck>,
    /// The rules of namespaces that have some.
    pub(super) rules: Option<Arc<RuleSet>>,
    pub(super) socket_counts: SocketCounts,
    pub(super) lists: Lists,
    /// When the first of the broadcasts was taken that are not written yet.
    pub(super) fanout_since: Option<Instant>,
    /// Clients that have gone since collections were shrunk.
    pub(super) clients_gone: u32,
    /// Numbers tickets, sessions, peers and probes.
    last_number: u64,
}

impl Step {
    /// Whether clients may connect to a namespace of this name.
    pub(super) fn serves(&self, app: &Namespace, name: &str) -> bool {
        !app.is_ruled || self.rules.as_ref().is_some_and(|rules| rules.serves(name))
    }

    /// What is done on an event whose rules are those of the built-in vocabulary: the same, by an action.
    pub(super) fn builtin_action(&self, event: &str, namespace: &str) -> Option<&'static Action> {
        let rules = self.rules.as_ref()?;
        rules.is_builtin(event, namespace).then(|| vocabulary::action(event)).flatten()
    }

    pub(super) fn new(now: Instant, context: ShardContext) -> Self {
        let (limit, ledger) = (context.config.outbox_limit, context.ledger.clone());
        Self {
            now,
            began: now,
            effects: Effects::default(),
            outboxes: Outboxes::new(limit, ledger, context.metrics.clone(), context.client_log.clone()),
            timers: Timers::default(),
            publish_acks: Vec::new(),
            rules: context.app.rules.clone(),
            socket_counts: SocketCounts::new(&context.config.metric_namespaces, &context.metrics),
            lists: Lists::default(),
            fanout_since: None,
            clients_gone: 0,
            last_number: 0,
            context: Rc::new(context),
        }
    }

    /// The time as rates are measured by: nanoseconds since the shard began.
    pub(super) fn nanos(&self) -> u64 {
        self.now.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// A number that nothing of this shard has had before.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The address of a new session or socket.
    pub(super) fn new_address(&self) -> Address {
        (self.context.new_address)(self.context.node, self.context.id)
    }

    /// Sends a packet to a session, if that is still there.
    pub(super) fn send(&mut self, sessions: &mut Sessions, key: u32, message: &Message) {
        if let Some(session) = sessions.get_mut(key) {
            self.outboxes.send(key, session, message, false);
        }
    }

    /// Tells what happened to a client, where it is followed.
    pub(super) fn tell(&self, session: &Session, what: &'static str, detail: &str) {
        if self.context.client_log.is_on() {
            story::session_event(&self.context.client_log, session, what, detail);
        }
    }

    /// The same, where saying it costs something.
    pub(super) fn tell_of(&self, session: &Session, what: &'static str, detail: impl FnOnce() -> String) {
        if self.context.client_log.is_on() {
            story::session_event(&self.context.client_log, session, what, &detail());
        }
    }

    /// The same of a PeerServer client.
    pub(super) fn tell_of_peer(&self, peer: &Peer, what: &'static str, detail: &str) {
        if self.context.client_log.is_on() {
            story::peer_event(&self.context.client_log, peer.who(), what, detail);
        }
    }

    /// Sends a step of a transfer to the shard at its other end.
    pub(super) fn send_transfer(&mut self, to: Location, message: TransferMessage) {
        self.effects.push(Effect::Transfer { to, message });
    }

    /// Reports what has happened, if somebody wants to know of such events.
    pub(super) fn report(&mut self, kind: EventKind, event: impl FnOnce() -> Event) {
        if self.context.events.wants(kind) {
            self.effects.push(Effect::Report(Box::new(Event { kind, ..event() })));
        }
    }

    /// Has something started beside the shard.
    pub(super) fn start(&mut self, task: Task) {
        self.effects.push(Effect::Start(task));
    }
}
