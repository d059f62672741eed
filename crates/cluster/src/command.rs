//! What shards ask of the cluster ([`Command`]), and what the cluster delivers to them ([`Delivery`]).

mod delivery;

use std::sync::Arc;

use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;
use subtle::ConstantTimeEq as _;

pub use self::delivery::{BusDelivery, Delivery, DeliverySink};
use crate::{
    address::{Address, NodeTag, Owner, ShardId},
    record::{Record, RoomName},
    subject::SubjectList,
    trace::MessageTrace,
};

/// Names a request; its answer carries it back. Unique within a shard.
pub type Ticket = u64;

/// Index of a realm in [`Config::realms`](crate::Config::realms).
pub type RealmId = u16;

/// The position of a change in a room's history: later changes have larger ones. The upper 64 bits are the room's epoch, the next
/// 48 its version; the last 16 tell apart what differed in one snapshot.
pub type ChangeId = u128;

/// A peer's connection: its shard, its key there, and the generation of its claim. The generation tells it from an earlier
/// connection with the same id or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeerAt {
    /// The shard that holds the connection.
    pub shard: ShardId,
    /// Its key within the shard.
    pub key: u32,
    /// The claim's generation; 0 until it is granted.
    pub generation: u64,
}

/// A peer's connection, anywhere in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The node, in the epoch in which it wrote the claim.
    pub owner: Owner,
    /// The connection on that node.
    pub at: PeerAt,
}

