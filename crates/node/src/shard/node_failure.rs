//! What another node leaves half done when it dies: requests for sessions of this node that had landed there, upgrades, moves.

use std::time::{Duration, Instant};

use signalbox_cluster::NodeTag;
use signalbox_engineio::{CloseReason, Transport};

use super::{Shard, mailbox::CloseCommand, tables::Timer};
use crate::routing::location::node_of_request;

/// How soon a client has to poll again whose last request went through a node that died. Otherwise that request failed, and the
/// client has begun anew elsewhere, which nobody could tell this node.
const POLL_GRACE: Duration = Duration::from_secs(3);

impl Shard {
    /// A node has died.
    pub(super) fn node_lost(&mut self, now: Instant, lost: NodeTag) {
        let mut upgrades = Vec::new();
        for (key, session) in self.sessions.iter() {
            let local = &session.local;
            let probe = local.probe.filter(|at| at.node == lost);
            if let Some(at) = probe {
                upgrades.push((key, at));
            }
            let edges = [node_of_request(local.polls), node_of_request(local.posts)];
            let is_silent = session.engine.transport() == Transport::Polling && local.poll.is_none();
            if is_silent && (probe.is_some() || edges.contains(&lost)) {
                let (number, polls) = (local.number, local.polls);
                self.timers.add(now + POLL_GRACE, Timer::PollGrace { key, number, polls });
            }
        }
        for (key, at) in upgrades {
            self.abandon_upgrade(now, key, at);
        }
        self.cancel_incoming_from(lost);
        for connection in self.probes.of_node(lost) {
            self.close_probe(connection);
        }
    }

    pub(super) fn poll_grace_is_over(&mut self, now: Instant, key: u32, number: u64, polls: u64) {
        let Some(session) = self.sessions.checked(key, number) else { return };
        let is_polling = session.engine.transport() == Transport::Polling;
        if is_polling && session.local.polls == polls && session.local.poll.is_none() {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
        }
    }
}
