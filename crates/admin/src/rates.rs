//! How much goes through.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::Partial;

/// How much went through in a second, on average over `seconds`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Over how many seconds: 10, or fewer just after the start.
    pub seconds: f64,
    /// Clients that connected.
    pub connects: f64,
    /// Clients that have gone.
    pub disconnects: f64,
    /// Messages of clients.
    pub received_messages: f64,
    /// Their bytes.
    pub received_bytes: f64,
    /// Messages to clients; a broadcast counts once per receiver.
    pub sent_messages: f64,
    /// Their bytes.
    pub sent_bytes: f64,
}

impl Rates {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.max(other.seconds),
            connects: self.connects + other.connects,
            disconnects: self.disconnects + other.disconnects,
            received_messages: self.received_messages + other.received_messages,
            received_bytes: self.received_bytes + other.received_bytes,
            sent_messages: self.sent_messages + other.sent_messages,
            sent_bytes: self.sent_bytes + other.sent_bytes,
        }
    }
}

/// The same of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRates {
    /// The node.
    pub node: String,
    /// Its rates.
    pub rates: Rates,
}

/// The same of all nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRates {
    /// All together.
    pub total: Rates,
    /// Node by node.
    pub nodes: Vec<NodeRates>,
    /// The nodes that are missing.
    pub partial: Vec<Partial>,
}
