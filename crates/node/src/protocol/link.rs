//! What goes over the node link: requests for sessions of the other node, and sessions that move.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, RoomName, ShardId};

use super::SessionTransfer;
use crate::routing::{ConnectionRef, VersionVector};

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

/// Asked of the node that has a session, or is to have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LinkRequest<'a> {
    /// Is there such a session?
    Exists { sid: Address },
    /// A GET. When it has to wait, [`LinkNotice::Accepted`] comes at once.
    Poll { sid: Address, number: u64 },
    /// A POST begins.
    BeginPost { sid: Address, number: u64 },
    /// A POST was read. [`LinkNotice::Accepted`] comes at once, the answer when its packets were applied.
    Post {
        sid: Address,
        number: u64,
        #[serde(borrow)]
        body: &'a [u8],
    },
    /// A WebSocket of the node that asks wants to take the session over.
    BeginUpgrade { sid: Address, connection: ConnectionRef },
    /// To the node of the WebSocket: subscribe to the session's rooms, catch up with these changes, and publish a marker in each room
    /// for this shard.
    Prepare { sid: Address, source: ShardId, connection: ConnectionRef, rooms: Vec<(RoomName, u128)> },
    /// Here is the session.
    Take(Box<SessionTransfer>),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LinkResponse {
    /// There is such a session, or not.
    Exists(bool),
    /// The body of a GET.
    Body(String),
    /// The POST may be read.
    Begun,
    /// The packets of the POST were applied.
    Applied,
    /// The upgrade has begun, or is not possible.
    Upgrade(bool),
    /// The rooms are subscribed; so is the channel of all nodes, behind these broadcasts.
    Ready(VersionVector),
    /// The session and its records have arrived.
    Taken,
    /// No.
    Refused(RequestRefused),
}

/// Sent without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LinkNotice<'a> {
    /// The GET or POST with this number was taken; its answer may take a while.
    Accepted { number: u64 },
    /// The GET was given up.
    PollLost { sid: Address, number: u64 },
    /// The POST broke off, or was refused.
    PostLost { sid: Address, number: u64 },
    /// The WebSocket was probed.
    Probed { sid: Address, connection: ConnectionRef },
    /// It sent the upgrade packet.
    Upgrade { sid: Address, connection: ConnectionRef },
    /// It closed, or broke the rules.
    AbandonUpgrade { sid: Address, connection: ConnectionRef },
    /// It is not wanted any more.
    CloseProbe(ConnectionRef),
    /// The session will not come.
    Cancelled { sid: Address, connection: ConnectionRef },
    /// A session or socket that was born there and lived here is over.
    Forget(Address),
    /// Something for a socket that has moved: a [`NodeMessage`](super::NodeMessage), as it is sent through the store.
    NodeMessage(&'a [u8]),
    /// The GET is to be answered now, with nothing if there is nothing.
    ReleasePoll { sid: Address, number: u64 },
    /// The client of a socket that has moved has answered what somebody asked it on this shard, before it moved.
    Acked { shard: ShardId, socket: Address, id: u64, json: &'a str, attachments: Vec<Bytes> },
}
