//! What the machine remembers of a call until the store replies.

use std::{sync::Arc, time::Instant};

use crate::{
    address::{Address, NodeTag, Owner, ShardId},
    command::{PeerAt, PeerMessage, RealmId, Ticket},
    record::{Record, RoomName},
    store::TakeoverNotice,
    subject::SubjectList,
};

/// What a call was made for; it is given back with the reply.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Nothing depends on the reply.
    None,
    Claim {
        at: PeerAt,
        ticket: Ticket,
        realm: RealmId,
        id: Arc<str>,
        token: Arc<str>,
        /// The owner under which it was claimed, and how often the bus had been lost or restored by then.
        asked: (Owner, u64),
        /// The store has admitted one more id of this node for it.
        is_admitted: bool,
    },
    Reclaim {
        owner: Owner,
        realm: RealmId,
        id: Arc<str>,
        generation: u64,
    },
    Release {
        realm: RealmId,
        id: Arc<str>,
        generation: u64,
    },
    /// The shard that sends the message (on), its addressee, and its charge to its sender.
    PeerMessage(ShardId, (RealmId, Arc<str>), Option<Box<Charge>>),
    /// A node was asked to revoke a claim; the number names the takeover.
    Revoke(u64, TakeoverNotice),
    /// A node was told that one of its peers has lost its id.
    NotifyTakeover(TakeoverNotice),
    Reap(Owner, u8),
    /// The takeover notices of a claim that may have been made unseen.
    Notices {
        owner: Owner,
        realm: RealmId,
        id: Arc<str>,
    },
    /// The holder that lost its id was told.
    Acknowledge(TakeoverNotice),
    /// A peer message was sent to another node.
    SendPeerMessage(ShardId, PeerMessage, Option<Box<Charge>>),
    /// A claim needs room for one more id.
    Admit(Claimant),
    /// A connection of a subject is to be counted.
    CountConnection(Counting),
    Expire {
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
    },
    /// The sender of an expired message is looked up.
    FindSender {
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
    },
    ListPeers {
        shard: ShardId,
        ticket: Ticket,
        realm: RealmId,
    },
    Join(Join),
    Leave {
        room: RoomName,
        socket: Address,
    },
    /// A record was written again.
    Put {
        room: RoomName,
        socket: Address,
    },
    /// A portion of what is written again was written; counted by how often the node had joined.
    Portion(u64),
    /// Users were written, or removed.
    PutUsers(Vec<(Arc<str>, Address)>),
    /// The first snapshot of a room, for a session that is to move here.
    TransferSnapshot {
        room: RoomName,
    },
    /// The replica is compared with the records. `is_final`: every node has had the time to write its records again, so members
    /// that are missing are gone.
    Compare {
        room: RoomName,
        is_final: bool,
    },
    ListMembers {
        shard: ShardId,
        ticket: Ticket,
        room: RoomName,
        after: Option<Address>,
    },
    ListUsers(Page),
    LocateSocket {
        shard: ShardId,
        ticket: Ticket,
    },
    SendToNode {
        shard: ShardId,
        ticket: Ticket,
    },
    FlushOutgoing {
        shard: ShardId,
        ticket: Ticket,
    },
    /// One of the calls that adopt a session; for a membership also whose it was.
    AdoptSession {
        shard: ShardId,
        ticket: Ticket,
        adopted: Adopted,
    },
    /// A membership of a session that has moved here is made this node's, once more.
    Adopt(Unadopted),
    Heartbeat {
        sent: Instant,
        owner: Owner,
        joins: bool,
    },
    Nodes,
    /// The owners that have records; asked for under this owner.
    Owners(Owner),
    /// The lease of an earlier epoch of this node was ended.
    EndEpoch(u64),
}

/// A connection that is to be counted, and who asks.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) list: SubjectList,
    pub(super) connection: Address,
    pub(super) most: u64,
}

/// What one of the calls that adopt a session writes.
#[derive(Debug)]
pub(crate) enum Adopted {
    /// A membership.
    Member(Unadopted),
    /// A socket of a namespace.
    User(Arc<str>, Address),
}

/// A join that is not answered yet.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) shard: ShardId,
    pub(crate) ticket: Ticket,
    pub(crate) room: RoomName,
    pub(crate) record: Arc<Record>,
    pub(crate) list: bool,
    /// Most members of the room.
    pub(crate) most: Option<usize>,
    /// Members when it was put, this one included.
    pub(crate) count: usize,
    /// Its call fetches the room's records, if they are not known. Other joins wait for these.
    pub(crate) fetches: bool,
}

/// A membership of a session that has moved here, whose record is still its former node's.
#[derive(Debug, Clone)]
pub(crate) struct Unadopted {
    pub(crate) from: NodeTag,
    pub(crate) room: RoomName,
    pub(crate) record: Arc<Record>,
}

/// Who claims an id, and when it need not wait for room any more.
#[derive(Debug)]
pub(crate) struct Claimant {
    pub(super) at: PeerAt,
    pub(super) ticket: Ticket,
    pub(super) realm: RealmId,
    pub(super) id: Arc<str>,
    pub(super) token: Arc<str>,
    pub(super) until: Instant,
}

/// A message that is under way counts against its sender until it is settled.
#[derive(Debug)]
pub(crate) struct Charge {
    pub(super) from: PeerAt,
    pub(super) realm: RealmId,
    pub(super) src: Arc<str>,
    pub(super) dst: Arc<str>,
    /// Its kind waits for its addressee.
    pub(super) is_queued: bool,
    pub(super) bytes: usize,
}

impl Charge {
    /// For a message that its sender's shard sends.
    pub(crate) fn of(peer_message: &PeerMessage) -> Option<Box<Self>> {
        let PeerMessage { from, realm, kind, src, dst, frame, hops, .. } = peer_message;
        (*hops == 0).then(|| {
            Box::new(Self {
                from: *from,
                realm: *realm,
                src: src.clone(),
                dst: dst.clone(),
                is_queued: kind.is_queued(),
                bytes: frame.payload().len(),
            })
        })
    }
}

/// A page of users: the namespace, and the socket behind which it begins.
pub(crate) type Page = (Arc<str>, Option<Address>);
