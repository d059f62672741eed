//! How clients are sent away: one after the other when the node drains, all at once when it stops.

use signalbox_cluster::ShardId;
use signalbox_engineio::CloseReason;
use signalbox_websocket::Frame;

use crate::{
    session::Session,
    shard::{
        Shard,
        mailbox::{CloseCommand, ShardMessage},
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
    let has_time = |session: &Session| {
        let is_between = session.engine.buffered() > 0 && session.local.poll.is_none();
        !session.local.is_transferring && !is_between
    };
    let ready = sessions.iter().filter(|(_, session)| has_time(session));
    ready.map(|(key, _)| key).take(count).collect()
}

fn keys_of(peers: &Peers, count: usize) -> Vec<u32> {
    peers.iter().map(|(key, _)| key).take(count).collect()
}
