//! Requests to the cluster, to tasks beside the shard and to other nodes that are not answered yet.

use std::{sync::Arc, time::Instant};

use ahash::AHashMap;
use bytes::Bytes;
use signalbox_cluster::{Address, NodeTag, RealmId, Record, RoomName};
use signalbox_rules::Run;
use signalbox_socketio::Message;
use signalbox_telemetry::traces::Span;

use super::shrink::Shrink;
use crate::{
    app::Namespace,
    limits::Place,
    policy::Principal,
    routing::{ConnectionRef, Location, Reply},
    session::RoomKey,
};

/// A namespace that a client asks to join, and what it said for that.
pub(in crate::shard) struct Connecting {
    pub(in crate::shard) name: Arc<str>,
    pub(in crate::shard) app: Arc<Namespace>,
    /// JSON.
    pub(in crate::shard) auth: Option<String>,
    /// Who it is there, once the policy has said so.
    pub(in crate::shard) principal: Option<Arc<Principal>>,
}

/// An event that waits for a slow verdict, with all it needs to go on.
pub(in crate::shard) struct HeldEvent {
    pub(in crate::shard) socket: Address,
    pub(in crate::shard) id: Option<u64>,
    pub(in crate::shard) body: String,
    pub(in crate::shard) attachments: Vec<Bytes>,
}

/// A join under way.
pub(in crate::shard) struct JoinRequest {
    pub(in crate::shard) socket: Address,
    pub(in crate::shard) room: RoomName,
    pub(in crate::shard) record: Record,
    pub(in crate::shard) reply_to: ReplyTo,
    /// Another profile is another member: the present one leaves first.
    pub(in crate::shard) replaces: bool,
    /// Most members of the room; 0 is no limit.
    pub(in crate::shard) limit: u32,
    /// When it was asked for.
    pub(in crate::shard) asked: Instant,
}

/// A rule under way, of a socket.
#[derive(Debug)]
pub(in crate::shard) struct RuleRun {
    /// Whose it is: the session, the socket, and the event to be answered.
    pub(in crate::shard) key: u32,
    pub(in crate::shard) number: u64,
    pub(in crate::shard) socket: Address,
    pub(in crate::shard) namespace: Arc<str>,
    pub(in crate::shard) id: Option<u64>,
    pub(in crate::shard) run: Run,
    /// It runs since the client has connected: a refusal disconnects it.
    pub(in crate::shard) is_connection: bool,
    /// Something was said in a room by the client: its ack waits until that is published.
    pub(in crate::shard) has_published: bool,
}

/// Who is told of the result of a join.
pub(in crate::shard) enum ReplyTo {
    /// The client, whose event is answered.
    Client { event: String, id: Option<u64> },
    /// A handler.
    Handler(Reply<bool>),
    /// A rule, which goes on; whether it needs the members.
    Rule(Box<RuleRun>, bool),
    /// Nobody: a rule does not wait for it.
    Nobody,
}

/// A signal that is not answered yet.
pub(in crate::shard) struct Signal {
    /// Whose it is: the session, the socket, and the event to be answered.
    pub(in crate::shard) key: u32,
    pub(in crate::shard) number: u64,
    pub(in crate::shard) namespace: Arc<str>,
    pub(in crate::shard) name: String,
    pub(in crate::shard) id: Option<u64>,
    pub(in crate::shard) to: Address,
    pub(in crate::shard) message: Message,
    /// When it was sent.
    pub(in crate::shard) asked: Instant,
    /// What is told of it, where traces are kept.
    pub(in crate::shard) span: Option<Box<Span>>,
    /// The node where the socket was looked for.
    pub(in crate::shard) tried: Option<NodeTag>,
    /// The store has said where the socket is.
    pub(in crate::shard) is_located: bool,
    /// So many are unanswered that the client's frames wait for this one.
    pub(in crate::shard) is_blocking: bool,
    /// The rule that goes on when it has arrived; without one, the event is answered.
    pub(in crate::shard) rule: Option<Box<RuleRun>>,
}

/// The ack of a message that is being published.
pub(in crate::shard) struct PublishAck {
    /// Whose it is: the session, and the event to be answered.
    pub(in crate::shard) key: u32,
    pub(in crate::shard) number: u64,
    pub(in crate::shard) socket: Address,
    pub(in crate::shard) namespace: Arc<str>,
    pub(in crate::shard) id: u64,
    /// What the client is told if all went well.
    pub(in crate::shard) ack: Message,
    /// The client's frames wait for it.
    pub(in crate::shard) is_blocking: bool,
}

