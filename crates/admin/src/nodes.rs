//! The cluster and its nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::{Cursor, Partial, Row};

/// What a node takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeStatus {
    /// It has not reached Redis yet.
    Joining,
    /// All is well.
    Online,
    /// It serves its clients without Redis.
    Degraded,
    /// It is not ready any more, and disconnects its clients one after the other.
    Draining,
    /// It takes no new clients.
    Stopping,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Made anew at every start: 8 hexadecimal digits, with which the ids of its sockets begin once decoded.
    pub id: String,
    /// Its `--node-id`, or else its id.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// What it takes part in.
    pub status: NodeStatus,
    /// When it started.
    pub started_at: u64,
    /// Its worker threads.
    pub shards: u32,
    /// Socket.IO clients on HTTP long-polling.
    pub polling_clients: u64,
    /// Socket.IO clients on a WebSocket.
    pub websocket_clients: u64,
    /// PeerServer clients.
    pub peers: u64,
    /// Bytes held for its clients.
    pub held_bytes: u64,
    /// Bytes that wait for clients to read them, or have not arrived completely.
    pub waiting_bytes: u64,
    /// What it may hold for all clients together.
    pub memory_budget: u64,
}

impl Row for Node {
    fn cursor(&self) -> Cursor {
        Cursor(self.name.clone(), self.id.clone())
    }
}

/// One node, or why it does not answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAnswer {
    /// The node; absent if it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The node, if it does not answer.
    pub partial: Vec<Partial>,
}

/// The cluster in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The worst status of a node that has answered.
    pub status: NodeStatus,
    /// The node that answers.
    pub answered_by: String,
    /// Nodes that the one that answers knows, itself included.
    pub nodes: u64,
    /// Socket.IO clients on HTTP long-polling.
    pub polling_clients: u64,
    /// Socket.IO clients on a WebSocket.
    pub websocket_clients: u64,
    /// PeerServer clients.
    pub peers: u64,
    /// The nodes that are missing in these numbers.
    pub partial: Vec<Partial>,
}
