//! A Socket.IO session, as the shard that owns it keeps it: a plain value that can move, and what is local to the shard.

mod save;
mod token_checks;

use std::{collections::VecDeque, net::IpAddr, rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use signalbox_admin::events::{Event, Protocol};
use signalbox_cluster::{Address, Record, SubjectList};
use signalbox_socketio::{Args, Connection};
use smallvec::SmallVec;

use crate::{
    app::Namespace,
    config::ClientLimits,
    ledger::{Account, Charge, OVERHEAD},
    limits::{AddressSlot, RateLimits, Rates},
    policy::{Expiry, Handshake, Principal, SessionClient},
    protocol::RequestRefused,
    routing::{AckError, ConnectionRef, DedupWindow, Location, Reply, SocketCommand},
    transport::{Conn, Progress},
};

pub(crate) use token_checks::TokenChecks;

/// Key of a room within a shard.
pub(crate) type RoomKey = u32;
/// What a GET is answered with.
pub(crate) type PollReply = Reply<Result<String, RequestRefused>>;

/// A session: what it is, and what belongs to this shard and its transport only.
pub(crate) struct Session {
    pub(crate) state: SessionState,
    pub(crate) local: ShardLocal,
}

impl std::ops::Deref for Session {
    type Target = SessionState;
    fn deref(&self) -> &SessionState {
        &self.state
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut SessionState {
        &mut self.state
    }
}

/// A session as a plain value, which can be handed to another shard.
pub(crate) struct SessionState {
    pub(crate) sid: Address,
    /// When the client opened it, on this node's clock.
    pub(crate) opened: Instant,
    pub(crate) engine: signalbox_engineio::Session,
    pub(crate) connection: Connection<Socket>,
    /// Who the client's request said it is, and what it asked with; the latter is forgotten with the first namespace.
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) handshake: Option<Box<Handshake>>,
    /// The subjects for which it is counted.
    pub(crate) counted: Vec<SubjectList>,
    /// The `traceparent` that the client has shown, where traces are kept: what it sends belongs to that trace.
    pub(crate) trace: Option<Arc<str>>,
    /// Effects whose answers the client's next frames must wait for.
    pub(crate) blocking: u32,
    /// Effects whose answers come to this shard; a session does not move while there are any.
    pub(crate) in_flight: u32,
    /// Packets of a POST that wait for the end of the holds.
    pub(crate) held_post: Option<Box<HeldPost>>,
    /// After a move, for a while: what was already seen.
    pub(crate) dedup: Option<Box<DedupWindow>>,
}

/// The part of a session that does not move with it.
#[derive(Default)]
pub(crate) struct ShardLocal {
    /// Tells the session from an earlier one with the same key.
    pub(crate) number: u64,
    /// Where the client opened it from.
    pub(crate) address: Option<IpAddr>,
    /// Its WebSocket, once that is its transport.
    pub(crate) conn: Option<Rc<Conn>>,
    /// The GET that waits.
    pub(crate) poll: Option<PollReply>,
    /// The latest GET and POST by the edge's numbers, so that a late word about one does not hit another.
    pub(crate) polls: u64,
    pub(crate) posts: u64,
    /// The ticket of a POST that lets a GET overtake it.
    pub(crate) awaits_poll: Option<u64>,
    /// Dropped when the session closes, which ends the POST that is being read.
    pub(crate) post: Option<Reply<()>>,
    /// The WebSocket that wants to take over.
    pub(crate) probe: Option<ConnectionRef>,
    /// The upgrade packet came from another shard: the session is to move there.
    pub(crate) upgrade_to: Option<ConnectionRef>,
    /// The move has begun.
    pub(crate) is_transferring: bool,
    /// What would change the session's rooms, and so waits for the end of the move.
    pub(crate) deferred: Vec<SocketCommand>,
    /// Signals of the client that are not answered yet.
    pub(crate) signals: u32,
    /// The earliest timer that is queued for it.
    pub(crate) timer_at: Option<Instant>,
    /// On the list of sessions whose pending GET may have a body.
    pub(crate) is_dirty: bool,
    /// A binary event that has not arrived whole.
    pub(crate) half_event: Option<Box<HalfEvent>>,
    /// Bytes of what the client has sent and the policy has not decided yet.
    pub(crate) held: usize,
    /// What the client may send.
    pub(crate) rates: Rates,
    /// The tokens that it has shown.
    pub(crate) token_checks: TokenChecks,
    /// Its place among the connections of its address, where it is known by what a proxy says.
    pub(crate) slot: Option<AddressSlot>,
    /// The client's account, charged for what waits for a poll, or for the rest of an event.
    pub(crate) charge: Option<Charge>,
}

/// A POST whose packets wait.
pub(crate) struct HeldPost {
    /// The rest of the body, from here on.
    pub(crate) body: Bytes,
    /// It came from another node, so nobody here is charged for its body but the session.
    pub(crate) is_relayed: bool,
    pub(crate) offset: usize,
    pub(crate) reply: Reply<()>,
}

/// An event whose attachments have not all arrived.
pub(crate) struct HalfEvent {
    pub(crate) progress: Progress,
    /// Bytes of it that are here.
    pub(crate) bytes: usize,
}

/// The end of a token, and the earliest timer that is queued for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenExpiry {
    pub(crate) expiry: Expiry,
    pub(crate) timer_at: Option<Instant>,
}

