//! What a rule may ask of whoever runs it.

use std::borrow::Cow;

use crate::MAX_PROFILE;

/// A room that the socket is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedRoom {
    /// Its name.
    pub name: String,
    /// What the others were told when the socket joined it: a JSON array of the event's arguments; empty where that had binary in it.
    pub announcement: String,
}

/// Something that a token may grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant<'a> {
    /// To join a room.
    Join(&'a str),
    /// To send to a room.
    Send(&'a str),
    /// To send to one socket.
    Signal,
    /// To list users.
    Users,
}

/// What is known of the socket whose event it is. All of it is at hand: nothing here waits.
pub trait Facts {
    /// The socket's id; `None` where there is no socket (a claim or a release).
    fn id(&self) -> Option<Cow<'_, str>>;
    /// The namespace.
    fn namespace(&self) -> Cow<'_, str>;
    /// The client's address, behind the proxies that are trusted.
    fn address(&self) -> Option<String>;
    /// A claim of the client's token, as JSON.
    fn claim(&self, name: &str) -> Option<String>;
    /// A field that `set` has kept, as JSON.
    fn data(&self, name: &str) -> Option<&str>;
    /// All of them.
    fn all_data(&self) -> Vec<(&str, &str)>;
    /// Whether the socket is in a room.
    fn is_member(&self, room: &str) -> bool;
    /// Whether a name is the id of a socket: such a room cannot be joined.
    fn is_socket(&self, name: &str) -> bool;
    /// The rooms that the socket is in; with `announced` only those whose members were told so of it.
    fn rooms(&self, announced: Option<&str>) -> Vec<JoinedRoom>;
    /// Largest profile in bytes; also largest list of arguments that a membership keeps for its events.
    fn max_profile(&self) -> usize {
        MAX_PROFILE
    }
    /// Whether the client may do this. Without tokens everybody may do everything.
    fn is_granted(&self, grant: Grant<'_>) -> bool;
}

/// No socket at all.
#[derive(Debug, Clone, Copy)]
pub struct Nobody<'a> {
    /// The namespace that a rule is for.
    pub namespace: &'a str,
}

impl Facts for Nobody<'_> {
    fn id(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn namespace(&self) -> Cow<'_, str> {
        self.namespace.into()
    }
    fn address(&self) -> Option<String> {
        None
    }
    fn claim(&self, _: &str) -> Option<String> {
        None
    }
    fn data(&self, _: &str) -> Option<&str> {
        None
    }
    fn all_data(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }
    fn is_member(&self, _: &str) -> bool {
        false
    }
    fn is_socket(&self, _: &str) -> bool {
        false
    }
    fn rooms(&self, _: Option<&str>) -> Vec<JoinedRoom> {
        Vec::new()
    }
    fn is_granted(&self, _: Grant<'_>) -> bool {
        true
    }
}
