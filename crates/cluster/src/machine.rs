//! One node's view of the cluster: what its shards asked, what its clients were told, and what is its own.
//!
//! A node is the truth about its own clients. What it says of them in the store stands under its lease; while the store is away
//! (or before it was ever reached) the node answers from what it knows, and when the store is back it says everything again, under
//! a new epoch.

mod claims;
mod lease;
mod local_state;
mod peer_routing;
mod rooms;
mod takeovers;
mod users;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use crate::{
    Config,
    address::{Address, NodeTag, Owner, ShardId},
    command::{Command, Delivery, PeerAt, PeerMessage, RealmId, Ticket},
    envelope::{self, Format},
    record::{Record, RoomName},
    route::Route,
    store::{Call, DirectMessage, NodeInfo, Reply, TakeoverNotice},
};

/// What the machine waits for, with each call it makes.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Nobody waits.
    None,
    Claim {
        at: PeerAt,
        ticket: Ticket,
        realm: RealmId,
        id: Arc<str>,
        token: Arc<str>,
        /// Under which owner it was asked for, and how often the bus had been lost or come back then.
        asked: (Owner, u64),
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
    /// The shard is the one that sends it (on).
    PeerMessage(ShardId, (RealmId, Arc<str>)),
    /// A node was asked to let go of an id.
    Revoke(u64, TakeoverNotice),
    /// A node was told that one of its peers has lost its id.
    NotifyTakeover(TakeoverNotice),
    Reap,
    /// A message that was told to another node.
    SendPeerMessage(ShardId, PeerMessage),
    Expire {
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
    },
    /// The sender of an expired message is looked for.
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
    /// A snapshot for a session that is to move here.
    TransferSnapshot {
        room: RoomName,
    },
    /// The replica is compared with the records. `is_final`: they have had the time to be written again.
    Compare {
        room: RoomName,
        is_final: bool,
    },
    ListMembers {
        shard: ShardId,
        ticket: Ticket,
        room: RoomName,
    },
    ListUsers {
        shard: ShardId,
        ticket: Ticket,
        namespace: Arc<str>,
        after: Option<Address>,
    },
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
        membership: Option<Unadopted>,
    },
    Heartbeat {
        sent: Instant,
        owner: Owner,
        joins: bool,
    },
    Nodes,
    /// Whose records there are, asked for under this owner.
    Owners(Owner),
    /// An earlier epoch of this node is ended.
    EndEpoch(u64),
}

/// A join under way.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) shard: ShardId,
    pub(crate) ticket: Ticket,
    pub(crate) room: RoomName,
    pub(crate) record: Arc<Record>,
    pub(crate) list: bool,
}

/// A membership of a session that has moved here, whose record is still its former node's.
#[derive(Debug, Clone)]
pub(crate) struct Unadopted {
    pub(crate) from: NodeTag,
    pub(crate) room: RoomName,
    pub(crate) record: Arc<Record>,
}

/// What comes out of the machine, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Make this call, and give its reply back together with what it answers.
    Call(Call, Pending),
    /// Put this into a shard's inbox.
    Deliver(ShardId, Delivery),
    /// A message for a connection of this node; it may be dropped if the inbox is full.
    Offer(PeerAt, PeerMessage),
    /// An id is held by a connection now.
    ClaimHeld { realm: RealmId, id: Arc<str>, at: PeerAt },
    /// A claim of an id ended.
    ClaimFreed { realm: RealmId, id: Arc<str>, generation: u64 },
    /// A message was dropped because too much waits; counted.
    Overflow,
    /// Hear what is said in this room, and say so once that is so.
    Subscribe(RoomName),
    /// Do not hear it any more.
    Unsubscribe(RoomName),
    /// The nodes of the cluster have changed.
    Nodes(Vec<NodeInfo>),
    /// Messages and records are to be written in this format from now on.
    WriteFormat(Format),
    /// The node has joined the cluster under this owner, or lost the store.
    Status(Status),
}

/// Whether the store can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The store has never been reached.
    Joining,
    /// It is there, and the node's lease with it.
    Online,
    /// It is away, or the lease is lost: the node serves from what it knows.
    Degraded,
}

pub(crate) type Outputs = VecDeque<Output>;

