//! The event loop of a shard on its worker thread: it takes inputs, and executes the effects when the shard comes to rest.
//!
//! - [`backpressure`]: who fills a queue waits until there is room in it.
//! - [`mailboxes`]: how anything reaches the one thread that owns a session.
//! - [`load`]: how busy a worker is, and how late.
//! - [`tasks`]: what runs beside the shard.

mod backpressure;
pub(crate) mod load;
pub(crate) mod mailboxes;
mod tasks;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use signalbox_cluster::{Address, NodeTag, Scope, SendOutcome, ShardId};
use signalbox_engineio::CloseReason;
use signalbox_socketio::Args;
use signalbox_websocket::{Frame, Message};
use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver},
    task::unconstrained,
};

use backpressure::Queue;
pub(crate) use mailboxes::{Busy, Mailboxes};

use super::{
    Shard, ShardContext,
    effects::Effect,
    mailbox::{Request, ShardMessage},
    tasks::TaskResult,
    transfer::message::TransferMessage,
};
use crate::{
    panics::EndsProcess,
    policy::Principal,
    routing::{ConnectionRef, Location, SignalReply, SocketCommand},
    transport::{Conn, ConnectionEvents, Reader, ReaderLimits, Role, WRITTEN_AT_ONCE, Wait},
};

/// Messages taken out of the mailbox before connections have their turn,
const MAILBOX_SLICE: usize = 32;
/// and how many while more wait there: what has come comes before what clients would have done next.
const LONG_MAILBOX_SLICE: usize = 256;
/// The part of what waits that is taken out at once.
const SLICE_PART: usize = 4;
/// Connections written before others have their turn, so that a huge room does not starve the rest,
const WRITE_SLICE: usize = 128;
/// and bytes that waited for them.
const WRITE_SLICE_BYTES: usize = 256 * 1024;

thread_local! {
    static CURRENT: RefCell<Option<Rc<ShardRuntime>>> = const { RefCell::new(None) };
}

/// The way to the shards of other nodes.
pub(crate) trait OtherNodes: Send + Sync {
    /// Hands a request to the node that has the session.
    fn relay(self: Arc<Self>, node: NodeTag, request: Request);
    /// Hands a command to the node that its socket has moved to.
    fn forward(&self, node: NodeTag, command: SocketCommand);
    /// Tells a node what became of its signal.
    fn signalled(&self, to: SignalReply, found: bool);
    /// Sends a step of a transfer.
    fn transfer(self: Arc<Self>, to: Location, message: TransferMessage);
    /// Tells a node that its WebSocket is not wanted.
    fn close_probe(&self, connection: ConnectionRef);
    /// Tells a node that an address that was born there is over.
    fn forget(&self, node: NodeTag, address: Address);
    /// Tells a node what the client of a socket has answered that came from there.
    fn acked(&self, to: Location, socket: Address, id: u64, args: &Args);
    /// Tells all nodes of the token that a client has shown in place of another.
    fn refreshed(&self, principal: &Principal);
}

/// A shard on its worker thread, shared by the tasks of that thread.
pub(crate) struct ShardRuntime {
    id: ShardId,
    context: Rc<ShardContext>,
    mailboxes: Arc<Mailboxes>,
    other_nodes: Arc<dyn OtherNodes>,
    shard: RefCell<Shard>,
    mailbox: RefCell<UnboundedReceiver<ShardMessage>>,
    /// Room for effects, used again and again.
    spare: Cell<Vec<Effect>>,
    /// Wakes the shard's own task: an earlier timer, or more to do.
    wake: Notify,
    /// A crowded queue that was filled from here since somebody asked.
    crowded: Cell<Option<Queue>>,
    /// Whether the mailbox that was last filled from here was crowded,
    is_mailbox_crowded: Cell<bool>,
    /// and broadcasts to other nodes when the last one was made.
    are_publications_crowded: Cell<bool>,
    /// When the shard's own task wakes by itself.
    next_wakeup: Cell<Option<Instant>>,
}

