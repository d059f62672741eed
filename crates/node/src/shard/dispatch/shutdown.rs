//! How clients are sent away: one after the other when the node drains or other nodes have fewer, all at once when it stops.

use signalbox_cluster::ShardId;
use signalbox_engineio::CloseReason;
use signalbox_websocket::Frame;

use crate::{
    session::Session,
    shard::{
        Shard,
        first_entries::first_entries,
        mailbox::{CloseCommand, ShardMessage, ShedOrder},
        tables::{Peers, Sessions},
    },
};

impl Shard {
    /// The node drains: the transports of some clients are closed, so that they reconnect, to another node. What this shard has too
    /// few for is the next one's, or the pace would be lost where one shard has most clients.
    pub(in crate::shard) fn drain(&mut self, sessions: usize, peers: usize, turns: usize) {
        let keys = ready_to_leave(&self.sessions, sessions);
        let sessions = sessions - keys.len();
        for key in keys {
            self.end(key, CloseCommand::Lost(CloseReason::ServerShuttingDown));
        }
        let keys = keys_of(&self.peers, peers);
        let peers = peers - keys.len();
        for key in keys {
            self.end_peer(key, "server shutting down", Some(1001));
        }
        if sessions + peers > 0 && turns > 0 {
            let context = &self.step.context;
            let next = (usize::from(context.id) + 1) % context.shards;
            self.step
                .effects
                .send(next as ShardId, ShardMessage::Drain { sessions, peers, turns: turns - 1 });
        }
    }

    /// Other nodes have fewer clients: the transports of some are closed, so that they connect again. Those that have been here longest
    /// go first, so that one that comes back is not sent away again while others have not been.
    pub(in crate::shard) fn shed(&mut self, order: ShedOrder) {
        let ready =
            self.sessions.iter().filter(|(_, session)| is_ready(session) && session.local.probe.is_none());
        let by_age = ready.map(|(key, session)| ((session.opened, key), ()));
        let (oldest, _) = first_entries(by_age, order.sessions);
        for ((_, key), ()) in &oldest {
            self.end(*key, CloseCommand::Lost(CloseReason::ServerShuttingDown));
        }
        self.step.context.metrics.rebalanced.inc_by(oldest.len() as u64);
        let sessions = order.sessions - oldest.len();
        let order = ShedOrder { sessions, done: order.done + oldest.len(), ..order };
        if order.sessions == 0 || order.turns == 0 {
            self.step.effects.answer(order.reply, order.done);
            return;
        }
        let context = &self.step.context;
        let next = (usize::from(context.id) + 1) % context.shards;
        let order = ShedOrder { turns: order.turns - 1, ..order };
        self.step.effects.send(next as ShardId, ShardMessage::Shed(order));
    }

    /// The node stops: every client's transport is closed.
    pub(in crate::shard) fn stop(&mut self) {
        let sessions: Vec<u32> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in sessions {
            self.end(key, CloseCommand::Lost(CloseReason::ServerShuttingDown));
        }
        for key in keys_of(&self.peers, usize::MAX) {
            self.end_peer(key, "server shutting down", Some(1001));
        }
        for probe in self.probes.drain() {
            self.step.outboxes.close(&probe.conn, &Frame::close(Some(1001)));
        }
    }
}

/// So many sessions that may be closed. One that is about to go by itself, or between two polls with something to fetch, has its turn
/// later.
fn ready_to_leave(sessions: &Sessions, count: usize) -> Vec<u32> {
    let ready = sessions.iter().filter(|(_, session)| is_ready(session));
    ready.map(|(key, _)| key).take(count).collect()
}

fn is_ready(session: &Session) -> bool {
    let is_between = session.engine.buffered() > 0 && session.local.poll.is_none();
    !session.local.is_transferring && !is_between
}

fn keys_of(peers: &Peers, count: usize) -> Vec<u32> {
    peers.iter().map(|(key, _)| key).take(count).collect()
}
