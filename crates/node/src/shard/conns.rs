//! What connections bring, and what happens when they end.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use signalbox_cluster::Address;
use signalbox_engineio::{CloseReason, Packet};
use signalbox_websocket::{Frame, Message};

use super::{
    Shard,
    effects::Effect,
    mailbox::{CloseCommand, Request},
    tables::Timer,
};
use crate::{
    routing::{ConnectionRef, Location},
    transport::{Conn, Role},
};

/// How much longer than an upgrade may take a WebSocket waits for word of the session's node, which gives up upgrades by itself.
/// Without an end it would wait for ever: it is not read meanwhile, so that nobody would notice that its client has gone.
const PROBE_GRACE: Duration = Duration::from_secs(5);

impl Shard {
    /// A message has arrived on a connection.
    pub(crate) fn connection_message(&mut self, now: Instant, conn: &Rc<Conn>, message: Message<'_>) {
        match conn.role.get() {
            Role::Session(key) => self.session_message(now, key, message),
            Role::Probe(key) => self.probe_message(key, message),
            Role::Peer(key) => self.peer_message(now, key, message),
            Role::Superseded(key) if matches!(message, Message::Close(_)) => {
                conn.role.set(Role::Nobody);
                self.superseded_peer_answered(key);
            }
            Role::Superseded(_) => {}
            Role::Nobody => {}
        }
    }

    /// The connection itself has a ping to answer.
    pub(crate) fn connection_push_pong(&mut self, conn: &Rc<Conn>, pong: &Frame) {
        self.outboxes.push_pong(conn, pong);
    }

    /// The connection is lost; `role` is what it belonged to.
    pub(crate) fn lost(&mut self, now: Instant, role: Role, reason: CloseReason) {
        match role {
            Role::Session(key) => self.end(now, key, CloseCommand::Lost(reason)),
            Role::Probe(key) => self.probe_lost(key),
            Role::Peer(key) => self.end_peer(key, &reason.to_string(), &Frame::close(None)),
            Role::Superseded(key) => drop(self.peers.remove_superseded(key)),
            Role::Nobody => {}
        }
    }

    pub(crate) fn received_bytes(&mut self, count: usize) {
        self.outboxes.count_received_bytes(count);
    }

    /// Deliveries so far; tells how many a message has caused.
    pub(crate) fn deliveries(&self) -> u64 {
        self.outboxes.deliveries()
    }

    fn session_message(&mut self, now: Instant, key: u32, message: Message<'_>) {
        match message {
            Message::Text(text) => match Packet::decode(text) {
                Ok(packet) => self.receive(now, key, packet),
                Err(_) => {
                    self.sessions[key].engine.receive_invalid();
                    self.after_engine(now, key);
                }
            },
            Message::Binary(bytes) => self.receive(now, key, Packet::Binary(bytes.into())),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    /// A WebSocket wants to take a session over; it is known here before the session's owner is asked.
    pub(crate) fn open_probe(&mut self, now: Instant, conn: &Rc<Conn>, sid: Address) -> ConnectionRef {
        let number = self.next_number();
        let connection = self.probes.insert(conn, sid, number);
        let timeout = self.context.config.engine.upgrade_timeout.saturating_add(PROBE_GRACE);
        self.timers.add_after(now, timeout, Timer::Probe { key: connection.key, number });
        connection
    }

    /// Hands a request to the session's owner. The upgrade's own steps are few, and a session that is half upgraded would be worse
    /// than a deep mailbox, so they are never refused.
    fn relay_to_owner(&mut self, sid: Address, request: Request) {
        let to = match self.context.addresses.shard_of(sid) {
            Some(shard) => Location { node: self.context.node, shard },
            None => Location::birth(sid),
        };
        self.effects.push(Effect::Relay { to, request });
    }

    fn probe_message(&mut self, key: u32, message: Message<'_>) {
        let Some(connection) = self.probes.name(key) else { return };
        let Some(probe) = self.probes.get(connection) else { return };
        let (sid, conn) = (probe.sid, probe.conn.clone());
        let Message::Text(text) = message else {
            if matches!(message, Message::Binary(_)) {
                self.refuse_probe(sid, connection);
            }
            return;
        };
        match Packet::decode(text) {
            Ok(Packet::Ping("probe")) => {
                let is_first = !std::mem::replace(&mut probe.is_probed, true);
                self.outboxes.push(&conn, &Frame::text(signalbox_engineio::packet::PROBE_PONG));
                if is_first {
                    self.relay_to_owner(sid, Request::Probed { sid, connection });
                }
            }
            Ok(Packet::Upgrade) => {
                // Whatever the client sends from now on waits for the session to be here.
                conn.pause();
                self.relay_to_owner(sid, Request::Upgrade { sid, connection });
            }
            _ => self.refuse_probe(sid, connection),
        }
    }

    /// The session has not come, and nobody has said that it will not: its node is gone, and its client waits in vain.
    pub(super) fn probe_timed_out(&mut self, key: u32, number: u64) {
        if self.probes.name(key).is_some_and(|connection| connection.number == number) {
            self.probe_lost(key);
        }
    }

    fn probe_lost(&mut self, key: u32) {
        let Some(connection) = self.probes.name(key) else { return };
        if let Some(sid) = self.probes.get(connection).map(|probe| probe.sid) {
            self.refuse_probe(sid, connection);
        }
    }

    /// Closes a WebSocket that broke the rules or is lost, and tells the session's owner.
    fn refuse_probe(&mut self, sid: Address, connection: ConnectionRef) {
        self.close_probe(connection);
        self.relay_to_owner(sid, Request::AbandonUpgrade { sid, connection });
    }

    /// Closes a WebSocket that is not to take a session over.
    pub(crate) fn close_probe(&mut self, connection: ConnectionRef) {
        let Some(probe) = self.probes.remove(connection) else { return };
        if !probe.conn.is_connected() {
            // Its handshake is not answered, and will be refused.
            probe.conn.abort();
            return;
        }
        probe.conn.resume();
        probe.conn.close(&Frame::close(None));
        self.outboxes.mark_dirty(&probe.conn);
    }
}
