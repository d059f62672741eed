//! Clients that are cut off: they read too slowly, or the node holds more than its budget.

use std::sync::Arc;

use signalbox_admin::events::{Event, EventKind, Protocol};
use signalbox_engineio::CloseReason;
use signalbox_telemetry::CLIENT_EVENTS;

use crate::{
    ledger::Account,
    session::Session,
    shard::{
        Shard,
        mailbox::CloseCommand,
        tables::{Evicted, Peers, Probes, Sessions},
    },
    transport::Role,
};

impl Shard {
    /// Cuts off the client that has this account.
    pub(in crate::shard) fn evict_for_budget(&mut self, account: &Arc<Account>) {
        if let Some(who) = client_of(&self.sessions, &self.peers, &self.probes, account) {
            self.step.outboxes.evict(who, "memory_budget");
        }
        self.evict();
        self.step.context.ledger.evicted();
    }

    /// Cuts off who is to be cut off.
    pub(in crate::shard) fn evict(&mut self) {
        for (who, reason) in self.step.outboxes.take_evicted() {
            let conn = match who {
                Evicted::Session { key, number } => match self.sessions.checked(key, number) {
                    Some(session) => session.local.conn.clone().ok_or(key),
                    None => continue,
                },
                Evicted::Conn(conn) if conn.role.get() == Role::Nobody => continue,
                Evicted::Conn(conn) => Ok(conn),
            };
            self.step.context.metrics.evictions.with_label_values(&[reason]).inc();
            let address = match &conn {
                Ok(conn) => conn.address(),
                Err(key) => self.sessions.get_mut(*key).and_then(|session| session.address()),
            };
            tracing::debug!(target: CLIENT_EVENTS, address = address.map(tracing::field::display), reason, "client cut off");
            let Self { step, sessions, peers, .. } = self;
            let context = step.context.clone();
            let role = conn.as_ref().map_or_else(|key| Role::Session(*key), |conn| conn.role.get());
            if let Role::Session(key) = role
                && let Some(session) = sessions.get(key)
            {
                step.tell(session, "cut off", reason);
            }
            step.report(EventKind::Evict, || {
                let known = match role {
                    Role::Session(key) => sessions.get(key).map(event_of),
                    Role::Peer(key) => peers.get_mut(key).map(|peer| peer.event(&context)),
                    _ => None,
                };
                Event { address, reason: Some(reason.to_owned()), ..known.unwrap_or_default() }
            });
            match conn {
                Ok(conn) => {
                    let role = conn.role.get();
                    self.step.outboxes.abort(&conn);
                    self.connection_lost(role, CloseReason::TransportError);
                }
                Err(key) => self.end(key, CloseCommand::Lost(CloseReason::TransportError)),
            }
        }
    }
}

/// What is known of a client of Socket.IO. It may be in several namespaces: the first one stands for all.
fn event_of(session: &Session) -> Event {
    let first = session.connection.sockets().first();
    first.map_or_else(
        || Event { protocol: Some(Protocol::Socketio), ..Event::default() },
        |joined| joined.socket.event(&joined.namespace),
    )
}

/// The client that has an account. Looking through all is fine: it happens once per client that is cut off.
fn client_of(sessions: &Sessions, peers: &Peers, probes: &Probes, account: &Arc<Account>) -> Option<Evicted> {
    let mut of_account = sessions.iter().filter(|(_, session)| session.is_of(account));
    if let Some((key, session)) = of_account.next() {
        return Some(Evicted::Session { key, number: session.local.number });
    }
    let conns = peers.iter().map(|(_, peer)| &peer.conn);
    let conn = conns.chain(probes.conns()).find(|conn| conn.is_of(account))?;
    Some(Evicted::Conn(conn.clone()))
}