impl ShardRuntime {
    /// Starts a shard on the present thread.
    pub(crate) fn start(
        context: ShardContext,
        mailboxes: Arc<Mailboxes>,
        other_nodes: Arc<dyn OtherNodes>,
        mailbox: UnboundedReceiver<ShardMessage>,
    ) {
        let shard = Shard::new(Instant::now(), context);
        let runtime = Rc::new(Self {
            id: shard.context().id,
            context: shard.context().clone(),
            mailboxes,
            other_nodes,
            shard: RefCell::new(shard),
            mailbox: RefCell::new(mailbox),
            spare: Cell::default(),
            wake: Notify::new(),
            crowded: Cell::new(None),
            is_mailbox_crowded: Cell::new(false),
            are_publications_crowded: Cell::new(false),
            next_wakeup: Cell::new(None),
        });
        actix_rt::spawn(load::observe_lag(runtime.context.metrics.clone()));
        actix_rt::spawn(runtime.clone().run());
        CURRENT.set(Some(runtime));
    }

    /// This thread's shard.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// Does something with the shard, and then everything that follows from it.
    pub(crate) fn with<T>(&self, input: impl FnOnce(&mut Shard, Instant) -> T) -> T {
        let _guard = EndsProcess;
        let result = input(&mut self.shard.borrow_mut(), Instant::now());
        self.flush();
        result
    }

    /// This shard, as others name it.
    pub(crate) fn location(&self) -> Location {
        self.context.location()
    }

    /// Takes a request at once, behind what other workers have accepted before it. If this is called from inside the shard, the
    /// request is given back.
    pub(crate) fn try_request(&self, request: Request) -> Option<Request> {
        let _guard = EndsProcess;
        let Ok(mut mailbox) = self.mailbox.try_borrow_mut() else { return Some(request) };
        let Ok(mut shard) = self.shard.try_borrow_mut() else { return Some(request) };
        let now = Instant::now();
        for _ in 0..self.mailboxes.depth(self.id).unwrap_or_default() {
            let Ok(message) = mailbox.try_recv() else { break };
            self.mailboxes.taken(self.id, 1);
            shard.take(now, message);
        }
        shard.request(now, request);
        drop((shard, mailbox));
        self.flush();
        None
    }

    /// Begins to serve a connection; `rest` is what arrived with its handshake, and `slot` is dropped with the connection.
    pub(crate) fn serve(
        self: &Rc<Self>,
        conn: Rc<Conn>,
        limits: ReaderLimits,
        rest: Vec<u8>,
        slot: Box<dyn Any>,
    ) {
        self.context.lifecycle.connection_opened();
        let reader = Reader::new(conn, self.clone(), limits, rest);
        actix_rt::spawn(async move {
            reader.run().await;
            drop(slot);
        });
    }