/// Compares two tokens in a time that depends only on their lengths.
pub fn is_same_token(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A request to the cluster, or something it has to know. Requests name the shard that asks and a [`Ticket`].
#[derive(Debug)]
pub enum Command {
    /// Claim a peer id. Answered by [`Delivery::Claimed`].
    Claim {
        /// The connection that claims it.
        at: PeerAt,
        /// Names the request.
        ticket: Ticket,
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// A later connection with the same token takes the id over.
        token: Arc<str>,
    },
    /// End a claim. Ignored unless `generation` is that of the present claim.
    Release {
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// The claim's generation.
        generation: u64,
    },
    /// End the wait of one sender for one absent addressee.
    Expire {
        /// The realm.
        realm: RealmId,
        /// The sender.
        src: Arc<str>,
        /// The addressee.
        dst: Arc<str>,
        /// The wait, as [`Delivery::Waiting`] named it.
        number: u64,
    },
    /// A client that has lost its id to another connection with the same token was alive, and said so. After a few of them, the id is
    /// not taken over any more for a while. Not answered.
    CountTakeover {
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
    },
    /// List the ids of a realm. Answered by [`Delivery::Peers`].
    Peers {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The realm.
        realm: RealmId,
    },
    /// Join a room, or replace the profile of a member. The shard has added itself to the room's [`Route`](crate::Route) before.
    /// Answered by [`Delivery::Joined`] or [`Delivery::Refused`].
    Join {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The room.
        room: RoomName,
        /// The membership.
        record: Arc<Record>,
        /// List the members in the answer.
        list: bool,
        /// Most members that the room may have with this one, beside [`Config::room_members`](crate::Config::room_members); `None`: any
        /// number. One step of the store decides, whatever joins at the same moment on other nodes.
        most: Option<usize>,
    },
    /// Leave a room. Not answered.
    Leave {
        /// The room.
        room: RoomName,
        /// The member.
        socket: Address,
    },
    /// List the members of a room: all, or where there are more than [`Config::presence_limit`](crate::Config::presence_limit) a page of
    /// them. Answered by [`Delivery::Members`].
    Members {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The room.
        room: RoomName,
        /// Begin behind this one.
        after: Option<Address>,
    },
    /// A socket has connected to a namespace.
    Connected {
        /// The namespace.
        namespace: Arc<str>,
        /// The socket.
        socket: Address,
    },
    /// A socket has left a namespace.
    Disconnected {
        /// The namespace.
        namespace: Arc<str>,
        /// The socket.
        socket: Address,
    },
    /// Count a connection of a subject, unless `most` or more are counted in the whole cluster. One that is counted already stays so, and
    /// is this node's from now on. Answered by [`Delivery::ConnectionCounted`].
    CountConnection {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// Whose it is.
        list: SubjectList,
        /// The connection, under a name that it keeps when it moves.
        connection: Address,
        /// How many there may be.
        most: u64,
    },
    /// Count it no more: it has ended, or is another node's by now. Once for each time that it was counted, or adopted. Not answered.
    UncountConnection {
        /// Whose it was.
        list: SubjectList,
        /// The connection.
        connection: Address,
    },
    /// List a page of the connected sockets of a namespace. Answered by [`Delivery::Users`] or [`Delivery::Refused`].
    Users {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The namespace.
        namespace: Arc<str>,
        /// Begin behind this one.
        after: Option<Address>,
    },
    /// Send a message to one node, whose [`DeliverySink::deliver_node_message`] receives it at most once. Answered by
    /// [`Delivery::SentToNode`].
    SendToNode {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The node.
        to: NodeTag,
        /// The message.
        payload: bytes::Bytes,
    },
    /// Find the node that has a socket which is not where it was born. Answered by [`Delivery::SocketLocated`].
    LocateSocket {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The namespace.
        namespace: Arc<str>,
        /// The socket.
        socket: Address,
    },
    /// Subscribe rooms for a session that is to move here, and wait until their members are known. The shard has added itself to
    /// their routes before. Answered by [`Delivery::RoomsSubscribed`].
    SubscribeRooms {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The rooms, and the change of each, as of [`Delivery::RoomChanged`], up to which the members have to be known.
        rooms: Vec<(RoomName, ChangeId)>,
    },
    /// Wait until everything that this node has published and sent so far has left it, or cannot. Answered by
    /// [`Delivery::OutgoingFlushed`].
    FlushOutgoing {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// What lists of users are to be told, too.
        with_users: bool,
    },
    /// A session has moved here from another node: its memberships and sockets are this node's from now on. Clients get no event.
    /// Answered by [`Delivery::SessionAdopted`].
    AdoptSession {
        /// The shard that asks.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The node it came from.
        from: NodeTag,
        /// Its own address.
        sid: Address,
        /// Its memberships.
        memberships: Vec<(RoomName, Record)>,
        /// Its sockets: namespace, id, profile.
        sockets: Vec<(Arc<str>, Address, Arc<str>)>,
        /// The lists in which it is counted, under its own address.
        counted: Vec<SubjectList>,
    },
}

/// A PeerServer message on its way to its addressee.
#[derive(Debug, Clone)]
pub struct PeerMessage {
    /// The sender's connection.
    pub from: PeerAt,
    /// The realm.
    pub realm: RealmId,
    /// The message's type.
    pub kind: Kind,
    /// The sender's id.
    pub src: Arc<str>,
    /// The addressee's id.
    pub dst: Arc<str>,
    /// What the addressee receives.
    pub frame: Frame,
    /// How often it was sent on because its addressee was not where it was expected.
    pub hops: u8,
    /// Its sender, if it came from another node.
    pub sender: Option<Sender>,
    /// What it is traced by, where traces are kept.
    pub trace: Option<MessageTrace>,
}

impl PeerMessage {
    /// Whether it tells a client that what it sent was not delivered. (A client may send an EXPIRE too, which is a message like any
    /// other.) It results from a message that was admitted, so it is not dropped when a mailbox is full.
    pub fn is_expiry(&self, to: PeerAt) -> bool {
        self.kind == Kind::Expire && self.from == to && self.hops == 0
    }
}

/// The sender of a message that came from another node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sender {
    /// Its node.
    pub node: NodeTag,
    /// Its token, which identifies it when the message expires.
    pub token: Arc<str>,
}

/// The outcome of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The connection holds the id. Messages that waited for the id come along, in order.
    Granted {
        /// The claim's generation.
        generation: u64,
        /// Messages that waited.
        waiting: Vec<Frame>,
    },
    /// Somebody else holds it, with another token.
    Taken,
    /// As many ids are held as may be.
    LimitReached,
}

/// Whether a connection of a subject is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It is: there was room.
    Within,
    /// It is, on this node: while the store is away nobody knows how many there are on others.
    WithinHere,
    /// It is not: as many are counted as may be.
    TooMany,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A shard that would have to receive the change is too far behind, or too many lists are asked for at once.
    Busy,
    /// The room has as many members as it may have.
    RoomFull,
}

/// A change of a room's members, in the order of its versions.
#[derive(Debug, Clone)]
pub enum Change {
    /// A membership began.
    Joined(Arc<Record>),
    /// A member's record was replaced.
    Updated(Arc<Record>),
    /// A membership ended.
    Left(Arc<Record>),
}

impl Change {
    /// The record the change is about.
    pub fn record(&self) -> &Arc<Record> {
        match self {
            Self::Joined(record) | Self::Updated(record) | Self::Left(record) => record,
        }
    }
}
