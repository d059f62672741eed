//! The calls the machine makes: each is one atomic step on shared state.

use std::sync::Arc;

use crate::{
    address::{Address, NodeTag, Owner},
    command::{Change, Holder, PeerAt, PeerMessage, RealmId},
    record::{Record, RoomName},
};

/// Where a room stands: its epoch (a room that is made anew begins a later one) and how often it changed in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoomVersion {
    pub(crate) epoch: u64,
    pub(crate) version: u64,
}

/// How good a claim is that is made again after the store, or the lease, was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClaimRank {
    /// It was granted by the store. Of two alike the lower generation wins, then the lower tag.
    Granted,
    /// It was, but its lease has run out since: whoever was granted the id then holds it rightly.
    Expired,
    /// It was granted by a node on its own, while the store was away.
    Offline,
}

/// What a node says of itself with each heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Peer ids it holds.
    pub(crate) claims: u64,
}

/// One atomic step.
#[derive(Debug)]
pub(crate) enum Call {
    /// Claim an id, or take it over from a holder with the same token. With `full` a fresh claim is refused.
    Claim { owner: Owner, at: PeerAt, realm: RealmId, id: Arc<str>, token: Arc<str>, full: bool },
    /// Claim an id again under a new epoch; its generation (in `at`) stays.
    Reclaim { owner: Owner, at: PeerAt, realm: RealmId, id: Arc<str>, token: Arc<str>, rank: ClaimRank },
    /// End a claim of this generation, if `owner`'s node made it: two nodes without the store may grant the same generation.
    Release { owner: Owner, realm: RealmId, id: Arc<str>, generation: u64 },
    /// Say who holds the addressee's id; when nobody does, queue the message if its kind is queued. `token` is the sender's. With
    /// `forced` it is queued whoever is said to hold the id: it was looked for there.
    DeliverOrQueue { peer_message: PeerMessage, token: Arc<str>, forced: bool },
    /// End a wait; say whether its sender is to be told, by the token it had.
    Expire { realm: RealmId, src: Arc<str>, dst: Arc<str>, number: u64 },
    /// Who holds an id with this token.
    FindPeer { realm: RealmId, id: Arc<str>, token: Arc<str> },
    /// The ids of a realm.
    Peers { realm: RealmId },
    /// Put a membership record. One that is there already and says the same is only given to its new owner: nobody hears of it.
    Put { owner: Owner, room: RoomName, record: Arc<Record>, snapshot: SnapshotRequest },
    /// Remove a membership record, if `owner`'s node wrote it.
    Remove { owner: Owner, room: RoomName, socket: Address },
    /// Give a membership record of `from`'s node to `owner`. Nobody hears of it. When it is not there (any more), or somebody
    /// else's, it is put.
    Rehome { owner: Owner, from: NodeTag, room: RoomName, record: Arc<Record> },
    /// The records of a room.
    Records { room: RoomName },
    /// Add users or replace their profiles and owners, and remove others that `owner`'s node wrote. All are in one partition.
    PutUsers { owner: Owner, partition: u8, puts: Vec<User>, removes: Vec<(Arc<str>, Address)> },
    /// A page of users.
    Users { namespace: Arc<str>, after: Option<Address> },
    /// Which node has a socket.
    FindUser { namespace: Arc<str>, socket: Address },
    /// Renew a lease, or begin one with `joins`.
    Heartbeat { owner: Owner, joins: bool, node: Arc<NodeInfo>, counters: Counters, reaps: bool },
    /// The nodes of the cluster.
    Nodes,
    /// End a lease. What it covered is gone already.
    Leave { owner: Owner },
    /// Remove what a dead owner left in one partition, but its losses: they are listed until they are settled.
    Reap { owner: Owner, partition: u8 },
    /// A holder was told of its loss.
    Acknowledge(TakeoverNotice),
    /// Whose records there are, live or dead.
    Owners,
    /// Have those of the owners reaped that have no lease, not even one that has run out. Ignored unless `by` has one.
    MarkDead { by: Owner, owners: Vec<Owner> },
    /// Nothing: what was asked for before is done when it is answered.
    Flush,
    /// Tell a node something. Not shared state: a message on the bus.
    SendDirect { from: Owner, to: NodeTag, message: DirectMessage },
}

/// `old`, of another node, has lost its id to a claim of `by`, and may not have been told: kept until it was, so that survivors can do
/// so when `by` dies first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakeoverNotice {
    pub(crate) by: Owner,
    pub(crate) realm: RealmId,
    pub(crate) id: Arc<str>,
    pub(crate) old: Holder,
}

