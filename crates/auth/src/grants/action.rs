//! What somebody wants to do, and what decides whether they may.

use std::fmt;

use super::Limit;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Join a namespace.
    Connect {
        /// The namespace, with its slash.
        namespace: &'a str,
    },
    /// Join a room.
    Join {
        /// The room.
        room: &'a str,
    },
    /// Send something to a room.
    Send {
        /// The room.
        room: &'a str,
    },
    /// Claim an id of the PeerServer protocol.
    Claim {
        /// The id.
        id: &'a str,
        /// Whether the server itself issued the id: [`GeneratedIds::verify`](crate::GeneratedIds::verify).
        is_generated: bool,
    },
    /// List the peers of a realm.
    Discover,
    /// List users.
    ListUsers,
    /// Have TURN credentials.
    Turn,
    /// Use the admin API.
    Admin {
        /// The scope that is needed.
        scope: &'a str,
    },
    /// Have so much of something that is limited.
    Amount {
        /// What.
        limit: Limit,
        /// How much it would be.
        amount: u64,
        /// The node's own limit, if it has one.
        default: Option<u64>,
    },
}

/// One grant, by its place in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// `namespaces`
    Namespaces,
    /// `rooms.join`
    RoomsJoin,
    /// `rooms.send`
    RoomsSend,
    /// `peer.ids`
    PeerIds,
    /// `peer.generated`
    PeerGenerated,
    /// `peer.discover`
    PeerDiscover,
    /// `users`
    Users,
    /// `turn`
    Turn,
    /// `admin`
    Admin,
}

impl Grant {
    /// Its place in the JSON, e.g. `rooms.join`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::RoomsJoin => "rooms.join",
            Self::RoomsSend => "rooms.send",
            Self::PeerIds => "peer.ids",
            Self::PeerGenerated => "peer.generated",
            Self::PeerDiscover => "peer.discover",
            Self::Users => "users",
            Self::Turn => "turn",
            Self::Admin => "admin",
        }
    }

    /// The code of a refusal for want of it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Namespaces => "namespace-forbidden",
            Self::RoomsJoin => "join-forbidden",
            Self::RoomsSend => "send-forbidden",
            Self::PeerIds | Self::PeerGenerated => "id-forbidden",
            Self::PeerDiscover => "discover-forbidden",
            Self::Users => "users-forbidden",
            Self::Turn => "turn-forbidden",
            Self::Admin => "admin-forbidden",
        }
    }
}

/// Whether an action is allowed, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'g> {
    /// Whether it is.
    pub allowed: bool,
    /// What decides.
    pub because: Because<'g>,
}

/// What decides. Its text is for the holder of the grants, and for those who look after the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because<'g> {
    /// A pattern matches.
    Pattern {
        /// The grant.
        grant: Grant,
        /// The first pattern that matches, as it was written.
        pattern: &'g str,
    },
    /// No pattern matches.
    NoPattern {
        /// The grant.
        grant: Grant,
        /// How many patterns it has.
        tried: usize,
    },
    /// A grant that is there.
    Granted(Grant),
    /// A grant that is not there.
    NotGranted(Grant),
    /// A limit.
    Limit {
        /// What is limited.
        limit: Limit,
        /// The most that is allowed.
        most: u64,
        /// Whether the grants set it, or the node.
        is_own: bool,
    },
    /// Nothing limits it.
    NoLimit(Limit),
}

impl Decision<'_> {
    pub(crate) fn flag(grant: Grant, allowed: bool) -> Self {
        let because = if allowed { Because::Granted(grant) } else { Because::NotGranted(grant) };
        Self { allowed, because }
    }

    /// The code of the refusal, where it is one.
    pub fn code(&self) -> Option<&'static str> {
        if self.allowed {
            return None;
        }
        Some(match self.because {
            Because::Pattern { grant, .. } | Because::NoPattern { grant, .. } => grant.code(),
            Because::Granted(grant) | Because::NotGranted(grant) => grant.code(),
            Because::Limit { .. } | Because::NoLimit(_) => "limit-exceeded",
        })
    }
}

impl Because<'_> {
    /// The grant that decides; `None` where a limit does.
    pub fn grant(&self) -> Option<Grant> {
        match self {
            Self::Pattern { grant, .. } | Self::NoPattern { grant, .. } => Some(*grant),
            Self::Granted(grant) | Self::NotGranted(grant) => Some(*grant),
            Self::Limit { .. } | Self::NoLimit(_) => None,
        }
    }
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { grant, pattern } => {
                write!(f, "{} has the pattern {pattern:?}, which matches", grant.name())
            }
            Self::NoPattern { grant, tried: 0 } => write!(f, "{} is not granted", grant.name()),
            Self::NoPattern { grant, tried } => {
                write!(f, "none of the {tried} patterns of {} matches", grant.name())
            }
            Self::Granted(grant) => write!(f, "{} is granted", grant.name()),
            Self::NotGranted(grant) => write!(f, "{} is not granted", grant.name()),
            Self::Limit { limit, most, is_own } => {
                let whose = if *is_own { "the grants" } else { "the server" };
                write!(f, "{whose} limit {} to {most}", limit.name())
            }
            Self::NoLimit(limit) => write!(f, "nothing limits {}", limit.name()),
        }
    }
}
