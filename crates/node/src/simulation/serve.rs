//! What `peering` does with what comes over the links.

use signalbox_cluster::Address;

use super::{
    answers::{Answer, Asker},
    links::Direction,
    node::TransferAnswer,
    relay::{Notice, Question, Waiter},
    world::{NodeId, World},
};
use crate::{
    protocol::{LinkResponse, RequestRefused, SessionTransfer},
    routing::{ConnectionRef, Location, Reply},
    shard::{
        mailbox::{Request, ShardMessage},
        transfer::message::{SessionInTransfer, TransferMessage},
    },
};

impl World {
    /// `Peering::serve`.
    pub(super) fn serve(&mut self, connection: usize, number: u64, question: Question) {
        let node = self.links.end(connection, Direction::Forth);
        let from = self.links.end(connection, Direction::Back);
        let asker = Asker::Link { connection, number };
        let (expected, request) = match question {
            Question::Exists { sid } => {
                let (expected, reply) = self.answers.expect(asker, Answer::Exists);
                (expected, Request::Exists { sid, reply })
            }
            Question::Poll { sid, number: poll } => {
                let acceptance = Asker::Acceptance { node, to: from, number: poll };
                let (_, accepted) = self.answers.expect(acceptance, |()| Answer::Accepted);
                let (expected, reply) = self.answers.expect(asker, Answer::Body);
                self.answers.is_poll(expected, (sid, poll));
                self.links.connections[connection].served.insert(number, Some(expected));
                (expected, Request::Poll { sid, number: poll, accepted: Some(accepted), reply })
            }
            Question::BeginPost { sid, number } => {
                let (expected, reply) = self.answers.expect(asker, Answer::Begun);
                (expected, Request::BeginPost { sid, number, on_close: Reply::new(|()| true), reply })
            }
            Question::Post { sid, number, body } => {
                self.accepted(node, from, number);
                let (expected, reply) = self.answers.expect(asker, |()| Answer::Applied);
                (expected, Request::Post { sid, number, body, is_relayed: true, reply })
            }
            Question::BeginUpgrade { sid, connection } => {
                let (expected, reply) = self.answers.expect(asker, Answer::Upgrade);
                (expected, Request::BeginUpgrade { sid, connection, reply })
            }
            Question::Prepare { sid, source, connection: to, rooms } => {
                let source = Location { node: self.nodes[from].tag, shard: source };
                let prepare = TransferMessage::Prepare { sid, source, connection: to, rooms };
                self.take_transfer(node, (connection, number), (sid, to), Vec::new(), prepare);
                return;
            }
            Question::Take(bytes) => {
                let saved: SessionTransfer = postcard::from_bytes(&bytes).expect("a session can be read");
                let (sid, to, addresses) = (saved.session.sid, saved.connection, saved.addresses());
                for address in &addresses {
                    self.nodes[node].addresses.move_in(*address, to.shard);
                }
                let source = Location { node: self.nodes[from].tag, shard: sid.shard() };
                let session = Box::new(SessionInTransfer::Saved(saved));
                let message = TransferMessage::Session { source, connection: to, session };
                self.take_transfer(node, (connection, number), (sid, to), addresses, message);
                return;
            }
        };
        self.touched(node);
        let Some(shard) = self.nodes[node].shard_of(request.sid()) else {
            if let Request::Exists { reply, .. } = request {
                reply.send(false);
            }
            return;
        };
        if self.nodes[node].mailboxes.request(shard, ShardMessage::Request(request)).is_err() {
            self.answers.give_up(expected);
            self.respond(connection, number, Some(LinkResponse::Refused(RequestRefused::Busy)));
        }
    }

    fn take_transfer(
        &mut self,
        node: NodeId,
        (connection, number): (usize, u64),
        (sid, to): (Address, ConnectionRef),
        addresses: Vec<Address>,
        message: TransferMessage,
    ) {
        let key = (sid, to.key, to.number);
        let pending = TransferAnswer { connection, number, shard: to.shard, addresses };
        let before = self.nodes[node].transfer_answers.insert(key, pending);
        if let Some(TransferAnswer { connection, number, .. }) = before {
            self.respond(connection, number, None);
        }
        self.nodes[node].mailboxes.push(to.shard, ShardMessage::Transfer(message));
        self.touched(node);
    }

