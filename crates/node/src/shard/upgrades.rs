//! WebSockets that want to take a session over, until they do or are closed.

use std::{rc::Rc, time::Duration};

use signalbox_cluster::Address;
use signalbox_engineio::Packet;
use signalbox_websocket::{Frame, Message};

use super::{
    context::ShardContext,
    effects::Effect,
    mailbox::Request,
    step::Step,
    tables::{Probes, Timer},
};
use crate::{
    routing::{ConnectionRef, Location},
    transport::Conn,
};

/// How much longer than an upgrade may take a WebSocket waits for word of the session's node, which gives up upgrades by itself.
/// Without an end it would wait for ever: it is not read meanwhile, so that nobody would notice that its client has gone.
const PROBE_GRACE: Duration = Duration::from_secs(5);

/// A WebSocket wants to take a session over; it is known here before the session's owner is asked.
pub(super) fn open_probe(
    step: &mut Step,
    probes: &mut Probes,
    conn: &Rc<Conn>,
    sid: Address,
) -> ConnectionRef {
    let number = step.next_number();
    let connection = probes.insert(conn, sid, number);
    let timeout = step.context.config.engine.upgrade_timeout.saturating_add(PROBE_GRACE);
    step.timers.add_after(step.now, timeout, Timer::Probe { key: connection.key, number });
    connection
}

/// Where a session is, as far as this node knows.
fn owner(context: &ShardContext, sid: Address) -> Location {
    match context.addresses.shard_of(sid) {
        Some(shard) => Location { node: context.node, shard },
        None => Location::birth(sid),
    }
}

/// Hands a request to the session's owner. The upgrade's own steps are few, and a session that is half upgraded would be worse than a
/// deep mailbox, so they are never refused.
fn relay_to_owner(step: &mut Step, sid: Address, request: Request) {
    let to = owner(&step.context, sid);
    step.effects.push(Effect::Relay { to, request });
}

/// A message has arrived on a probe.
pub(super) fn probe_message(step: &mut Step, probes: &mut Probes, key: u32, message: Message<'_>) {
    let Some(connection) = probes.name(key) else { return };
    let Some(probe) = probes.get(connection) else { return };
    let sid = probe.sid;
    let Message::Text(text) = message else {
        if matches!(message, Message::Binary(_)) {
            refuse_probe(step, probes, sid, connection);
        }
        return;
    };
    match Packet::decode(text) {
        Ok(Packet::Ping("probe")) => {
            let is_first = !std::mem::replace(&mut probe.is_probed, true);
            step.outboxes.push(&probe.conn, &Frame::text(signalbox_engineio::packet::PROBE_PONG));
            if is_first {
                relay_to_owner(step, sid, Request::Probed { sid, connection });
            }
        }
        Ok(Packet::Upgrade) => {
            // Whatever the client sends from now on waits for the session to be here.
            probe.conn.pause();
            relay_to_owner(step, sid, Request::Upgrade { sid, connection });
        }
        _ => refuse_probe(step, probes, sid, connection),
    }
}

/// The session has not come, and nobody has said that it will not: its node is gone, and its client waits in vain.
pub(super) fn probe_timed_out(step: &mut Step, probes: &mut Probes, key: u32, number: u64) {
    if probes.name(key).is_some_and(|connection| connection.number == number) {
        probe_lost(step, probes, key);
    }
}

/// The connection of a probe is lost.
pub(super) fn probe_lost(step: &mut Step, probes: &mut Probes, key: u32) {
    let Some(connection) = probes.name(key) else { return };
    if let Some(sid) = probes.get(connection).map(|probe| probe.sid) {
        refuse_probe(step, probes, sid, connection);
    }
}

/// Closes a WebSocket that broke the rules or is lost, and tells the session's owner.
fn refuse_probe(step: &mut Step, probes: &mut Probes, sid: Address, connection: ConnectionRef) {
    close_probe(step, probes, connection);
    relay_to_owner(step, sid, Request::AbandonUpgrade { sid, connection });
}

/// Closes a WebSocket that is not to take a session over.
pub(super) fn close_probe(step: &mut Step, probes: &mut Probes, connection: ConnectionRef) {
    let Some(probe) = probes.remove(connection) else { return };
    if !probe.conn.is_connected() {
        // Its handshake is not answered, and will be refused.
        step.outboxes.abort(&probe.conn);
        return;
    }
    step.outboxes.resume(&probe.conn);
    step.outboxes.close(&probe.conn, &Frame::close(None));
}
