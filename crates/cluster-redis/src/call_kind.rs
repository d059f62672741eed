//! What calls are counted as.

use signalbox_cluster::store::Call;

/// A message that is published to the members of a room, or to all nodes.
pub(super) const PUBLISH: &str = "publish";

/// The kind of a call, as the label of a metric.
pub(super) fn of(call: &Call) -> &'static str {
    match call {
        Call::Heartbeat { .. } => "heartbeat",
        Call::Claim { .. }
        | Call::Admit { .. }
        | Call::Reclaim { .. }
        | Call::Release { .. }
        | Call::CountTakeover { .. } => "claim",
        Call::DeliverOrQueue { .. } | Call::Expire { .. } => "queue",
        Call::FindPeer { .. } | Call::Peers { .. } => "find",
        Call::Put { .. } | Call::Remove { .. } | Call::Rehome { .. } | Call::Records { .. } => "room",
        Call::PutUsers { .. } | Call::CountConnection { .. } | Call::Users { .. } | Call::FindUser { .. } => {
            "user"
        }
        Call::SendDirect { .. } => "direct",
        Call::Reap { .. } | Call::Notices { .. } | Call::Acknowledge(_) | Call::MarkDead { .. } => "cleanup",
        Call::Nodes | Call::Leave { .. } | Call::Owners | Call::Flush => "membership",
    }
}
