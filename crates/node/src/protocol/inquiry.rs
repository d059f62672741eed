//! What an operator asks of every node, and what a node answers.
//!
//! They travel over the node link as JSON inside the envelope: questions change more often than formats do, and a field more harms
//! nobody. A node that does not know a question refuses it, and the answer of the cluster says so.
//!
//! A field that is added later, here or in the rows of `signalbox-admin`, needs `#[serde(default)]`, with a default that means what the
//! question meant without it: nodes of different versions ask each other. The tests read what the first version wrote.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use signalbox_admin::{
    Cursor, Member, Namespace, Node, NodeRates, Peer, Room, Row, Socket, SocketDetails,
    events::Event,
    orders::{Ack, Audience, NodeOutcome},
    page::join_parts,
};
use signalbox_auth::Principal;
use signalbox_cluster::{Address, envelope::Format};
use signalbox_socketio::Args;

use super::{WireError, decode, encode};
use crate::routing::OrderCondition;

/// Longest time that a question may wait for something to happen.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Begin behind this entry.
    pub after: Option<Cursor>,
    /// Most entries.
    pub limit: usize,
}

/// Which sockets are meant; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFilter {
    /// Those in this namespace.
    pub namespace: Option<String>,
    /// Members of this room.
    pub room: Option<String>,
    /// Those that have shown a token of this subject.
    pub subject: Option<String>,
    /// Those of clients at this address.
    pub address: Option<std::net::IpAddr>,
}

/// What is asked of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// What a node is, and how it is.
    Node,
    /// How much goes through it.
    Rates,
    /// The namespaces that somebody is connected to.
    Namespaces(Listing),
    /// The rooms that somebody is in.
    Rooms {
        /// Of this namespace alone.
        namespace: Option<String>,
        /// Those whose names begin so.
        prefix: String,
        /// Which of them.
        page: Listing,
    },
    /// The rooms with the most members, as they were told of each other.
    BusiestRooms {
        /// Of this namespace alone.
        namespace: Option<String>,
        /// Those whose names begin so.
        prefix: String,
        /// Most rooms.
        limit: usize,
    },
    /// How many members rooms have: their namespaces and names.
    RoomCounts(Vec<(String, String)>),
    /// The members of a room.
    Members {
        /// The room's namespace.
        namespace: String,
        /// The room.
        room: String,
        /// Which of them.
        page: Listing,
    },
    /// Sockets.
    Sockets {
        /// Which ones count.
        filter: SocketFilter,
        /// Which of them.
        page: Listing,
    },
    /// One socket.
    Socket {
        /// Its id.
        id: String,
    },
    /// Peers.
    Peers {
        /// Of the realm with this key alone.
        key: Option<String>,
        /// Those whose ids begin so.
        prefix: String,
        /// Only those whose ids are just that.
        #[serde(default)]
        is_whole: bool,
        /// Which of them.
        page: Listing,
    },
    /// The sockets that are meant: asked of shards, by their own node.
    Select(Audience),
    /// Do something with the sockets that are meant.
    Act {
        /// Which ones.
        audience: Audience,
        /// What.
        act: Act,
        /// Tells it from other orders: 64 random bits. A socket whose session moves from node to node does an order once. `None`: a node asks
        /// that does not know of it, and a socket that both nodes have does it twice.
        #[serde(default)]
        order: Option<u64>,
    },
    /// Do something with a peer.
    Peer {
        /// The key of its realm; `None`: the first.
        key: Option<String>,
        /// Its id.
        id: String,
        /// What.
        order: PeerOrder,
    },
    /// Drain, and end.
    Drain,
    /// Change what is logged.
    Log(LogOrder),
    /// What has happened.
    Events {
        /// Behind this event of this recording; `None`: from now on.
        after: Option<(u32, u64)>,
        /// How long to wait for something, in milliseconds.
        wait: u64,
    },
    /// Send so many Socket.IO clients away, within a second.
    Shed {
        /// How many.
        clients: u64,
    },
    /// What became of the request with this key.
    Outcome {
        /// The key.
        key: String,
    },
}

