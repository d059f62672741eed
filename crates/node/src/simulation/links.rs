//! The links between nodes: one connection for each direction between two of them, as `signalbox_node_link` opens, keeps and loses
//! them. What is sent on one keeps its order; when it breaks, what was on its way is sent again on the next one. When that cannot be, or
//! the other node is of a version that knows nothing of it, whoever waits for an answer gets none, and the node at its other end is told
//! that this one is lost.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use signalbox_cluster::NodeTag;

use super::{
    event::Event,
    relay::{Notice, Question, Waiter},
    world::{NodeId, World},
};
use crate::{protocol::LinkResponse, shard::mailbox::ShardMessage};

/// As in `signalbox_node_link::Limits`.
const CONNECT: Duration = Duration::from_secs(1);
pub(super) const SILENCE: Duration = Duration::from_secs(4);
/// How long it takes until another connection goes on.
const RECONNECT: Duration = Duration::from_millis(70);

/// Which way a frame goes: from the node that opened the connection, or back to it. An event on a connection happens at the end that
/// the direction leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forth,
    Back,
}

#[derive(Debug)]
pub(super) enum Frame {
    Hello,
    Welcome,
    Question(u64, Question),
    Cancel(u64),
    Notice(Notice),
    Response(u64, LinkResponse),
    Refused(u64),
    Ping,
    Pong,
    /// The other end has closed the connection, or its process is gone.
    Closed,
}

pub(super) struct Connection {
    from: NodeId,
    to: NodeId,
    is_established: bool,
    /// By end: of the node that opened it, and of the other one.
    is_closed: [bool; 2],
    /// What is on the way is lost.
    is_broken: bool,
    /// Frames that wait for it to be established.
    waiting: Vec<Frame>,
    /// Questions without an answer, at the end that asked.
    pub(super) pending: BTreeMap<u64, Waiter>,
    /// Questions that are being served at the other end; of some, the number under which the answer is expected.
    pub(super) served: BTreeMap<u64, Option<u64>>,
    last_received: Instant,
    lanes: [Instant; 2],
}

#[derive(Default)]
pub(super) struct Links {
    pub(super) connections: Vec<Connection>,
    current: BTreeMap<(NodeId, NodeId), usize>,
    /// Pairs of nodes between which nothing arrives; what is sent arrives when that is over.
    down: BTreeMap<(NodeId, NodeId), Instant>,
    last_number: u64,
}

impl Connection {
    /// Who opened it, and to whom.
    pub(super) fn ends(&self) -> (NodeId, NodeId) {
        (self.from, self.to)
    }
}

fn pair(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    (one.min(other), one.max(other))
}

