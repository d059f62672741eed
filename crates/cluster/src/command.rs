//! What a shard asks of the cluster, and what it is told.

use std::sync::Arc;

use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;
use subtle::ConstantTimeEq as _;

use crate::{
    address::{Address, NodeTag, Owner, ShardId},
    record::{Record, RoomName},
};

/// Names a question; the answer carries it back. Unique within a shard.
pub type Ticket = u64;

/// Index of a realm in [`Config::realms`](crate::Config::realms).
pub type RealmId = u16;

/// The position of a change in a room's history: later changes have larger ones. The upper 64 bits are the room's epoch, the next 48 its
/// version; the last 16 tell apart what differed in one snapshot.
pub type ChangeId = u128;

/// Where a peer's connection is: shard, its key there, and the generation of its claim, which tells it from an earlier holder
/// of the same id or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeerAt {
    /// The shard that holds the connection.
    pub shard: ShardId,
    /// Its key within the shard.
    pub key: u32,
    /// The claim's generation; 0 until it is granted.
    pub generation: u64,
}

/// Where a peer's connection is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The node, in the epoch in which it wrote the claim.
    pub owner: Owner,
    /// Where on that node.
    pub at: PeerAt,
}

/// Whether two tokens are the same, found out in a time that depends on their lengths only.
pub fn is_same_token(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A question to the cluster, or news for it. Questions name the shard that asks and a [`Ticket`].
#[derive(Debug)]
pub enum Command {
    /// Claim a peer id. Answered by [`Delivery::Claimed`].
    Claim {
        /// The connection that claims it.
        at: PeerAt,
        /// Names the question.
        ticket: Ticket,
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// What lets a later connection take the id over.
        token: Arc<str>,
    },
    /// A claim ends. Ignored unless `generation` is the present one.
    Release {
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// The claim's generation.
        generation: u64,
    },
    /// The wait of one sender for one absent addressee is over.
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
    /// All ids of a realm. Answered by [`Delivery::Peers`].
    Peers {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// The realm.
        realm: RealmId,
    },
    /// Join a room, or replace the profile of a member. The shard is on the room's [`Route`](crate::Route) already. Answered by
    /// [`Delivery::Joined`] or [`Delivery::Refused`].
    Join {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// The room.
        room: RoomName,
        /// The membership.
        record: Record,
        /// Whether the answer is to list the members.
        list: bool,
    },
    /// Leave a room. Not answered.
    Leave {
        /// The room.
        room: RoomName,
        /// The member.
        socket: Address,
    },
    /// The members of a room. Answered by [`Delivery::Members`].
    Members {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// The room.
        room: RoomName,
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
    /// The connected sockets of a namespace, a page of them. Answered by [`Delivery::Users`].
    Users {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// The namespace.
        namespace: Arc<str>,
        /// Begin behind this one.
        after: Option<Address>,
    },
    /// Tell one node something: [`DeliverySink::told`] brings it there, at most once. Answered by [`Delivery::SentToNode`].
    SendToNode {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// The node.
        to: NodeTag,
        /// What it is told.
        payload: bytes::Bytes,
    },
    /// Which node has a socket that is not where it was born. Answered by [`Delivery::SocketLocated`].
    LocateSocket {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// The namespace.
        namespace: Arc<str>,
        /// The socket.
        socket: Address,
    },
    /// Hear what is said in rooms from now on; the shard is on their routes. Answered by [`Delivery::RoomsSubscribed`].
    SubscribeRooms {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// The rooms, and the number of a change of each (as of [`Delivery::RoomChanged`]) that has to be known.
        rooms: Vec<(RoomName, ChangeId)>,
    },
    /// Wait until everything this node has said so far was said, or cannot be. Answered by [`Delivery::OutgoingFlushed`].
    FlushOutgoing {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
    },
    /// A session has moved here from another node: its memberships and sockets are this node's now. Nobody hears of it. Answered
    /// by [`Delivery::SessionAdopted`].
    AdoptSession {
        /// Who asks.
        shard: ShardId,
        /// Names the question.
        ticket: Ticket,
        /// Where it came from.
        from: NodeTag,
        /// Its memberships.
        memberships: Vec<(RoomName, Record)>,
        /// Its sockets: namespace, id, profile.
        sockets: Vec<(Arc<str>, Address, Arc<str>)>,
    },
}

/// A PeerServer message on its way.
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
    /// How often it was sent on because its addressee was not where it was said to be.
    pub hops: u8,
    /// Whose it is, if it came from another node.
    pub sender: Option<Sender>,
}

/// The sender of a message that came from another node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sender {
    /// Its node.
    pub node: NodeTag,
    /// Its token, by which it is known again when its message expires.
    pub token: Arc<str>,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The id is the connection's. What waited for the id comes with it, in order.
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

/// Why a question was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A shard that would have to be told is too far behind.
    Busy,
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

/// What a shard is told, through its inbox.
#[derive(Debug)]
pub enum Delivery {
    /// Answers [`Command::Claim`].
    Claimed {
        /// The question.
        ticket: Ticket,
        /// What became of it.
        claimed: Claimed,
    },
    /// Another connection took the id over with the same token: close this one.
    Superseded(PeerAt),
    /// A message for a peer.
    PeerMessage {
        /// Whose connection.
        to: PeerAt,
        /// The message.
        peer_message: PeerMessage,
    },
    /// A message waits for its addressee. The shard that sent it holds the timer, and sends [`Command::Expire`] when it is over.
    Waiting {
        /// The sender's connection.
        from: PeerAt,
        /// The realm.
        realm: RealmId,
        /// The sender.
        src: Arc<str>,
        /// The addressee.
        dst: Arc<str>,
        /// Names the wait.
        number: u64,
    },
    /// Answers [`Command::Peers`].
    Peers {
        /// The question.
        ticket: Ticket,
        /// The ids.
        ids: Vec<Arc<str>>,
    },
    /// Answers [`Command::Join`]: the socket is a member.
    Joined {
        /// The question.
        ticket: Ticket,
        /// The number of the last change this node's clients were told; the answer includes it.
        change_id: ChangeId,
        /// The other members, if they were asked for.
        members: Vec<Arc<Record>>,
    },
    /// A question was not taken.
    Refused {
        /// The question.
        ticket: Ticket,
        /// Why.
        why: Refused,
    },
    /// Answers [`Command::Members`].
    Members {
        /// The question.
        ticket: Ticket,
        /// The members.
        members: Vec<Arc<Record>>,
    },
    /// A room with members on this shard has changed. Everybody in it but the subject is to hear of it.
    RoomChanged {
        /// The room.
        room: RoomName,
        /// Later changes have larger ones. The same on every node that heard it in its turn.
        change_id: ChangeId,
        /// The change.
        change: Change,
    },
    /// Answers [`Command::Users`].
    Users {
        /// The question.
        ticket: Ticket,
        /// Sockets and their profiles (JSON objects), in the order of their addresses.
        users: Vec<(Address, Arc<str>)>,
        /// Whether there are more.
        more: bool,
    },
    /// Answers [`Command::SendToNode`].
    SentToNode {
        /// The question.
        ticket: Ticket,
        /// Whether the node is there to hear it.
        is_received: bool,
    },
    /// Answers [`Command::LocateSocket`].
    SocketLocated {
        /// The question.
        ticket: Ticket,
        /// The node, if the socket is anywhere.
        node: Option<NodeTag>,
    },
    /// Answers [`Command::SubscribeRooms`].
    RoomsSubscribed {
        /// The question.
        ticket: Ticket,
        /// Whether what other nodes say is heard too; not while the store is away.
        is_live: bool,
    },
    /// Answers [`Command::FlushOutgoing`].
    OutgoingFlushed {
        /// The question.
        ticket: Ticket,
    },
    /// Answers [`Command::AdoptSession`].
    SessionAdopted {
        /// The question.
        ticket: Ticket,
    },
}

/// What a node says to others, and its shards are to hear: a broadcast or anything else the node's own code makes of it.
#[derive(Debug, Clone)]
pub struct BusDelivery {
    /// Who says it.
    pub from: Owner,
    /// The room it was said in; `None`: everywhere.
    pub room: Option<RoomName>,
    /// The shards that are on the room's route; all when it was said everywhere.
    pub route: Option<Arc<crate::Route>>,
    /// Whatever had changed in the room when this was said is in the shards' inboxes before it.
    pub is_current: bool,
    /// What was said, as it was given to [`Cluster::broadcast`](crate::Cluster::broadcast).
    pub payload: bytes::Bytes,
}

/// The way into the shards' inboxes.
pub trait DeliverySink: Send + Sync {
    /// Puts an answer or a change into a shard's inbox. Never refused: what causes it was admitted, and is bounded by that.
    fn deliver(&self, shard: ShardId, delivery: Delivery);
    /// Puts a message into a shard's inbox unless it is full; `false` when it was dropped.
    fn offer(&self, shard: ShardId, delivery: Delivery) -> bool;
    /// Whether a shard is too far behind to be given more work.
    fn is_congested(&self, shard: ShardId) -> bool;
    /// Another node has said something.
    fn deliver_broadcast(&self, broadcast: BusDelivery);
    /// Another node has told this one something, as it was given to [`Cluster::tell`](crate::Cluster::tell).
    fn deliver_node_message(&self, from: Owner, payload: bytes::Bytes);
}
