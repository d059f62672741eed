//! The state machine of one node: it takes its shards' commands, the store's replies and messages of the bus, and gives back
//! calls to the store and deliveries.
//!
//! Each node is the authority on its own clients. It writes their records under its lease. While the store is away (or before it
//! was ever reached) the node answers from its local state; when the store is back, it begins a new epoch and writes everything
//! again.

mod admission;
mod claims;
mod connections;
mod lease;
mod local_state;
mod peer_routing;
mod pending;
mod repairs;
mod rewrite;
mod rooms;
mod takeovers;
mod tokens;
mod users;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use pending::Counting;
pub(crate) use pending::{Adopted, Charge, Join, Pending, Unadopted};

use crate::{
    Config,
    address::{Address, Owner, ShardId},
    command::{Command, Delivery, PeerAt, PeerMessage, RealmId, Ticket},
    envelope::{self, Format},
    event::ClusterEvent,
    record::RoomName,
    route::Route,
    store::{Call, DirectMessage, NodeInfo, Reply},
};

/// An effect of a step. Effects are executed in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Make this call, and give its reply back together with the second value.
    Call(Call, Pending),
    /// Put this into a shard's mailbox.
    Deliver(ShardId, Delivery),
    /// Put a message into the mailbox of a connection's shard; drop it if the mailbox is full.
    Offer(PeerAt, PeerMessage),
    /// A connection of this node holds an id from now on.
    ClaimHeld { realm: RealmId, id: Arc<str>, at: PeerAt },
    /// A claim of an id ended.
    ClaimFreed { realm: RealmId, id: Arc<str>, generation: u64 },
    /// Count PeerServer messages that were dropped.
    Dropped(u64),
    /// A message that was under way is no longer: it was handed on, waits for its addressee (`waits`), or was dropped.
    Settled { from: PeerAt, bytes: usize, waits: bool },
    /// Subscribe this room's channel, and report when that is done.
    Subscribe(RoomName),
    /// Unsubscribe it.
    Unsubscribe(RoomName),
    /// The nodes of the cluster have changed.
    Nodes(Vec<NodeInfo>),
    /// Messages and records are to be written in this format from now on.
    WriteFormat(Format),
    /// The node has joined the cluster, or lost the store.
    Status(Status),
    /// Something to be logged and counted.
    Event(ClusterEvent),
}

/// Whether the store can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The store has never been reached.
    Joining,
    /// It is there, and the node's lease with it.
    Online,
    /// It is away, or the lease is lost: the node works from its local state.
    Degraded,
}

pub(crate) type Outputs = VecDeque<Output>;

/// Answers whoever asked for the members of a room.
fn deliver_members((shard, ticket): (ShardId, Ticket), page: rooms::MembersPage, out: &mut Outputs) {
    let rooms::MembersPage { members, count, more } = page;
    out.push_back(Output::Deliver(shard, Delivery::Members { ticket, members, count, more }));
}

/// The machine. `congested`, a parameter of some methods, tells whether a shard is too far behind to receive more.
#[derive(Debug)]
pub(crate) struct Machine {
    limit: Option<usize>,
    /// Most members of a room.
    room_members: Option<usize>,
    /// Most members of a room that are listed at once.
    presence_limit: usize,
    own: local_state::LocalState,
    /// Those that are counted by their subjects.
    connections: connections::Connections,
    rooms: rooms::Replicas,
    session_transfers: rooms::SessionTransfers,
    peer_routes: peer_routing::PeerRoutes,
    lease: lease::Lease,
    users: users::PendingUserWrites,
    user_reads: users::UserReads,
    repairs: repairs::Repairs,
    rewrite: rewrite::Rewrite,
    takeovers: takeovers::Takeovers,
    tokens: tokens::Tokens,
    admission: admission::Admission,
    /// How often the bus was lost or restored, or the form of tokens changed.
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
    /// The machine of a node that is alone: its store is never away.
    pub(crate) fn standalone(config: &Config) -> Self {
        Self::with(config, lease::Lease::standalone())
    }

    /// The machine of a node that shares its store with others, and has not reached it yet. The node's clock shows `wall_clock`
    /// (microseconds since 1970) at `now`.
    pub(crate) fn shared(config: &Config, node: NodeInfo, now: Instant, wall_clock: u64) -> Self {
        Self::with(config, lease::Lease::new(node, now, wall_clock))
    }

