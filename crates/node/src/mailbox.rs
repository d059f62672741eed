//! What shards are told by each other, by the edge and by handlers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, Delivery, NodeTag, Record, RoomName, ShardId};
use signalbox_engineio::CloseReason;
use signalbox_socketio::{Args, Message};
use signalbox_websocket::Frame;
use tokio::sync::oneshot;

use crate::{
    app::socket::AckError,
    shard::{DeliveryCursor, SessionState, VersionVector},
    wire::{Marker, SessionTransfer},
};

/// Everything that goes into a shard's inbox.
pub(crate) enum ShardMessage {
    /// A request for a session that lives here, or did.
    Request(Request),
    /// The cluster answers, or tells.
    Cluster(Delivery),
    /// A broadcast that began on another shard.
    Broadcast(Broadcast),
    /// A handler's broadcast, to begin here.
    Begin { to: Audience, message: Message, volatile: bool },
    /// Something for one socket.
    SocketCommand(SocketCommand),
    /// A step of a session's move.
    Move(TransferMessage),
    /// The WebSocket that wanted to take over a session is not wanted any more.
    CloseProbe(ConnectionRef),
    /// A session that was born here and lives elsewhere is over.
    Forget(Vec<Address>),
    /// The connection of another node has ended, and not because nobody needed it: it has died.
    NodeLost(NodeTag),
    /// The policy, or a middleware, has decided.
    TaskDone(u64, crate::shard::TaskResult),
    /// More waits than the node's budget allows, and most of it here.
    Relieve,
    /// The node drains: close the transports of so many clients. If there are fewer, the next shard has its turn, so many times.
    Drain { sessions: usize, peers: usize, turns: usize },
    /// The node stops: close every client's transport.
    Stop,
}

/// A shard of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) node: NodeTag,
    pub(crate) shard: ShardId,
}

impl Location {
    /// Where a session or socket was born.
    pub(crate) fn birth(address: Address) -> Self {
        Self { node: address.node(), shard: address.shard() }
    }
}

/// Where a WebSocket that is not (yet) a session's transport is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionRef {
    pub(crate) node: NodeTag,
    pub(crate) shard: ShardId,
    pub(crate) key: u32,
    /// Tells it from an earlier one with the same key.
    pub(crate) number: u64,
}

impl ConnectionRef {
    /// The shard it is on.
    pub(crate) fn place(self) -> Location {
        Location { node: self.node, shard: self.shard }
    }
}

/// A request for a session, from the edge. It is handed to whoever owns the session: this shard, another one, or another node; each
/// is answered through the channel it brings.
pub(crate) enum Request {
    /// Is there such a session?
    Exists { sid: Address, reply: oneshot::Sender<bool> },
    /// A GET.
    Poll { sid: Address, number: u64, reply: oneshot::Sender<PollReply> },
    /// The GET was given up.
    PollLost { sid: Address, number: u64 },
    /// The GET may not wait for longer: the node where it landed ends.
    ReleasePoll { sid: Address, number: u64 },
    /// A POST begins.
    BeginPost { sid: Address, number: u64, reply: oneshot::Sender<Result<OpenPost, RequestRefused>> },
    /// A POST was read. Answered once its packets were applied; not answered when the session is gone.
    Post { sid: Address, number: u64, body: Bytes, reply: oneshot::Sender<()> },
    /// A POST broke off, or was refused; the session is closed for it.
    PostLost { sid: Address, number: u64 },
    /// A WebSocket wants to take the session over.
    BeginUpgrade { sid: Address, at: ConnectionRef, reply: oneshot::Sender<Result<bool, RequestRefused>> },
    /// It was probed.
    Probed { sid: Address, at: ConnectionRef },
    /// It sent the upgrade packet.
    Upgrade { sid: Address, at: ConnectionRef },
    /// It closed, or broke the rules.
    AbandonUpgrade { sid: Address, at: ConnectionRef },
}

impl Request {
    pub(crate) fn sid(&self) -> Address {
        match self {
            Self::Exists { sid, .. }
            | Self::Poll { sid, .. }
            | Self::PollLost { sid, .. }
            | Self::ReleasePoll { sid, .. }
            | Self::BeginPost { sid, .. }
            | Self::Post { sid, .. }
            | Self::PostLost { sid, .. }
            | Self::BeginUpgrade { sid, .. }
            | Self::Probed { sid, .. }
            | Self::Upgrade { sid, .. }
            | Self::AbandonUpgrade { sid, .. } => *sid,
        }
    }
}

/// Why a request for a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RequestRefused {
    /// There is no such session.
    UnknownSid,
    /// The session does not use polling (any more).
    NotPolling,
    /// There is such a request already; the session was closed for it.
    Overlap,
    /// Its owner is too far behind.
    Busy,
}

/// What a GET is answered with.
#[derive(Debug)]
pub(crate) enum PollReply {
    /// It waits. The body follows.
    Waits(oneshot::Receiver<String>),
    /// A body.
    Body(String),
    /// An error.
    Refused(RequestRefused),
}

