//! What another node leaves half done when it dies: requests for sessions of this node that had landed there, upgrades, moves.

use std::time::Duration;

use signalbox_cluster::NodeTag;
use signalbox_engineio::{CloseReason, Transport};

use super::{
    closing,
    mailbox::CloseCommand,
    requests,
    step::Step,
    tables::{Probes, Rooms, Sessions, Timer},
    transfer::table::Transfers,
    transfers, upgrades,
};
use crate::routing::location::node_of_request;

/// How soon a client has to poll again whose last request went through a node that died. Otherwise that request failed, and the
/// client has begun anew elsewhere, which nobody could tell this node.
const POLL_GRACE: Duration = Duration::from_secs(3);

/// A node has died.
pub(super) fn node_lost(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    lost: NodeTag,
) {
    let mut upgrades = Vec::new();
    for (key, session) in sessions.iter() {
        let local = &session.local;
        let probe = local.probe.filter(|at| at.node == lost);
        if let Some(at) = probe {
            upgrades.push((key, at));
        }
        let edges = [node_of_request(local.polls), node_of_request(local.posts)];
        let is_silent = session.engine.transport() == Transport::Polling && local.poll.is_none();
        if is_silent && (probe.is_some() || edges.contains(&lost)) {
            let (number, polls) = (local.number, local.polls);
            step.timers.add(step.now + POLL_GRACE, Timer::PollGrace { key, number, polls });
        }
    }
    for (key, at) in upgrades {
        requests::abandon_upgrade(step, sessions, rooms, transfers, key, at);
    }
    transfers::incoming::cancel_from(step, rooms, transfers, probes, lost);
    for connection in probes.of_node(lost) {
        upgrades::close_probe(step, probes, connection);
    }
}

/// A client that polled through a node that died should have polled again by now.
pub(super) fn poll_grace_is_over(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    (key, number): (u32, u64),
    polls: u64,
) {
    let Some(session) = sessions.checked(key, number) else { return };
    let is_polling = session.engine.transport() == Transport::Polling;
    if is_polling && session.local.polls == polls && session.local.poll.is_none() {
        let lost = CloseCommand::Lost(CloseReason::TransportError);
        closing::end(step, sessions, rooms, transfers, key, lost);
    }
}
