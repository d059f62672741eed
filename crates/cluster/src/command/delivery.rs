//! What the cluster delivers to shards.

use std::{sync::Arc, time::Instant};

use super::{Change, ChangeId, Claimed, Counted, PeerAt, PeerMessage, RealmId, Refused, Ticket};
use crate::{
    address::{Address, NodeTag, Owner, ShardId},
    event::ClusterEvent,
    record::{Record, RoomName},
};

/// What the cluster delivers to a shard's mailbox.
#[derive(Debug)]
pub enum Delivery {
    /// Answers [`Command::Claim`](super::Command::Claim).
    Claimed {
        /// Names the request.
        ticket: Ticket,
        /// The outcome.
        claimed: Claimed,
    },
    /// Another connection took the id over with the same token: close this one.
    Superseded(PeerAt),
    /// A message for a peer.
    PeerMessage {
        /// The peer's connection.
        to: PeerAt,
        /// The message.
        peer_message: PeerMessage,
    },
    /// A message waits for its absent addressee. The shard that sent it holds the timer, and submits [`Command::Expire`](super::Command::Expire) when the
    /// wait is over.
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
    /// A message of a peer that was under way ([`SendOutcome::UnderWay`](crate::SendOutcome::UnderWay)) is no longer.
    PeerMessageSettled {
        /// The sender's connection.
        from: PeerAt,
        /// The length of its payload.
        bytes: usize,
        /// It waits for its addressee.
        waits: bool,
    },
    /// So many PeerServer messages were dropped. Their senders are told, if they can be.
    PeerMessagesDropped(u64),
    /// Answers [`Command::Peers`](super::Command::Peers).
    Peers {
        /// Names the request.
        ticket: Ticket,
        /// The ids.
        ids: Vec<Arc<str>>,
    },
    /// Answers [`Command::Join`](super::Command::Join): the socket is a member.
    Joined {
        /// Names the request.
        ticket: Ticket,
        /// The last change that this node's clients were told; the members are as of this change.
        change_id: ChangeId,
        /// All members, the new one too, if they were asked for; the first page of them where there are more than
        /// [`Config::presence_limit`](crate::Config::presence_limit). Shared by all who are told of the same members.
        members: Arc<[Arc<Record>]>,
        /// How many members there were in the moment of the join, the new one included: 1 is told to one of several that join an empty
        /// room at once.
        count: usize,
        /// How many there are as of that change.
        present: usize,
    },
    /// A request was refused.
    Refused {
        /// Names the request.
        ticket: Ticket,
        /// Why.
        why: Refused,
    },
    /// Answers [`Command::Members`](super::Command::Members).
    Members {
        /// Names the request.
        ticket: Ticket,
        /// The members, in the order of their addresses.
        members: Arc<[Arc<Record>]>,
        /// How many members there are.
        count: usize,
        /// Whether there are more behind these.
        more: bool,
    },
    /// A room with members on this shard has changed. All of them but the subject of the change get the event.
    RoomChanged {
        /// The room.
        room: RoomName,
        /// The position of the change. Every node that received the change in order gives it the same one.
        change_id: ChangeId,
        /// The change.
        change: Change,
        /// How many members there are after it.
        count: usize,
    },
    /// Answers [`Command::Users`](super::Command::Users).
    Users {
        /// Names the request.
        ticket: Ticket,
        /// Sockets and their profiles (JSON objects), in the order of their addresses. Shared by all that asked at the same moment.
        users: Arc<[(Address, Arc<str>)]>,
        /// Whether there are more.
        more: bool,
    },
    /// Answers [`Command::CountConnection`](super::Command::CountConnection).
    ConnectionCounted {
        /// Names the request.
        ticket: Ticket,
        /// The outcome.
        counted: Counted,
    },
    /// Answers [`Command::SendToNode`](super::Command::SendToNode).
    SentToNode {
        /// Names the request.
        ticket: Ticket,
        /// Whether the node received it.
        is_received: bool,
    },
    /// Answers [`Command::LocateSocket`](super::Command::LocateSocket).
    SocketLocated {
        /// Names the request.
        ticket: Ticket,
        /// The node; `None` if no node has the socket.
        node: Option<NodeTag>,
    },
    /// Answers [`Command::SubscribeRooms`](super::Command::SubscribeRooms).
    RoomsSubscribed {
        /// Names the request.
        ticket: Ticket,
        /// Whether the rooms are subscribed; they are not while the store is away.
        is_live: bool,
    },
    /// Answers [`Command::FlushOutgoing`](super::Command::FlushOutgoing).
    OutgoingFlushed {
        /// Names the request.
        ticket: Ticket,
    },
    /// Answers [`Command::AdoptSession`](super::Command::AdoptSession).
    SessionAdopted {
        /// Names the request.
        ticket: Ticket,
    },
}

/// A broadcast of another node, for this node's shards.
#[derive(Debug, Clone)]
pub struct BusDelivery {
    /// The node that published it.
    pub from: Owner,
    /// Its room; `None`: it is for all nodes.
    pub room: Option<RoomName>,
    /// The shards that have members of the room; `None`: it is for all shards.
    pub route: Option<Arc<crate::Route>>,
    /// Every change of the room that came before this broadcast is in the shards' mailboxes already.
    pub is_current: bool,
    /// When it was published, on this node's clock, as far as the clocks of the machines agree.
    pub published: Option<Instant>,
    /// The payload that was given to [`Cluster::broadcast`](crate::Cluster::broadcast).
    pub payload: bytes::Bytes,
}

/// The way into the shards' mailboxes.
pub trait DeliverySink: Send + Sync {
    /// Puts an answer or a change into a shard's mailbox. It is never refused: answers and changes result only from requests that
    /// were admitted, so their number is bounded.
    fn deliver(&self, shard: ShardId, delivery: Delivery);
    /// Puts a message into a shard's mailbox unless it is full; `false` when it was dropped.
    fn offer(&self, shard: ShardId, delivery: Delivery) -> bool;
    /// Whether a shard is too far behind to get more work.
    fn is_congested(&self, shard: ShardId) -> bool;
    /// Delivers a broadcast of another node.
    fn deliver_broadcast(&self, broadcast: BusDelivery);
    /// Delivers a message of another node to this one: the payload that was given to
    /// [`Cluster::send_to_node`](crate::Cluster::send_to_node).
    fn deliver_node_message(&self, from: Owner, payload: bytes::Bytes);
    /// Something happened that is to be logged and counted. Called with the cluster's lock held.
    fn observe(&self, _: ClusterEvent) {}
}
