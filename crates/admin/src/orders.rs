//! What can be said to clients, and done with them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use crate::page::Partial;

/// Sockets: all that are named in one way or another, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audience {
    /// The namespace that they are in; default `/`.
    #[serde(default = "main_namespace")]
    #[schema(default = "/", pattern = "^/")]
    pub namespace: String,
    /// Members of these rooms.
    #[serde(default)]
    pub rooms: Vec<String>,
    /// These sockets, by their ids.
    #[serde(default)]
    pub sockets: Vec<String>,
    /// Those that have shown a token of one of these subjects.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Everybody in the namespace.
    #[serde(default)]
    pub everyone: bool,
    /// But not the members of these rooms, nor these sockets.
    #[serde(default)]
    pub except: Vec<String>,
}

fn main_namespace() -> String {
    "/".to_owned()
}

impl Audience {
    /// Whether it names nobody: then something was forgotten.
    pub fn is_nobody(&self) -> bool {
        self.rooms.is_empty() && self.sockets.is_empty() && self.subjects.is_empty() && !self.everyone
    }

    /// How many names it has.
    pub fn len(&self) -> usize {
        self.rooms.len() + self.sockets.len() + self.subjects.len() + self.except.len()
    }

    /// Whether it has no names.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An event for clients.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmitRequest {
    /// Who receives it.
    pub to: Audience,
    /// Its name; `connect`, `connect_error`, `disconnect`, `disconnecting`, `newListener` and `removeListener` are reserved.
    #[schema(min_length = 1)]
    pub event: String,
    /// Its arguments. `{"$binary": "base64"}` anywhere inside is binary.
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    pub args: Option<Box<RawValue>>,
    /// Who is not ready for it may miss it.
    #[serde(default)]
    pub volatile: bool,
    /// Asks each client for an acknowledgement, and waits for them.
    #[serde(default)]
    pub ack: Option<AckRequest>,
}

/// How acknowledgements are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AckRequest {
    /// For how long, in milliseconds: 1 to 30,000.
    #[schema(minimum = 1, maximum = 30000)]
    pub timeout: u64,
}

/// What became of an event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmitResult {
    /// How many sockets it was for; absent where nobody counted, as for a broadcast to rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u64>,
    /// The acknowledgements that came in time, where they were asked for.
    #[serde(default)]
    pub acks: Vec<Ack>,
    /// Node by node, where somebody counted.
    #[serde(default)]
    pub nodes: Vec<NodeOutcome>,
    /// The nodes of which nothing is known: their clients may have received it, or not.
    pub partial: Vec<Partial>,
}

/// An acknowledgement.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The socket that acknowledges.
    pub socket: String,
    /// With what; binary as `{"$binary": "base64"}`.
    #[schema(value_type = Vec<Value>)]
    pub args: Box<RawValue>,
}

impl PartialEq for Ack {
    fn eq(&self, other: &Self) -> bool {
        (&self.socket, self.args.get()) == (&other.socket, other.args.get())
    }
}

/// What a node has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeOutcome {
    /// The node.
    pub node: String,
    /// How many of its sockets (or peers) were meant.
    pub matched: u64,
    /// With how many of them it was done: those that joined, left, acknowledged, or were sent to or disconnected.
    pub done: u64,
}

/// Several events, in order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchRequest {
    /// Up to 100 of them. None is sent if one of them cannot be.
    #[schema(min_items = 1, max_items = 100)]
    pub events: Vec<EmitRequest>,
}

/// What became of several events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchResult {
    /// In the order of the events.
    pub results: Vec<EmitResult>,
}

/// Sockets that are to join rooms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// Which sockets.
    pub to: Audience,
    /// The rooms that they join, up to 100.
    #[schema(min_items = 1, max_items = 100)]
    pub rooms: Vec<String>,
    /// What they join with; default nothing. The other members are told as when a client joins itself.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub profile: Option<serde_json::Map<String, Value>>,
}

/// Sockets that are to leave rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaveRequest {
    /// Which sockets.
    pub to: Audience,
    /// The rooms that they leave, up to 100.
    #[schema(min_items = 1, max_items = 100)]
    pub rooms: Vec<String>,
}

/// Clients that are to be disconnected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisconnectRequest {
    /// Which sockets.
    #[serde(default)]
    pub to: Option<Audience>,
    /// Whether their whole connections are closed, and not only their part in the namespace.
    #[serde(default)]
    pub close: bool,
    /// Which PeerServer clients, up to 100.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub peers: Vec<PeerName>,
}

/// A PeerServer client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerName {
    /// Its id.
    pub id: String,
    /// The key of its realm; default the first that is configured.
    #[serde(default)]
    pub key: Option<String>,
}

/// A message for a PeerServer client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerMessageRequest {
    /// The message's type. `peerjs` knows some, such as `OFFER` and `LEAVE`, and leaves others to its `translate` and log.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 64)]
    pub kind: String,
    /// Who it is said to be from.
    #[serde(default)]
    pub src: Option<String>,
    /// What it carries.
    #[serde(default)]
    pub payload: Value,
    /// The key of the realm; default the first that is configured.
    #[serde(default)]
    pub key: Option<String>,
}

/// What all nodes log for a time, in place of what was ordered before. Without `level` and `clients` it is as configured again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogRequest {
    /// The level of the nodes' own lines: `error`, `warn`, `info`, `debug` or `trace`; default as configured.
    #[serde(default)]
    pub level: Option<String>,
    /// Up to 32 clients whose stories are told, each line of them at `info`: subjects, IP addresses, or ids of sessions, sockets and peers.
    #[serde(default)]
    pub clients: Vec<String>,
    /// For how long, in seconds: 1 to 86,400; default 600.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86400)]
    pub seconds: Option<u64>,
}

/// What was done, node by node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// How many sockets and peers were meant.
    pub matched: u64,
    /// With how many of them it was done.
    pub done: u64,
    /// Node by node.
    pub nodes: Vec<NodeOutcome>,
    /// The nodes of which nothing is known: it may have been done there, or not.
    pub partial: Vec<Partial>,
}

impl Outcome {
    /// Of these nodes.
    pub fn of(mut nodes: Vec<NodeOutcome>, partial: Vec<Partial>) -> Self {
        nodes.sort_by(|one, other| one.node.cmp(&other.node));
        let sum = |count: fn(&NodeOutcome) -> u64| nodes.iter().map(count).sum();
        Self { matched: sum(|node| node.matched), done: sum(|node| node.done), nodes, partial }
    }
}
