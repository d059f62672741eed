//! What `peering` does, without its tasks: requests and transfers over the links, with the same questions, notices and times.

use std::time::{Duration, Instant};

use signalbox_cluster::{Address, NodeTag, RoomName, ShardId};
use signalbox_socketio::Args;

use super::{
    event::Event,
    links::Direction,
    node::TransferAnswer,
    world::{NodeId, World},
};
use crate::{
    protocol::{LinkResponse, RequestRefused},
    routing::{ConnectionRef, Reply, SocketCommand},
    session::PollReply,
    shard::{
        mailbox::{Request, ShardMessage},
        transfer::message::{Confirmation, SessionInTransfer, TransferMessage},
    },
};

/// As `peering::ANSWER_WITHIN`.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// As `peering::ACCEPT_WITHIN`.
const ACCEPT_WITHIN: Duration = Duration::from_secs(5);
/// As `peering::GONE_WITHIN`.
const GONE_WITHIN: Duration = Duration::from_millis(500);
/// As `peering::UNKNOWN_AFTER`.
const UNKNOWN_AFTER: Duration = Duration::from_secs(11);

/// As `LinkRequest`, but without the request's own bytes.
#[derive(Debug)]
pub(super) enum Question {
    Exists {
        sid: Address,
    },
    Poll {
        sid: Address,
        number: u64,
    },
    BeginPost {
        sid: Address,
        number: u64,
    },
    Post {
        sid: Address,
        number: u64,
        body: bytes::Bytes,
    },
    BeginUpgrade {
        sid: Address,
        connection: ConnectionRef,
    },
    Prepare {
        sid: Address,
        source: ShardId,
        connection: ConnectionRef,
        rooms: Vec<(RoomName, u128)>,
    },
    /// The session, as it is written.
    Take(Vec<u8>),
}

/// As `LinkNotice`.
#[derive(Debug)]
pub(super) enum Notice {
    Accepted {
        from: NodeTag,
        number: u64,
    },
    /// A request that is not answered.
    Request(Request),
    CloseProbe(ConnectionRef),
    Cancelled {
        sid: Address,
        connection: ConnectionRef,
    },
    Forget(Address),
    Command(SocketCommand),
    Acked {
        shard: ShardId,
        socket: Address,
        id: u64,
        args: Args,
    },
}

/// Who waits for the answer to a question, at the node that asked.
#[derive(Debug)]
pub(super) enum Waiter {
    Exists(Reply<bool>),
    Poll {
        sid: Address,
        number: u64,
        reply: PollReply,
        is_accepted: bool,
    },
    BeginPost {
        sid: Address,
        number: u64,
        reply: Reply<Result<(), RequestRefused>>,
    },
    Post {
        sid: Address,
        number: u64,
        reply: Reply<()>,
        is_accepted: bool,
    },
    BeginUpgrade {
        sid: Address,
        connection: ConnectionRef,
        reply: Reply<Result<bool, RequestRefused>>,
    },
    Prepare {
        sid: Address,
        source: ShardId,
        connection: ConnectionRef,
    },
    Take {
        sid: Address,
        source: ShardId,
        connection: ConnectionRef,
    },
    /// The answer to a session was lost: `Peering::ask_again`.
    AskAgain {
        sid: Address,
        source: ShardId,
        connection: ConnectionRef,
        asked: Instant,
        until: Instant,
    },
}

impl World {
    /// `Peering::relay_request`.
    pub(super) fn relay_request(&mut self, node: NodeId, to: NodeTag, request: Request) {
        let (question, waiter) = match request {
            Request::Exists { sid, reply } => (Question::Exists { sid }, Waiter::Exists(reply)),
            Request::Poll { sid, number, reply, .. } => {
                (Question::Poll { sid, number }, Waiter::Poll { sid, number, reply, is_accepted: false })
            }
            Request::BeginPost { sid, number, reply, .. } => {
                (Question::BeginPost { sid, number }, Waiter::BeginPost { sid, number, reply })
            }
            Request::Post { sid, number, body, reply, .. } => {
                let waiter = Waiter::Post { sid, number, reply, is_accepted: false };
                (Question::Post { sid, number, body }, waiter)
            }
            Request::BeginUpgrade { sid, connection, reply } => {
                let waiter = Waiter::BeginUpgrade { sid, connection, reply };
                (Question::BeginUpgrade { sid, connection }, waiter)
            }
            Request::Upgrade { sid, connection } => {
                if !self.notify(node, to, Notice::Request(Request::Upgrade { sid, connection })) {
                    self.close_probe_anywhere(node, connection);
                }
                return;
            }
            request => {
                self.notify(node, to, Notice::Request(request));
                return;
            }
        };
        let within = match &waiter {
            Waiter::Exists(_) => ANSWER_WITHIN,
            _ => ACCEPT_WITHIN,
        };
        if let Some((connection, number)) = self.ask(node, to, question, waiter) {
            self.schedule_in(within, Event::AnswerTimeout(connection, number));
        }
    }