/// What is logged for a time. It takes the place of what was ordered before; an order of nothing ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOrder {
    /// The level of the node's own lines; `None`: as configured.
    pub level: Option<String>,
    /// The clients whose stories are told, beside those of the configuration.
    pub clients: Vec<String>,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// What is done with sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Send them an event.
    Emit(Emission),
    /// Let them join rooms.
    Join {
        /// The rooms.
        rooms: Vec<String>,
        /// What they join with: a JSON object.
        profile: String,
    },
    /// Let them leave rooms.
    Leave {
        /// The rooms.
        rooms: Vec<String>,
    },
    /// Disconnect them.
    Disconnect {
        /// Their whole connections, and not only their part in the namespace.
        close: bool,
    },
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emission {
    /// Its name, which is not reserved.
    pub event: String,
    /// Its arguments: a JSON array, in which `{"$binary": "base64"}` is binary.
    pub args: String,
    /// Who is not ready for it may miss it.
    pub volatile: bool,
    /// How long acknowledgements are waited for, in milliseconds; `None`: none is asked for.
    pub ack_timeout: Option<u64>,
}

impl Emission {
    /// Its arguments as clients get them; `None` if they cannot be sent.
    pub fn args(&self) -> Option<Args> {
        let (json, attachments) = signalbox_admin::binary::sent(&self.args).ok()?;
        Args::from_raw(&json, attachments.into_iter().map(Into::into).collect()).ok()
    }
}

/// What is done with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerOrder {
    /// Close its connection.
    Close,
    /// Send it this message.
    Message(String),
}

/// What a node, or a shard of it, answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Question::Node`].
    Nodes(Vec<Node>),
    /// To [`Question::Rates`].
    Rates(Vec<NodeRates>),
    /// To [`Question::Namespaces`].
    Namespaces(Vec<Namespace>, More),
    /// To [`Question::Rooms`].
    Rooms(Vec<Room>, More),
    /// To [`Question::BusiestRooms`]: how many members each has in all.
    BusiestRooms(Vec<Room>),
    /// To [`Question::RoomCounts`]: how many of its members are there.
    RoomCounts(Vec<Room>),
    /// To [`Question::Members`].
    Members(Vec<Member>, More),
    /// To [`Question::Sockets`].
    Sockets(Vec<Socket>, More),
    /// To [`Question::Socket`]: the one, or nothing.
    Socket(Vec<SocketDetails>),
    /// To [`Question::Peers`].
    Peers(Vec<Peer>, More),
    /// To [`Question::Select`].
    Selected(Vec<Selected>),
    /// To what was to be done: what was, and the acknowledgements of it.
    Done(Vec<NodeOutcome>, Vec<Ack>),
    /// To [`Question::Events`].
    Events(Vec<NodeEvents>),
    /// To [`Question::Outcome`].
    Outcomes(Vec<Once>),
    /// More sockets are meant than one request may be for.
    TooMany,
    /// It has more bytes than the link takes.
    TooLarge,
    /// Too much is asked already, or a shard is too far behind.
    Busy,
}

/// A socket that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// Its id.
    pub socket: Address,
    /// Whether another node may select it, too.
    pub standing: Standing,
}

/// How a socket stands to the shard that selects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its session has lived here for a while, and stays.
    Settled,
    /// Its session may go to another node, or has just come from one.
    Moving,
    /// Its session has just gone to another node, where it is meant if this holds.
    Departed(OrderCondition),
}

impl Standing {
    /// What has to be so of the socket where an order reaches it; `None` if nobody else can have selected it.
    pub(crate) fn condition(&self) -> Option<OrderCondition> {
        match self {
            Self::Settled => None,
            Self::Moving => Some(OrderCondition::default()),
            Self::Departed(condition) => Some(condition.clone()),
        }
    }
}

