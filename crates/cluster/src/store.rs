//! The calls that a node makes on shared state, and their replies. Each call is one atomic step; [`Model`](crate::model::Model)
//! says what it does.

mod reply;

use std::{sync::Arc, time::Duration};

pub use self::reply::{HeartbeatReply, Reply};
use crate::{
    address::{Address, NodeTag, Owner},
    command::{Change, Holder, PeerAt, PeerMessage, RealmId},
    envelope::FormatRange,
    record::{Record, RoomName},
    subject::SubjectList,
};

/// The version of a room's members. A room that is made anew begins a later epoch, so that no version is ever used twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomVersion {
    /// When the room was made, by the store's clock in microseconds.
    pub epoch: u64,
    /// How often its members have changed in this epoch.
    pub version: u64,
}

/// The rank of a claim that is made again after the store or the lease was lost. Of two claims of one id, the lower rank wins; of
/// the same rank, the lower generation; then the lower tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimRank {
    /// The store granted it.
    Granted,
    /// The store granted it, but its lease has run out since: whoever was granted the id after that holds it rightly.
    Expired,
    /// The node granted it on its own while the store was away.
    Offline,
}

/// Takeovers of one id from holders that were alive before two clients count as fighting for it.
pub const MAX_TAKEOVERS: u32 = 5;
/// How long such a takeover counts after the latest of them.
pub const TAKEOVERS_COUNT: Duration = Duration::from_secs(15);

/// Sums that a node reports with each heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Peer ids it holds.
    pub claims: u64,
}