    fn with(config: &Config, lease: lease::Lease) -> Self {
        Self {
            limit: config.concurrent_limit,
            room_members: config.room_members,
            presence_limit: config.presence_limit.unwrap_or(usize::MAX),
            own: local_state::LocalState::new(config, lease.is_shared()),
            connections: connections::Connections::default(),
            rooms: rooms::Replicas::default(),
            session_transfers: rooms::SessionTransfers::default(),
            peer_routes: peer_routing::PeerRoutes::default(),
            users: users::PendingUserWrites::default(),
            user_reads: users::UserReads::default(),
            repairs: repairs::Repairs::default(),
            rewrite: rewrite::Rewrite::default(),
            takeovers: takeovers::Takeovers::default(),
            tokens: tokens::Tokens::default(),
            admission: admission::Admission::default(),
            bus_changes: 0,
            has_contested_claims: false,
            left_offline: Vec::new(),
            unadopted: Vec::new(),
            write_format: Format::V1,
            lease,
        }
    }

    /// The owner of its records.
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

    /// How many rooms it has replicas of.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Whether the shards have received every change of a room that has arrived.
    pub(crate) fn is_current(&self, room: &RoomName) -> bool {
        self.rooms.is_current(room)
    }

    /// Whether the store has been there without a break for as long as nodes may take to write their records again, and none says
    /// that it needs longer.
    pub(crate) fn is_stable(&self) -> bool {
        self.lease.is_stable(rooms::REWRITE_GRACE) && !self.lease.is_any_rewriting()
    }

    /// A shard has given a room's route back.
    pub(crate) fn forget_route(&mut self, room: &RoomName, now: Instant) {
        self.rooms.forget_if_unused(room, now, self.lease.is_shared());
    }

