//! Refusals, as `application/problem+json` has them (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::Partial;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// For programs; it never changes.
    pub code: String,
    /// For people, with the remedy.
    pub detail: String,
    /// The parameter or field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The nodes that have not answered, where one of them may have what was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<Partial>,
}