/// A session's socket in one namespace.
pub(crate) struct Socket {
    pub(crate) id: Address,
    pub(crate) app: Arc<Namespace>,
    /// Who the client is in this namespace.
    pub(crate) principal: Option<Arc<Principal>>,
    /// When its token ends.
    pub(crate) expiry: Option<TokenExpiry>,
    pub(crate) rooms: SmallVec<[RoomKey; 2]>,
    /// What it joined rooms with as in the tutorials, or by rules: their names, and the records. After a move from another node, the store has
    /// them.
    pub(crate) records: Vec<(Arc<str>, Record)>,
    /// What rules keep on it: names and JSON. At most [`MAX_DATA`](signalbox_rules::MAX_DATA) bytes.
    pub(crate) data: Vec<(String, String)>,
    /// What was asked of the client, in order.
    pub(crate) pending_acks: VecDeque<PendingAck>,
    pub(crate) next_ack: u64,
    /// The earliest timer that is queued for them.
    pub(crate) acks_timer_at: Option<Instant>,
}

impl Socket {
    /// What events of this socket have in common.
    pub(crate) fn event(&self, namespace: &Arc<str>) -> Event {
        Event {
            protocol: Some(Protocol::Socketio),
            namespace: Some(namespace.clone()),
            socket: Some(self.id.written().to_string()),
            subject: self.principal.as_ref().map(|principal| principal.subject.clone()),
            ..Event::default()
        }
    }
}

/// An event that somebody waits for the answer of: a handler, or an operator.
pub(crate) struct PendingAck {
    pub(crate) id: u64,
    /// When it was asked.
    pub(crate) asked: Instant,
    /// `None`: for as long as the socket is there.
    pub(crate) until: Option<Instant>,
    pub(crate) waiter: AckWaiter,
}

/// Where the answer goes.
pub(crate) enum AckWaiter {
    /// To somebody on this node.
    Here(Reply<Result<Args, AckError>>),
    /// To the shard of another node that the session has come from: somebody waits there.
    Elsewhere(Location),
}

impl Session {
    /// The slot of a socket.
    pub(crate) fn slot_of(&self, socket: Address) -> Option<usize> {
        self.connection.sockets().iter().position(|joined| joined.socket.id == socket)
    }

    /// Who the client is in the namespace of a socket.
    pub(crate) fn principal_of(&self, socket: Address) -> Option<&Arc<Principal>> {
        let slot = self.slot_of(socket)?;
        self.connection.sockets()[slot].socket.principal.as_ref()
    }