/// The machine. `congested` in its methods tells whether a shard is too far behind to be told more.
#[derive(Debug)]
pub(crate) struct Machine {
    limit: Option<usize>,
    own: local_state::LocalState,
    rooms: rooms::Replicas,
    session_moves: rooms::SessionMoves,
    peer_routes: peer_routing::PeerRoutes,
    lease: lease::Lease,
    users: users::PendingUserWrites,
    takeovers: takeovers::Takeovers,
    /// How often the bus was lost, or came back.
    bus_changes: u64,
    /// The format that is written.
    write_format: Format,
    /// Members that have left since the store was lost, and those that came here from another node: their records are still there
    /// as they were.
    left_offline: Vec<(RoomName, Address)>,
    unadopted: Vec<Unadopted>,
    /// The bus was lost, or a claim is contested, and the claims could not be reclaimed yet.
    has_contested_claims: bool,
}

impl Machine {
    /// A machine in a cluster of its own: its store is never away.
    pub(crate) fn standalone(config: &Config) -> Self {
        Self::with(config, lease::Lease::standalone())
    }

    /// A machine of a node that shares its store with others, and has not reached it yet. The node's clock shows `wall_clock`
    /// (microseconds since 1970) at `now`.
    pub(crate) fn shared(config: &Config, node: NodeInfo, now: Instant, wall_clock: u64) -> Self {
        Self::with(config, lease::Lease::new(node, now, wall_clock))
    }

    fn with(config: &Config, lease: lease::Lease) -> Self {
        Self {
            limit: config.concurrent_limit,
            own: local_state::LocalState::new(config, lease.is_shared()),
            rooms: rooms::Replicas::default(),
            session_moves: rooms::SessionMoves::default(),
            peer_routes: peer_routing::PeerRoutes::default(),
            users: users::PendingUserWrites::default(),
            takeovers: takeovers::Takeovers::default(),
            bus_changes: 0,
            has_contested_claims: false,
            left_offline: Vec::new(),
            unadopted: Vec::new(),
            write_format: Format::V1,
            lease,
        }
    }

    /// Under which owner its records stand.
    pub(crate) fn owner(&self) -> Owner {
        self.lease.owner()
    }

    /// Whether the store can be relied on at this moment.
    pub(crate) fn is_online(&self, now: Instant) -> bool {
        self.lease.is_valid(now)
    }

    /// The route of a room, made if there is none.
    pub(crate) fn route(&mut self, room: &RoomName) -> Arc<Route> {
        self.rooms.route(room)
    }

    /// The route of a room that has members on this node.
    pub(crate) fn find_route(&self, room: &RoomName) -> Option<Arc<Route>> {
        self.rooms.find_route(room)
    }

    /// Whether what was heard in a room so far was told.
    pub(crate) fn is_current(&self, room: &RoomName) -> bool {
        self.rooms.is_current(room)
    }

    /// Whether the store was there for as long as nodes may take to write their parts again.
    pub(crate) fn is_stable(&self) -> bool {
        self.lease.is_stable(rooms::REWRITE_GRACE)
    }

    /// A shard let go of a room's route.
    pub(crate) fn forget_route(&mut self, room: &RoomName, now: Instant) {
        self.rooms.forget_if_unused(room, now, self.lease.is_shared());
    }

