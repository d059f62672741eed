//! How sessions and sockets end: deadlines, and everything that has to be told.

use std::sync::Arc;

use signalbox_admin::events::{Event, EventKind};
use signalbox_cluster::{Address, Command};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_socketio::Joined;
use signalbox_telemetry::CLIENT_EVENTS;
use signalbox_websocket::Frame;

use super::{
    acks,
    context::ShardContext,
    effects::Effect,
    mailbox::{CloseCommand, ShardMessage},
    membership, rules,
    step::Step,
    subjects,
    tables::{Rooms, Sessions, Timer},
    tasks::Task,
    transfer::{message::TransferMessage, table::Transfers},
};
use crate::{
    app,
    routing::Location,
    session::{Session, Socket},
};

/// Counts sessions on a transport.
pub(super) fn count_session(context: &ShardContext, transport: Transport, change: i64) {
    context.metrics.connections.with_label_values(&["socketio", transport.name()]).add(change);
}

/// Queues a timer for the session's deadline, unless an earlier one is queued already. It fires after a ping interval at the latest: a
/// pong that arrives meanwhile has the next ping due from then on, and queues no timer.
pub(super) fn arm(step: &mut Step, key: u32, session: &mut Session) {
    let latest = step.now.checked_add(step.context.config.engine.ping_interval);
    let Some(deadline) = session.deadline() else { return };
    let deadline = latest.map_or(deadline, |latest| deadline.min(latest));
    if session.local.timer_at.is_none_or(|at| deadline < at) {
        session.local.timer_at = Some(deadline);
        step.timers.add(deadline, Timer::Session { key, number: session.local.number });
    }
}

/// Ends the session, or begins to, if a deadline has passed: its timer may be a moment late. Returns whether the session is over.
pub(super) fn expire(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
) -> bool {
    let Some(session) = sessions.get_mut(key) else { return true };
    session.engine.expire(step.now);
    if let Some(reason) = session.engine.closed() {
        end(step, sessions, rooms, transfers, key, CloseCommand::Lost(reason));
        return true;
    }
    if session.local.half_event.as_ref().is_some_and(|half| half.progress.until() <= step.now) {
        step.context.metrics.connections_dropped.with_label_values(&["message_timeout"]).inc();
        let lost = CloseCommand::Lost(CloseReason::TransportError);
        end(step, sessions, rooms, transfers, key, lost);
        return true;
    }
    if session.connection.deadline().is_some_and(|connect_by| connect_by <= step.now) {
        end(step, sessions, rooms, transfers, key, CloseCommand::Close);
        return sessions.get_mut(key).is_none();
    }
    false
}

/// Notes that the session's pending GET may have a body, and ends the session if the engine closed it.
pub(super) fn after_engine(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
) {
    let Some(session) = sessions.get_mut(key) else { return };
    match session.engine.closed() {
        Some(reason) => end(step, sessions, rooms, transfers, key, CloseCommand::Lost(reason)),
        None => step.outboxes.mark_poll_dirty(key, session),
    }
}

/// Ends a session, or begins to.
pub(super) fn end(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    command: CloseCommand,
) {
    let Some(session) = sessions.get_mut(key) else { return };
    match command {
        CloseCommand::Lost(reason) => session.engine.transport_lost(reason),
        CloseCommand::Close => session.engine.close(step.now, &step.context.config.engine),
    }
    if let Some(reason) = session.engine.closed() {
        close_session(step, sessions, rooms, transfers, key, reason);
        return;
    }
    // Polling: the client fetches the close packet with its next GET. For the application the client is gone.
    leave_namespaces(step, sessions, rooms, key, CloseReason::ForcedClose);
    if let Some(session) = sessions.get_mut(key) {
        step.outboxes.mark_poll_dirty(key, session);
        arm(step, key, session);
    }
}

