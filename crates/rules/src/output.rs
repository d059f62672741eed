//! What is to be done, and what is refused.

use std::sync::Arc;

use bytes::Bytes;

use crate::{condition::Failed, template::BinaryInText};

/// An event to be sent: its name, its arguments as JSON without the array's brackets, its binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOut {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: String,
    /// What placeholders in them name.
    pub attachments: Vec<Bytes>,
}

/// Who gets an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The socket itself.
    Me,
    /// The members of a room.
    Room {
        /// Its name.
        name: String,
        /// But not the socket itself.
        but_me: bool,
        /// The client needs the grant to send there.
        is_guarded: bool,
    },
    /// The whole namespace.
    Everyone {
        /// But not the socket itself.
        but_me: bool,
    },
}

/// A join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The room.
    pub room: String,
    /// A JSON object.
    pub profile: String,
    /// What the others are told when the membership begins.
    pub joined: Option<EventOut>,
    /// What they are told when the profile is replaced.
    pub updated: Option<EventOut>,
    /// What they are told when the membership ends.
    pub farewell: Option<EventOut>,
    /// Most members; 0 is no limit.
    pub limit: u32,
    /// Another profile is another member: the present one leaves first.
    pub rejoins: bool,
    /// The answer is to list the members.
    pub wants_members: bool,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Join a room. Answered by [`Answer::Joined`](crate::Answer::Joined) or [`Answer::Full`](crate::Answer::Full).
    Join(Box<Join>),
    /// Leave a room, of which the socket is a member.
    Leave(String),
    /// Leave all rooms, but hidden ones.
    LeaveAll,
    /// Send an event.
    Emit {
        /// To whom.
        to: To,
        /// The event.
        event: EventOut,
        /// Who is not ready for it may miss it.
        volatile: bool,
    },
    /// Send an event to each of these rooms. The client needs the grant for each; what is not granted in any is refused.
    EmitToRooms {
        /// The rooms, and what is sent there.
        rooms: Vec<(String, EventOut)>,
        /// But not to the socket itself.
        but_me: bool,
        /// Who is not ready for it may miss it.
        volatile: bool,
    },
    /// Send an event to one socket. Answered by [`Answer::Sent`](crate::Answer::Sent); if nobody has the id, the event is refused with `not-found`.
    SendTo {
        /// The socket's id.
        socket: String,
        /// The event.
        event: EventOut,
    },
    /// Answer the client's event with one value.
    Ack {
        /// JSON.
        json: String,
        /// What placeholders in it name.
        attachments: Vec<Bytes>,
    },
    /// Answer the client's event with a page of the connected sockets. Answered by [`Answer::Done`](crate::Answer::Done).
    Users {
        /// Begin behind this id.
        after: Option<String>,
    },
    /// List the members of a room. Answered by [`Answer::Members`](crate::Answer::Members); if `after` is nobody's id, the event is refused
    /// with `not-found`.
    Members {
        /// The room.
        room: String,
        /// Begin behind this id.
        after: Option<String>,
    },
    /// Keep these fields on the socket, as JSON; `None` removes one.
    Set(Vec<(String, Option<String>)>),
    /// The socket goes with this PeerServer id: it joins the [`peer_room`](crate::peer_room). Not answered.
    Peer(String),
    /// Disconnect the client from its namespace, or close its connection.
    Disconnect {
        /// Close the connection.
        close: bool,
    },
    /// Ask a server of the application's own. Answered by [`Answer::Called`](crate::Answer::Called).
    Call {
        /// Which one, as the configuration calls it.
        hook: Arc<str>,
        /// What is posted to it: JSON.
        body: String,
    },
}

/// What a run does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Do this, and go on with [`Run::next`](crate::Run::next).
    Do(Output),
    /// Do this, and go on with [`Run::next`](crate::Run::next) when [`Run::answer`](crate::Run::answer) has been told the answer.
    Ask(Output),
    /// It ends here: the event is refused.
    Refuse(Refusal),
    /// It has ended.
    End,
}

/// A refusal, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Arc<str>,
    /// For people.
    pub hint: Arc<str>,
}

impl Refusal {
    pub(crate) fn new(code: &str, hint: &str) -> Self {
        Self { code: code.into(), hint: hint.into() }
    }

    pub(crate) fn bad_room() -> Self {
        Self::new(
            "bad-room",
            "a room is named by a number, or a string of 1 to 255 bytes that is not the id of a socket",
        )
    }

    pub(crate) fn bad_profile() -> Self {
        Self::new(
            "bad-profile",
            "what follows the room is at most 4096 bytes, and a profile is a JSON object without binary",
        )
    }

    pub(crate) fn bad_value() -> Self {
        Self::new("bad-value", "binary cannot be part of a text, nor of a name or a field")
    }

    pub(crate) fn of(failed: Failed) -> Self {
        match failed {
            Failed::BadRoom => Self::bad_room(),
            Failed::NotAMember => Self::new("not-a-member", "join the room first"),
            Failed::AckRequired => Self::new("ack-required", "the answer is the ack: emit with a callback"),
            Failed::NotGranted => Self::new("forbidden", "what your token grants does not include it"),
            Failed::Value => Self::new("bad-argument", "an argument is not what this event takes"),
        }
    }
}

impl From<BinaryInText> for Refusal {
    fn from(_: BinaryInText) -> Self {
        Self::bad_value()
    }
}
