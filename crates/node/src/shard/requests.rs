//! Requests for sessions, wherever they landed: one mechanism for this shard and for every other.

use std::time::Instant;

use signalbox_cluster::{Address, Status};
use signalbox_engineio::{CloseReason, Packet, Transport, payload, session::Refused};

use super::{
    Shard,
    effects::Effect,
    mailbox::{CloseCommand, Request, ShardMessage},
    tables::PendingRequest,
    tasks::TaskResult,
};
use crate::{
    protocol::RequestRefused,
    routing::{ConnectionRef, Reply},
    session::{HeldPost, PollReply},
    transport::reader::DELIVERIES_A_TURN,
};

/// Packets of one POST before others have their turn.
const PACKETS_A_TURN: usize = 256;

impl From<Refused> for RequestRefused {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overlap => Self::Overlap,
            Refused::NotPolling => Self::NotPolling,
        }
    }
}

impl Shard {
    /// Serves a request, or hands it to the shard the session moved to.
    pub(crate) fn request(&mut self, now: Instant, request: Request) {
        let sid = request.sid();
        let Some(key) = self.sessions.find(sid).filter(|key| !self.expire(now, *key)) else {
            match self.forwarding.get(&sid) {
                Some(to) => self.effects.push(Effect::Relay { to: *to, request }),
                None => self.refuse_unknown(request),
            }
            return;
        };
        match request {
            Request::Exists { reply, .. } => self.effects.answer(reply, true),
            Request::Poll { number, accepted, reply, .. } => self.poll(now, key, number, accepted, reply),
            Request::PollLost { number, .. } => self.poll_lost(now, sid, number),
            Request::ReleasePoll { number, .. } => self.release_poll(key, number),
            Request::BeginPost { number, on_close, reply, .. } => {
                self.begin_post(now, key, number, on_close, reply);
            }
            Request::Post { number, body, reply, .. } => {
                if self.sessions[key].local.posts == number {
                    self.take_post(now, key, HeldPost { body, offset: 0, reply });
                }
            }
            Request::PostLost { number, .. } => {
                let session = &self.sessions[key];
                // One that was applied, or was lost on its way here, has failed for its client all the same, which is gone then.
                let is_polling = session.engine.transport() == Transport::Polling;
                let is_known = session.local.posts == number;
                let is_over = if session.local.post.is_some() { is_known } else { is_polling };
                if is_over {
                    self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
                }
            }
            Request::BeginUpgrade { connection, reply, .. } => {
                let began = self.begin_upgrade(now, key, connection);
                self.effects.answer_or(reply, Ok(began), Request::AbandonUpgrade { sid, connection });
            }
            Request::Probed { connection, .. } => {
                let session = &mut self.sessions[key];
                if session.local.probe == Some(connection) {
                    session.engine.probe_received(now);
                    self.arm(now, key);
                }
            }
            Request::Upgrade { connection, .. } => self.upgrade(now, key, connection),
            Request::AbandonUpgrade { connection, .. } => self.abandon_upgrade(now, key, connection),
        }
    }

    /// Whoever sent a request does not wait for its answer any more: takes what the runtime was given for that case.
    pub(crate) fn answer_is_lost(&mut self, now: Instant, otherwise: Request) {
        let abandoned = match &otherwise {
            Request::AbandonUpgrade { connection, .. } => Some(*connection),
            _ => None,
        };
        self.request(now, otherwise);
        if let Some(connection) = abandoned {
            self.effects.push(Effect::CloseProbe(connection));
        }
    }

    /// Nobody knows such a session. What has no answer has no consequence; a request that is dropped tells whoever waits.
    fn refuse_unknown(&mut self, request: Request) {
        match request {
            Request::Exists { reply, .. } => self.effects.answer(reply, false),
            Request::Poll { reply, .. } => self.effects.answer(reply, Err(RequestRefused::UnknownSid)),
            Request::BeginPost { reply, .. } => self.effects.answer(reply, Err(RequestRefused::UnknownSid)),
            Request::BeginUpgrade { reply, .. } => {
                self.effects.answer(reply, Err(RequestRefused::UnknownSid));
            }
            Request::Upgrade { connection, .. } => self.effects.push(Effect::CloseProbe(connection)),
            _ => {}
        }
    }

    /// A GET was given up. What it was answered with, if it was, never arrived. It may itself have been lost on its way here; whoever
    /// had sent another one since would have one that waits.
    fn poll_lost(&mut self, now: Instant, sid: Address, number: u64) {
        let Some(key) = self.sessions.find(sid) else { return };
        let session = &self.sessions[key];
        let is_silent = session.engine.transport() == Transport::Polling && session.local.poll.is_none();
        if session.local.polls == number || is_silent {
            self.sessions[key].local.poll = None;
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
        }
    }

