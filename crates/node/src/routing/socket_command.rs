//! An operation on one socket, wherever it is.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, MessageTrace, NodeTag, Record, ShardId};
use signalbox_socketio::{Args, Message};

use super::{OrderCondition, OrderPart, Reply};

/// Why there is no answer to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// It did not come in time.
    #[error("operation has timed out")]
    TimedOut,
    /// Events cannot have this name: `connect`, `connect_error`, `disconnect`, `disconnecting`, `newListener`, `removeListener`.
    #[error("the name of the event is reserved")]
    Reserved,
    /// The client has gone.
    #[error("the socket is disconnected")]
    Disconnected,
}

/// An operation on one socket. Where the socket has moved, the command follows it.
#[derive(Debug)]
pub(crate) struct SocketCommand {
    pub(crate) to: Address,
    /// The namespace it is in; elsewhere nobody has this id.
    pub(crate) namespace: Arc<str>,
    pub(crate) op: SocketOp,
}

/// What can be done to a socket from anywhere.
#[derive(Debug)]
pub(crate) enum SocketOp {
    /// Send it a packet.
    Send { message: Message, volatile: bool },
    /// Send it an event with an ack.
    Ask { event: String, args: Args, timeout: Duration, reply: Reply<Result<Args, AckError>> },
    /// Answer an event of its.
    Ack { id: u64, args: Args },
    /// Relay a `signal`; the sender's shard is told when the socket is nowhere.
    Signal { message: Message, reply: Option<SignalReply>, trace: Option<MessageTrace> },
    /// Let it join a room.
    Join { room: Arc<str>, record: Option<Box<Record>>, reply: Reply<bool> },
    /// Let it leave a room.
    Leave { room: Arc<str>, reply: Reply<bool> },
    /// Its rooms.
    Rooms { reply: Reply<Vec<Arc<str>>> },
    /// Disconnect it from its namespace, or close its connection.
    Disconnect { close: bool },
    /// Close its connection without a word: its handler has panicked.
    Close,
    /// One of these for an operator, unless it was done already.
    Ordered(Box<OrderedOp>),
}

impl SocketOp {
    /// Whether it changes the rooms that the socket is in.
    pub(crate) fn changes_rooms(&self) -> bool {
        match self {
            Self::Join { .. } | Self::Leave { .. } => true,
            Self::Ordered(ordered) => ordered.op.changes_rooms(),
            _ => false,
        }
    }
}

/// A part of an order to a socket whose session may move, or has just moved.
#[derive(Debug)]
pub(crate) struct OrderedOp {
    pub(crate) part: OrderPart,
    pub(crate) condition: OrderCondition,
    /// What is done, unless it was.
    pub(crate) op: SocketOp,
    /// Told whether it is done now: `false` if another node had it done, or the socket is not meant any more or gone. It ends without an
    /// answer when nobody knows.
    pub(crate) is_first: Reply<bool>,
}

impl OrderedOp {
    /// What of it a node of the previous version can do, which is given no orders itself: it remembers none, and looks at no conditions.
    /// `None` for what it must not do unseen.
    pub(crate) fn for_previous_version(self) -> Option<SocketOp> {
        if !self.condition.is_empty() {
            return None;
        }
        self.is_first.send(true);
        Some(self.op)
    }
}

/// Whom to tell what became of a `signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignalReply {
    pub(crate) node: NodeTag,
    pub(crate) shard: ShardId,
    pub(crate) ticket: u64,
}
