//! What a token allows, and why.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::sockets::Principal;

/// A question about a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainRequest {
    /// The token of a client. Absent: a client without one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub token: Option<ShownToken>,
    /// What its holder wants to do, up to 100 things. None: the answer has its grants alone.
    #[serde(default)]
    pub actions: Vec<AskedAction>,
}

/// A token that somebody asks about. Nothing shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShownToken(pub String);

impl fmt::Debug for ShownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShownToken")
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AskedAction {
    /// Connect to a namespace.
    Connect {
        /// The namespace, with its slash.
        namespace: String,
    },
    /// Join a room.
    Join {
        /// The room.
        room: String,
    },
    /// Send to a room.
    Send {
        /// The room.
        room: String,
    },
    /// Claim an id of the PeerServer protocol.
    Claim {
        /// The id.
        id: String,
        /// The key of its realm; default the first that is configured.
        #[serde(default)]
        key: Option<String>,
    },
    /// Claim an id that the server has issued, whichever.
    ClaimGenerated {},
    /// List the peers of a realm.
    Discover {},
    /// List users.
    Users {},
    /// Have TURN credentials.
    Turn {},
    /// Use the admin API.
    Admin {
        /// The scope that is needed: `read`, `emit` or `control`.
        scope: String,
    },
    /// Have so much of something that is limited.
    Limit {
        /// What: `namespaces`, `rooms`, `eventsPerSecond`, `bytesPerSecond`, `joinsPerSecond`, `messageBytes`, `profileBytes` or
        /// `connections`.
        limit: String,
        /// How much.
        amount: u64,
    },
}

impl fmt::Display for AskedAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { namespace } => write!(f, "connect {namespace}"),
            Self::Join { room } => write!(f, "join {room}"),
            Self::Send { room } => write!(f, "send {room}"),
            Self::Claim { id, .. } => write!(f, "claim {id}"),
            Self::ClaimGenerated {} => f.write_str("claim an id of the server"),
            Self::Discover {} => f.write_str("discover"),
            Self::Users {} => f.write_str("users"),
            Self::Turn {} => f.write_str("turn"),
            Self::Admin { scope } => write!(f, "admin {scope}"),
            Self::Limit { limit, amount } => write!(f, "{limit} {amount}"),
        }
    }
}

/// What a node says of a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Whether the node takes the token, or a client without one.
    pub accepted: bool,
    /// The code with which it refuses, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it refuses or accepts, for people.
    pub reason: String,
    /// Whose the token is, and what it grants; absent for a client without one, and for a token that is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// In the order of the question.
    pub decisions: Vec<ActionDecision>,
}

/// Whether something is allowed, and what decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionDecision {
    /// What was asked.
    pub action: AskedAction,
    /// Whether it is allowed.
    pub allowed: bool,
    /// The code of the refusal, as a client would get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What decides, for people.
    pub reason: String,
    /// The grant that decides, by its place in the token's grants, such as `rooms.join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The pattern of it that matches, as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The most that there may be, where a limit decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_and_actions_are_read_strictly() {
        let read = |json: &str| serde_json::from_str::<ExplainRequest>(json);
        let request =
            read(r#"{"token":"secret","actions":[{"type":"join","room":"a"},{"type":"turn"}]}"#).unwrap();
        assert!(!format!("{request:?}").contains("secret"));
        assert_eq!(request.actions[0], AskedAction::Join { room: "a".to_owned() });
        for wrong in [
            r#"{"tokens":"x"}"#,
            r#"{"actions":[{"type":"join"}]}"#,
            r#"{"actions":[{"type":"fly"}]}"#,
            r#"{"actions":[{"type":"turn","room":"a"}]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