/// A question that is not answered yet, and what its answer is for.
pub(in crate::shard) enum PendingRequest {
    /// A slow verdict on a namespace.
    Connect { key: u32, number: u64, connecting: Connecting },
    /// Whether there is room for the session among the connections of its subject.
    Count { key: u32, number: u64, place: Place, connecting: Connecting },
    /// The same for a PeerServer client, which claims its id afterwards.
    CountPeer { key: u32, number: u64, place: Place, token: Arc<str> },
    /// A slow verdict on a new token for a socket.
    Refresh { key: u32, number: u64, socket: Address, namespace: Arc<str>, id: Option<u64> },
    /// Middlewares.
    Middleware { key: u32, number: u64, id: Address, connecting: Connecting },
    /// A slow verdict on an event.
    Emit { key: u32, number: u64, event: Box<HeldEvent> },
    /// A slow verdict on a join.
    JoinVerdict { key: u32, number: u64, join: Box<JoinRequest> },
    /// A join.
    Join { key: u32, number: u64, room: RoomKey, held: bool, join: Box<JoinRequest> },
    /// A list of members (of a room) or users.
    List { key: u32, number: u64, namespace: Arc<str>, id: u64, room: Option<Arc<str>> },
    /// What a rule needs to know.
    Rule(Box<RuleRun>),
    /// A signal to a socket.
    Signal(Box<Signal>),
    /// Acks of messages that are being published, and how many could not be published before.
    PublishAcks { acks: Vec<PublishAck>, failures: u64 },
    /// A claim of a peer id.
    Claim { key: u32, number: u64, realm: RealmId, id: Arc<str> },
    /// The rooms of a session that is to come from another node.
    Subscribe { sid: Address, connection: ConnectionRef },
    /// What a session that is to go to another node has said.
    Flush { sid: Address, connection: ConnectionRef },
    /// The records of a session that came from another node; whoever sent it is told.
    Adopt { sid: Address, source: Location, connection: ConnectionRef },
    /// The next turn.
    Yield { key: u32, number: u64 },
    /// The list of peer ids.
    Peers { reply: Reply<Vec<Arc<str>>> },
}

impl PendingRequest {
    /// Bytes that the client has sent and that are kept here.
    pub(in crate::shard) fn bytes(&self) -> usize {
        match self {
            Self::Connect { connecting, .. } | Self::Middleware { connecting, .. } => {
                connecting.auth.as_ref().map_or(0, String::len)
            }
            Self::Emit { event, .. } => {
                event.body.len() + event.attachments.iter().map(Bytes::len).sum::<usize>()
            }
            Self::Rule(rule) => rule.run.bytes(),
            _ => 0,
        }
    }

    /// The key and number of the session whose frames wait for a task; `None` where it is not a task that is waited for.
    pub(in crate::shard) fn session_of_task(&self) -> Option<(u32, u64)> {
        match self {
            Self::Connect { key, number, .. }
            | Self::Middleware { key, number, .. }
            | Self::Refresh { key, number, .. }
            | Self::Emit { key, number, .. }
            | Self::JoinVerdict { key, number, .. }
            | Self::Yield { key, number } => Some((*key, *number)),
            Self::Rule(rule) => Some((rule.key, rule.number)),
            _ => None,
        }
    }
}

/// The requests of a shard that are not answered yet, by their tickets.
#[derive(Default)]
pub(in crate::shard) struct PendingRequests(AHashMap<u64, PendingRequest>);

impl PendingRequests {
    pub(in crate::shard) fn insert(&mut self, ticket: u64, request: PendingRequest) {
        self.0.insert(ticket, request);
    }

    /// The request is answered. A second answer finds nothing.
    pub(in crate::shard) fn remove(&mut self, ticket: u64) -> Option<PendingRequest> {
        self.0.remove(&ticket)
    }

    /// A signal that is not answered yet.
    pub(in crate::shard) fn signal_mut(&mut self, ticket: u64) -> Option<&mut Signal> {
        match self.0.get_mut(&ticket)? {
            PendingRequest::Signal(signal) => Some(signal),
            _ => None,
        }
    }

    /// A signal is answered.
    pub(in crate::shard) fn remove_signal(&mut self, ticket: u64) -> Option<Signal> {
        self.signal_mut(ticket)?;
        match self.0.remove(&ticket)? {
            PendingRequest::Signal(signal) => Some(*signal),
            _ => None,
        }
    }

    /// Whether the store has yet to learn that a session is this node's. Asked only when a link has failed: it looks at all requests.
    pub(in crate::shard) fn is_adopting(&self, session: Address) -> bool {
        self.0.values().any(|request| matches!(request, PendingRequest::Adopt { sid, .. } if *sid == session))
    }

    #[cfg(test)]
    pub(in crate::shard) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.0.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_once_and_only_a_signal_is_a_signal() {
        let mut pending = PendingRequests::default();
        let signal = Signal {
            key: 1,
            number: 1,
            namespace: "/".into(),
            name: "signal".into(),
            id: Some(7),
            to: Address::from_bytes([1; 15]),
            message: Message::disconnect("/"),
            asked: Instant::now(),
            span: None,
            tried: None,
            is_located: false,
            is_blocking: false,
            rule: None,
        };
        pending.insert(1, PendingRequest::Signal(Box::new(signal)));
        pending.insert(2, PendingRequest::Yield { key: 1, number: 1 });
        assert!(pending.signal_mut(1).is_some_and(|signal| signal.id == Some(7)));
        assert!(pending.signal_mut(2).is_none() && pending.signal_mut(3).is_none());
        assert!(pending.remove_signal(2).is_none());
        assert!(matches!(pending.remove(2), Some(PendingRequest::Yield { .. })));
        assert!(pending.remove(2).is_none());
        assert!(pending.remove_signal(1).is_some() && pending.remove_signal(1).is_none());
    }
}