    /// `Peering::ask_again`.
    fn ask_again(
        &mut self,
        node: NodeId,
        to: NodeTag,
        sid: Address,
        source: ShardId,
        connection: ConnectionRef,
        until: Instant,
    ) {
        self.notify(node, to, Notice::Cancelled { sid, connection });
        let waiter = Waiter::AskAgain { sid, source, connection, asked: self.now, until };
        if let Some((connection, number)) = self.ask(node, to, Question::Exists { sid }, waiter) {
            self.schedule_in(ANSWER_WITHIN, Event::AnswerTimeout(connection, number));
        }
    }

    /// An owner that does not even accept a request is taken for gone.
    pub(super) fn answer_timeout(&mut self, connection: usize, number: u64) {
        let pending = &mut self.links.connections[connection].pending;
        let is_accepted = match pending.get(&number) {
            Some(Waiter::Poll { is_accepted, .. } | Waiter::Post { is_accepted, .. }) => *is_accepted,
            Some(_) => false,
            None => true,
        };
        if is_accepted {
            return;
        }
        let Some(waiter) = pending.remove(&number) else { return };
        let from = self.links.end(connection, Direction::Back);
        let to = self.nodes[self.links.end(connection, Direction::Forth)].tag;
        self.trace(|| format!("node {from}: no answer in time to {waiter:?}"));
        self.question_answered(from, to, waiter, None);
        self.cancel_question(connection, number);
        self.touched(from);
    }

    /// An answer has come, or there is none.
    pub(super) fn question_answered(
        &mut self,
        node: NodeId,
        to: NodeTag,
        waiter: Waiter,
        answer: Option<LinkResponse>,
    ) {
        match (waiter, answer) {
            (Waiter::Exists(reply), answer) => {
                if let Some(LinkResponse::Exists(exists)) = answer {
                    reply.send(exists);
                }
            }
            (Waiter::Poll { sid, number, reply, .. }, answer) => {
                let is_done = match answer {
                    Some(LinkResponse::Body(body)) => reply.send(Ok(body)),
                    Some(LinkResponse::Refused(refused)) => {
                        reply.send(Err(refused));
                        true
                    }
                    _ => false,
                };
                if !is_done {
                    self.notify(node, to, Notice::Request(Request::PollLost { sid, number }));
                }
            }
            (Waiter::BeginPost { sid, number, reply }, answer) => {
                let answer = match answer {
                    Some(LinkResponse::Begun) => Ok(()),
                    Some(LinkResponse::Refused(refused)) => Err(refused),
                    _ => {
                        self.notify(node, to, Notice::Request(Request::PostLost { sid, number }));
                        Err(RequestRefused::UnknownSid)
                    }
                };
                reply.send(answer);
            }
            (Waiter::Post { reply, .. }, Some(LinkResponse::Applied)) => drop(reply.send(())),
            (Waiter::Post { .. }, Some(_)) => {}
            (Waiter::Post { sid, number, .. }, None) => {
                self.notify(node, to, Notice::Request(Request::PostLost { sid, number }));
            }
            (Waiter::BeginUpgrade { sid, connection, reply }, answer) => {
                let answer = match answer {
                    Some(LinkResponse::Upgrade(began)) => Ok(began),
                    Some(LinkResponse::Refused(refused)) => Err(refused),
                    _ => {
                        let abandon = Request::AbandonUpgrade { sid, connection };
                        self.notify(node, to, Notice::Request(abandon));
                        Err(RequestRefused::UnknownSid)
                    }
                };
                if !reply.send(answer) {
                    self.notify(node, to, Notice::Request(Request::AbandonUpgrade { sid, connection }));
                }
            }
            (Waiter::Prepare { sid, source, connection }, answer) => {
                let message = match answer {
                    Some(LinkResponse::Ready(received_on_all)) => {
                        TransferMessage::Ready { sid, connection, received_on_all }
                    }
                    _ => TransferMessage::Refused { sid, connection },
                };
                self.nodes[node].mailboxes.push(source, ShardMessage::Transfer(message));
            }
            (Waiter::Take { sid, source, connection }, None) => {
                let until = self.now + UNKNOWN_AFTER;
                self.ask_again(node, to, sid, source, connection, until);
            }
            (Waiter::Take { sid, source, connection }, Some(answer)) => {
                let confirmation = match answer {
                    LinkResponse::Taken => Confirmation::Taken,
                    _ => Confirmation::Refused,
                };
                let message = TransferMessage::Confirmed { sid, connection, confirmation };
                self.nodes[node].mailboxes.push(source, ShardMessage::Transfer(message));
            }
            (Waiter::AskAgain { sid, source, connection, asked, until }, None)
                if self.now - asked >= GONE_WITHIN && asked < until =>
            {
                self.ask_again(node, to, sid, source, connection, until);
            }
            (Waiter::AskAgain { sid, source, connection, .. }, answer) => {
                let confirmation = match answer {
                    Some(LinkResponse::Exists(true)) => Confirmation::Taken,
                    Some(LinkResponse::Exists(false)) => Confirmation::Refused,
                    _ => Confirmation::Unknown,
                };
                let message = TransferMessage::Confirmed { sid, connection, confirmation };
                self.nodes[node].mailboxes.push(source, ShardMessage::Transfer(message));
            }
        }
        self.touched(node);
    }

