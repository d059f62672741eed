//! What is known when a rule runs: the event, and the room that the rule is about by then.

use std::sync::Arc;

use bytes::Bytes;

use crate::value::{fields, json_string};

/// An event, or what else a rule is for.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its arguments, as JSON.
    args: Vec<Box<str>>,
    /// The binary that placeholders in the arguments name.
    pub(crate) attachments: Vec<Bytes>,
    /// Whether the client waits for an ack.
    pub wants_ack: bool,
    /// The CONNECT payload, JSON: when a client has connected.
    pub(crate) auth: Option<String>,
    /// Why the client is going.
    pub(crate) reason: Option<String>,
    /// The id and the realm's key: when a PeerServer id was claimed or released.
    pub(crate) peer: Option<(String, String)>,
}

impl Event {
    /// An event of a client. The arguments are JSON.
    pub fn new<'a>(
        name: &str,
        args: impl IntoIterator<Item = &'a str>,
        attachments: &[Bytes],
        wants_ack: bool,
    ) -> Self {
        Self {
            name: name.to_owned(),
            args: args.into_iter().map(Box::from).collect(),
            attachments: attachments.to_vec(),
            wants_ack,
            ..Self::default()
        }
    }

    /// A client has connected, with this CONNECT payload (JSON).
    pub fn connection(auth: Option<String>) -> Self {
        Self { name: "connection".to_owned(), auth, ..Self::default() }
    }

    /// A client is going.
    pub fn disconnecting(reason: &str) -> Self {
        Self { name: "disconnecting".to_owned(), reason: Some(reason.to_owned()), ..Self::default() }
    }

    /// A PeerServer id of this realm was claimed or released.
    pub fn peer(id: &str, key: &str) -> Self {
        Self { peer: Some((id.to_owned(), key.to_owned())), ..Self::default() }
    }

    pub(crate) fn arg(&self, index: usize) -> Option<&str> {
        self.args.get(index).map(|arg| &**arg)
    }

    /// Bytes of its arguments, and of its binary.
    pub(crate) fn bytes(&self) -> usize {
        let args = self.args.iter().map(|arg| arg.len());
        args.chain(self.attachments.iter().map(Bytes::len)).sum()
    }

    /// The JSON of all arguments.
    pub(crate) fn args(&self) -> &[Box<str>] {
        &self.args
    }

    /// A JSON array of the arguments from this one on.
    pub(crate) fn args_from(&self, from: usize) -> String {
        format!("[{}]", self.args.get(from..).unwrap_or_default().join(","))
    }
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The socket's id.
    pub id: String,
    /// Its profile, a JSON object.
    pub profile: Arc<str>,
}

/// A list of a room's members, or the beginning of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberList {
    /// The members: all of them, or a page.
    pub members: Vec<Member>,
    /// How many there are in all.
    pub count: u32,
    /// The room has more members than are told of each other.
    pub is_large: bool,
    /// The last of this page, if there are more behind it.
    pub next: Option<String>,
}

/// What a run knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) event: Event,
    /// The room that the rule is about by now.
    pub(crate) room: Option<String>,
    /// Its members.
    pub(crate) members: Option<MemberList>,
    /// How many they were the moment the socket had joined.
    pub(crate) count: Option<u32>,
    /// The list of members begins behind this socket.
    pub(crate) after: Option<String>,
    /// This run has joined the room itself.
    pub(crate) has_joined: bool,
    /// What the application's own server has answered for later values: JSON.
    pub(crate) answer: Option<Box<str>>,
}

impl State {
    pub(crate) fn new(event: Event) -> Self {
        Self { event, room: None, members: None, count: None, after: None, has_joined: false, answer: None }
    }

    /// The members as JSON, without one of them.
    pub(crate) fn members_json(&self, but: Option<&str>) -> Option<String> {
        let mut json = "[".to_owned();
        for member in self.members.as_ref()?.members.iter().filter(|member| but != Some(&*member.id)) {
            json.push_str(if json.len() > 1 { "," } else { "" });
            let rest = fields(&member.profile);
            let comma = if rest.is_empty() { "" } else { "," };
            json.extend(["{\"id\":", &json_string(&member.id), comma, rest, "}"]);
        }
        json.push(']');
        Some(json)
    }

    pub(crate) fn count(&self) -> Option<usize> {
        self.count.or(self.members.as_ref().map(|list| list.count)).map(|count| count as usize)
    }

    pub(crate) fn enter(&mut self, room: String) {
        if self.room.as_ref() != Some(&room) {
            self.room = Some(room);
            (self.members, self.count, self.after, self.has_joined) = (None, None, None, false);
        }
    }
}
