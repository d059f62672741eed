//! Engine.IO sessions: opening, packets, timers, closing.

use std::{rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use signalbox_cluster::{Address, Command};
use signalbox_engineio::{CloseReason, Packet, Transport, handshake::open_packet, session::Received};
use signalbox_socketio::Connection;
use signalbox_websocket::Frame;
use tokio::sync::oneshot;

use super::{
    State,
    calls::Task,
    session::{Session, SessionState, ShardLocal},
    timers::Timer,
};
use crate::{
    app::Socket,
    mailbox::{CloseCommand, ShardMessage},
    policy::{Handshake, Principal},
    transport::{Conn, Role},
};

impl State {
    fn new_session(
        &mut self,
        now: Instant,
        transport: Transport,
        principal: Option<Principal>,
        handshake: Handshake,
    ) -> (u32, Frame) {
        let config = &self.node.config;
        let sid = Address::random(self.node.tag, self.id);
        let engine = signalbox_engineio::Session::open(now, transport, &config.engine);
        let open = open_packet(
            &sid.written(),
            config.engine.can_upgrade(transport),
            config.engine.ping_interval,
            config.engine.ping_timeout,
            config.engine.max_payload,
        );
        let connection = Connection::new(now, config.connect_timeout);
        let number = self.next_number();
        let portable = SessionState {
            sid,
            engine,
            connection,
            principal,
            handshake: Some(Box::new(handshake)),
            blocking: 0,
            in_flight: 0,
            held_post: None,
            seen: None,
        };
        let session = Session { portable, local: ShardLocal { number, ..ShardLocal::default() } };
        let key = self.sessions.insert(session) as u32;
        self.by_sid.insert(sid, key);
        self.node.metrics.handshakes.with_label_values(&["socketio", "accepted"]).inc();
        self.count_session(transport, 1);
        self.arm(key);
        (key, Frame::text(&open))
    }

    pub(super) fn count_session(&self, transport: Transport, change: i64) {
        self.node.metrics.connections.with_label_values(&["socketio", transport.name()]).add(change);
    }

    /// Opens a session by a polling handshake; the body is its answer.
    pub(crate) fn open_polling(
        &mut self,
        now: Instant,
        principal: Option<Principal>,
        handshake: Handshake,
    ) -> (Address, String) {
        let (key, open) = self.new_session(now, Transport::Polling, principal, handshake);
        let session = &mut self.sessions[key as usize];
        session.engine.send(open);
        (session.sid, session.engine.reply().unwrap_or_default())
    }

    /// Opens a session on a WebSocket.
    pub(crate) fn open_websocket(
        &mut self,
        now: Instant,
        conn: &Rc<Conn>,
        principal: Option<Principal>,
        handshake: Handshake,
    ) {
        let (key, open) = self.new_session(now, Transport::WebSocket, principal, handshake);
        conn.owner.set(Role::Session(key));
        self.sessions[key as usize].local.conn = Some(conn.clone());
        self.push(conn, &open);
    }

    pub(super) fn find_session(&self, sid: Address) -> Option<u32> {
        self.by_sid.get(&sid).copied()
    }

    /// Whether the session with this key is still the one with this number.
    pub(super) fn session(&mut self, key: u32, number: u64) -> Option<&mut Session> {
        self.sessions.get_mut(key as usize).filter(|session| session.local.number == number)
    }

    /// Queues a timer for the session's deadline, unless an earlier one is queued already.
    pub(super) fn arm(&mut self, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let Some(deadline) = session.deadline() else { return };
        if session.local.timer_at.is_none_or(|at| deadline < at) {
            session.local.timer_at = Some(deadline);
            self.timers.add(deadline, Timer::Session { key, number: session.local.number });
        }
    }

    pub(super) fn session_timer(&mut self, now: Instant, at: Instant, key: u32, number: u64) {
        let node = self.node.clone();
        let Some(session) = self.session(key, number) else { return };
        if session.local.timer_at != Some(at) {
            return;
        }
        session.local.timer_at = None;
        if session.seen.as_ref().is_some_and(|known| known.until <= now) {
            session.seen = None;
        }
        if session.connection.deadline().is_some_and(|connect_by| connect_by <= now) {
            self.end(now, key, CloseCommand::Close);
            return;
        }
        let due = session.engine.tick(now, &node.config.engine);
        let abandoned = session.local.probe.filter(|_| due.abandon_upgrade);
        let conn = session.local.conn.clone();
        if let (Some(frame), Some(conn)) = (due.write, conn) {
            self.push(&conn, &frame);
        }
        if let Some(at) = abandoned {
            self.abandon_upgrade(now, key, at);
            node.close_probe(at);
        }
        self.after_engine(now, key);
        self.arm(key);
    }

    /// A packet of the session has arrived on its transport.
    pub(super) fn receive(&mut self, now: Instant, key: u32, packet: Packet<'_>) {
        let node = self.node.clone();
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        match session.engine.receive(now, &node.config.engine, packet) {
            Received::Message(text) => {
                self.counters.received += 1;
                self.text(now, key, text);
            }
            Received::Binary(bytes) => {
                self.counters.received += 1;
                self.binary(now, key, Bytes::copy_from_slice(&bytes));
            }
            Received::Nothing => {}
        }
        self.after_engine(now, key);
    }

    /// Lists the session for its pending GET, and ends it if the engine closed it.
    pub(super) fn after_engine(&mut self, now: Instant, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        if let Some(reason) = session.engine.closed() {
            self.end(now, key, CloseCommand::Lost(reason));
            return;
        }
        self.list_reply(key);
    }

    /// Notes that the session's pending GET may have a body.
    pub(super) fn list_reply(&mut self, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        if session.local.poll.is_some() && !session.local.is_dirty {
            session.local.is_dirty = true;
            self.to_reply.push((key, session.local.number));
        }
    }

    /// Answers the GETs that have something to be answered with.
    pub(super) fn answer_polls(&mut self) {
        for (key, number) in std::mem::take(&mut self.to_reply) {
            let Some(session) = self.session(key, number) else { continue };
            session.local.is_dirty = false;
            if session.local.poll.is_none() {
                continue;
            }
            let Some(body) = session.engine.reply() else { continue };
            let poll = session.local.poll.take();
            self.account_session(key);
            if poll.is_none_or(|poll| poll.send(body).is_err()) {
                // The GET was given up this very moment, and the packets with it.
                self.end(Instant::now(), key, CloseCommand::Lost(CloseReason::TransportError));
            }
        }
    }

    /// Ends a session, or begins to.
    pub(super) fn end(&mut self, now: Instant, key: u32, end: CloseCommand) {
        let node = self.node.clone();
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        match end {
            CloseCommand::Lost(reason) => session.engine.transport_lost(reason),
            CloseCommand::Close => session.engine.close(now, &node.config.engine),
        }
        let Some(reason) = session.engine.closed() else {
            // Polling: the client fetches the close packet with its next GET. For the application the client is gone.
            self.leave_namespaces(now, key, CloseReason::ForcedClose);
            self.list_reply(key);
            self.arm(key);
            return;
        };
        self.close_session(now, key, reason);
    }

    fn close_session(&mut self, now: Instant, key: u32, reason: CloseReason) {
        self.leave_namespaces(now, key, reason);
        let node = self.node.clone();
        self.stop_moving(key);
        let mut session = self.sessions.remove(key as usize);
        self.client_gone();
        self.by_sid.remove(&session.sid);
        self.count_session(session.engine.transport(), -1);
        node.metrics.disconnects.with_label_values(&["socketio", &reason.to_string()]).inc();
        self.account(-(session.local.accounted as isize));
        if let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.reply()) {
            let _ = poll.send(body);
        }
        if let Some(conn) = session.local.conn.take() {
            let code = (reason == CloseReason::ServerShuttingDown).then_some(1001);
            conn.close(&Frame::close(code));
            self.mark_dirty(&conn);
        }
        if let Some(at) = session.local.probe.take() {
            node.close_probe(at);
        }
        self.forget_at_birthplace(session.sid);
    }

    /// Takes the client out of all its namespaces.
    fn leave_namespaces(&mut self, now: Instant, key: u32, reason: CloseReason) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let sockets = session.connection.leave_all();
        for joined in sockets {
            self.socket_gone(now, joined, &reason.to_string());
        }
    }

    /// A socket's end: it leaves its rooms, nobody finds it any more, its handlers are told.
    pub(super) fn socket_gone(
        &mut self,
        now: Instant,
        joined: signalbox_socketio::Joined<super::session::Socket>,
        reason: &str,
    ) {
        let socket = joined.socket;
        self.sockets.remove(&socket.id);
        self.forget_at_birthplace(socket.id);
        for room in &socket.rooms {
            self.leave_room(now, *room, socket.id);
        }
        self.disconnected(now, &joined.namespace, &socket, reason);
    }

    /// A socket is gone: it is no user any more, and its handlers are told.
    pub(super) fn disconnected(
        &mut self,
        now: Instant,
        namespace: &Arc<str>,
        socket: &super::session::Socket,
        reason: &str,
    ) {
        let gone = Command::Disconnected { namespace: namespace.clone(), socket: socket.id };
        self.node.cluster.submit(now, gone);
        for handler in &socket.app.on_disconnect {
            let (handler, reason) = (handler.clone(), reason.to_owned());
            let socket = Socket { node: self.node.clone(), namespace: namespace.clone(), id: socket.id };
            self.calls.push(Task::Disconnected { handler, socket, reason });
        }
    }

    /// The node drains: the transports of some clients are closed, so that they reconnect, to another node. What this shard has too
    /// few for is the next one's, or the pace would be lost where one shard has most clients.
    pub(super) fn drain(&mut self, now: Instant, sessions: usize, peers: usize, turns: usize) {
        // One that is about to go by itself, or between two polls with something to fetch, has its turn later.
        let has_time = |session: &Session| {
            let is_between = session.engine.buffered() > 0 && session.local.poll.is_none();
            !session.local.is_moving && !is_between
        };
        let ready = self.sessions.iter().filter(|(_, session)| has_time(session));
        let keys: Vec<u32> = ready.map(|(key, _)| key as u32).take(sessions).collect();
        let sessions = sessions - keys.len();
        for key in keys {
            self.end(now, key, CloseCommand::Lost(CloseReason::ServerShuttingDown));
        }
        let keys: Vec<u32> = self.peers.iter().map(|(key, _)| key as u32).take(peers).collect();
        let peers = peers - keys.len();
        for key in keys {
            self.end_peer(now, key, "server shutting down", &Frame::close(Some(1001)));
        }
        if sessions + peers > 0 && turns > 0 {
            let next = (usize::from(self.id) + 1) % self.node.inboxes.len();
            self.node.inboxes.push(next as u8, ShardMessage::Drain { sessions, peers, turns: turns - 1 });
        }
    }

    /// The node stops: every client's transport is closed.
    pub(super) fn stop(&mut self, now: Instant) {
        let sessions: Vec<u32> = self.sessions.iter().map(|(key, _)| key as u32).collect();
        for key in sessions {
            self.end(now, key, CloseCommand::Lost(CloseReason::ServerShuttingDown));
        }
        let peers: Vec<u32> = self.peers.iter().map(|(key, _)| key as u32).collect();
        for key in peers {
            self.end_peer(now, key, "server shutting down", &Frame::close(Some(1001)));
        }
        let probes: Vec<_> = self.probes.drain().collect();
        for probe in probes {
            probe.conn.close(&Frame::close(Some(1001)));
            self.mark_dirty(&probe.conn);
        }
    }

    /// Begins to wait on a GET for the session.
    pub(super) fn wait_for_reply(&mut self, key: u32) -> Option<oneshot::Receiver<String>> {
        let session = self.sessions.get_mut(key as usize)?;
        let (reply, body) = oneshot::channel();
        session.local.poll = Some(reply);
        self.list_reply(key);
        Some(body)
    }
}