/// What has happened on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEvents {
    /// Which recording of them it is.
    pub run: u32,
    /// The number of the event that follows.
    pub next: u64,
    /// Events that are not known any more; `None`: nobody knows how many.
    pub missed: Option<u64>,
    /// The events.
    pub events: Vec<Arc<Event>>,
}

/// What is known of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Once {
    /// It is new.
    New,
    /// It is being done.
    UnderWay,
    /// It was done, with this outcome.
    Done(String),
}

/// Whether a list goes on behind the page.
pub type More = bool;

impl Question {
    /// Has something done with sockets; each time it is another order.
    pub fn act(audience: Audience, act: Act) -> Self {
        Self::Act { audience, act, order: Some(rand::random()) }
    }

    /// Most entries that each part of the answer has.
    fn limit(&self) -> usize {
        match self {
            Self::Namespaces(page)
            | Self::Rooms { page, .. }
            | Self::Members { page, .. }
            | Self::Sockets { page, .. }
            | Self::Peers { page, .. } => page.limit,
            Self::BusiestRooms { limit, .. } => *limit,
            _ => usize::MAX,
        }
    }

    /// How long answering may take beyond what every question may.
    pub(crate) fn extra_time(&self) -> Duration {
        match self {
            Self::Act { act: Act::Emit(emission), .. } => {
                Duration::from_millis(emission.ack_timeout.unwrap_or_default())
            }
            Self::Events { wait, .. } => Duration::from_millis(*wait).min(MAX_WAIT),
            _ => Duration::ZERO,
        }
    }

    /// Whether it changes nothing: then nobody need answer it once it is given up.
    pub(crate) fn only_looks(&self) -> bool {
        !matches!(self, Self::Act { .. } | Self::Peer { .. } | Self::Drain | Self::Shed { .. })
    }

    /// Whether each socket is to be in the answer, and not only in a number.
    pub(crate) fn names_sockets(&self) -> bool {
        matches!(self, Self::Members { .. } | Self::Sockets { .. } | Self::Socket { .. })
    }

    /// The answer of somebody who has nothing of it.
    fn nothing(&self) -> Answer {
        match self {
            Self::Node => Answer::Nodes(Vec::new()),
            Self::Rates => Answer::Rates(Vec::new()),
            Self::Namespaces(_) => Answer::Namespaces(Vec::new(), false),
            Self::Rooms { .. } => Answer::Rooms(Vec::new(), false),
            Self::BusiestRooms { .. } => Answer::BusiestRooms(Vec::new()),
            Self::RoomCounts(_) => Answer::RoomCounts(Vec::new()),
            Self::Members { .. } => Answer::Members(Vec::new(), false),
            Self::Sockets { .. } => Answer::Sockets(Vec::new(), false),
            Self::Socket { .. } => Answer::Socket(Vec::new()),
            Self::Peers { .. } => Answer::Peers(Vec::new(), false),
            Self::Select(_) => Answer::Selected(Vec::new()),
            Self::Act { .. } | Self::Peer { .. } | Self::Drain | Self::Shed { .. } | Self::Log(_) => {
                Answer::Done(Vec::new(), Vec::new())
            }
            Self::Events { .. } => Answer::Events(Vec::new()),
            Self::Outcome { .. } => Answer::Outcomes(Vec::new()),
        }
    }

