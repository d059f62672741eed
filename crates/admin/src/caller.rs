//! Who asks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whoever sends a request, and what they may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// Who it is, as the log has it: `token ` and its name, `subject ` and that of a JSON Web Token, or `loopback`.
    pub name: String,
    /// What they may: `read`, `emit`, `control`.
    pub scopes: Vec<String>,
}