    /// `Peering::send_transfer`.
    pub(super) fn send_transfer(&mut self, node: NodeId, to: NodeTag, message: TransferMessage) {
        match message {
            TransferMessage::Prepare { sid, source, connection, rooms } => {
                let question = Question::Prepare { sid, source: source.shard, connection, rooms };
                self.ask(node, to, question, Waiter::Prepare { sid, source: source.shard, connection });
            }
            TransferMessage::Session { source, connection, session } => {
                let SessionInTransfer::Saved(saved) = *session else { return };
                let sid = saved.session.sid;
                let bytes = postcard::to_stdvec(&saved).expect("a session can be written");
                let waiter = Waiter::Take { sid, source: source.shard, connection };
                self.ask(node, to, Question::Take(bytes), waiter);
            }
            TransferMessage::Ready { sid, connection, received_on_all } => {
                self.answer_transfer(node, sid, connection, LinkResponse::Ready(received_on_all));
            }
            TransferMessage::Refused { sid, connection }
            | TransferMessage::Confirmed {
                sid,
                connection,
                confirmation: Confirmation::Refused | Confirmation::Unknown,
            } => {
                let refused = LinkResponse::Refused(RequestRefused::UnknownSid);
                self.answer_transfer(node, sid, connection, refused);
            }
            TransferMessage::Confirmed { sid, connection, confirmation: Confirmation::Taken } => {
                self.answer_transfer(node, sid, connection, LinkResponse::Taken);
            }
            TransferMessage::Cancelled { sid, connection } => {
                self.notify(node, to, Notice::Cancelled { sid, connection });
            }
            TransferMessage::RequestMarker { .. }
            | TransferMessage::ShardMarker { .. }
            | TransferMessage::RoomMarker { .. } => unreachable!("these stay within a node"),
        }
    }

    fn answer_transfer(&mut self, node: NodeId, sid: Address, to: ConnectionRef, response: LinkResponse) {
        let key = (sid, to.key, to.number);
        let Some(pending) = self.nodes[node].transfer_answers.remove(&key) else { return };
        let TransferAnswer { connection, number, addresses, .. } = pending;
        if matches!(response, LinkResponse::Refused(_)) {
            for address in addresses {
                self.nodes[node].addresses.remove(address);
            }
        }
        self.respond(connection, number, Some(response));
    }

    pub(super) fn close_probe_anywhere(&mut self, node: NodeId, connection: ConnectionRef) {
        if connection.node == self.nodes[node].tag {
            let message = ShardMessage::CloseProbe(connection);
            self.nodes[node].mailboxes.push(connection.shard, message);
        } else {
            self.notify(node, connection.node, Notice::CloseProbe(connection));
        }
    }

    pub(super) fn forget_address(&mut self, node: NodeId, birth: NodeTag, address: Address) {
        self.notify(node, birth, Notice::Forget(address));
    }

    pub(super) fn forward_command(&mut self, node: NodeId, to: NodeTag, command: SocketCommand) {
        self.notify(node, to, Notice::Command(command));
    }
}
