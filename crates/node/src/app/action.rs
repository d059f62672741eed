//! What an event does, as data.

use std::sync::Arc;

/// An action on an event. Arguments are counted from 0, the first behind the event's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Joins the room named by argument 0.
    Join(Join),
    /// Leaves the room named by argument 0.
    Leave,
    /// Answers with the members of the room named by argument 0.
    Members,
    /// Answers with the connected sockets of the namespace, after the id in argument 0.
    Users,
    /// Broadcasts to the other members of the room named by argument 0: `event(argument 1, {room, from})`.
    Broadcast {
        /// The event they receive.
        event: Arc<str>,
        /// What an event with one argument says instead.
        chat: Option<Chat>,
    },
    /// Sends to the socket named by argument 0: `event(argument 1, {from})`.
    SendTo {
        /// The event it receives.
        event: Arc<str>,
    },
}

impl Action {
    /// The names of the events that it sends.
    pub(crate) fn events(&self) -> Vec<&str> {
        match self {
            Self::Join(join) => vec![&join.joined.event, &join.updated.event, &join.left.event],
            Self::Leave | Self::Members | Self::Users => Vec::new(),
            Self::Broadcast { event, chat } => {
                std::iter::once(&**event).chain(chat.as_ref().map(|chat| &*chat.event)).collect()
            }
            Self::SendTo { event } => vec![event],
        }
    }
}

/// The chat of the PeerJS and Socket.IO tutorials: `event(argument 0, name)` to everyone, the sender included, in every room that the
/// sender has joined by an event with [`TemplateArgs::Rest`]. The name is what followed the profile there, or `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// The event they receive.
    pub event: Arc<str>,
    /// What the others were told when the sender joined: this tells such rooms from others.
    pub joined: Arc<str>,
}

/// How a room is joined, and which events the other members get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Where the member's profile comes from.
    pub profile: Profile,
    /// The event that the others get when the membership begins.
    pub joined: EventTemplate,
    /// When the profile is replaced.
    pub updated: EventTemplate,
    /// When the membership ends.
    pub left: EventTemplate,
}

/// Where a profile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// Argument 1 is the profile, a JSON object; absent or `null` is an empty one.
    Object,
    /// The profile has one field, whose value is argument 1. Argument 0 may be an object instead of the room's name: `{roomId, peerId,
    /// userName}`, also `{room, userId, name}`, stands for these as arguments. A second join with another value is a leave and a join.
    Field(Arc<str>),
}

/// An event about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTemplate {
    /// Its name.
    pub event: Arc<str>,
    /// Its arguments.
    pub args: TemplateArgs,
}

/// The arguments of an event about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateArgs {
    /// One object: `{id, room, ...profile}`.
    Member,
    /// What came with the join, from argument 1 on.
    Rest,
}