/// A connected socket: its namespace, its id, its profile.
pub(crate) type User = (Arc<str>, Address, Arc<str>);

/// What the reply to a [`Call::Put`] carries, and where the room is known to have stood. If the store has it stand before that, it
/// has forgotten something (a replica took over that lacked what was written last): the room begins a later epoch then, so that no
/// stamp means two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotRequest {
    /// All records of the room, unless it stood here before.
    Since(Option<RoomVersion>),
    /// Nothing.
    None(Option<RoomVersion>),
}

impl SnapshotRequest {
    /// Where the room is known to have stood.
    pub(crate) fn known(self) -> Option<RoomVersion> {
        match self {
            Self::Since(known) | Self::None(known) => known,
        }
    }
}

/// What one node tells another.
#[derive(Debug, Clone)]
pub(crate) enum DirectMessage {
    /// A message for one of its peers.
    PeerMessage { to: PeerAt, peer_message: PeerMessage },
    /// One of its peers has lost its id, as it seems.
    Superseded { realm: RealmId, id: Arc<str>, at: PeerAt },
    /// One of its peers is losing its id to another with the same token: let go of it, and say so.
    Revoke { realm: RealmId, id: Arc<str>, at: PeerAt, number: u64 },
    /// It has let go.
    Revoked(u64),
    /// Anything the node's own code makes of it.
    Payload(bytes::Bytes),
}

/// A node of the cluster, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeInfo {
    /// The node in its present epoch.
    pub owner: Owner,
    /// A name for people.
    pub name: String,
    /// Where its node link listens.
    pub link: Option<std::net::SocketAddr>,
    /// It drains: its sessions will be closed, and no new ones are taken.
    pub is_draining: bool,
}

/// What a call returns.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing to say.
    Done,
    /// The id is granted.
    Granted { generation: u64, superseded: Option<Holder>, waiting: Vec<signalbox_websocket::Frame> },
    /// The id is held with another token.
    Taken,
    /// Too many ids are held.
    LimitReached,
    /// A claim was made again; another holder may have had to give way. What waited for the id comes with it.
    Kept { superseded: Option<Holder>, waiting: Vec<signalbox_websocket::Frame> },
    /// The addressee is here.
    Holder(Holder, PeerMessage),
    /// The message waits; with a number when it opened its sender's wait.
    Queued { peer_message: PeerMessage, opened: Option<u64>, kept: bool },
    /// The message was dropped: its kind does not wait, or too much waits already.
    Dropped { overflow: bool },
    /// The wait was open if there is a token: its sender's.
    Expired { token: Option<Arc<str>> },
    /// Who holds the id.
    Peer(Option<Holder>),
    /// Ids.
    Peers(Vec<Arc<str>>),
    /// The record was put.
    Put { room_version: RoomVersion, records: Option<Vec<Arc<Record>>> },
    /// Records; no stamp when there is no such room.
    Records { room_version: Option<RoomVersion>, records: Vec<Arc<Record>> },
    /// Users, and whether there are more.
    Users(Vec<(Address, Arc<str>)>, bool),
    /// Which node has the socket.
    User(Option<NodeTag>),
    /// The lease was renewed, or not.
    Heartbeat(HeartbeatReply),
    /// What was there to be removed is removed; losses that are not settled.
    Reaped(Vec<TakeoverNotice>),
    /// The nodes.
    Nodes(Vec<NodeInfo>),
    /// Owners.
    Owners(Vec<Owner>),
    /// How many heard it.
    Receivers(u64),
    /// The store is away. With `maybe` it may have done what it was asked, else it certainly has not.
    Failed { may_have_run: bool },
}

/// What a heartbeat is answered with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeartbeatReply {
    /// The lease was there (or was begun). Otherwise it is lost for good.
    pub(crate) renewed: bool,
    /// Which start of which server answered.
    pub(crate) run_id: Arc<str>,
    /// Changes whenever a node comes, goes or describes itself anew.
    pub(crate) membership: u64,
    /// Ids that all nodes hold together, as of their last heartbeats.
    pub(crate) claims: u64,
    /// Leases that have run out and that nobody else reaps just now.
    pub(crate) expired: Vec<Owner>,
    /// It is time to look for records whose lease nobody knows.
    pub(crate) sweeps: bool,
}

/// A message on the bus: what every node with members of the room hears.
#[derive(Debug, Clone)]
pub(crate) struct RoomDelta {
    /// The room.
    pub(crate) room: RoomName,
    /// Where it stands after the change.
    pub(crate) room_version: RoomVersion,
    /// The change.
    pub(crate) change: Change,
}
