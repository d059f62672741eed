//! Engine.IO sessions: opening, packets, timers, closing.

use std::{rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use signalbox_cluster::{Address, Command};
use signalbox_engineio::{
    CloseReason, Packet, Transport,
    handshake::{Query, open_packet},
    session::Received,
};
use signalbox_socketio::Connection;
use signalbox_telemetry::CLIENT_EVENTS;
use signalbox_websocket::Frame;

use super::{
    Shard,
    effects::Effect,
    mailbox::{CloseCommand, Request, ShardMessage},
    tables::Timer,
    tasks::Task,
};
use crate::{
    app,
    ledger::{Account, Charge, Home},
    policy::{Handshake, Principal},
    protocol::RequestRefused,
    session::{HalfEvent, Session, SessionState, ShardLocal, Socket},
    transport::{Conn, Pace, Progress, Role},
};

impl Shard {
    fn new_session(
        &mut self,
        now: Instant,
        transport: Transport,
        principal: Option<Arc<Principal>>,
        mut handshake: Handshake,
        account: Arc<Account>,
    ) -> (u32, Frame) {
        let config = &self.context.config;
        let sid = self.new_address();
        let engine = signalbox_engineio::Session::open(now, transport, &config.engine);
        let open = open_packet(
            &sid.written(),
            config.engine.can_upgrade(transport),
            config.engine.ping_interval,
            config.engine.ping_timeout,
            config.engine.max_payload,
        );
        let connection = Connection::new(now, config.connect_timeout);
        let policy = &self.context.policy;
        handshake.headers.retain(|(name, _)| policy.keeps_header(name));
        handshake.headers.shrink_to_fit();
        if !policy.keeps_query() {
            handshake.query = String::new();
        }
        let number = self.next_number();
        let address = handshake.address;
        let state = SessionState {
            sid,
            engine,
            connection,
            principal,
            handshake: Some(Box::new(handshake)),
            blocking: 0,
            in_flight: 0,
            held_post: None,
            dedup: None,
        };
        let charge = Some(Charge::new(account));
        let session =
            Session { state, local: ShardLocal { number, address, charge, ..ShardLocal::default() } };
        session.settle();
        let key = self.sessions.insert(session);
        self.context.metrics.handshakes.with_label_values(&["socketio", "accepted"]).inc();
        self.count_session(transport, 1);
        self.arm(now, key);
        (key, Frame::text(&open))
    }

    pub(super) fn count_session(&self, transport: Transport, change: i64) {
        self.context.metrics.connections.with_label_values(&["socketio", transport.name()]).add(change);
    }

    /// Opens a session by a polling handshake; the body is its answer.
    pub(crate) fn open_polling(
        &mut self,
        now: Instant,
        principal: Option<Arc<Principal>>,
        handshake: Handshake,
    ) -> (Address, String) {
        let account = self.context.ledger.account(handshake.address, Home::Shard(self.context.id));
        let (key, open) = self.new_session(now, Transport::Polling, principal, handshake, account);
        let session = &mut self.sessions[key];
        session.engine.send(open);
        (session.sid, session.engine.reply().unwrap_or_default())
    }

    /// Opens a session on a WebSocket.
    pub(crate) fn open_websocket(
        &mut self,
        now: Instant,
        conn: &Rc<Conn>,
        principal: Option<Arc<Principal>>,
        handshake: Handshake,
    ) {
        conn.is_text_only.set(Query::parse(&handshake.query).b64);
        let shard = self.context.id;
        let account = conn.account().cloned();
        let account =
            account.unwrap_or_else(|| self.context.ledger.account(handshake.address, Home::Shard(shard)));
        let (key, open) = self.new_session(now, Transport::WebSocket, principal, handshake, account);
        conn.role.set(Role::Session(key));
        self.sessions[key].local.conn = Some(conn.clone());
        self.outboxes.push(conn, &open);
    }

    /// Queues a timer for the session's deadline, unless an earlier one is queued already. It fires after a ping interval at the
    /// latest: a pong that arrives meanwhile has the next ping due from then on, and queues no timer.
    pub(super) fn arm(&mut self, now: Instant, key: u32) {
        let latest = now.checked_add(self.context.config.engine.ping_interval);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(deadline) = session.deadline() else { return };
        let deadline = latest.map_or(deadline, |latest| deadline.min(latest));
        if session.local.timer_at.is_none_or(|at| deadline < at) {
            session.local.timer_at = Some(deadline);
            self.timers.add(deadline, Timer::Session { key, number: session.local.number });
        }
    }

    pub(super) fn session_timer(&mut self, now: Instant, at: Instant, key: u32, number: u64) {
        let context = self.context.clone();
        let Some(session) = self.sessions.checked(key, number) else { return };
        if session.local.timer_at != Some(at) {
            return;
        }
        session.local.timer_at = None;
        if session.dedup.as_ref().is_some_and(|known| known.until <= now) {
            session.dedup = None;
        }
        if self.expire(now, key) {
            return;
        }
        let session = &mut self.sessions[key];
        let due = session.engine.tick(now, &context.config.engine);
        let abandoned = session.local.probe.filter(|_| due.abandon_upgrade);
        let conn = session.local.conn.clone();
        if let (Some(frame), Some(conn)) = (due.write, conn) {
            self.outboxes.push(&conn, &frame);
        }
        if let Some(at) = abandoned {
            self.abandon_upgrade(now, key, at);
            self.effects.push(Effect::CloseProbe(at));
        }
        self.after_engine(now, key);
        self.arm(now, key);
    }

    /// Ends the session, or begins to, if a deadline has passed: its timer may be a moment late. Returns whether the session is over.
    pub(super) fn expire(&mut self, now: Instant, key: u32) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return true };
        session.engine.expire(now);
        if let Some(reason) = session.engine.closed() {
            self.end(now, key, CloseCommand::Lost(reason));
            return true;
        }
        if session.local.half_event.as_ref().is_some_and(|half| half.progress.until() <= now) {
            self.context.metrics.connections_dropped.with_label_values(&["message_timeout"]).inc();
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
            return true;
        }
        if session.connection.deadline().is_some_and(|connect_by| connect_by <= now) {
            self.end(now, key, CloseCommand::Close);
            return self.sessions.get_mut(key).is_none();
        }
        false
    }

    /// A packet of the session has arrived on its transport.
    pub(super) fn receive(&mut self, now: Instant, key: u32, packet: Packet<'_>) {
        let context = self.context.clone();
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Packet::Pong(_) = packet
            && let Some(pinged) = session.engine.pinged(&context.config.engine)
        {
            context.metrics.ping_seconds.observe(now.saturating_duration_since(pinged).as_secs_f64());
        }
        match session.engine.receive(now, &context.config.engine, packet) {
            Received::Message(text) => {
                self.outboxes.count_received();
                self.text(now, key, text);
            }
            Received::Binary(bytes) => {
                self.outboxes.count_received();
                self.binary(now, key, Bytes::copy_from_slice(&bytes));
            }
            Received::Nothing => {}
        }
        self.watch_half_event(now, key);
        self.after_engine(now, key);
    }

    /// An event whose attachments have not all arrived has a deadline, which moves as they arrive.
    pub(super) fn watch_half_event(&mut self, now: Instant, key: u32) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let bytes = session.connection.buffered();
        if bytes == 0 {
            session.local.half_event = None;
            return;
        }
        let pace = Pace::of(&self.context.config);
        let begin = || Box::new(HalfEvent { progress: Progress::begin(now, &pace), bytes });
        let half = session.local.half_event.get_or_insert_with(begin);
        half.progress.advance(now, bytes.saturating_sub(half.bytes), &pace);
        half.bytes = bytes;
        self.arm(now, key);
    }

    /// Notes that the session's pending GET may have a body, and ends the session if the engine closed it.
    pub(super) fn after_engine(&mut self, now: Instant, key: u32) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(reason) = session.engine.closed() {
            self.end(now, key, CloseCommand::Lost(reason));
            return;
        }
        self.mark_poll_dirty(key);
    }

    /// Notes that the session's pending GET may have a body.
    pub(super) fn mark_poll_dirty(&mut self, key: u32) {
        if let Some(session) = self.sessions.get_mut(key) {
            self.outboxes.mark_poll_dirty(key, session);
        }
    }

    /// Answers the GETs that have something to be answered with. One that was given up this very moment takes the packets with it,
    /// and the session.
    pub(super) fn answer_polls(&mut self) {
        for (key, number) in self.outboxes.take_dirty_polls() {
            let Some(session) = self.sessions.checked(key, number) else { continue };
            session.local.is_dirty = false;
            if session.local.poll.is_none() {
                continue;
            }
            let lost = Request::PollLost { sid: session.sid, number: session.local.polls };
            let Some(body) = self.poll_answer(key) else { continue };
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if let Some(poll) = session.local.poll.take() {
                self.effects.answer_or(poll, body, lost);
            }
            session.settle();
        }
    }

    /// What the session's pending GET is to be answered with, if anything. While the node holds more than its budget it is refused:
    /// what there is to say waits for the next one.
    pub(super) fn poll_answer(&mut self, key: u32) -> Option<Result<String, RequestRefused>> {
        let session = self.sessions.get_mut(key)?;
        let is_refused = session.engine.buffered() > 0 && self.context.ledger.is_over();
        if is_refused && session.engine.refuse_poll() {
            self.context.metrics.polls_refused.inc();
            return Some(Err(RequestRefused::Busy));
        }
        session.engine.reply().map(Ok)
    }

    /// Ends a session, or begins to.
    pub(super) fn end(&mut self, now: Instant, key: u32, end: CloseCommand) {
        let context = self.context.clone();
        let Some(session) = self.sessions.get_mut(key) else { return };
        match end {
            CloseCommand::Lost(reason) => session.engine.transport_lost(reason),
            CloseCommand::Close => session.engine.close(now, &context.config.engine),
        }
        let Some(reason) = session.engine.closed() else {
            // Polling: the client fetches the close packet with its next GET. For the application the client is gone.
            self.leave_namespaces(key, CloseReason::ForcedClose);
            self.mark_poll_dirty(key);
            self.arm(now, key);
            return;
        };
        self.close_session(key, reason);
    }

    fn close_session(&mut self, key: u32, reason: CloseReason) {
        self.leave_namespaces(key, reason);
        self.stop_transfer(key);
        let mut session = self.sessions.remove(key);
        self.client_gone();
        self.count_session(session.engine.transport(), -1);
        self.context.metrics.disconnects.with_label_values(&["socketio", &reason.to_string()]).inc();
        let address = session.address().map(tracing::field::display);
        tracing::debug!(target: CLIENT_EVENTS, address, protocol = "socketio", %reason, "client disconnected");
        if let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.reply()) {
            self.effects.answer(poll, Ok(body));
        }
        if let Some(conn) = session.local.conn.take() {
            let code = (reason == CloseReason::ServerShuttingDown).then_some(1001);
            conn.close(&Frame::close(code));
            self.outboxes.mark_dirty(&conn);
        }
        if let Some(at) = session.local.probe.take() {
            self.effects.push(Effect::CloseProbe(at));
        }
        self.forget_at_birthplace(session.sid);
    }

    /// Takes the client out of all its namespaces.
    fn leave_namespaces(&mut self, key: u32, reason: CloseReason) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let sockets = session.connection.leave_all();
        for joined in sockets {
            self.socket_gone(joined, &reason.to_string());
        }
    }

    /// A socket's end: it leaves its rooms, nobody finds it any more, its handlers are told.
    pub(super) fn socket_gone(&mut self, joined: signalbox_socketio::Joined<Socket>, reason: &str) {
        let socket = joined.socket;
        self.sessions.remove_socket(socket.id);
        self.forget_at_birthplace(socket.id);
        for room in &socket.rooms {
            self.leave_room(*room, socket.id);
        }
        self.disconnected(&joined.namespace, &socket, reason);
    }

    /// A socket is gone: it is no user any more, and its handlers are told.
    pub(super) fn disconnected(&mut self, namespace: &Arc<str>, socket: &Socket, reason: &str) {
        let gone = Command::Disconnected { namespace: namespace.clone(), socket: socket.id };
        self.effects.submit(gone);
        for handler in &socket.app.on_disconnect {
            let (handler, reason) = (handler.clone(), reason.to_owned());
            let socket = app::Socket {
                router: self.context.router.clone(),
                namespace: namespace.clone(),
                id: socket.id,
            };
            self.start(Task::Disconnected { handler, socket, reason });
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
        let keys: Vec<u32> = ready.map(|(key, _)| key).take(sessions).collect();
        let sessions = sessions - keys.len();
        for key in keys {
            self.end(now, key, CloseCommand::Lost(CloseReason::ServerShuttingDown));
        }
        let keys: Vec<u32> = self.peers.iter().map(|(key, _)| key).take(peers).collect();
        let peers = peers - keys.len();
        for key in keys {
            self.end_peer(key, "server shutting down", &Frame::close(Some(1001)));
        }
        if sessions + peers > 0 && turns > 0 {
            let next = (usize::from(self.context.id) + 1) % self.context.shards;
            self.effects.send(next as u8, ShardMessage::Drain { sessions, peers, turns: turns - 1 });
        }
    }

    /// The node stops: every client's transport is closed.
    pub(super) fn stop(&mut self, now: Instant) {
        let sessions: Vec<u32> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in sessions {
            self.end(now, key, CloseCommand::Lost(CloseReason::ServerShuttingDown));
        }
        let peers: Vec<u32> = self.peers.iter().map(|(key, _)| key).collect();
        for key in peers {
            self.end_peer(key, "server shutting down", &Frame::close(Some(1001)));
        }
        for probe in self.probes.drain() {
            probe.conn.close(&Frame::close(Some(1001)));
            self.outboxes.mark_dirty(&probe.conn);
        }
    }
}