    /// Joins the answers of shards, or of nodes. One that is an answer to something else counts as none.
    pub(crate) fn join(&self, answers: Vec<Answer>) -> Answer {
        let limit = self.limit();
        let mut joined = self.nothing();
        macro_rules! parts {
            ($kind:path, $rows:ident, $more:ident) => {{
                let parts = answers.into_iter().filter_map(|answer| match answer {
                    $kind(rows, more) => Some((rows, more)),
                    _ => None,
                });
                (*$rows, *$more) = join_parts(parts.collect(), limit);
            }};
        }
        macro_rules! all {
            ($kind:path, $rows:ident) => {
                for answer in answers {
                    if let $kind(more) = answer {
                        $rows.extend(more);
                    }
                }
            };
        }
        match &mut joined {
            Answer::Namespaces(rows, more) => parts!(Answer::Namespaces, rows, more),
            Answer::Rooms(rows, more) => parts!(Answer::Rooms, rows, more),
            Answer::BusiestRooms(rows) => {
                all!(Answer::BusiestRooms, rows);
                *rows = busiest(std::mem::take(rows), limit, u64::max);
            }
            Answer::RoomCounts(rows) => {
                all!(Answer::RoomCounts, rows);
                *rows = busiest(std::mem::take(rows), limit, u64::saturating_add);
            }
            Answer::Members(rows, more) => parts!(Answer::Members, rows, more),
            Answer::Sockets(rows, more) => parts!(Answer::Sockets, rows, more),
            Answer::Peers(rows, more) => parts!(Answer::Peers, rows, more),
            Answer::Nodes(nodes) => all!(Answer::Nodes, nodes),
            Answer::Rates(rates) => all!(Answer::Rates, rates),
            Answer::Socket(found) => all!(Answer::Socket, found),
            Answer::Selected(sockets) => all!(Answer::Selected, sockets),
            Answer::Events(told) => all!(Answer::Events, told),
            Answer::Outcomes(outcomes) => all!(Answer::Outcomes, outcomes),
            Answer::Done(outcomes, acks) => {
                for answer in answers {
                    if let Answer::Done(more, more_acks) = answer {
                        outcomes.extend(more);
                        acks.extend(more_acks);
                    }
                }
            }
            Answer::TooMany | Answer::TooLarge | Answer::Busy => {}
        }
        joined
    }

    /// Writes it.
    pub(crate) fn encode(&self, format: Format) -> bytes::Bytes {
        encode_json(format, self)
    }

    /// Reads it.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, WireError> {
        decode_json(payload)
    }
}

impl Answer {
    /// Writes it.
    pub(crate) fn encode(&self, format: Format) -> bytes::Bytes {
        encode_json(format, self)
    }

    /// Reads it.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, WireError> {
        decode_json(payload)
    }
}

/// Each room once, with what `join` makes of the numbers that several give; those with the most members first.
fn busiest(rooms: Vec<Room>, limit: usize, join: fn(u64, u64) -> u64) -> Vec<Room> {
    let mut joined: BTreeMap<Cursor, Room> = BTreeMap::new();
    for room in rooms {
        match joined.entry(room.cursor()) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.members = join(known.members, room.members);
            }
            Entry::Vacant(place) => drop(place.insert(room)),
        }
    }
    let mut rooms: Vec<Room> = joined.into_values().collect();
    rooms.sort_by_key(|room| Reverse(room.members));
    rooms.truncate(limit);
    rooms
}

/// A client as operators see it. It has nothing of the token but what that says.
pub fn principal_row(principal: &Principal) -> signalbox_admin::Principal {
    signalbox_admin::Principal {
        issuer: principal.issuer.as_deref().map(str::to_owned),
        subject: principal.subject.to_string(),
        session: principal.session.as_deref().map(str::to_owned),
        token_id: principal.token_id.as_deref().map(str::to_owned),
        expires_at: principal.expires_at.saturating_mul(1000),
        grants: serde_json::to_value(principal.grants.spec()).unwrap_or_default(),
    }
}

fn encode_json(format: Format, value: &impl Serialize) -> bytes::Bytes {
    // Texts, numbers and lists of them always serialize.
    encode(format, &serde_json::to_string(value).unwrap_or_default())
}

fn decode_json<T: for<'a> Deserialize<'a>>(payload: &[u8]) -> Result<T, WireError> {
    serde_json::from_str(decode::<&str>(payload)?).map_err(|_| WireError::Malformed)
}
