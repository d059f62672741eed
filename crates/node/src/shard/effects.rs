//! What a shard wants done: data, which the runtime executes in this order when the shard has come to rest.

use std::sync::Arc;

use bytes::Bytes;
use signalbox_admin::events::Event;
use signalbox_cluster::{Address, Command, PeerMessage, RoomName, Route, ShardId};
use signalbox_socketio::Args;

use super::{
    mailbox::{Request, ShardMessage},
    tasks::Task,
    transfer::message::TransferMessage,
};
use crate::{
    policy::{Principal, SessionClient},
    protocol::{RequestRefused, inquiry},
    routing::{AckError, Broadcast, ConnectionRef, Location, Reply, SignalReply, SocketCommand},
    session::{PollReply, RoomKey},
};

/// One thing to do. Writing has none, nor has reading on: [`Outboxes`](super::tables::Outboxes) lists the connections that the runtime
/// writes, and whose tasks it wakes.
pub(crate) enum Effect {
    /// Send a message to a shard of this node. Never refused: what causes it was admitted, and is bounded by that.
    Send { shard: ShardId, message: ShardMessage },
    /// Pass a broadcast to another shard of this node. Dropped and counted when that shard's mailbox is full.
    Broadcast { shard: ShardId, broadcast: Broadcast },
    /// Publish a message to other nodes: in a room, or to all.
    Publish { room: Option<RoomName>, message: Bytes },
    /// Submit a command to the cluster; the answer comes through the mailbox.
    Submit(Command),
    /// Send a PeerServer message to whoever holds its addressee's id.
    SendPeerMessage(PeerMessage),
    /// The shard is about to have members of a room: put it on the room's route, and give it the route.
    OpenRoute { key: RoomKey, room: RoomName },
    /// Wait until every broadcast of another node that has arrived is in the mailboxes: what arrives from now on goes to the shards
    /// that are on its route now.
    AwaitDeliveries,
    /// The shard has no members of a room any more.
    ReleaseRoute { room: RoomName, route: Arc<Route> },
    /// What belonged to a session is another node's from now on.
    Disown { memberships: Vec<(RoomName, Address)>, sockets: Vec<(Arc<str>, Address)> },
    /// Hand a request to a session's owner.
    Relay { to: Location, request: Request },
    /// Hand a command to where its socket has moved.
    Forward { to: Location, command: SocketCommand },
    /// Relay a signal to a shard of this node, unless that is too far behind; the ticket's owner is told then.
    Signal { shard: ShardId, ticket: u64, command: SocketCommand },
    /// Tell whoever sent a signal what became of it.
    Signalled { to: SignalReply, found: bool },
    /// A step of a session's transfer, to the shard at its other end.
    Transfer { to: Location, message: TransferMessage },
    /// A WebSocket is not wanted as a session's transport any more.
    CloseProbe(ConnectionRef),
    /// A session or socket is over, or was never received: the shard where it was born need not forward to it any more.
    Forget { birth: Location, address: Address },
    /// Tell the other nodes of the token that a client has shown in place of another.
    Refreshed(Arc<Principal>),
    /// Tell the shard that a session has come from what its client has answered: somebody waits for it there.
    Acked { to: Location, socket: Address, id: u64, args: Args },
    /// Answer a request. If nobody waits for the answer any more, the request that says so is taken instead.
    Answer { answer: Answer, otherwise: Option<Request> },
    /// Report what has happened to those who listen.
    Report(Box<Event>),
    /// Start something that runs beside the shard.
    Start(Task),
}

/// An answer to a request, with the way back to whoever asked.
pub(crate) enum Answer {
    /// Whether there is such a session, or a socket is in a room now.
    YesNo(Reply<bool>, bool),
    /// Whose a session is.
    Identity(Reply<Option<SessionClient>>, Option<SessionClient>),
    /// A GET waits, or a POST was applied.
    Done(Reply<()>, ()),
    /// The body for a GET.
    Poll(PollReply, Result<String, RequestRefused>),
    /// Whether a POST may be read.
    BeginPost(Reply<Result<(), RequestRefused>>, Result<(), RequestRefused>),
    /// Whether a WebSocket may take a session over.
    BeginUpgrade(Reply<Result<bool, RequestRefused>>, Result<bool, RequestRefused>),
    /// What a client has answered to a handler's event.
    Ack(Reply<Result<Args, AckError>>, Result<Args, AckError>),
    /// Names of rooms, or peer ids.
    Names(Reply<Vec<Arc<str>>>, Vec<Arc<str>>),
    /// What an operator has asked.
    Inquiry(Reply<inquiry::Answer>, inquiry::Answer),
    /// How many clients were sent away.
    Count(Reply<usize>, usize),
}

impl Answer {
    /// Sends it; `false` when nobody waits for it any more.
    pub(crate) fn send(self) -> bool {
        match self {
            Self::YesNo(reply, value) => reply.send(value),
            Self::Identity(reply, value) => reply.send(value),
            Self::Done(reply, value) => reply.send(value),
            Self::Poll(reply, value) => reply.send(value),
            Self::BeginPost(reply, value) => reply.send(value),
            Self::BeginUpgrade(reply, value) => reply.send(value),
            Self::Ack(reply, value) => reply.send(value),
            Self::Names(reply, value) => reply.send(value),
            Self::Inquiry(reply, value) => reply.send(value),
            Self::Count(reply, value) => reply.send(value),
        }
    }
}

/// A value that requests are answered with.
pub(crate) trait AnswerValue: Sized {
    /// The answer with this value.
    fn answer(self, reply: Reply<Self>) -> Answer;
}

macro_rules! answer_values {
    ($($value:ty => $answer:ident),* $(,)?) => {
        $(impl AnswerValue for $value {
            fn answer(self, reply: Reply<Self>) -> Answer {
                Answer::$answer(reply, self)
            }
        })*
    };
}

answer_values! {
    bool => YesNo,
    Option<SessionClient> => Identity,
    () => Done,
    Result<String, RequestRefused> => Poll,
    Result<(), RequestRefused> => BeginPost,
    Result<bool, RequestRefused> => BeginUpgrade,
    Result<Args, AckError> => Ack,
    Vec<Arc<str>> => Names,
    inquiry::Answer => Inquiry,
    usize => Count,
}

/// What a shard wants done, in order.
#[derive(Default)]
pub(crate) struct Effects(Vec<Effect>);

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Answers a request; that nobody waits for the answer any more has no consequence.
    pub(crate) fn answer<T: AnswerValue>(&mut self, reply: Reply<T>, value: T) {
        self.push(Effect::Answer { answer: value.answer(reply), otherwise: None });
    }

    /// Answers a request; if nobody waits any more, `otherwise` is taken instead.
    pub(crate) fn answer_or<T: AnswerValue>(&mut self, reply: Reply<T>, value: T, otherwise: Request) {
        self.push(Effect::Answer { answer: value.answer(reply), otherwise: Some(otherwise) });
    }

    pub(crate) fn submit(&mut self, command: Command) {
        self.push(Effect::Submit(command));
    }

    pub(crate) fn send(&mut self, shard: ShardId, message: ShardMessage) {
        self.push(Effect::Send { shard, message });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all effects out; `empty` is used for those to come, so that no memory is allocated each time.
    pub(crate) fn take(&mut self, empty: Vec<Effect>) -> Vec<Effect> {
        debug_assert!(empty.is_empty());
        std::mem::replace(&mut self.0, empty)
    }
}