    /// Who the client is.
    pub(crate) fn client(&self) -> SessionClient {
        let in_namespaces = self.connection.sockets().iter().map(|joined| &joined.socket.principal);
        let principal = in_namespaces.flatten().next().or(self.principal.as_ref()).cloned();
        SessionClient { principal, address: self.address() }
    }

    /// The tokens on the connection have changed: what its client may send follows from them.
    pub(crate) fn update_rates(&mut self, config: &ClientLimits) {
        let sockets = self.state.connection.sockets().iter();
        let principals = sockets.filter_map(|joined| joined.socket.principal.as_deref());
        self.local.rates.set(RateLimits::of(config, principals));
    }

    /// Whether the client's frames must wait.
    pub(crate) fn is_held(&self) -> bool {
        self.blocking > 0
    }

    /// A request of the session begins. With `blocking`, the client's next frames wait for its answer.
    pub(crate) fn begin_request(&mut self, blocking: bool) {
        self.in_flight += 1;
        if blocking {
            self.blocking += 1;
            if let Some(conn) = &self.local.conn {
                conn.pause();
            }
        }
    }

    /// A request of the session was answered; `blocking` if the client's frames waited for it. When none do any more, gives back the
    /// POST that is to go on.
    pub(crate) fn end_request(&mut self, blocking: bool) -> Option<HeldPost> {
        self.in_flight -= 1;
        if blocking {
            self.blocking -= 1;
        }
        if self.is_held() {
            return None;
        }
        let post = self.held_post.take().map(|post| *post);
        if std::mem::take(&mut self.local.held) > 0 || post.as_ref().is_some_and(|post| post.is_relayed) {
            self.update_charge();
        }
        post
    }

    /// Where the client is: of a session that moved here, where its WebSocket is.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.local.conn.as_ref().and_then(|conn| conn.address()).or(self.local.address)
    }

    /// The client's account.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.local.charge.as_ref().map(Charge::account)
    }

    /// The client polls, or has sent something: it moves.
    pub(crate) fn moves(&self, now: Instant) {
        if let Some(account) = self.account() {
            account.moves(now);
        }
    }

    /// Whether this account is the client's: the session's own, or its WebSocket's.
    pub(crate) fn is_of(&self, account: &Arc<Account>) -> bool {
        let is_own = self.account().is_some_and(|own| Arc::ptr_eq(own, account));
        is_own || self.local.conn.as_ref().is_some_and(|conn| conn.is_of(account))
    }

    /// Charges the client for what the session holds by now: what waits for a poll, or for the rest of an event, what is kept of
    /// its handshake, and what rules keep on its sockets. Its WebSocket has a charge of its own.
    pub(crate) fn update_charge(&self) {
        let Some(charge) = &self.local.charge else { return };
        let shared = self.engine.buffered_shared();
        let waiting = self.engine.buffered() - shared + OVERHEAD * self.engine.buffered_packets();
        let partial = match self.connection.buffered() {
            0 => 0,
            partial => partial + OVERHEAD,
        };
        let relayed = self.held_post.as_ref().filter(|post| post.is_relayed);
        let held = relayed.map_or(0, |post| post.body.len() + OVERHEAD) + self.local.held;
        let handshake = self.handshake.as_ref().map_or(0, |handshake| size_of_handshake(handshake));
        let data = self.connection.sockets().iter().flat_map(|joined| &joined.socket.data);
        let kept: usize = data.map(|(name, value)| name.len() + value.len() + OVERHEAD).sum();
        charge.set(waiting + partial + held + handshake + kept, shared);
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let engine = self.engine.deadline()?;
        let event = self.local.half_event.as_ref().map(|half| half.progress.until());
        [self.connection.deadline(), event, Some(engine)].into_iter().flatten().min()
    }
}

/// Bytes of what the policy has kept of a handshake.
fn size_of_handshake(handshake: &Handshake) -> usize {
    let headers = handshake.headers.iter().map(|(name, value)| name.len() + value.len() + OVERHEAD);
    handshake.query.len() + headers.sum::<usize>()
}