/// A POST that has begun.
#[derive(Debug)]
pub(crate) struct OpenPost {
    /// Resolves when the session is closed meanwhile. `None` when it is on another node: there the POST itself is refused.
    pub(crate) closed: Option<oneshot::Receiver<()>>,
}

/// A broadcast to the members of rooms, or to a whole namespace.
#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    pub(crate) to: Arc<Audience>,
    pub(crate) message: Message,
    pub(crate) volatile: bool,
    /// Where it began, and how many broadcasts began there before: in a move, this tells what was already seen.
    pub(crate) origin: Origin,
    pub(crate) sequence: u64,
}

/// Where a broadcast began.
pub(crate) type Origin = Location;

/// Who hears a broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Audience {
    pub(crate) namespace: Arc<str>,
    /// Members of any of these; empty: everybody in the namespace.
    pub(crate) rooms: Vec<Arc<str>>,
    /// But not these sockets.
    pub(crate) except: Vec<Address>,
    /// And not the members of these rooms.
    pub(crate) except_rooms: Vec<Arc<str>>,
}

impl Audience {
    /// The room in which it is said to other nodes; `None`: everywhere. What is said in one place keeps its order, what is said in
    /// two does not.
    pub(crate) fn place(&self) -> Option<RoomName> {
        let [room] = &self.rooms[..] else { return None };
        Some(RoomName { namespace: self.namespace.clone(), name: room.clone() })
    }
}

/// Something for one socket, which is forwarded if the socket has moved.
pub(crate) struct SocketCommand {
    pub(crate) to: Address,
    /// The namespace it is in; elsewhere nobody has this id.
    pub(crate) namespace: Arc<str>,
    pub(crate) what: SocketOp,
}

/// What can be done to a socket from anywhere.
pub(crate) enum SocketOp {
    /// Send it a packet.
    Send { message: Message, volatile: bool },
    /// Send it an event with an ack.
    Ask { event: String, args: Args, timeout: Duration, reply: oneshot::Sender<Result<Args, AckError>> },
    /// Answer an event of its.
    Ack { id: u64, args: Args },
    /// Relay a `signal`; the sender's shard is told when the socket is nowhere.
    Signal { message: Message, reply: Option<SignalReply> },
    /// Let it join a room.
    Join { room: Arc<str>, record: Option<Box<Record>>, reply: oneshot::Sender<bool> },
    /// Let it leave a room.
    Leave { room: Arc<str>, reply: oneshot::Sender<bool> },
    /// Its rooms.
    Rooms { reply: oneshot::Sender<Vec<Arc<str>>> },
    /// Disconnect it from its namespace, or close its connection.
    Disconnect { close: bool },
}

/// Whom to tell what became of a `signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignalReply {
    pub(crate) node: NodeTag,
    pub(crate) shard: ShardId,
    pub(crate) ticket: u64,
}

/// The steps of a move from the giver (where the session lives) to the taker (where its WebSocket landed).
pub(crate) enum TransferMessage {
    /// Giver to taker: listen to these rooms from now on.
    Prepare { sid: Address, source: ShardId, at: ConnectionRef, rooms: Vec<RoomName> },
    /// Taker to every shard of its node: from your next broadcast on, I hear it too. Tell this shard so.
    Marker { sid: Address, tell: ShardId, at: ConnectionRef },
    /// The answer: whatever you get from me behind this, the taker gets as well.
    MarkerReached { sid: Address, at: ConnectionRef },
    /// Giver to taker: here it is.
    Session(Box<TransferredSession>),
    /// Giver to taker: there is nothing to take any more.
    Cancelled { sid: Address, at: ConnectionRef },
    /// Giver on another node to taker: listen to these rooms from now on, and say fences in them. Not answered when it cannot be.
    /// With each room comes the number of a change that the session was told.
    Expect {
        sid: Address,
        source: Location,
        at: ConnectionRef,
        rooms: Vec<(RoomName, u128)>,
        answer: oneshot::Sender<VersionVector>,
    },
    /// The answer of a taker on another node: it hears all but what was said everywhere up to these; `None` when it cannot take.
    Ready { sid: Address, at: ConnectionRef, everywhere: Option<VersionVector> },
    /// A fence of a taker on another node was heard in a room; and whether all changes before it were told.
    MarkerHeard { marker: Marker, is_current: bool },
    /// Giver on another node to taker: here it is. Not answered when it is not taken.
    Arrived { sent: Box<SessionTransfer>, answer: oneshot::Sender<()> },
    /// What became of a session that was sent to another node.
    Confirmed { sid: Address, is_taken: bool },
}

/// A session on its way.
pub(crate) struct TransferredSession {
    pub(crate) at: ConnectionRef,
    pub(crate) session: SessionState,
    /// What waited for a poll.
    pub(crate) frames: VecDeque<Frame>,
    /// The rooms that its sockets are in.
    pub(crate) rooms: Vec<(Address, RoomName)>,
    /// What the session was told.
    pub(crate) seen: DeliveryCursor,
}

/// Why a session is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCommand {
    /// The transport is gone or unusable.
    Lost(CloseReason),
    /// The server closes it, in order.
    Close,
}