    /// A shard asks.
    pub(crate) fn command(
        &mut self,
        now: Instant,
        command: Command,
        congested: &dyn Fn(ShardId) -> bool,
        out: &mut Outputs,
    ) {
        self.check_lease(now, out);
        match command {
            Command::Claim { at, ticket, realm, id, token } => {
                self.claim(now, at, ticket, (realm, id, token), out);
            }
            Command::Release { realm, id, generation } => self.release(now, realm, id, generation, out),
            Command::Expire { realm, src, dst, number } => self.expire(now, realm, src, dst, number, out),
            Command::Peers { shard, ticket, realm } => self.peers(now, shard, ticket, realm, out),
            Command::Join { shard, ticket, room, record, list } => {
                let record = Arc::new(record);
                self.join(now, Join { shard, ticket, room, record, list }, congested, out);
            }
            Command::Leave { room, socket } => self.leave(now, room, socket, out),
            Command::Members { shard, ticket, room } => self.members(now, shard, ticket, room, out),
            Command::Connected { namespace, socket } => {
                self.user_changed(now, namespace, socket, Some("{}".into()), out);
            }
            Command::Disconnected { namespace, socket } => {
                self.user_changed(now, namespace, socket, None, out);
            }
            Command::Users { shard, ticket, namespace, after } => {
                self.list_users(now, shard, ticket, namespace, after, out);
            }
            Command::SendToNode { shard, ticket, to, payload } => {
                if self.lease.is_valid(now) {
                    let call =
                        Call::SendDirect { from: self.owner(), to, message: DirectMessage::Payload(payload) };
                    out.push_back(Output::Call(call, Pending::SendToNode { shard, ticket }));
                } else {
                    out.push_back(Output::Deliver(
                        shard,
                        Delivery::SentToNode { ticket, is_received: false },
                    ));
                }
            }
            Command::LocateSocket { shard, ticket, namespace, socket } => {
                if self.lease.is_valid(now) {
                    let call = Call::FindUser { namespace, socket };
                    out.push_back(Output::Call(call, Pending::LocateSocket { shard, ticket }));
                } else {
                    out.push_back(Output::Deliver(shard, Delivery::SocketLocated { ticket, node: None }));
                }
            }
            Command::FlushOutgoing { shard, ticket } => {
                if self.lease.is_shared() {
                    // What is written of its users later would take them back from the node that a session goes to.
                    self.flush_users(now, out);
                    out.push_back(Output::Call(Call::Flush, Pending::FlushOutgoing { shard, ticket }));
                } else {
                    out.push_back(Output::Deliver(shard, Delivery::OutgoingFlushed { ticket }));
                }
            }
            Command::SubscribeRooms { shard, ticket, rooms } => {
                self.subscribe_for_transfer(now, shard, ticket, rooms, out)
            }
            Command::AdoptSession { shard, ticket, from, memberships, sockets } => {
                self.adopt_session(now, (shard, ticket), from, memberships, sockets, out);
            }
        }
    }

    /// The store answers.
    pub(crate) fn reply(&mut self, now: Instant, pending: Pending, reply: Reply, out: &mut Outputs) {
        if matches!(reply, Reply::Failed { .. }) {
            self.store_lost(now, out);
        }
        match pending {
            Pending::None => {}
            Pending::Claim { at, ticket, realm, id, token, asked } => {
                self.claim_answered(now, (at, ticket, asked), (realm, id, token), reply, out);
            }
            Pending::Reclaim { owner, realm, id, generation } => {
                self.reclaimed(owner, (realm, id), generation, reply, out);
            }
            Pending::Release { realm, id, generation } => {
                out.push_back(Output::ClaimFreed { realm, id, generation });
            }
            Pending::Revoke(number, notice) => {
                self.revoke_sent(number, &reply, out);
                self.takeover_notified(notice, &reply, out);
            }
            Pending::NotifyTakeover(notice) => self.takeover_notified(notice, &reply, out),
            Pending::Reap => self.reaped(now, reply, out),
            Pending::PeerMessage(shard, peer) => {
                self.peer_routes.answered(&peer);
                self.peer_message_routed(now, shard, reply, out);
            }
            Pending::SendPeerMessage(shard, peer_message) => {
                self.peer_message_sent(now, shard, peer_message, &reply, out)
            }
            Pending::Expire { realm, src, dst } => self.expired(now, realm, src, dst, reply, out),
            Pending::FindSender { realm, src, dst } => self.sender_found(realm, src, dst, reply, out),
            Pending::ListPeers { shard, ticket, realm } => {
                let ids = match reply {
                    Reply::Peers(ids) => ids,
                    _ => self.own.ids(realm),
                };
                out.push_back(Output::Deliver(shard, Delivery::Peers { ticket, ids }));
            }
            Pending::Join(join) => self.join_answered(now, join, reply, out),
            Pending::Leave { room, socket } => {
                if matches!(reply, Reply::Failed { .. }) {
                    self.leave_offline(room, socket, out);
                }
            }
            Pending::TransferSnapshot { room } => self.transfer_snapshot_answered(now, &room, reply, out),
            Pending::Compare { room, is_final } => self.compared(now, &room, is_final, reply, out),
            Pending::ListMembers { shard, ticket, room } => {
                let members = match reply {
                    Reply::Records { records, .. } => records,
                    _ => self.own.members(&room),
                };
                out.push_back(Output::Deliver(shard, Delivery::Members { ticket, members }));
            }
            Pending::ListUsers { shard, ticket, namespace, after } => {
                let (users, more) = match reply {
                    Reply::Users(users, more) => (users, more),
                    _ => self.own.users(&namespace, after),
                };
                out.push_back(Output::Deliver(shard, Delivery::Users { ticket, users, more }));
            }
            Pending::SendToNode { shard, ticket } => {
                let is_received = matches!(reply, Reply::Receivers(1..));
                out.push_back(Output::Deliver(shard, Delivery::SentToNode { ticket, is_received }));
            }
            Pending::LocateSocket { shard, ticket } => {
                let node = if let Reply::User(node) = reply { node } else { None };
                out.push_back(Output::Deliver(shard, Delivery::SocketLocated { ticket, node }));
            }
            Pending::FlushOutgoing { shard, ticket } => {
                out.push_back(Output::Deliver(shard, Delivery::OutgoingFlushed { ticket }));
            }
            Pending::AdoptSession { shard, ticket, membership } => {
                if let (Reply::Failed { .. }, Some(membership)) = (reply, membership) {
                    self.unadopted.push(membership);
                }
                self.session_moves.answered(shard, ticket, out);
            }
            Pending::Heartbeat { sent, owner, joins } => {
                self.heartbeat_answered(now, sent, owner, joins, reply, out);
            }
            Pending::Owners(by) => self.owners_answered(now, by, reply, out),
            Pending::EndEpoch(epoch) => self.past_epoch_ended(epoch, &reply),
            Pending::Nodes => {
                if let Reply::Nodes(nodes) = reply {
                    self.choose_format(now, &nodes, out);
                    let nodes = self.lease.remember_nodes(nodes, self.is_stable());
                    out.push_back(Output::Nodes(nodes));
                }
            }
        }
    }

