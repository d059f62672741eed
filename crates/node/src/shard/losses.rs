//! What another node leaves half done when it dies: requests for sessions of this node that had landed there, upgrades, moves.

use std::time::{Duration, Instant};

use signalbox_cluster::NodeTag;
use signalbox_engineio::{CloseReason, Transport};

use super::{State, timers::Timer};
use crate::{
    mailbox::{CloseCommand, ConnectionRef},
    node::node_of_request,
};

/// How soon a client has to poll again whose last request went through a node that died. Otherwise that request failed, and the
/// client has begun anew elsewhere, which nobody could tell this node.
const SILENCE: Duration = Duration::from_secs(3);

impl State {
    /// A node has died.
    pub(super) fn node_lost(&mut self, now: Instant, lost: NodeTag) {
        let mut upgrades = Vec::new();
        for (key, session) in &self.sessions {
            let local = &session.local;
            let probe = local.probe.filter(|at| at.node == lost);
            if let Some(at) = probe {
                upgrades.push((key as u32, at));
            }
            let edges = [node_of_request(local.polls), node_of_request(local.posts)];
            let is_silent = session.engine.transport() == Transport::Polling && local.poll.is_none();
            if is_silent && (probe.is_some() || edges.contains(&lost)) {
                let (key, number, polls) = (key as u32, local.number, local.polls);
                self.timers.add(now + SILENCE, Timer::Silence { key, number, polls });
            }
        }
        for (key, at) in upgrades {
            self.abandon_upgrade(now, key, at);
        }
        self.cancel_takings_from(lost);
        let orphans = self.probes.iter().filter(|(_, probe)| probe.sid.node() == lost);
        let orphans: Vec<_> = orphans
            .map(|(key, probe)| ConnectionRef {
                node: self.node.tag,
                shard: self.id,
                key: key as u32,
                number: probe.number,
            })
            .collect();
        for at in orphans {
            self.close_probe(at);
        }
    }

    pub(super) fn silence_is_over(&mut self, now: Instant, key: u32, number: u64, polls: u64) {
        let Some(session) = self.session(key, number) else { return };
        let is_polling = session.engine.transport() == Transport::Polling;
        if is_polling && session.local.polls == polls && session.local.poll.is_none() {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
        }
    }
}
