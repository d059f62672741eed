//! What shards are sent: by each other, by the edge, by handlers, by the cluster and by other nodes.

use std::sync::Arc;

use bytes::Bytes;
use signalbox_auth::Revocation;
use signalbox_cluster::{Address, Delivery, NodeTag, PeerAt};
use signalbox_engineio::CloseReason;
use signalbox_rules::RuleSet;
use signalbox_socketio::{Args, Message};
use signalbox_websocket::Frame;

use super::{tasks::TaskResult, transfer::message::TransferMessage};
use crate::{
    ledger::Account,
    policy::{Principal, SessionClient},
    protocol::{
        RequestRefused,
        inquiry::{Answer, Question},
    },
    routing::{Audience, Broadcast, ConnectionRef, Reply, SocketCommand},
    session::PollReply,
};

/// Everything that goes into a shard's mailbox.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// A request for a session that lives here, or did.
    Request(Request),
    /// An answer or an event of the cluster.
    Cluster(Delivery),
    /// A broadcast that began on another shard.
    Broadcast(Broadcast),
    /// A handler's broadcast, to begin here.
    BeginBroadcast { to: Audience, message: Message, volatile: bool },
    /// An operation on one socket.
    SocketCommand(SocketCommand),
    /// A step of a session's transfer.
    Transfer(TransferMessage),
    /// The WebSocket that wanted to take over a session is not wanted any more.
    CloseProbe(ConnectionRef),
    /// A session or socket that was born here and lives elsewhere is over.
    Forget(Address),
    /// The connection of another node has ended, and not because nobody needed it: it has died.
    NodeLost(NodeTag),
    /// Another node is not part of the cluster any more, nor are its clients.
    NodeGone,
    /// The client of a socket that has moved to another node has answered what somebody asked it here.
    Acked { socket: Address, id: u64, args: Args },
    /// A task beside the shard, or another node, has come to a result.
    TaskDone(u64, TaskResult),
    /// The node holds more than its budget: cut off the client that has this account.
    EvictForBudget(Arc<Account>),
    /// The node drains: close the transports of so many clients. If there are fewer, the next shard has its turn, so many times.
    Drain { sessions: usize, peers: usize, turns: usize },
    /// Other nodes have fewer clients: close the transports of some.
    Shed(ShedOrder),
    /// Somebody has shown a new token: it counts for their PeerServer clients, too.
    Refreshed(Arc<Principal>),
    /// Tokens were revoked: disconnect who shows one of them.
    Revoked(Arc<[Revocation]>),
    /// An operator has something sent to a PeerServer client, or its connection closed.
    PeerOrder { at: PeerAt, message: Option<Frame> },
    /// An operator asks: answered with this shard's part, unless nobody waits for it any more.
    Inspect { question: Arc<Question>, reply: Reply<Answer> },
    /// These rules are in force from now on, or none.
    Rules(Option<Arc<RuleSet>>),
    /// The node stops: close every client's transport.
    Stop,
}

/// How many sessions a shard is to send away.
#[derive(Debug)]
pub(crate) struct ShedOrder {
    /// So many.
    pub(crate) sessions: usize,
    /// So many have been, by the shards before.
    pub(crate) done: usize,
    /// If there are fewer here, the next shard has its turn, so many times.
    pub(crate) turns: usize,
    /// How many it were in the end.
    pub(crate) reply: Reply<usize>,
}

/// A request for a session, from the edge. It is handed to whoever owns the session: this shard, another one, or another node.
#[derive(Debug)]
pub(crate) enum Request {
    /// Is there such a session?
    Exists { sid: Address, reply: Reply<bool> },
    /// Whose is it? `None` where there is no such session.
    Identify { sid: Address, reply: Reply<Option<SessionClient>> },
    /// A GET. `accepted` is told when it has to wait.
    Poll { sid: Address, number: u64, accepted: Option<Reply<()>>, reply: PollReply },
    /// The GET was given up.
    PollLost { sid: Address, number: u64 },
    /// The GET may not wait for longer: the node where it landed ends.
    ReleasePoll { sid: Address, number: u64 },
    /// A POST begins. `on_close` is dropped when the session is closed meanwhile.
    BeginPost { sid: Address, number: u64, on_close: Reply<()>, reply: Reply<Result<(), RequestRefused>> },
    /// A POST was read, here or (`is_relayed`) by another node. Answered once its packets were applied; not answered when the session is
    /// gone.
    Post { sid: Address, number: u64, body: Bytes, is_relayed: bool, reply: Reply<()> },
    /// A POST broke off, or was refused; the session is closed for it.
    PostLost { sid: Address, number: u64 },
    /// A WebSocket wants to take the session over.
    BeginUpgrade { sid: Address, connection: ConnectionRef, reply: Reply<Result<bool, RequestRefused>> },
    /// It was probed.
    Probed { sid: Address, connection: ConnectionRef },
    /// It sent the upgrade packet.
    Upgrade { sid: Address, connection: ConnectionRef },
    /// It closed, or broke the rules.
    AbandonUpgrade { sid: Address, connection: ConnectionRef },
}

impl Request {
    pub(crate) fn sid(&self) -> Address {
        match self {
            Self::Exists { sid, .. }
            | Self::Identify { sid, .. }
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

/// Why a session is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCommand {
    /// The transport is gone or unusable.
    Lost(CloseReason),
    /// The server closes it, in order.
    Close,
}
