//! Sockets: clients of Socket.IO in one namespace each.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    page::{Cursor, Row},
    profile::Profile,
};

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// A WebSocket.
    Websocket,
}

/// A socket, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// Its id, as its client knows it.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The node that has it.
    pub node: String,
    /// How its client is connected.
    pub transport: Transport,
    /// Its client's address, behind the proxies that are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whose token it has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How many rooms it is in.
    pub rooms: u64,
    /// Bytes that wait for its client to read them: those of all its namespaces together.
    pub waiting_bytes: u64,
    /// When its client's session was opened.
    pub connected_at: u64,
}

impl Row for Socket {
    fn cursor(&self) -> Cursor {
        Cursor(self.id.clone(), String::new())
    }
}

/// Everything about one socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SocketDetails {
    /// What a list says of it.
    #[serde(flatten)]
    pub socket: Socket,
    /// The worker thread that has it.
    pub shard: u32,
    /// Whether its session is just moving to another worker or node.
    pub is_moving: bool,
    /// Events for which its client's answer is waited for.
    pub pending_acks: u64,
    /// How much its client sends, in all its namespaces.
    #[serde(default)]
    pub rates: SocketRates,
    /// The rooms that it is in.
    pub memberships: Vec<Membership>,
    /// Who its client is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
}

/// How much a client sends, over the last ten to twenty seconds and since its session has been on its worker, and how much it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SocketRates {
    /// Events a second, with everything else that it sends.
    pub events: f64,
    /// Bytes a second.
    pub bytes: f64,
    /// Events that it may send in a second; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u64>,
    /// Bytes that it may send in a second; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Rooms that it may join in a second; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joins_per_second: Option<u64>,
}

/// A room that a socket is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The room.
    pub room: String,
    /// What the socket joined with.
    #[schema(value_type = Object)]
    pub profile: Profile,
}

/// Who a client is, by its token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// Who issued the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Whose it is.
    pub subject: String,
    /// Which of its subject's sessions it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The token's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// When it expires.
    pub expires_at: u64,
    /// What it grants.
    #[schema(value_type = Object)]
    pub grants: Value,
}
