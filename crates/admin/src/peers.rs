//! PeerServer clients.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::{Cursor, Row};

/// A PeerServer client that holds an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its id.
    pub id: String,
    /// The key of its realm.
    pub key: String,
    /// The node that has it.
    pub node: String,
    /// Its address, behind the proxies that are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whose token it has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Bytes that wait for it to read them.
    pub waiting_bytes: u64,
    /// When it connected.
    pub connected_at: u64,
}

impl Row for Peer {
    fn cursor(&self) -> Cursor {
        Cursor(self.key.clone(), self.id.clone())
    }
}
