//! Requests for sessions, wherever they landed: one mechanism for this shard and for every other.

use std::time::Instant;

use signalbox_engineio::{CloseReason, Packet, payload, session::Refused};
use tokio::sync::oneshot;

use super::{State, session::HeldPost};
use crate::message::{ConnAt, End, OpenPost, PollReply, Request, RequestRefused, ToShard};

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
            match self.forwards.get(&sid) {
                Some(shard) => self.node.inboxes.push(*shard, ToShard::Request(request)),
                None => self.request_for_nobody(request),
            }
            return;
        };
        match request {
            Request::Exists { reply, .. } => {
                let _ = reply.send(true);
            }
            Request::Poll { reply, .. } => {
                let _ = reply.send(self.poll(now, key));
            }
            Request::PollLost { number, .. } => {
                let session = &mut self.sessions[key as usize];
                if session.local.polls == number && session.local.poll.take().is_some() {
                    session.engine.poll_lost();
                    self.after_engine(now, key);
                }
            }
            Request::BeginPost { reply, .. } => {
                let _ = reply.send(self.begin_post(now, key));
            }
            Request::Post { number, body, reply, .. } => {
                if self.sessions[key as usize].local.posts == number {
                    self.take_post(now, key, HeldPost { body, offset: 0, reply });
                }
            }
            Request::PostLost { number, .. } => {
                let session = &self.sessions[key as usize];
                if session.local.posts == number && session.local.post.is_some() {
                    self.end(now, key, End::Lost(CloseReason::TransportError));
                }
            }
            Request::BeginUpgrade { at, reply, .. } => {
                let _ = reply.send(Ok(self.begin_upgrade(now, key, at)));
            }
            Request::Probed { at, .. } => {
                let session = &mut self.sessions[key as usize];
                if session.local.probe == Some(at) {
                    session.engine.probed(now);
                    self.arm(key);
                }
            }
            Request::Upgrade { at, .. } => self.upgrade(now, key, at),
            Request::AbandonUpgrade { at, .. } => self.abandon_upgrade(key, at),
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
            Request::Upgrade { at, .. } => {
                self.node.inboxes.push(at.shard, ToShard::CloseProbe(at));
            }
            _ => {}
        }
    }

    fn poll(&mut self, now: Instant, key: u32) -> PollReply {
        let session = &mut self.sessions[key as usize];
        if let Err(refused) = session.engine.poll() {
            self.after_engine(now, key);
            return PollReply::Refused(refused.into());
        }
        if let Some(body) = session.engine.reply() {
            let closed = session.engine.closed();
            self.account_session(key);
            if let Some(reason) = closed {
                self.end(now, key, End::Lost(reason));
            }
            return PollReply::Body(body);
        }
        match self.wait_for_reply(key) {
            Some((number, body)) => PollReply::Waits { number, body },
            None => PollReply::Refused(RequestRefused::UnknownSid),
        }
    }

    fn begin_post(&mut self, now: Instant, key: u32) -> Result<OpenPost, RequestRefused> {
        let session = &mut self.sessions[key as usize];
        if let Err(refused) = session.engine.begin_post() {
            self.after_engine(now, key);
            return Err(refused.into());
        }
        let (open, closed) = oneshot::channel();
        session.local.posts += 1;
        session.local.post = Some(open);
        Ok(OpenPost { number: session.local.posts, closed })
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
    pub(super) fn effect_done(&mut self, now: Instant, key: u32, held: bool) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        session.effects -= 1;
        if held {
            session.holds -= 1;
        }
        if session.holds == 0 {
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
    pub(super) fn effect_begins(&mut self, key: u32, held: bool) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        session.effects += 1;
        if held {
            session.holds += 1;
            if let Some(conn) = &session.local.conn {
                conn.pause();
            }
        }
    }

    fn begin_upgrade(&mut self, now: Instant, key: u32, at: ConnAt) -> bool {
        let config = &self.node.config.engine;
        let session = &mut self.sessions[key as usize];
        let began = session.engine.begin_upgrade(now, config);
        if began {
            session.local.probe = Some(at);
            self.arm(key);
        }
        began
    }

    /// The WebSocket will not take the session over: polling goes on.
    pub(super) fn abandon_upgrade(&mut self, key: u32, at: ConnAt) {
        let session = &mut self.sessions[key as usize];
        if session.local.probe == Some(at) {
            session.local.probe = None;
            session.engine.abandon_upgrade();
            self.node.metrics.upgrades.with_label_values(&["failed"]).inc();
            self.stop_moving(key);
        }
    }
}
