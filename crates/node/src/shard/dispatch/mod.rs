//! Which handler gets an input, and with which tables.
//!
//! - `packets`, `posts`: what a client sends, on its connection or in a POST.
//! - `events`: what its events do.
//! - `answers`: answers of the cluster, of tasks and of other nodes.
//! - `transfers`: sessions that move.
//! - `eviction`, `revocation`, `shutdown`: clients that are cut off or sent away.
//! - `rules`: rules under way.
//! - `rest`: the shard comes to rest.

mod answers;
mod events;
mod eviction;
mod packets;
mod posts;
mod rest;
mod revocation;
mod rules;
mod shutdown;
mod transfers;

use std::{rc::Rc, sync::Arc, time::Instant};

use signalbox_cluster::{Address, PeerAt, RealmId, Route, SendOutcome};
use signalbox_websocket::Frame;

use super::{
    Shard, acks, closing,
    effects::Effect,
    engineio::{self, Opening},
    expiry,
    fanout::{self, Outgoing},
    inspection,
    mailbox::{CloseCommand, Request, ShardMessage},
    node_failure,
    peerserver::{self, PeerClaim},
    presence,
    requests::{self, BeginPost, Poll},
    socket_commands,
    tables::Timer,
    tasks::TaskResult,
    transfers::{outgoing, sweep},
    upgrades,
};
use crate::{
    limits::AddressSlot,
    policy::{Handshake, Principal},
    routing::{ConnectionRef, Reply, SocketCommand},
    session::{HeldPost, RoomKey},
    transport::Conn,
};

impl Shard {
    /// Takes a message out of the mailbox.
    pub(crate) fn take(&mut self, now: Instant, message: ShardMessage) {
        self.step.now = now;
        let Self { step, sessions, rooms, peers, transfers, probes, sequences, .. } = self;
        match message {
            ShardMessage::Broadcast(broadcast) => self.receive_broadcast(&broadcast),
            ShardMessage::BeginBroadcast { to, message, volatile } => {
                let outgoing = Outgoing { sender: None, to, message, volatile };
                fanout::begin_broadcast(step, sessions, rooms, transfers, sequences, outgoing);
            }
            ShardMessage::Cluster(delivery) => self.cluster_event(delivery),
            ShardMessage::SocketCommand(command) => self.socket_command(command),
            ShardMessage::Request(request) => self.request(now, request),
            ShardMessage::Transfer(message) => self.transfer_message(message),
            ShardMessage::CloseProbe(connection) => upgrades::close_probe(step, probes, connection),
            ShardMessage::Forget(address) => {
                transfers.forwarding.remove(&address);
                transfers.departed.remove(now, address);
                acks::socket_is_over(step, &mut transfers.acks, address);
            }
            ShardMessage::Acked { socket, id, args } => {
                acks::acked_elsewhere(step, &mut transfers.acks, socket, id, args);
            }
            ShardMessage::NodeLost(tag) => {
                node_failure::node_lost(step, sessions, rooms, transfers, probes, tag);
            }
            ShardMessage::NodeGone => acks::node_is_gone(step, &transfers.acks),
            ShardMessage::TaskDone(ticket, result) => self.task_done(ticket, result),
            ShardMessage::EvictForBudget(account) => self.evict_for_budget(&account),
            ShardMessage::Drain { sessions, peers, turns } => self.drain(sessions, peers, turns),
            ShardMessage::Shed(order) => self.shed(order),
            ShardMessage::Refreshed(principal) => expiry::peers_refreshed(step, peers, &principal),
            ShardMessage::Revoked(revocations) => self.revoked(&revocations),
            ShardMessage::PeerOrder { at, message: Some(frame) } => peerserver::tell(step, peers, at, &frame),
            ShardMessage::PeerOrder { at, message: None } => {
                if peers.holder(at).is_some() {
                    self.end_peer(at.key, "forced close", None);
                }
            }
            ShardMessage::Inspect { question, reply } => {
                if reply.is_wanted() {
                    let answer = inspection::inspect(step, sessions, rooms, peers, transfers, &question);
                    step.effects.answer(reply, answer);
                }
            }
            ShardMessage::Rules(rules) => step.rules = rules,
            ShardMessage::Stop => self.stop(),
        }
    }