impl Links {
    /// The node that a direction of a connection leads to.
    pub(super) fn end(&self, connection: usize, direction: Direction) -> NodeId {
        let connection = &self.connections[connection];
        match direction {
            Direction::Forth => connection.to,
            Direction::Back => connection.from,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn take_down(&mut self, one: NodeId, other: NodeId, until: Instant) {
        self.down.insert(pair(one, other), until);
    }
}

impl World {
    /// Sends a question; whoever waits is told when there is no way.
    pub(super) fn ask(
        &mut self,
        from: NodeId,
        to: NodeTag,
        question: Question,
        waiter: Waiter,
    ) -> Option<(usize, u64)> {
        let Some(to) = self.node_of(to).filter(|_| self.is_linked(from, to)) else {
            self.question_answered(from, to, waiter, None);
            return None;
        };
        let connection = self.connection(from, to);
        let number = self.links.number();
        self.links.connections[connection].pending.insert(number, waiter);
        self.send_frame(connection, Frame::Question(number, question));
        Some((connection, number))
    }

    /// Sends a notice; `false` if there is no such node.
    pub(super) fn notify(&mut self, from: NodeId, to: NodeTag, notice: Notice) -> bool {
        let Some(to) = self.node_of(to).filter(|_| self.is_linked(from, to)) else { return false };
        let connection = self.connection(from, to);
        self.send_frame(connection, Frame::Notice(notice));
        true
    }

    fn connection(&mut self, from: NodeId, to: NodeId) -> usize {
        if let Some(connection) = self.links.current.get(&(from, to)) {
            return *connection;
        }
        let index = self.links.connections.len();
        self.links.connections.push(Connection {
            from,
            to,
            is_established: false,
            is_closed: [false; 2],
            is_broken: false,
            waiting: Vec::new(),
            pending: BTreeMap::new(),
            served: BTreeMap::new(),
            last_received: self.now,
            lanes: [self.now; 2],
        });
        self.links.current.insert((from, to), index);
        self.transmit(index, Direction::Forth, Frame::Hello);
        self.schedule_in(CONNECT, Event::LinkConnect(index));
        index
    }

    fn send_frame(&mut self, connection: usize, frame: Frame) {
        match self.links.connections[connection].is_established {
            true => self.transmit(connection, Direction::Forth, frame),
            false => self.links.connections[connection].waiting.push(frame),
        }
    }

    fn transmit(&mut self, connection: usize, direction: Direction, frame: Frame) {
        let to = self.links.end(connection, direction);
        let state = &self.links.connections[connection];
        self.link_used(pair(state.from, state.to));
        if self.nodes[to].is_dead {
            // Its system says so.
            let back = match direction {
                Direction::Forth => Direction::Back,
                Direction::Back => Direction::Forth,
            };
            let delay = self.delay();
            self.schedule_in(delay, Event::LinkEnd(connection, back));
            return;
        }
        let mut lane = self.links.connections[connection].lanes[direction as usize];
        let at = self.arrival(&mut lane);
        self.links.connections[connection].lanes[direction as usize] = lane;
        self.schedule_at(at, Event::Link(connection, direction, frame));
    }

    /// The answer to a question is not wanted any more.
    pub(super) fn cancel_question(&mut self, connection: usize, number: u64) {
        if !self.links.connections[connection].is_closed[0] {
            self.send_frame(connection, Frame::Cancel(number));
        }
    }

    pub(super) fn respond(&mut self, connection: usize, number: u64, response: Option<LinkResponse>) {
        let frame = match response {
            Some(response) => Frame::Response(number, response),
            None => Frame::Refused(number),
        };
        let state = &mut self.links.connections[connection];
        state.served.remove(&number);
        if !state.is_closed[1] {
            self.transmit(connection, Direction::Back, frame);
        }
    }

    pub(super) fn link_frame(&mut self, connection: usize, direction: Direction, frame: Frame) {
        let state = &self.links.connections[connection];
        self.link_used(pair(state.from, state.to));
        let state = &mut self.links.connections[connection];
        if state.is_broken || state.is_closed[1 - direction as usize] {
            return;
        }
        let nodes = pair(state.from, state.to);
        if let Some(until) = self.links.down.get(&nodes).copied().filter(|until| *until > self.now) {
            self.schedule_at(until, Event::Link(connection, direction, frame));
            return;
        }
        if direction == Direction::Back {
            state.last_received = self.now;
        }
        match frame {
            Frame::Hello => self.transmit(connection, Direction::Back, Frame::Welcome),
            Frame::Welcome => {
                state.is_established = true;
                for frame in std::mem::take(&mut state.waiting) {
                    self.transmit(connection, Direction::Forth, frame);
                }
                self.schedule_in(SILENCE / 2, Event::LinkBeat(connection));
            }
            Frame::Question(number, question) => {
                state.served.insert(number, None);
                self.serve(connection, number, question);
            }
            Frame::Cancel(number) => {
                if let Some(expected) = state.served.remove(&number) {
                    let node = state.to;
                    self.cancelled(node, expected);
                }
            }
            Frame::Notice(notice) => {
                let node = state.to;
                self.handle_notice(node, notice);
            }
            Frame::Response(number, response) => {
                if let Some(waiter) = state.pending.remove(&number) {
                    let (from, to) = (state.from, self.nodes[state.to].tag);
                    self.question_answered(from, to, waiter, Some(response));
                }
            }
            Frame::Refused(number) => {
                if let Some(waiter) = state.pending.remove(&number) {
                    let (from, to) = (state.from, self.nodes[state.to].tag);
                    self.question_answered(from, to, waiter, None);
                }
            }
            Frame::Ping => self.transmit(connection, Direction::Back, Frame::Pong),
            Frame::Pong => {}
            Frame::Closed => self.link_end(connection, direction),
        }
    }

    /// An end of a connection notices that it is over.
    pub(super) fn link_end(&mut self, connection: usize, direction: Direction) {
        let state = &mut self.links.connections[connection];
        let end = 1 - direction as usize;
        if std::mem::replace(&mut state.is_closed[end], true) {
            return;
        }
        let (from, to) = (state.from, state.to);
        match direction {
            Direction::Back => {
                if self.links.current.get(&(from, to)) == Some(&connection) {
                    self.links.current.remove(&(from, to));
                }
                let tag = self.nodes[to].tag;
                for waiter in std::mem::take(&mut self.links.connections[connection].pending).into_values() {
                    self.question_answered(from, tag, waiter, None);
                }
            }
            Direction::Forth => {
                let was_established = state.is_established || !state.served.is_empty();
                for expected in std::mem::take(&mut state.served).into_values() {
                    self.cancelled(to, expected);
                }
                if was_established {
                    let lost = self.nodes[from].tag;
                    self.trace(|| format!("node {to}: node {from} is lost"));
                    for shard in self.nodes[to].mailboxes.shards() {
                        self.nodes[to].mailboxes.push(shard, ShardMessage::NodeLost(lost));
                    }
                    self.touched(to);
                }
            }
        }
        self.touched(from);
    }

    pub(super) fn link_connect_timeout(&mut self, connection: usize) {
        let state = &self.links.connections[connection];
        if !state.is_established && !state.is_closed[0] {
            self.close_link(connection);
        }
    }

    /// The node that opened a connection closes it.
    fn close_link(&mut self, connection: usize) {
        self.link_end(connection, Direction::Back);
        self.transmit(connection, Direction::Forth, Frame::Closed);
    }

    /// A node that owes a response and sends nothing for too long counts as gone.
    pub(super) fn link_beat(&mut self, connection: usize) {
        let now = self.now;
        let state = &mut self.links.connections[connection];
        if state.is_closed[0] {
            return;
        }
        if state.pending.is_empty() {
            state.last_received = now;
        } else if now - state.last_received > SILENCE {
            self.close_link(connection);
            return;
        } else {
            self.transmit(connection, Direction::Forth, Frame::Ping);
        }
        self.schedule_in(SILENCE / 2, Event::LinkBeat(connection));
    }

    /// All connections between two nodes break, and others go on, if these nodes can do that (`resumes`).
    pub(super) fn break_links(&mut self, one: NodeId, other: NodeId, resumes: bool) {
        if resumes {
            let until = self.now + RECONNECT;
            let down = self.links.down.entry(pair(one, other)).or_insert(until);
            *down = until.max(*down);
        }
        for index in 0..self.links.connections.len() {
            let state = &mut self.links.connections[index];
            if pair(state.from, state.to) != pair(one, other) || state.is_closed == [true; 2] {
                continue;
            }
            if resumes {
                continue;
            }
            state.is_broken = true;
            for direction in [Direction::Forth, Direction::Back] {
                let delay = self.delay();
                self.schedule_in(delay, Event::LinkEnd(index, direction));
            }
        }
    }

    /// A node has died: its system closes its connections, behind what was sent on them.
    pub(super) fn close_links_of(&mut self, node: NodeId) {
        for index in 0..self.links.connections.len() {
            let state = &self.links.connections[index];
            if state.from == node && !state.is_closed[1] {
                self.transmit(index, Direction::Forth, Frame::Closed);
            } else if state.to == node && !state.is_closed[0] {
                self.transmit(index, Direction::Back, Frame::Closed);
            }
        }
    }
}
