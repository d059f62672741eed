//! The packets of a POST, some at a time, and whatever waits for a request of its session.

use signalbox_engineio::payload;

use crate::{
    session::HeldPost,
    shard::{Shard, mailbox::ShardMessage, requests, tables::PendingRequest, tasks::TaskResult},
    transport::reader::DELIVERIES_A_TURN,
};

/// Packets of one POST before others have their turn.
const PACKETS_A_TURN: usize = 32;

impl Shard {
    /// Takes the packets of a POST, until one must wait for an answer. The POST is answered when all were taken.
    pub(super) fn take_post(&mut self, key: u32, mut post: HeldPost) {
        let bytes = post.body.clone();
        let Ok(body) = std::str::from_utf8(&bytes) else {
            self.sessions[key].engine.receive_invalid();
            self.end_post(key, post);
            return;
        };
        let number = self.sessions[key].local.number;
        let (mut packets, deliveries) = (0, self.step.outboxes.deliveries());
        while post.offset <= body.len() {
            let rest = &body[post.offset..];
            let part = rest.split(payload::SEPARATOR).next().unwrap_or_default();
            post.offset += part.len() + 1;
            self.receive_part(key, part);
            let Self { step, sessions, pending, .. } = self;
            let Some(session) = sessions.checked(key, number) else {
                // The session is over. What it had applied was applied.
                step.effects.answer(post.reply, ());
                return;
            };
            if session.is_held() {
                session.held_post = Some(Box::new(post));
                session.update_charge();
                return;
            }
            packets += 1;
            if packets >= PACKETS_A_TURN || step.outboxes.deliveries() - deliveries > DELIVERIES_A_TURN {
                // The rest waits for its turn, like anything that waits for an answer.
                let ticket = requests::hold(step, session, pending, PendingRequest::Yield { key, number });
                session.held_post = Some(Box::new(post));
                session.update_charge();
                let turn = ShardMessage::TaskDone(ticket, TaskResult::Yield);
                step.effects.send(step.context.id, turn);
                return;
            }
        }
        self.end_post(key, post);
    }

    fn end_post(&mut self, key: u32, post: HeldPost) {
        let Self { step, sessions, rooms, transfers, .. } = self;
        requests::end_post(step, sessions, rooms, transfers, key, post);
        self.continue_upgrade(key);
    }

    /// A request of the session was answered; `blocking` if the client's frames waited for it. Goes on with what waited.
    pub(in crate::shard) fn request_done(&mut self, key: u32, blocking: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let post = session.end_request(blocking);
        if let Some(conn) = session.local.conn.as_ref().filter(|_| !session.is_held()) {
            self.step.outboxes.resume(conn);
        }
        if let Some(post) = post {
            self.take_post(key, post);
        }
        self.continue_upgrade(key);
    }
}
