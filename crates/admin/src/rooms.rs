//! Namespaces, rooms and their members.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    page::{Cursor, Row},
    profile::Profile,
};

/// A namespace that somebody is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// Its name, with the leading slash.
    pub name: String,
    /// How many sockets are connected to it.
    pub sockets: u64,
}

impl Row for Namespace {
    fn cursor(&self) -> Cursor {
        Cursor(self.name.clone(), String::new())
    }

    fn join(&mut self, other: Self) {
        self.sockets += other.sockets;
    }
}

/// A room that somebody is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many sockets are in it.
    pub members: u64,
}

impl Row for Room {
    fn cursor(&self) -> Cursor {
        Cursor(self.namespace.clone(), self.name.clone())
    }

    fn join(&mut self, other: Self) {
        self.members += other.members;
    }
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The socket.
    pub id: String,
    /// The node that has it.
    pub node: String,
    /// Whose token it has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What it joined with.
    #[schema(value_type = Object)]
    pub profile: Profile,
}

impl Row for Member {
    fn cursor(&self) -> Cursor {
        Cursor(self.id.clone(), String::new())
    }

    /// One that is just moving to another node: whoever knows its profile.
    fn join(&mut self, other: Self) {
        if self.profile == Profile::default() {
            self.profile = other.profile;
        }
    }

    fn bytes(&self) -> usize {
        self.profile.text().len()
    }
}
