//! What a room remembers about a member.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::address::Address;

/// A room of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoomName {
    /// The namespace, with its leading slash.
    pub namespace: Arc<str>,
    /// The room.
    pub name: Arc<str>,
}

/// An event to be emitted: a name, and its arguments as JSON elements without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEvent {
    /// The event's name.
    pub event: Arc<str>,
    /// JSON: the elements behind the name.
    pub args: Arc<str>,
    /// Binary attachments that placeholders in `args` name.
    pub attachments: Vec<Bytes>,
}

/// A membership: the socket, its profile, and what the other members hear of it. The record carries the farewell because
/// whoever ends the membership may be a survivor that never knew the member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The member.
    pub socket: Address,
    /// A JSON object.
    pub profile: Arc<str>,
    /// The others hear this when the membership begins.
    pub joined: Option<MemberEvent>,
    /// The others hear this when the profile is replaced.
    pub updated: Option<MemberEvent>,
    /// The others hear this when the membership ends, however it ends.
    pub left: Option<MemberEvent>,
}
