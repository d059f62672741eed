//! What happens to a node's part of the cluster, to be logged and counted by whoever has the means.

use std::time::Duration;

use crate::address::NodeTag;

/// Why a node is degraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DegradedReason {
    /// A heartbeat and its repetition were not confirmed.
    NoAnswer,
    /// No heartbeat was confirmed for almost as long as the lease lasts: the process may have been paused.
    LeaseExpired,
    /// The store says that the lease is gone: it was emptied, or has let the lease run out.
    LeaseLost,
    /// Another server answers, or the same one after a restart.
    StoreReplaced,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// The node serves from what it knows from now on.
    Degraded(DegradedReason),
    /// The node has joined the cluster.
    Online {
        /// The epoch of its lease.
        epoch: u64,
        /// How long it was degraded; `None` when it joins for the first time.
        degraded_for: Option<Duration>,
    },
    /// After an outage, the node has written all of its records again, which took more than a moment.
    Rewritten {
        /// In so many calls.
        calls: usize,
        /// From the moment on in which it was online.
        took: Duration,
    },
    /// Another node has joined, or is seen for the first time.
    NodeSeen(NodeTag),
    /// Another node is not part of the cluster any more: it has left, or its lease has ended.
    NodeGone(NodeTag),
    /// Messages of other nodes are not received any more.
    SubscriptionsLost,
    /// They are received again.
    SubscriptionsRestored,
    /// The same for one room, on a Redis Cluster.
    RoomSubscriptionLost,
    /// Changes of a room were missed, and its records are read again: its members here are told the difference.
    RoomGap,
    /// A broadcast could not be published: members on other nodes may not have received it.
    BroadcastFailed,
    /// A message of another node is malformed.
    UnreadableMessage,
    /// A message of another node has a format that this version does not know.
    UnknownFormat,
}

impl ClusterEvent {
    /// Its name among others, for a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Degraded(DegradedReason::NoAnswer) => "degraded_no_answer",
            Self::Degraded(DegradedReason::LeaseExpired) => "degraded_lease_expired",
            Self::Degraded(DegradedReason::LeaseLost) => "degraded_lease_lost",
            Self::Degraded(DegradedReason::StoreReplaced) => "degraded_store_replaced",
            Self::Online { .. } => "online",
            Self::Rewritten { .. } => "rewritten",
            Self::NodeSeen(_) => "node_seen",
            Self::NodeGone(_) => "node_gone",
            Self::SubscriptionsLost => "subscriptions_lost",
            Self::SubscriptionsRestored => "subscriptions_restored",
            Self::RoomSubscriptionLost => "room_subscription_lost",
            Self::RoomGap => "room_gap",
            Self::BroadcastFailed => "broadcast_failed",
            Self::UnreadableMessage => "unreadable_message",
            Self::UnknownFormat => "unknown_format",
        }
    }
}