    /// A shard has answered a question of another node.
    pub(super) fn respond_with(&mut self, connection: usize, number: u64, answer: Option<Answer>) {
        let response = match answer {
            Some(Answer::Exists(exists)) => LinkResponse::Exists(exists),
            Some(Answer::Body(body)) => body.map_or_else(LinkResponse::Refused, LinkResponse::Body),
            Some(Answer::Begun(begun)) => begun.map_or_else(LinkResponse::Refused, |()| LinkResponse::Begun),
            Some(Answer::Applied) => LinkResponse::Applied,
            Some(Answer::Upgrade(began)) => began.map_or_else(LinkResponse::Refused, LinkResponse::Upgrade),
            Some(Answer::Accepted | Answer::Selected(_)) | None => {
                LinkResponse::Refused(RequestRefused::UnknownSid)
            }
        };
        self.respond(connection, number, Some(response));
    }

    /// Nobody waits any more for the answer to a question.
    pub(super) fn cancelled(&mut self, node: NodeId, expected: Option<u64>) {
        let Some(expected) = expected else { return };
        if let Some((sid, number)) = self.answers.poll_of(expected) {
            self.answers.give_up(expected);
            self.dispatch_here(node, Request::PollLost { sid, number });
        }
    }

    /// `Peering::dispatch_here`.
    pub(super) fn dispatch_here(&mut self, node: NodeId, request: Request) {
        if let Some(shard) = self.nodes[node].addresses.shard_of(request.sid()) {
            self.nodes[node].mailboxes.push(shard, ShardMessage::Request(request));
            self.touched(node);
        }
    }

    /// A node says that it has taken a request which may take a while.
    pub(super) fn accepted(&mut self, node: NodeId, to: NodeId, number: u64) {
        let (from, to) = (self.nodes[node].tag, self.nodes[to].tag);
        self.notify(node, to, Notice::Accepted { from, number });
    }

    /// `Peering::handle_notice`.
    pub(super) fn handle_notice(&mut self, node: NodeId, notice: Notice) {
        self.touched(node);
        match notice {
            Notice::Accepted { from, number } => {
                let from = self.node_of(from);
                for connection in &mut self.links.connections {
                    if connection.ends() != (node, from.unwrap_or(usize::MAX)) {
                        continue;
                    }
                    for waiter in connection.pending.values_mut() {
                        match waiter {
                            Waiter::Poll { number: of, is_accepted, .. }
                            | Waiter::Post { number: of, is_accepted, .. }
                                if *of == number =>
                            {
                                *is_accepted = true;
                            }
                            _ => {}
                        }
                    }
                }
            }
            Notice::Request(Request::Upgrade { sid, connection }) => {
                match self.nodes[node].addresses.shard_of(sid) {
                    Some(_) => self.dispatch_here(node, Request::Upgrade { sid, connection }),
                    None => self.close_probe_anywhere(node, connection),
                }
            }
            Notice::Request(request) => self.dispatch_here(node, request),
            Notice::CloseProbe(connection) => {
                let message = ShardMessage::CloseProbe(connection);
                self.nodes[node].mailboxes.push(connection.shard, message);
            }
            Notice::Cancelled { sid, connection } => {
                let message = ShardMessage::Transfer(TransferMessage::Cancelled { sid, connection });
                self.nodes[node].mailboxes.push(connection.shard, message);
            }
            Notice::Forget(address) => {
                self.nodes[node].mailboxes.push(address.shard(), ShardMessage::Forget(address));
            }
            Notice::Acked { shard, socket, id, args } => {
                self.nodes[node].mailboxes.push(shard, ShardMessage::Acked { socket, id, args });
            }
            Notice::Command(command) => {
                if let Some(shard) = self.nodes[node].addresses.shard_of(command.to) {
                    self.nodes[node].mailboxes.push(shard, ShardMessage::SocketCommand(command));
                }
            }
        }
    }
}