    /// Answers a GET that waits with a noop. What there is to say meanwhile waits for the next one, so that nothing can be lost.
    fn release_poll(&mut self, key: u32, number: u64) {
        let session = &mut self.sessions[key];
        if session.local.polls == number
            && let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.release_poll())
        {
            self.effects.answer(poll, Ok(body));
        }
    }

    fn poll(&mut self, now: Instant, key: u32, number: u64, accepted: Option<Reply<()>>, reply: PollReply) {
        let session = &mut self.sessions[key];
        if let Err(refused) = session.engine.poll() {
            self.effects.answer(reply, Err(refused.into()));
            self.after_engine(now, key);
            return;
        }
        session.local.polls = number;
        let lost = Request::PollLost { sid: session.sid, number };
        if let Some(answer) = self.poll_answer(key) {
            let closed = self.sessions[key].engine.closed();
            // If whoever asked is gone, the packets are lost that the answer carries.
            self.effects.answer_or(reply, answer, lost);
            self.account_session(key);
            if let Some(reason) = closed {
                self.end(now, key, CloseCommand::Lost(reason));
            }
            return;
        }
        self.sessions[key].local.poll = Some(reply);
        if let Some(accepted) = accepted {
            self.effects.answer_or(accepted, (), lost);
        }
        self.mark_poll_dirty(key);
    }

    fn begin_post(
        &mut self,
        now: Instant,
        key: u32,
        number: u64,
        on_close: Reply<()>,
        reply: Reply<Result<(), RequestRefused>>,
    ) {
        let session = &mut self.sessions[key];
        if session.local.upgrade_to.is_some() {
            // The client has said that it has left polling.
            self.effects.answer(reply, Err(RequestRefused::NotPolling));
            return;
        }
        if let Err(refused) = session.engine.begin_post() {
            self.effects.answer(reply, Err(refused.into()));
            self.after_engine(now, key);
            return;
        }
        session.local.posts = number;
        session.local.post = Some(on_close);
        let lost = Request::PostLost { sid: session.sid, number };
        self.effects.answer_or(reply, Ok(()), lost);
    }

    /// Takes the packets of a POST, until one must wait for an answer. The POST is answered when all were taken.
    fn take_post(&mut self, now: Instant, key: u32, mut post: HeldPost) {
        let bytes = post.body.clone();
        let Ok(body) = std::str::from_utf8(&bytes) else {
            self.sessions[key].engine.receive_invalid();
            self.end_post(now, key, post);
            return;
        };
        let number = self.sessions[key].local.number;
        let (mut packets, deliveries) = (0, self.outboxes.deliveries());
        while post.offset <= body.len() {
            let rest = &body[post.offset..];
            let part = rest.split(payload::SEPARATOR).next().unwrap_or_default();
            post.offset += part.len() + 1;
            match Packet::decode(part) {
                Ok(packet) => self.receive(now, key, packet),
                Err(_) => {
                    self.sessions[key].engine.receive_invalid();
                    self.after_engine(now, key);
                }
            }
            match self.sessions.checked(key, number) {
                // The session is over. What it had applied was applied.
                None => {
                    self.effects.answer(post.reply, ());
                    return;
                }
                Some(session) if session.is_held() => {
                    session.held_post = Some(Box::new(post));
                    return;
                }
                Some(_) => {}
            }
            packets += 1;
            if packets >= PACKETS_A_TURN || self.outboxes.deliveries() - deliveries > DELIVERIES_A_TURN {
                // The rest waits for its turn, like anything that waits for an answer.
                let ticket = self.hold(key, PendingRequest::Yield { key, number });
                if let Some(session) = self.sessions.checked(key, number) {
                    session.held_post = Some(Box::new(post));
                }
                let turn = ShardMessage::TaskDone(ticket, TaskResult::Yield);
                self.effects.send(self.context.id, turn);
                return;
            }
        }
        self.end_post(now, key, post);
    }

    fn end_post(&mut self, now: Instant, key: u32, post: HeldPost) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.engine.end_post();
            session.local.post = None;
        }
        self.effects.answer(post.reply, ());
        self.after_engine(now, key);
        self.continue_upgrade(now, key);
    }

    /// A request of the session was answered; `blocking` if the client's frames waited for it. Goes on with what waited.
    pub(super) fn request_done(&mut self, now: Instant, key: u32, blocking: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.in_flight -= 1;
        if blocking {
            session.blocking -= 1;
        }
        if session.blocking == 0 {
            if let Some(conn) = &session.local.conn {
                conn.resume();
            }
            if let Some(post) = session.held_post.take() {
                self.take_post(now, key, *post);
            }
        }
        self.continue_upgrade(now, key);
    }

    /// A request of the session begins. With `blocking`, the client's next frames wait for its answer.
    pub(super) fn request_begins(&mut self, key: u32, blocking: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.in_flight += 1;
        if blocking {
            session.blocking += 1;
            if let Some(conn) = &session.local.conn {
                conn.pause();
            }
        }
    }

    fn begin_upgrade(&mut self, now: Instant, key: u32, connection: ConnectionRef) -> bool {
        let is_possible =
            connection.node == self.context.node || self.context.cluster.status() == Status::Online;
        let config = &self.context.config.engine;
        let session = &mut self.sessions[key];
        let began = is_possible && session.engine.begin_upgrade(now, config);
        if began {
            session.local.probe = Some(connection);
            self.arm(now, key);
        }
        began
    }

    /// The WebSocket will not take the session over: polling goes on, unless the client has left it already.
    pub(super) fn abandon_upgrade(&mut self, now: Instant, key: u32, connection: ConnectionRef) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.local.probe != Some(connection) {
            return;
        }
        self.context.metrics.upgrades.with_label_values(&["failed"]).inc();
        if session.local.upgrade_to.is_some() {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportClose));
            return;
        }
        session.local.probe = None;
        session.engine.abandon_upgrade();
    }
}