    /// Does what is due.
    pub(crate) fn fire_timers(&mut self, now: Instant) {
        self.step.now = now;
        while let Some((due, timer)) = self.step.timers.pop_due(now) {
            let Self { step, sessions, rooms, transfers, probes, peers, sequences, .. } = self;
            match timer {
                Timer::Session { key, number } => {
                    engineio::session_timer(step, sessions, rooms, transfers, (key, number), due);
                }
                Timer::Peer { key, number } => peerserver::liveness_timer(step, peers, key, number),
                Timer::Wait { key } => peerserver::wait_is_over(step, peers, key),
                Timer::Acks { key, number, socket } => {
                    acks::timed_out(step, sessions, due, (key, number), socket);
                }
                Timer::AckElsewhere { socket, id } => {
                    acks::elsewhere_timed_out(step, &mut transfers.acks, socket, id);
                }
                Timer::AcksOfGone => acks::sweep(step, transfers),
                Timer::Expiry { key, number, socket } => {
                    if expiry::expiry_is_due(step, sessions, rooms, due, (key, number, socket)) {
                        closing::after_engine(step, sessions, rooms, transfers, key);
                    }
                }
                Timer::PeerExpiry { key, number } => {
                    if let Some(reason) = expiry::peer_has_to_go(step, peers, due, key, number) {
                        self.peer_token_ended(key, reason);
                    }
                }
                Timer::Signal { ticket } => self.signal_timed_out(ticket),
                Timer::Transfer { sid } => self.transfer_timer(due, sid),
                Timer::Probe { key, number } => upgrades::probe_timed_out(step, probes, key, number),
                Timer::PollGrace { key, number, polls } => {
                    node_failure::poll_grace_is_over(step, sessions, rooms, transfers, (key, number), polls);
                }
                Timer::PostGrace { ticket } => self.task_done(ticket, TaskResult::Yield),
                Timer::Presence { room } => presence::tell(step, sessions, rooms, room),
                Timer::Sweep => sweep(step, rooms, transfers, sequences),
            }
        }
    }

    /// Opens a session by a polling handshake; the body is its answer.
    pub(crate) fn open_polling(
        &mut self,
        now: Instant,
        principal: Option<Arc<Principal>>,
        handshake: Handshake,
        slot: Option<AddressSlot>,
    ) -> (Address, String) {
        self.step.now = now;
        engineio::open_polling(&mut self.step, &mut self.sessions, Opening { principal, handshake, slot })
    }

    /// Opens a session on a WebSocket.
    pub(crate) fn open_websocket(
        &mut self,
        now: Instant,
        conn: &Rc<Conn>,
        principal: Option<Arc<Principal>>,
        handshake: Handshake,
    ) {
        self.step.now = now;
        // Its connection keeps its place.
        let opening = Opening { principal, handshake, slot: None };
        engineio::open_websocket(&mut self.step, &mut self.sessions, conn, opening);
    }

    /// A PeerServer client has connected and claims an id.
    pub(crate) fn open_peer(&mut self, now: Instant, conn: &Rc<Conn>, claim: PeerClaim) {
        self.step.now = now;
        peerserver::open(&mut self.step, &mut self.peers, &mut self.pending, conn, claim);
    }

    /// Lists the ids of a realm.
    pub(crate) fn list_peers(&mut self, realm: RealmId, reply: Reply<Vec<Arc<str>>>) {
        peerserver::list(&mut self.step, &mut self.pending, realm, reply);
    }

    /// The cluster has taken a client's message of this length, or not.
    pub(crate) fn peer_message_sent(&mut self, from: PeerAt, bytes: usize, outcome: SendOutcome) {
        peerserver::message_sent(&mut self.step, &mut self.peers, from, bytes, outcome);
    }

    /// A WebSocket wants to take a session over; it is known here before the session's owner is asked.
    pub(crate) fn open_probe(&mut self, now: Instant, conn: &Rc<Conn>, sid: Address) -> ConnectionRef {
        self.step.now = now;
        upgrades::open_probe(&mut self.step, &mut self.probes, conn, sid)
    }

    /// The shard is on the route of a room that it asked for.
    pub(crate) fn route_opened(&mut self, key: RoomKey, route: Arc<Route>) {
        self.rooms.set_route(key, route);
    }