fn close_session(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    reason: CloseReason,
) {
    if let Some(session) = sessions.get_mut(key) {
        step.tell(session, "disconnected", &reason.to_string());
    }
    leave_namespaces(step, sessions, rooms, key, reason);
    stop_transfer(step, &mut sessions[key], transfers);
    let mut session = sessions.remove(key);
    step.clients_gone += 1;
    count_session(&step.context, session.engine.transport(), -1);
    step.context.metrics.disconnects.with_label_values(&["socketio", &reason.to_string()]).inc();
    let address = session.address().map(tracing::field::display);
    tracing::debug!(target: CLIENT_EVENTS, address, protocol = "socketio", %reason, "client disconnected");
    if let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.reply()) {
        step.effects.answer(poll, Ok(body));
    }
    if let Some(conn) = session.local.conn.take() {
        let code = (reason == CloseReason::ServerShuttingDown).then_some(1001);
        step.outboxes.close(&conn, &Frame::close(code));
    }
    if let Some(at) = session.local.probe.take() {
        step.effects.push(Effect::CloseProbe(at));
    }
    forget_at_birthplace(step, session.sid);
}

/// Takes the client out of all its namespaces.
fn leave_namespaces(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    key: u32,
    reason: CloseReason,
) {
    let Some(session) = sessions.get_mut(key) else { return };
    subjects::session_ended(step, session);
    for joined in session.connection.leave_all() {
        socket_gone(step, sessions, rooms, joined, &reason.to_string(), None);
    }
}

/// A socket's end: it leaves its rooms, nobody finds it any more, its handlers are told.
pub(super) fn socket_gone(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    joined: Joined<Socket>,
    reason: &str,
    cause: Option<&str>,
) {
    rules::disconnecting(step, sessions, rooms, &joined, reason);
    let socket = joined.socket;
    sessions.remove_socket(socket.id);
    step.socket_counts.add(&joined.namespace, -1);
    acks::count_unanswered(step, &socket);
    forget_at_birthplace(step, socket.id);
    for room in &socket.rooms {
        membership::report(step, EventKind::Leave, rooms, *room, &socket);
        membership::leave_room(step, rooms, *room, socket.id);
    }
    disconnected(step, &joined.namespace, &socket, reason, cause);
}

/// A socket is gone: it is no user any more, and its handlers are told the reason. Who listens to what happens is told the cause, where
/// clients' libraries have no word for it.
pub(super) fn disconnected(
    step: &mut Step,
    namespace: &Arc<str>,
    socket: &Socket,
    reason: &str,
    cause: Option<&str>,
) {
    let told = cause.unwrap_or(reason);
    step.report(EventKind::Disconnect, || Event { reason: Some(told.to_owned()), ..socket.event(namespace) });
    step.effects.submit(Command::Disconnected { namespace: namespace.clone(), socket: socket.id });
    for handler in &socket.app.on_disconnect {
        let (handler, reason) = (handler.clone(), reason.to_owned());
        let router = step.context.router.clone();
        let socket = app::Socket { router, namespace: namespace.clone(), id: socket.id };
        step.start(Task::Disconnected { handler, socket, reason });
    }
}

/// The session will not move. What waited for the end of its transfer goes on here.
fn stop_transfer(step: &mut Step, session: &mut Session, transfers: &mut Transfers) {
    let sid = session.sid;
    let Some(connection) = session.local.upgrade_to.take() else { return };
    let deferred = std::mem::take(&mut session.local.deferred);
    if std::mem::take(&mut session.local.is_transferring) {
        if transfers.outgoing.remove(&sid).is_some() {
            step.context.metrics.session_transfers_failed.with_label_values(&["client_gone"]).inc();
        }
        step.send_transfer(connection.location(), TransferMessage::Cancelled { sid, connection });
    }
    for command in deferred {
        step.effects.send(step.context.id, ShardMessage::SocketCommand(command));
    }
}

/// A session or socket that was born elsewhere is over: nobody needs to forward to it.
fn forget_at_birthplace(step: &mut Step, address: Address) {
    let birth = Location::birth(address);
    if birth != step.context.location() {
        step.effects.push(Effect::Forget { birth, address });
    }
}
