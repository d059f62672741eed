//! Memberships of rooms.

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

/// A membership: the socket, its profile, and the events that the other members get. The record carries the leave event, so that
/// any node can send it: when the member's node has died, another one ends the membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The member.
    pub socket: Address,
    /// A JSON object.
    pub profile: Arc<str>,
    /// The event that the others get when the membership begins.
    pub joined: Option<MemberEvent>,
    /// The event that they get when the profile is replaced.
    pub updated: Option<MemberEvent>,
    /// The event that they get when the membership ends, however it ends.
    pub left: Option<MemberEvent>,
}

/// What the store has of a session, taken along when the session moves to another node; as [`Command::AdoptSession`](crate::Command::AdoptSession) takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecords {
    /// The rooms its sockets are in, and their records there.
    pub memberships: Vec<(RoomName, Record)>,
    /// Its sockets: namespace, id, profile.
    pub sockets: Vec<(Arc<str>, Address, Arc<str>)>,
}