    async fn run(self: Rc<Self>) {
        let _guard = EndsProcess;
        let mut batch = Vec::with_capacity(MAILBOX_SLICE);
        loop {
            let next = self.shard.borrow().next_timer();
            self.next_wakeup.set(next);
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let waiting = self.mailboxes.depth(self.id).unwrap_or_default();
            let slice = (waiting / SLICE_PART).clamp(MAILBOX_SLICE, LONG_MAILBOX_SLICE);
            let messages = poll_fn(|cx| self.mailbox.borrow_mut().poll_recv_many(cx, &mut batch, slice));
            let received = tokio::select! {
                biased;
                received = messages => Some(received),
                () = self.wake.notified() => None,
                () = timer => None,
            };
            if received == Some(0) {
                return;
            }
            if let Some(received) = received {
                self.mailboxes.taken(self.id, received);
            }
            {
                let shard = &mut *self.shard.borrow_mut();
                let now = Instant::now();
                for message in batch.drain(..) {
                    shard.take(now, message);
                }
                shard.fire_timers(now);
            }
            self.flush();
            self.write_later();
            if received.is_some() || self.shard.borrow().is_busy() {
                // Connections have their turn before the next slice.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Executes everything that follows from what just happened, and writes a slice of the outboxes.
    pub(crate) fn flush(&self) {
        let _guard = EndsProcess;
        loop {
            let mut effects = self.shard.borrow_mut().rest(Instant::now(), self.spare.take());
            let is_done = effects.is_empty();
            for effect in effects.drain(..) {
                self.execute(effect);
            }
            self.spare.set(effects);
            if is_done {
                break;
            }
        }
        self.write_slice(Shard::next_dirty);
        self.after_writing();
    }

    /// What follows from what was written, and when the shard has its next turn.
    fn after_writing(&self) {
        let shard = &mut *self.shard.borrow_mut();
        shard.after_writing(Instant::now());
        let next = shard.next_timer();
        let is_earlier = next.is_some_and(|next| self.next_wakeup.get().is_none_or(|at| next < at));
        if is_earlier || shard.is_busy() {
            self.wake.notify_one();
        }
    }

    /// Writes a slice of the connections that others do not wait for: in the turn of the shard itself, so that nobody else's gets longer.
    fn write_later(&self) {
        let of_crowd = self.write_slice(Shard::next_of_crowd);
        let of_long = self.write_slice(Shard::next_long);
        if of_crowd + of_long > 0 {
            self.after_writing();
        }
    }

    /// Writes so many connections, or so many bytes, that others may wait for it; returns how many connections.
    fn write_slice(&self, next: impl Fn(&mut Shard) -> Option<Rc<Conn>>) -> usize {
        let (mut count, mut bytes) = (0, 0);
        let write = poll_fn(|_| {
            while count < WRITE_SLICE && bytes < WRITE_SLICE_BYTES {
                let Some(conn) = next(&mut self.shard.borrow_mut()) else { break };
                count += 1;
                bytes += conn.queued().min(WRITTEN_AT_ONCE);
                let written = conn.write();
                self.shard.borrow_mut().written(&conn, written);
            }
            Poll::Ready(count)
        });
        // It has a bound of its own.
        let write = pin!(unconstrained(write));
        match write.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(count) => count,
            Poll::Pending => 0,
        }
    }

    /// Something was put into a queue: whoever caused it is to wait if that is crowded.
    fn note_filled(&self, queue: Queue) {
        let is_crowded = self.mailboxes.is_crowded(queue);
        let known = match queue {
            Queue::Mailbox(_) => &self.is_mailbox_crowded,
            Queue::Publications => &self.are_publications_crowded,
        };
        known.set(is_crowded);
        // The mailbox is the one that drops something in the end.
        let is_worse = matches!(queue, Queue::Mailbox(_)) || self.crowded.get().is_none();
        if is_crowded && is_worse {
            self.crowded.set(Some(queue));
        }
    }

    /// Executes one effect. The shard is at rest: what is executed may use it like anybody else.
    fn execute(&self, effect: Effect) {
        let here = self.context.node;
        let cluster = &self.context.cluster;
        let now = Instant::now;
        match effect {
            Effect::Send { shard, message: message @ ShardMessage::TaskDone(_, TaskResult::Yield) } => {
                // The rest of a POST.
                match self.crowded.take() {
                    Some(crowded) => self.mailboxes.push_in_turn(crowded, shard, message),
                    None => self.mailboxes.push(shard, message),
                }
            }
            Effect::Send { shard, message } => self.mailboxes.push(shard, message),
            Effect::Broadcast { shard, broadcast } => {
                self.mailboxes.broadcast(shard, ShardMessage::Broadcast(broadcast));
                self.note_filled(Queue::Mailbox(shard));
            }
            Effect::Publish { room, message } => {
                let scope = room.as_ref().map_or(Scope::Everywhere, Scope::Room);
                cluster.broadcast(now(), scope, self.mailboxes.publication(message));
                self.note_filled(Queue::Publications);
            }
            Effect::Submit(command) => cluster.submit(now(), command),
            Effect::SendPeerMessage(message) => {
                let (from, bytes) = (message.from, message.frame.payload().len());
                let outcome = cluster.send(now(), self.id, message);
                if outcome != SendOutcome::Taken {
                    self.shard.borrow_mut().peer_message_sent(from, bytes, outcome);
                }
            }
            Effect::OpenRoute { key, room } => {
                let route = cluster.route(&room);
                route.add(self.id);
                self.shard.borrow_mut().route_opened(key, route);
            }
            Effect::AwaitDeliveries => cluster.barrier(),
            Effect::ReleaseRoute { room, route } => cluster.release_route(now(), &room, route, self.id),
            Effect::Disown { memberships, sockets } => cluster.release_session(now(), &memberships, &sockets),
            Effect::Relay { to, request } if to.node == here => {
                self.mailboxes.push(to.shard, ShardMessage::Request(request));
            }
            Effect::Relay { to, request } => self.other_nodes.clone().relay(to.node, request),
            Effect::Forward { to, command } if to.node == here => {
                self.mailboxes.push(to.shard, ShardMessage::SocketCommand(command));
            }
            Effect::Forward { to, command } => self.other_nodes.forward(to.node, command),
            Effect::Signal { shard, ticket, command } => {
                self.note_filled(Queue::Mailbox(shard));
                if self.mailboxes.request(shard, ShardMessage::SocketCommand(command)).is_err() {
                    let refused = ShardMessage::TaskDone(ticket, TaskResult::SignalRefused);
                    self.mailboxes.push(self.id, refused);
                }
            }
            Effect::Signalled { to, found } if to.node == here => {
                let result = ShardMessage::TaskDone(to.ticket, TaskResult::Signalled(found));
                self.mailboxes.push(to.shard, result);
            }
            Effect::Signalled { to, found } => self.other_nodes.signalled(to, found),
            Effect::Transfer { to, message } if to.node == here => {
                self.mailboxes.push(to.shard, ShardMessage::Transfer(message));
            }
            Effect::Transfer { to, message } => self.other_nodes.clone().transfer(to, message),
            Effect::CloseProbe(connection) if connection.node == here => {
                self.mailboxes.push(connection.shard, ShardMessage::CloseProbe(connection));
            }
            Effect::CloseProbe(connection) => self.other_nodes.close_probe(connection),
            Effect::Forget { birth, address } if birth.node == here => {
                self.mailboxes.push(birth.shard, ShardMessage::Forget(address));
            }
            Effect::Forget { birth, address } => {
                self.context.addresses.remove(address);
                self.other_nodes.forget(birth.node, address);
            }
            Effect::Acked { to, socket, id, args } if to.node == here => {
                self.mailboxes.push(to.shard, ShardMessage::Acked { socket, id, args });
            }
            Effect::Acked { to, socket, id, args } => self.other_nodes.acked(to, socket, id, &args),
            Effect::Refreshed(principal) => self.other_nodes.refreshed(&principal),
            Effect::Answer { answer, otherwise } => {
                let is_lost = !answer.send();
                if let Some(otherwise) = otherwise.filter(|_| is_lost) {
                    self.shard.borrow_mut().answer_is_lost(now(), otherwise);
                }
            }
            Effect::Report(event) => self.context.events.report(*event),
            Effect::Start(task) => tasks::start(task, self.id, &self.mailboxes, &self.context),
        }
    }
}

impl ConnectionEvents for ShardRuntime {
    fn message(&self, conn: &Rc<Conn>, message: Message<'_>) {
        let _guard = EndsProcess;
        self.shard.borrow_mut().connection_message(Instant::now(), conn, message);
    }

    fn push_pong(&self, conn: &Rc<Conn>, pong: &Frame) {
        self.shard.borrow_mut().connection_push_pong(conn, pong);
    }

    fn closing(&self, conn: &Rc<Conn>, reason: CloseReason, frame: &Frame) {
        let role = conn.role.replace(Role::Nobody);
        conn.close(frame);
        self.with(|shard, now| shard.lost(now, role, reason));
    }

    fn lost(&self, conn: &Rc<Conn>, reason: CloseReason) {
        let role = conn.role.replace(Role::Nobody);
        self.with(|shard, now| shard.lost(now, role, reason));
    }

    fn ended(&self, conn: &Rc<Conn>) {
        conn.update_charge();
        self.context.lifecycle.connection_closed();
    }

    fn received_bytes(&self, count: usize) {
        self.shard.borrow_mut().received_bytes(count);
    }

    fn message_overdue(&self) {
        self.context.metrics.connections_dropped.with_label_values(&["message_timeout"]).inc();
    }

    fn is_crowded(&self) -> bool {
        self.is_mailbox_crowded.get() || self.are_publications_crowded.get()
    }

    fn begin_turn(&self) {
        self.crowded.set(None);
    }

    fn wait_after_turn(&self, cx: &Context<'_>) -> Option<Arc<dyn Wait>> {
        let crowded = self.crowded.take()?;
        Some(self.mailboxes.wait(crowded, cx.waker().clone()))
    }

    fn list_for_writing(&self, conn: &Rc<Conn>) {
        self.shard.borrow_mut().list_for_writing(conn);
        self.wake.notify_one();
    }

    fn deliveries(&self) -> u64 {
        self.shard.borrow().deliveries()
    }

    fn flush(&self) {
        ShardRuntime::flush(self);
    }
}