    /// Closes a WebSocket that is not to take a session over.
    pub(crate) fn close_probe(&mut self, connection: ConnectionRef) {
        upgrades::close_probe(&mut self.step, &mut self.probes, connection);
    }

    /// Serves a request, or hands it to the shard the session moved to.
    pub(crate) fn request(&mut self, now: Instant, request: Request) {
        self.step.now = now;
        let Self { step, sessions, rooms, transfers, pending, .. } = self;
        let sid = request.sid();
        let known = sessions.find(sid);
        let Some(key) = known.filter(|key| !closing::expire(step, sessions, rooms, transfers, *key)) else {
            match transfers.forwarding.get(&sid) {
                // It came here, and has ended since: whoever asks has to know that it is not his to end.
                None if pending.is_adopting(sid)
                    && let Request::Exists { reply, .. } = request =>
                {
                    step.effects.answer(reply, true);
                }
                Some(to) => step.effects.push(Effect::Relay { to: *to, request }),
                None => requests::refuse_unknown(step, request),
            }
            return;
        };
        match request {
            Request::Exists { reply, .. } => step.effects.answer(reply, true),
            Request::Identify { reply, .. } => step.effects.answer(reply, Some(sessions[key].client())),
            Request::Poll { number, accepted, reply, .. } => {
                requests::poll(step, sessions, rooms, transfers, key, Poll { number, accepted, reply });
            }
            Request::PollLost { number, .. } => {
                requests::poll_lost(step, sessions, rooms, transfers, key, number);
            }
            Request::ReleasePoll { number, .. } => {
                requests::release_poll(step, &mut sessions[key], number);
            }
            Request::BeginPost { number, on_close, reply, .. } => {
                let post = BeginPost { number, on_close, reply };
                requests::begin_post(step, sessions, rooms, transfers, key, post);
            }
            Request::Post { number, body, is_relayed, reply, .. } => {
                let session = &mut sessions[key];
                if session.local.posts != number {
                    return;
                }
                let post = HeldPost { body, is_relayed, offset: 0, reply };
                if let Some(post) = requests::wait_for_poll(step, session, pending, key, post) {
                    self.take_post(key, post);
                }
            }
            Request::PostLost { number, .. } => {
                requests::post_lost(step, sessions, rooms, transfers, key, number);
            }
            Request::BeginUpgrade { connection, reply, .. } => {
                let began = requests::begin_upgrade(step, key, &mut sessions[key], connection);
                step.effects.answer_or(reply, Ok(began), Request::AbandonUpgrade { sid, connection });
            }
            Request::Probed { connection, .. } => {
                requests::probed(step, key, &mut sessions[key], connection);
            }
            Request::Upgrade { connection, .. } => {
                if outgoing::upgrade(step, &mut sessions[key], connection) {
                    self.continue_upgrade(key);
                }
            }
            Request::AbandonUpgrade { connection, .. } => {
                requests::abandon_upgrade(step, sessions, rooms, transfers, key, connection);
            }
        }
    }

    /// Whoever sent a request does not wait for its answer any more: takes what the runtime was given for that case.
    pub(crate) fn answer_is_lost(&mut self, now: Instant, otherwise: Request) {
        let abandoned = match &otherwise {
            Request::AbandonUpgrade { connection, .. } => Some(*connection),
            _ => None,
        };
        self.request(now, otherwise);
        if let Some(connection) = abandoned {
            self.step.effects.push(Effect::CloseProbe(connection));
        }
    }

    /// An operation on a socket that was born here, or moved here.
    pub(super) fn socket_command(&mut self, command: SocketCommand) {
        let Self { step, sessions, rooms, pending, transfers, .. } = self;
        let end = socket_commands::socket_command(step, sessions, rooms, pending, transfers, command);
        if let Some((key, command)) = end {
            self.end(key, command);
        }
    }

    /// Ends a session, or begins to.
    pub(super) fn end(&mut self, key: u32, command: CloseCommand) {
        let Self { step, sessions, rooms, transfers, .. } = self;
        closing::end(step, sessions, rooms, transfers, key, command);
    }

    /// Ends a PeerServer client, with this code in the close frame.
    fn end_peer(&mut self, key: u32, reason: &str, code: Option<u16>) {
        peerserver::end(&mut self.step, &mut self.peers, key, reason, &Frame::close(code));
    }
}