/// One atomic step on shared state.
#[derive(Debug)]
pub enum Call {
    /// Claim an id, or take it over from a holder with the same token. [`Reply::Granted`], [`Reply::Taken`] or
    /// [`Reply::LimitReached`].
    Claim {
        /// Who claims it.
        owner: Owner,
        /// Its connection.
        at: PeerAt,
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// Lets a later connection take the id over.
        token: Arc<str>,
        /// The same token in the other form in which the present holder's may have been written: hashed, or not.
        other_token: Option<Arc<str>>,
        /// Refuse the id if nobody holds it: as many are held as may be.
        full: bool,
    },
    /// Claim an id again under a new epoch; its generation (in `at`) stays. [`Reply::Kept`] or [`Reply::Taken`].
    Reclaim {
        /// Who claims it.
        owner: Owner,
        /// Its connection.
        at: PeerAt,
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// Lets a later connection take the id over.
        token: Arc<str>,
        /// Decides between two claims.
        rank: ClaimRank,
    },
    /// Report that a node holds `claims` ids, one more than before, unless all nodes together would then hold more than `limit`.
    /// [`Reply::Admitted`].
    Admit {
        /// Who wants to hold one more.
        owner: Owner,
        /// How many it holds then.
        claims: u64,
        /// How many all may hold.
        limit: u64,
    },
    /// End the claim of this generation, if `owner`'s node made it: without the store, two nodes may grant the same generation.
    Release {
        /// Who ends it.
        owner: Owner,
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// The claim's generation.
        generation: u64,
    },
    /// Count a takeover of an id whose former holder was alive. After [`MAX_TAKEOVERS`] of them, each within [`TAKEOVERS_COUNT`] of the
    /// one before, claims of the id are [`Reply::Taken`] while somebody holds it, until that time has passed.
    CountTakeover {
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
    },
    /// Find the holder of the addressee's id; when nobody holds it, queue the message if messages of its kind are queued.
    /// [`Reply::Holder`], [`Reply::Queued`] or [`Reply::Dropped`].
    DeliverOrQueue {
        /// The message.
        peer_message: PeerMessage,
        /// The sender's token.
        token: Arc<str>,
        /// Queue it whoever is said to hold the id: it was not found there.
        forced: bool,
    },
    /// End a wait, and drop the messages it was for. [`Reply::Expired`].
    Expire {
        /// The realm.
        realm: RealmId,
        /// The sender.
        src: Arc<str>,
        /// The addressee.
        dst: Arc<str>,
        /// The wait, as [`Reply::Queued`] named it.
        number: u64,
    },
    /// Find the holder of an id, if it claimed it with this token. [`Reply::Peer`].
    FindPeer {
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// The token.
        token: Arc<str>,
    },
    /// List the ids of a realm. [`Reply::Peers`].
    Peers {
        /// The realm.
        realm: RealmId,
    },
    /// Put a membership record. A record that does not change only changes its owner, and nothing is published. [`Reply::Put`].
    Put {
        /// Who writes it.
        owner: Owner,
        /// The room.
        room: RoomName,
        /// The membership.
        record: Arc<Record>,
        /// What the reply is to carry.
        snapshot: SnapshotRequest,
        /// Put no new member into a room that has so many: [`Reply::RoomFull`].
        most: Option<usize>,
    },
    /// Remove a membership record, if `owner`'s node wrote it.
    Remove {
        /// Who removes it.
        owner: Owner,
        /// The room.
        room: RoomName,
        /// The member.
        socket: Address,
    },
    /// Give a membership record of `from`'s node to `owner`; nothing is published. A record that is not there, or is a third
    /// node's, is put.
    Rehome {
        /// The new owner.
        owner: Owner,
        /// The node that had it.
        from: NodeTag,
        /// The room.
        room: RoomName,
        /// The membership.
        record: Arc<Record>,
    },
    /// Read the records of a room. [`Reply::Records`].
    Records {
        /// The room.
        room: RoomName,
    },
    /// Add users or replace their profiles and owners, and remove others that `owner`'s node wrote.
    PutUsers {
        /// Who writes them.
        owner: Owner,
        /// The partition of all of them.
        partition: u8,
        /// Users to write.
        puts: Vec<User>,
        /// Users to remove: namespace and socket.
        removes: Vec<(Arc<str>, Address)>,
    },
    /// Count a connection of a subject, unless `most` or more are; one that is there only changes its owner. It is a user of the
    /// list's name. [`Reply::Counted`].
    CountConnection {
        /// Who counts it.
        owner: Owner,
        /// Whose connection it is.
        list: SubjectList,
        /// The connection.
        connection: Address,
        /// How many there may be.
        most: u64,
    },
    /// Read a page of users. [`Reply::Users`].
    Users {
        /// The namespace.
        namespace: Arc<str>,
        /// Begin behind this one.
        after: Option<Address>,
    },
    /// Find the node that has a socket. [`Reply::User`].
    FindUser {
        /// The namespace.
        namespace: Arc<str>,
        /// The socket.
        socket: Address,
    },
    /// Renew a lease, or begin one. [`Reply::Heartbeat`].
    Heartbeat {
        /// Whose lease.
        owner: Owner,
        /// Begin a lease if there is none.
        joins: bool,
        /// The node.
        node: Arc<NodeInfo>,
        /// Its sums.
        counters: Counters,
        /// Ask for dead owners to be reaped.
        reaps: bool,
    },
    /// List the nodes of the cluster. [`Reply::Nodes`].
    Nodes,
    /// End a lease. What was written under it has been removed already.
    Leave {
        /// Whose lease.
        owner: Owner,
    },
    /// Remove what a dead owner left in one partition, but its takeover notices: the reply lists them until they are acknowledged.
    /// [`Reply::Reaped`].
    Reap {
        /// The dead owner.
        owner: Owner,
        /// The partition.
        partition: u8,
    },
    /// List the takeover notices of an owner about one id. [`Reply::Reaped`].
    Notices {
        /// Who claimed the id.
        owner: Owner,
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
    },
    /// The holder that lost its id was told.
    Acknowledge(TakeoverNotice),
    /// List the owners that have records, live or dead. [`Reply::Owners`].
    Owners,
    /// Have those of the owners reaped that have no lease, not even one that has run out.
    MarkDead {
        /// Who asks; ignored unless it has a lease.
        by: Owner,
        /// The owners.
        owners: Vec<Owner>,
    },
    /// Do nothing; the reply says that everything asked for before was done.
    Flush,
    /// Send a message to one node. It does not touch shared state: the driver delivers it over the bus. [`Reply::Receivers`].
    SendDirect {
        /// The sender.
        from: Owner,
        /// The node.
        to: NodeTag,
        /// The message.
        message: DirectMessage,
    },
}

