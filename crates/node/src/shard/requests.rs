//! Requests for sessions, wherever they landed: one mechanism for this shard and for every other.

use std::time::Instant;

use signalbox_cluster::{Address, Status};
use signalbox_engineio::{CloseReason, Packet, payload, session::Refused};
use tokio::sync::oneshot;

use super::{State, answers::PendingRequest, calls::TaskResult, session::HeldPost};
use crate::{
    mailbox::{CloseCommand, ConnectionRef, OpenPost, PollReply, Request, RequestRefused, ShardMessage},
    transport::conn::DELIVERIES_A_TURN,
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

impl State {
    /// Serves a request, or hands it to the shard the session moved to.
    pub(crate) fn request(&mut self, now: Instant, request: Request) {
        let sid = request.sid();
        let Some(key) = self.find_session(sid) else {
            match self.moved_out.get(&sid) {
                Some(place) => self.node.hand(*place, request),
                None => self.request_for_nobody(request),
            }
            return;
        };
        match request {
            Request::Exists { reply, .. } => {
                let _ = reply.send(true);
            }
            Request::Poll { number, reply, .. } => {
                let answer = self.poll(now, key, number);
                // Who asked may be gone; then the packets are lost that the answer carries, or would.
                if let Err(PollReply::Body(_) | PollReply::Waits(_)) = reply.send(answer) {
                    self.poll_lost(now, sid, number);
                }
            }
            Request::PollLost { number, .. } => self.poll_lost(now, sid, number),
            Request::ReleasePoll { number, .. } => self.release_poll(key, number),
            Request::BeginPost { number, reply, .. } => {
                let answer = self.begin_post(now, key, number);
                if let Err(Ok(_)) = reply.send(answer) {
                    self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
                }
            }
            Request::Post { number, body, reply, .. } => {
                if self.sessions[key as usize].local.posts == number {
                    self.take_post(now, key, HeldPost { body, offset: 0, reply });
                }
            }
            Request::PostLost { number, .. } => {
                let session = &self.sessions[key as usize];
                if session.local.posts == number && session.local.post.is_some() {
                    self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
                }
            }
            Request::BeginUpgrade { at, reply, .. } => {
                let began = self.begin_upgrade(now, key, at);
                if reply.send(Ok(began)).is_err() {
                    self.abandon_upgrade(now, key, at);
                    self.node.close_probe(at);
                }
            }
            Request::Probed { at, .. } => {
                let session = &mut self.sessions[key as usize];
                if session.local.probe == Some(at) {
                    session.engine.probe_received(now);
                    self.arm(key);
                }
            }
            Request::Upgrade { at, .. } => self.upgrade(now, key, at),
            Request::AbandonUpgrade { at, .. } => self.abandon_upgrade(now, key, at),
        }
    }

    fn request_for_nobody(&mut self, request: Request) {
        match request {
            Request::Exists { reply, .. } => {
                let _ = reply.send(false);
            }
            Request::Poll { reply, .. } => {
                let _ = reply.send(PollReply::Refused(RequestRefused::UnknownSid));
            }
            Request::BeginPost { reply, .. } => {
                let _ = reply.send(Err(RequestRefused::UnknownSid));
            }
            Request::BeginUpgrade { reply, .. } => {
                let _ = reply.send(Err(RequestRefused::UnknownSid));
            }
            Request::Upgrade { at, .. } => self.node.close_probe(at),
            _ => {}
        }
    }

    /// A GET was given up. What it was answered with, if it was, never arrived.
    fn poll_lost(&mut self, now: Instant, sid: Address, number: u64) {
        let Some(key) = self.find_session(sid) else { return };
        if self.sessions[key as usize].local.polls == number {
            self.sessions[key as usize].local.poll = None;
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
        }
    }

    /// Answers a GET that waits with a noop. What there is to say meanwhile waits for the next one, so that nothing can be lost.
    fn release_poll(&mut self, key: u32, number: u64) {
        let session = &mut self.sessions[key as usize];
        if session.local.polls == number
            && let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.release_poll())
        {
            let _ = poll.send(body);
        }
    }

    fn poll(&mut self, now: Instant, key: u32, number: u64) -> PollReply {
        let session = &mut self.sessions[key as usize];
        if let Err(refused) = session.engine.poll() {
            self.after_engine(now, key);
            return PollReply::Refused(refused.into());
        }
        session.local.polls = number;
        if let Some(body) = session.engine.reply() {
            let closed = session.engine.closed();
            self.account_session(key);
            if let Some(reason) = closed {
                self.end(now, key, CloseCommand::Lost(reason));
            }
            return PollReply::Body(body);
        }
        match self.wait_for_reply(key) {
            Some(body) => PollReply::Waits(body),
            None => PollReply::Refused(RequestRefused::UnknownSid),
        }
    }

    fn begin_post(&mut self, now: Instant, key: u32, number: u64) -> Result<OpenPost, RequestRefused> {
        let session = &mut self.sessions[key as usize];
        if session.local.move_to.is_some() {
            // The client has said that it has left polling.
            return Err(RequestRefused::NotPolling);
        }
        if let Err(refused) = session.engine.begin_post() {
            self.after_engine(now, key);
            return Err(refused.into());
        }
        let (open, closed) = oneshot::channel();
        session.local.posts = number;
        session.local.post = Some(open);
        Ok(OpenPost { closed: Some(closed) })
    }

    /// Takes the packets of a POST, until one must wait for an effect. The POST is answered when all were taken.
    fn take_post(&mut self, now: Instant, key: u32, mut post: HeldPost) {
        let bytes = post.body.clone();
        let Ok(body) = std::str::from_utf8(&bytes) else {
            self.sessions[key as usize].engine.receive_invalid();
            self.end_post(now, key, post);
            return;
        };
        let number = self.sessions[key as usize].local.number;
        let (mut packets, sent) = (0, self.counters.sent_ever);
        while post.offset <= body.len() {
            let rest = &body[post.offset..];
            let part = rest.split(payload::SEPARATOR).next().unwrap_or_default();
            post.offset += part.len() + 1;
            match Packet::decode(part) {
                Ok(packet) => self.receive(now, key, packet),
                Err(_) => {
                    self.sessions[key as usize].engine.receive_invalid();
                    self.after_engine(now, key);
                }
            }
            match self.session(key, number) {
                // The session is over. What it had applied was applied.
                None => {
                    let _ = post.reply.send(());
                    return;
                }
                Some(session) if session.is_held() => {
                    session.held_post = Some(Box::new(post));
                    return;
                }
                Some(_) => {}
            }
            packets += 1;
            if packets >= PACKETS_A_TURN || self.counters.sent_ever - sent > DELIVERIES_A_TURN {
                // The rest waits for its turn, like anything that waits for an answer.
                let ticket = self.hold(key, PendingRequest::Yield { key, number });
                if let Some(session) = self.session(key, number) {
                    session.held_post = Some(Box::new(post));
                }
                self.node.inboxes.push(self.id, ShardMessage::TaskDone(ticket, TaskResult::Yield));
                return;
            }
        }
        self.end_post(now, key, post);
    }

    fn end_post(&mut self, now: Instant, key: u32, post: HeldPost) {
        if let Some(session) = self.sessions.get_mut(key as usize) {
            session.engine.end_post();
            session.local.post = None;
        }
        let _ = post.reply.send(());
        self.after_engine(now, key);
        self.try_move(now, key);
    }

    /// An effect was answered; `released` if the client's frames waited for it. Goes on with what waited.
    pub(super) fn request_done(&mut self, now: Instant, key: u32, held: bool) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        session.in_flight -= 1;
        if held {
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
        self.try_move(now, key);
    }

    /// An effect begins. With `held`, the client's next frames wait for its answer.
    pub(super) fn request_begins(&mut self, key: u32, held: bool) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        session.in_flight += 1;
        if held {
            session.blocking += 1;
            if let Some(conn) = &session.local.conn {
                conn.pause();
            }
        }
    }

    fn begin_upgrade(&mut self, now: Instant, key: u32, at: ConnectionRef) -> bool {
        let is_possible = at.node == self.node.tag || self.node.cluster.status() == Status::Online;
        let config = &self.node.config.engine;
        let session = &mut self.sessions[key as usize];
        let began = is_possible && session.engine.begin_upgrade(now, config);
        if began {
            session.local.probe = Some(at);
            self.arm(key);
        }
        began
    }

    /// The WebSocket will not take the session over: polling goes on, unless the client has left it already.
    pub(super) fn abandon_upgrade(&mut self, now: Instant, key: u32, at: ConnectionRef) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        if session.local.probe != Some(at) {
            return;
        }
        self.node.metrics.upgrades.with_label_values(&["failed"]).inc();
        if session.local.move_to.is_some() {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportClose));
            return;
        }
        session.local.probe = None;
        session.engine.abandon_upgrade();
    }
}