    /// Writes the newest format that all nodes read. When a node has joined that reads only an older one, this node's records are
    /// written again: the newcomer cannot read them as they are.
    fn choose_format(&mut self, now: Instant, nodes: &[NodeInfo], out: &mut Outputs) {
        let format = envelope::common_format(nodes.iter().map(|node| node.reads));
        let before = std::mem::replace(&mut self.write_format, format);
        if format != before {
            out.push_back(Output::WriteFormat(format));
        }
        if format < before && self.lease.is_valid(now) {
            self.put_all(out);
        }
    }

    /// Messages to this node may have been missed.
    pub(crate) fn bus_lost(&mut self) {
        self.bus_changes += 1;
    }

    /// The bus speaks: another node tells this one something.
    pub(crate) fn direct_message(
        &mut self,
        now: Instant,
        from: Owner,
        message: DirectMessage,
        out: &mut Outputs,
    ) {
        let is_dead = self.lease.is_dead(from);
        match message {
            // Even the dead may be right about that; the store knows.
            DirectMessage::Revoke { realm, id, at, .. } if is_dead => {
                self.contested(now, realm, &id, at, out)
            }
            DirectMessage::Superseded { realm, id, at } => self.contested(now, realm, &id, at, out),
            _ if is_dead => {}
            DirectMessage::PeerMessage { to, peer_message } => self.offer(to, peer_message, out),
            DirectMessage::Revoke { realm, id, at, number } => {
                self.revoke(from, (realm, id), at, number, out)
            }
            DirectMessage::Revoked(number) => self.complete_takeover(number, out),
            DirectMessage::Payload(_) => {}
        }
    }

    /// Whether somebody who speaks on the bus is known to be dead.
    pub(crate) fn is_dead(&self, from: Owner) -> bool {
        self.lease.is_dead(from)
    }

    /// Time has passed. To be called every 100 ms or so.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outputs) {
        self.check_lease(now, out);
        self.end_past_epochs_if_due(now, out);
        self.heartbeat_if_due(now, out);
        self.flush_users(now, out);
        self.rooms_tick(now, out);
        self.takeovers_tick(now, out);
    }
}
