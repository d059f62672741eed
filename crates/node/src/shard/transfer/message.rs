//! What the two ends of a transfer send each other.

use std::collections::VecDeque;

use signalbox_cluster::{Address, RoomName, ShardId};
use signalbox_websocket::Frame;

use crate::{
    protocol::{Marker, SavedOrder, SessionTransfer},
    routing::{ConnectionRef, DeliveryCursor, Location, VersionVector},
    session::SessionState,
};

/// A step of a session's transfer. The source is the shard where the session lives, the destination the one where its WebSocket is.
#[derive(Debug)]
pub(crate) enum TransferMessage {
    /// Source to destination: subscribe to these rooms from now on, and buffer for the session. With each room comes the last change
    /// that the session was told of.
    Prepare { sid: Address, source: Location, connection: ConnectionRef, rooms: Vec<(RoomName, u128)> },
    /// Destination to every shard of its node: from your next broadcast on, the destination receives it too. Tell this shard so.
    RequestMarker { sid: Address, reply_to: ShardId, connection: ConnectionRef },
    /// The answer: whatever you get from me behind this, the destination gets as well.
    ShardMarker { sid: Address, connection: ConnectionRef },
    /// A marker of the other end, on another node, has come through a room's channel. `is_current`: all changes of the room before it
    /// were told here.
    RoomMarker { marker: Marker, is_current: bool },
    /// Destination to source: everything is subscribed to; on the channel of all, what comes behind these.
    Ready { sid: Address, connection: ConnectionRef, received_on_all: VersionVector },
    /// Destination to source: the session cannot come.
    Refused { sid: Address, connection: ConnectionRef },
    /// Source to destination: here it is.
    Session { source: Location, connection: ConnectionRef, session: Box<SessionInTransfer> },
    /// Destination to source: what became of the session.
    Confirmed { sid: Address, connection: ConnectionRef, confirmation: Confirmation },
    /// Source to destination: the session will not come.
    Cancelled { sid: Address, connection: ConnectionRef },
}

/// What became of a session that was sent to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// The session and its records are there.
    Taken,
    /// They are not, and will never be.
    Refused,
    /// The other node does not answer: it has died, or is very slow.
    Unknown,
}

/// A session on its way.
#[derive(Debug)]
pub(crate) enum SessionInTransfer {
    /// To another shard of the same node, as it is.
    Whole(TransferredSession),
    /// To another node, as bytes can hold it.
    Saved(SessionTransfer),
}

/// A session as it is, and all that its destination has to know.
pub(crate) struct TransferredSession {
    pub(crate) session: SessionState,
    /// What waited for a poll.
    pub(crate) frames: VecDeque<Frame>,
    /// The rooms that its sockets are in.
    pub(crate) rooms: Vec<(Address, RoomName)>,
    /// What the session was told.
    pub(crate) cursor: DeliveryCursor,
    /// The operators' orders that its sockets were given on another node, in their order.
    pub(crate) orders: Vec<Vec<SavedOrder>>,
}

impl std::fmt::Debug for TransferredSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransferredSession").field("sid", &self.session.sid).finish_non_exhaustive()
    }
}
