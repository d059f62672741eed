//! What a rule does, compiled.

use std::sync::Arc;

use crate::{
    condition::Condition,
    template::{Element, Needs, Placeholder, Template, each_of},
};

/// What a rule waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On {
    /// An event of a client.
    Event(String),
    Connection,
    Disconnecting,
    Claim,
    Release,
}

/// A namespace's name, in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) String);

/// An action that is done if its conditions hold.
#[derive(Debug, PartialEq)]
pub(crate) struct Guarded {
    pub(crate) when: Vec<Condition>,
    pub(crate) action: Action,
    /// What must be known before it is done.
    pub(crate) needs: Needs,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Join(Box<JoinAction>),
    Leave(Template),
    LeaveAll,
    Emit(Box<Emit>),
    Ack(Template),
    Users(Template),
    /// The list of members begins behind this socket.
    MembersAfter(Template),
    Set(Vec<(String, Template)>),
    Require {
        conditions: Vec<Condition>,
        code: Option<Arc<str>>,
        hint: Option<Arc<str>>,
    },
    Disconnect {
        close: bool,
    },
    /// The socket goes with this PeerServer id.
    Peer(Template),
    Call(CallAction),
}

/// A server of the application's own is asked.
#[derive(Debug, PartialEq)]
pub(crate) struct CallAction {
    /// Its name in the configuration.
    pub(crate) hook: Arc<str>,
    /// The code of the refusal if it does not answer.
    pub(crate) refusal: Option<Arc<str>>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct JoinAction {
    pub(crate) room: Template,
    pub(crate) profile: Option<Template>,
    pub(crate) joined: Option<EventTemplate>,
    pub(crate) updated: Option<EventTemplate>,
    pub(crate) farewell: Option<EventTemplate>,
    /// Most members; 0 is no limit.
    pub(crate) limit: u32,
    pub(crate) full: Full,
    /// Another profile is another member: the present one leaves first.
    pub(crate) rejoins: bool,
    /// What follows needs the members.
    pub(crate) wants_members: bool,
}

/// What happens when a room is full.
#[derive(Debug, PartialEq)]
pub(crate) enum Full {
    Refuse(Arc<str>),
    Instead(Vec<Guarded>),
}

/// An event with templates for its arguments.
#[derive(Debug, PartialEq)]
pub(crate) struct EventTemplate {
    pub(crate) name: Template,
    pub(crate) args: Vec<Element>,
    /// How often its arguments name the member that joins.
    pub(crate) members: usize,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Emit {
    pub(crate) event: EventTemplate,
    pub(crate) to: Target,
    pub(crate) volatile: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Target {
    Me,
    /// The rule's room, or another one; with the socket itself or without.
    Room {
        room: Option<Template>,
        but_me: bool,
    },
    /// Every room that the socket is in.
    Rooms {
        announced: Option<Arc<str>>,
        but_me: bool,
    },
    Everyone {
        but_me: bool,
    },
    Socket(Template),
    Subject(Template),
    Peer(Template),
}

impl Pattern {
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl Guarded {
    pub(crate) fn new(when: Vec<Condition>, action: Action) -> Self {
        let mut needs = when.iter().fold(Needs::default(), |needs, condition| needs.or(condition.needs()));
        action.each(&mut |placeholder| needs = needs.or(placeholder.needs()));
        Self { when, action, needs }
    }

    pub(crate) fn each(&self, visit: &mut dyn FnMut(&Placeholder)) {
        self.when.iter().for_each(|condition| condition.each(visit));
        self.action.each(visit);
    }
}

impl Action {
    /// Every placeholder in it, but those of what is done instead when a room is full.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(&Placeholder)) {
        match self {
            Self::Join(join) => {
                join.room.each(visit);
                join.profile.iter().for_each(|profile| profile.each(visit));
                let events = [&join.joined, &join.updated, &join.farewell];
                events.into_iter().flatten().for_each(|event| event.each(visit));
            }
            Self::Leave(value)
            | Self::Ack(value)
            | Self::Users(value)
            | Self::MembersAfter(value)
            | Self::Peer(value) => value.each(visit),
            Self::Emit(emit) => {
                emit.event.each(visit);
                match &emit.to {
                    Target::Room { room: Some(value), .. }
                    | Target::Socket(value)
                    | Target::Subject(value)
                    | Target::Peer(value) => value.each(visit),
                    _ => {}
                }
            }
            Self::Set(fields) => fields.iter().for_each(|(_, value)| value.each(visit)),
            Self::Require { conditions, .. } => {
                conditions.iter().for_each(|condition| condition.each(visit));
            }
            Self::LeaveAll | Self::Disconnect { .. } | Self::Call(_) => {}
        }
    }
}

impl EventTemplate {
    pub(crate) fn each(&self, visit: &mut dyn FnMut(&Placeholder)) {
        self.name.each(visit);
        each_of(&self.args, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, matches) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/room-*", "/room-1", true),
            ("/room-*", "/room", false),
            ("/*/chat", "/a/b/chat", true),
            ("/*/chat", "/chat", false),
            ("*", "/x", true),
            ("/a*a", "/a", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/a-c", false),
        ] {
            assert_eq!(Pattern(pattern.to_owned()).matches(name), matches, "{pattern} {name}");
        }
    }
}