impl Call {
    /// Bytes of the message that it carries, if it carries one.
    pub fn message_len(&self) -> usize {
        match self {
            Self::DeliverOrQueue { peer_message, .. }
            | Self::SendDirect { message: DirectMessage::PeerMessage { peer_message, .. }, .. } => {
                peer_message.frame.len()
            }
            Self::SendDirect { message: DirectMessage::Payload(bytes), .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// A claim of `by` took the id of `old`, on another node, which may not have been told. The notice is kept until it was, so that
/// survivors can tell it when `by` dies first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeoverNotice {
    /// Who took the id.
    pub by: Owner,
    /// The realm.
    pub realm: RealmId,
    /// The id.
    pub id: Arc<str>,
    /// Who lost it.
    pub old: Holder,
}

/// A connected socket: its namespace, its id, its profile.
pub type User = (Arc<str>, Address, Arc<str>);

/// What the reply to a [`Call::Put`] is to carry, and the version of the room that the node knows. When the store has an earlier
/// version than that, it has lost writes (a replica took over that lacked them): the room then begins a later epoch, so that no
/// version means two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotRequest {
    /// All records of the room, unless its epoch is that of this version: what lacks until then comes as changes.
    Since(Option<RoomVersion>),
    /// No records.
    None(Option<RoomVersion>),
}

impl SnapshotRequest {
    /// The version that the node knows.
    pub fn known(self) -> Option<RoomVersion> {
        match self {
            Self::Since(known) | Self::None(known) => known,
        }
    }
}

/// A message to one node.
#[derive(Debug, Clone)]
pub enum DirectMessage {
    /// A message for one of its peers.
    PeerMessage {
        /// The peer's connection.
        to: PeerAt,
        /// The message.
        peer_message: PeerMessage,
    },
    /// One of its peers seems to have lost its id.
    Superseded {
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// The peer's connection.
        at: PeerAt,
    },
    /// One of its peers loses its id to a connection with the same token: end its claim and answer with
    /// [`DirectMessage::Revoked`].
    Revoke {
        /// The realm.
        realm: RealmId,
        /// The id.
        id: Arc<str>,
        /// The peer's connection.
        at: PeerAt,
        /// Names the takeover.
        number: u64,
    },
    /// The claim that the takeover of this number was for has ended.
    Revoked(u64),
    /// A payload that the node's own code makes and reads.
    Payload(bytes::Bytes),
}

/// A node of the cluster, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// The node in its present epoch.
    pub owner: Owner,
    /// A name for people.
    pub name: String,
    /// Where its node link listens.
    pub link: Option<std::net::SocketAddr>,
    /// It drains: its sessions will be closed, and no new ones are taken.
    pub is_draining: bool,
    /// It writes its records again after an outage, which takes a while: what is missing in the store may be its.
    pub is_rewriting: bool,
    /// The formats of messages and records that it reads.
    pub reads: FormatRange,
    /// Its node link takes connections in TLS.
    pub takes_tls: bool,
}

impl NodeInfo {
    /// A node of this version that does not drain. Whoever serves its link says where, and how.
    pub fn new(owner: Owner, name: String) -> Self {
        Self {
            owner,
            name,
            link: None,
            is_draining: false,
            is_rewriting: false,
            reads: FormatRange::CURRENT,
            takes_tls: false,
        }
    }
}

/// A change of a room, as it is published to every node that has subscribed the room.
#[derive(Debug, Clone)]
pub struct RoomDelta {
    /// The room.
    pub room: RoomName,
    /// Its version after the change.
    pub room_version: RoomVersion,
    /// The change.
    pub change: Change,
}
