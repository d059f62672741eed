//! What the calls return.

use std::sync::Arc;

use super::{NodeInfo, RoomVersion, TakeoverNotice};
use crate::{
    address::{Address, NodeTag, Owner},
    command::{Holder, PeerMessage},
    record::Record,
};

/// What a call returns.
#[derive(Debug)]
pub enum Reply {
    /// The call was done; there is nothing to return.
    Done,
    /// The id is granted.
    Granted {
        /// The claim's generation.
        generation: u64,
        /// The holder with the same token that has lost it.
        superseded: Option<Holder>,
        /// Messages that waited for the id.
        waiting: Vec<signalbox_websocket::Frame>,
    },
    /// Somebody else holds the id, with another token.
    Taken,
    /// As many ids are held as may be.
    LimitReached,
    /// Whether a node may hold one more id. `false` also when it has no lease.
    Admitted(bool),
    /// Whether a connection is counted.
    Counted(bool),
    /// A claim was made again.
    Kept {
        /// The holder that has lost the id to it.
        superseded: Option<Holder>,
        /// Messages that waited for the id.
        waiting: Vec<signalbox_websocket::Frame>,
    },
    /// The addressee's connection, and the message.
    Holder(Holder, PeerMessage),
    /// The message waits for its addressee.
    Queued {
        /// The message.
        peer_message: PeerMessage,
        /// The number of the wait, if this message opened its sender's wait.
        opened: Option<u64>,
        /// `false`: the queue is full, and the message was dropped. Its sender's wait is open, or was.
        is_kept: bool,
        /// So many CANDIDATEs were dropped for it.
        displaced: usize,
    },
    /// The message was dropped: its kind is not queued.
    Dropped,
    /// The wait was open if there is a token: its sender's.
    Expired {
        /// The token.
        token: Option<Arc<str>>,
    },
    /// Who holds the id.
    Peer(Option<Holder>),
    /// Ids.
    Peers(Vec<Arc<str>>),
    /// The record was put.
    Put {
        /// The room's version.
        room_version: RoomVersion,
        /// Its records, if they were asked for.
        records: Option<Vec<Arc<Record>>>,
        /// How many there are, this one included.
        count: usize,
    },
    /// The room has as many members as it may have, and nothing was put.
    RoomFull,
    /// Records of a room.
    Records {
        /// The room's version; `None` when there is no such room.
        room_version: Option<RoomVersion>,
        /// The records, in the order of their addresses.
        records: Vec<Arc<Record>>,
    },
    /// Users, and whether there are more.
    Users(Vec<(Address, Arc<str>)>, bool),
    /// The node that has the socket.
    User(Option<NodeTag>),
    /// The lease was renewed, or not.
    Heartbeat(HeartbeatReply),
    /// What the owner left is removed, if that was asked for; its takeover notices that are not acknowledged.
    Reaped(Vec<TakeoverNotice>),
    /// The nodes.
    Nodes(Vec<NodeInfo>),
    /// Owners.
    Owners(Vec<Owner>),
    /// How many nodes received the message.
    Receivers(u64),
    /// The store is away, or has not answered in time, or has refused the call.
    Failed {
        /// The call may have been done; otherwise it certainly was not.
        may_have_run: bool,
    },
}

/// The reply to a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The lease was there, or was begun. Otherwise it is lost for good.
    pub renewed: bool,
    /// Identifies the start of the server that answered.
    pub run_id: Arc<str>,
    /// Changes whenever a node comes, goes or describes itself anew.
    pub membership: u64,
    /// Ids that all nodes hold together, as of their last heartbeats.
    pub claims: u64,
    /// Dead owners that this node is to reap.
    pub expired: Vec<Owner>,
    /// The store has kept everything for longer than nodes may take to write their records again after it was emptied.
    pub is_whole: bool,
    /// It is time to look for records whose owner has no lease that the store remembers.
    pub sweeps: bool,
}