    /// Takes a command of a shard.
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
            Command::CountTakeover { realm, id } => {
                // While the store is away nobody counts: ids are not taken over from other nodes then.
                if self.lease.is_valid(now) {
                    out.push_back(Output::Call(Call::CountTakeover { realm, id }, Pending::None));
                }
            }
            Command::Expire { realm, src, dst, number } => self.expire(now, realm, src, dst, number, out),
            Command::Peers { shard, ticket, realm } => self.peers(now, shard, ticket, realm, out),
            Command::Join { shard, ticket, room, record, list, most } => {
                let most = most.into_iter().chain(self.room_members).min();
                let join = Join { shard, ticket, room, record, list, most, count: 0, fetches: false };
                self.join(now, join, congested, out);
            }
            Command::Leave { room, socket } => self.leave(now, room, socket, out),
            Command::Members { shard, ticket, room, after } => {
                self.members(now, (shard, ticket), room, after, out);
            }
            Command::Connected { namespace, socket } => {
                self.user_changed(now, namespace, socket, Some("{}".into()), out);
            }
            Command::Disconnected { namespace, socket } => {
                self.user_changed(now, namespace, socket, None, out);
            }
            Command::CountConnection { shard, ticket, list, connection, most } => {
                self.count_connection(now, Counting { shard, ticket, list, connection, most }, out);
            }
            Command::UncountConnection { list, connection } => {
                self.uncount_connection(now, &list, connection, out);
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
            Command::FlushOutgoing { shard, ticket, with_users } => {
                if self.lease.is_shared() {
                    if with_users {
                        self.flush_users(now, out);
                    }
                    out.push_back(Output::Call(Call::Flush, Pending::FlushOutgoing { shard, ticket }));
                } else {
                    out.push_back(Output::Deliver(shard, Delivery::OutgoingFlushed { ticket }));
                }
            }
            Command::SubscribeRooms { shard, ticket, rooms } => {
                self.subscribe_for_transfer(now, shard, ticket, rooms, out)
            }
            Command::AdoptSession { shard, ticket, from, sid, memberships, sockets, counted } => {
                let lists = counted.iter().map(|list| (list.name().clone(), sid, "".into()));
                let sockets = sockets.into_iter().chain(lists).collect();
                self.adopt_session(now, (shard, ticket), from, memberships, sockets, out);
            }
        }
    }

    /// Takes the reply to a call.
    pub(crate) fn reply(&mut self, now: Instant, pending: Pending, reply: Reply, out: &mut Outputs) {
        let mut pending = pending;
        if matches!(pending, Pending::Admit(_) | Pending::Claim { is_admitted: true, .. }) {
            self.no_longer_in_flight();
        }
        if matches!(pending, Pending::Compare { .. }) {
            self.rooms.compare_answered(out);
        }
        if let Reply::Failed { may_have_run } = reply {
            self.lease.probe(now);
            match self.repair_later(now, pending, may_have_run) {
                Some(failed) => pending = failed,
                None => return,
            }
        }
        match pending {
            Pending::None | Pending::Put { .. } | Pending::PutUsers(_) | Pending::Acknowledge(_) => {}
            Pending::CountConnection(counting) => self.connection_counted(now, &counting, &reply, out),
            Pending::Admit(claimant) => self.admission_answered(now, claimant, &reply, out),
            Pending::Claim { at, ticket, realm, id, token, asked, .. } => {
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
            Pending::Reap(..) | Pending::Notices { .. } => self.reaped(now, reply, out),
            Pending::PeerMessage(shard, peer, charge) => {
                self.peer_routes.answered(&peer);
                self.peer_message_routed(now, shard, charge, reply, out);
            }
            Pending::SendPeerMessage(shard, peer_message, charge) => {
                self.peer_message_sent(now, shard, peer_message, charge, &reply, out)
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
            Pending::ListMembers { shard, ticket, room, after } => {
                let members = match reply {
                    Reply::Records { records, .. } => records,
                    _ => self.own.members(&room),
                };
                let page = rooms::page_of(members, after, self.presence_limit);
                deliver_members((shard, ticket), page, out);
            }
            Pending::ListUsers(page) => self.users_listed(now, page, reply, out),
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
            Pending::Adopt(membership) => {
                if matches!(reply, Reply::Failed { .. }) {
                    self.unadopted.push(membership);
                }
            }
            Pending::AdoptSession { shard, ticket, adopted } => {
                if let (Reply::Failed { .. }, Adopted::Member(membership), false) =
                    (reply, adopted, self.lease.is_valid(now))
                {
                    self.unadopted.push(membership);
                }
                self.session_transfers.answered(shard, ticket, out);
            }
            Pending::Heartbeat { sent, owner, joins } => {
                self.heartbeat_answered(now, sent, owner, joins, reply, out);
            }
            Pending::Portion(joined) => self.portion_written(now, joined, out),
            Pending::Owners(by) => self.owners_answered(now, by, reply, out),
            Pending::EndEpoch(epoch) => self.past_epoch_ended(epoch, &reply),
            Pending::Nodes => match reply {
                Reply::Nodes(nodes) => {
                    self.choose_format(now, &nodes, out);
                    let nodes = self.lease.remember_nodes(nodes);
                    out.push_back(Output::Nodes(nodes));
                }
                // The next heartbeat asks again.
                _ => self.lease.forget_membership(),
            },
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
        self.nodes_known(now, before, out);
        if format < before && self.lease.is_valid(now) {
            self.put_all(now, out);
        }
    }

    /// A broadcast could not be published.
    pub(crate) fn broadcast_failed(&mut self, now: Instant) {
        self.lease.probe(now);
    }

    /// Messages to this node may have been missed.
    pub(crate) fn bus_lost(&mut self) {
        self.bus_changes += 1;
    }

    /// Takes a message of another node to this one.
    pub(crate) fn direct_message(
        &mut self,
        now: Instant,
        from: Owner,
        message: DirectMessage,
        out: &mut Outputs,
    ) {
        let is_dead = self.lease.is_dead(from);
        match message {
            // A dead node may be right that it took the id; the store knows.
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

    /// Whether the sender of a message is known to be dead.
    pub(crate) fn is_dead(&self, from: Owner) -> bool {
        self.lease.is_dead(from)
    }

    /// Time has passed. To be called every 100 ms or so.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outputs) {
        self.check_lease(now, out);
        self.end_past_epochs_if_due(now, out);
        self.heartbeat_if_due(now, out);
        self.repairs_tick(now, out);
        self.users_tick(now, out);
        self.rooms_tick(now, out);
        self.takeovers_tick(now, out);
    }
}
