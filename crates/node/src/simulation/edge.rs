//! Where clients reach nodes: HTTP requests and WebSockets, as `edge` serves them.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use signalbox_cluster::{Address, ShardId, Status};
use signalbox_engineio::CloseReason;
use signalbox_websocket::{Frame, Message};

use super::{
    answers::{Answer, Asker},
    event::Event,
    world::{ClientId, NodeId, World},
};
use crate::{
    routing::{Location, Reply, location::request_number},
    shard::mailbox::{Request, ShardMessage},
    transport::{ByteStream, Conn, Role},
};

/// As in `peering`.
const STABLE_TIMEOUT: Duration = Duration::from_secs(8);
const LOOKUP_INTERVAL: Duration = Duration::from_millis(50);
const LOOKUPS: u32 = 10;
const STABLE_INTERVAL: Duration = Duration::from_millis(100);

/// What a client asks.
#[derive(Debug, Clone)]
pub(super) enum HttpKind {
    Poll,
    Post(Bytes),
    /// A WebSocket on this shard of the node, for the session.
    Upgrade {
        shard: usize,
        websocket: Option<usize>,
    },
}

/// A client's request, from when it is sent to when it is answered.
pub(super) struct Http {
    pub(super) client: ClientId,
    pub(super) node: NodeId,
    pub(super) sid: Address,
    pub(super) kind: HttpKind,
    /// Its number, once it has landed, and the one under which its answer is expected.
    number: u64,
    expected: u64,
    /// How often the session's node was looked for.
    lookups: u32,
}

/// A WebSocket.
pub(super) struct WebSocket {
    pub(super) client: ClientId,
    pub(super) node: NodeId,
    pub(super) shard: usize,
    pub(super) conn: Rc<Conn>,
    /// What has arrived and is not read yet.
    unread: VecDeque<Input>,
    lanes: [Instant; 2],
    /// The client was told, or will be, that it is closed.
    is_closed: bool,
}

/// What a client sends.
#[derive(Debug)]
pub(super) enum Input {
    Text(String),
    Close,
}

/// What a client receives.
#[derive(Debug)]
pub(super) enum Output {
    Open,
    Frame(Bytes),
    Closed,
}

/// A stream that is not touched: the world takes out what is queued.
pub(crate) struct NoStream;

impl ByteStream for NoStream {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_write(&mut self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl World {
    // HTTP.

    /// A client sends a request to a node.
    pub(super) fn send_http(&mut self, client: ClientId, node: NodeId, sid: Address, kind: HttpKind) -> u64 {
        self.last_http += 1;
        let http = Http { client, node, sid, kind, number: 0, expected: 0, lookups: 0 };
        self.http.insert(self.last_http, http);
        let delay = self.delay();
        let event = match self.nodes[node].is_dead {
            true => Event::HttpDone(self.last_http, Err("no node there")),
            false => Event::HttpArrives(self.last_http),
        };
        self.schedule_in(delay, event);
        self.last_http
    }

    pub(super) fn http_arrives(&mut self, id: u64) {
        let Some(http) = self.http.get_mut(&id) else { return };
        let (node, sid, kind) = (http.node, http.sid, http.kind.clone());
        let place = Location::birth(sid);
        // As `Peering::find`.
        http.lookups += 1;
        let (is_first, is_last) = (http.lookups == 1, http.lookups > LOOKUPS);
        if place.node != self.nodes[node].tag && !self.is_linked(node, place.node) {
            if is_first {
                self.nodes[node].cluster.refresh_nodes(self.now);
                self.touched(node);
            }
            match is_last {
                true => self.finish_http(id, Err("unknown sid")),
                false => self.schedule_in(LOOKUP_INTERVAL, Event::HttpArrives(id)),
            }
            return;
        }
        self.nodes[node].requests += 1;
        let number = request_number(self.nodes[node].tag, self.nodes[node].requests);
        if let Some(http) = self.http.get_mut(&id) {
            http.number = number;
        }
        match kind {
            HttpKind::Poll => {
                let (expected, reply) = self.answers.expect(Asker::Http(id), Answer::Body);
                self.expect(id, expected);
                self.dispatch(node, place, Request::Poll { sid, number, accepted: None, reply });
            }
            HttpKind::Post(_) => {
                let (expected, reply) = self.answers.expect(Asker::Http(id), Answer::Begun);
                self.expect(id, expected);
                let on_close = Reply::new(|()| true);
                self.dispatch(node, place, Request::BeginPost { sid, number, on_close, reply });
            }
            HttpKind::Upgrade { .. } => {
                if place.node == self.nodes[node].tag {
                    self.begin_upgrade(id);
                } else {
                    self.can_take_session(id, self.now + STABLE_TIMEOUT);
                }
            }
        }
    }

    fn expect(&mut self, id: u64, expected: u64) {
        if let Some(http) = self.http.get_mut(&id) {
            http.expected = expected;
        }
    }

    /// As `edge::polling::dispatch`; a request that lands on the session's own shard takes no short cut.
    fn dispatch(&mut self, node: NodeId, place: Location, request: Request) {
        if place.node == self.nodes[node].tag {
            self.nodes[node].mailboxes.push(place.shard, ShardMessage::Request(request));
        } else {
            self.relay_request(node, place.node, request);
        }
        self.touched(node);
    }

    /// `Peering::can_take_session`.
    pub(super) fn can_take_session(&mut self, id: u64, until: Instant) {
        let Some(node) = self.http.get(&id).map(|http| http.node) else { return };
        let cluster = &self.nodes[node].cluster;
        if cluster.status() != Status::Online || self.now >= until {
            self.finish_http(id, Err("cannot take the session"));
        } else if cluster.is_stable() {
            self.begin_upgrade(id);
        } else {
            self.schedule_in(STABLE_INTERVAL, Event::CanTakeSession(id, until));
        }
    }

    fn begin_upgrade(&mut self, id: u64) {
        let Some(Http { client, node, sid, kind: HttpKind::Upgrade { shard, .. }, .. }) = self.http.get(&id)
        else {
            return;
        };
        let (client, node, sid, shard) = (*client, *node, *sid, *shard);
        let conn = Conn::pending();
        let connection = self.with_shard(node, shard, |shard, now| shard.open_probe(now, &conn, sid));
        let websocket = self.add_websocket(client, node, shard, conn);
        if let Some(http) = self.http.get_mut(&id) {
            http.kind = HttpKind::Upgrade { shard, websocket: Some(websocket) };
        }
        let (expected, reply) = self.answers.expect(Asker::Http(id), Answer::Upgrade);
        self.expect(id, expected);
        self.dispatch(node, Location::birth(sid), Request::BeginUpgrade { sid, connection, reply });
    }

    /// A shard has answered a client's request.
    pub(super) fn http_answered(&mut self, id: u64, answer: Option<Answer>) {
        let Some(http) = self.http.get(&id) else { return };
        let (node, sid, number, kind) = (http.node, http.sid, http.number, http.kind.clone());
        if self.nodes[node].is_dead {
            return;
        }
        match (kind, answer) {
            (HttpKind::Poll, Some(Answer::Body(Ok(body)))) => self.finish_http(id, Ok(body)),
            (HttpKind::Post(body), Some(Answer::Begun(Ok(())))) => {
                let (expected, reply) = self.answers.expect(Asker::Http(id), |()| Answer::Applied);
                self.expect(id, expected);
                let place = Location::birth(sid);
                self.dispatch(node, place, Request::Post { sid, number, body, is_relayed: false, reply });
            }
            (HttpKind::Post(_), Some(Answer::Applied)) => self.finish_http(id, Ok(String::new())),
            // The session was closed by what its POST has said.
            (HttpKind::Post(_), None) if Location::birth(sid).node == self.nodes[node].tag => {
                self.finish_http(id, Ok(String::new()));
            }
            (HttpKind::Upgrade { websocket: Some(websocket), .. }, Some(Answer::Upgrade(Ok(true)))) => {
                self.http.remove(&id);
                self.websockets[websocket].conn.connect(Box::new(NoStream));
                self.write_websocket(websocket, Output::Open);
                self.look_after_websockets(node, self.websockets[websocket].shard);
            }
            (HttpKind::Upgrade { websocket: Some(websocket), shard }, _) => {
                let conn = self.websockets[websocket].conn.clone();
                if let Role::Probe(key) = conn.role.get() {
                    self.with_shard(node, shard, |shard, _| shard.close_probe_of(key));
                }
                self.finish_http(id, Err("refused"));
            }
            _ => self.finish_http(id, Err("refused")),
        }
    }

    /// The answer goes to the client.
    fn finish_http(&mut self, id: u64, result: Result<String, &'static str>) {
        let delay = self.delay();
        self.schedule_in(delay, Event::HttpDone(id, result));
    }

    /// A client gives a request up; the node notices soon.
    pub(super) fn give_up_http(&mut self, id: u64) {
        let Some(node) = self.http.get(&id).map(|http| http.node) else { return };
        let delay = self.delay();
        self.schedule_in(delay, Event::HttpDropped(node, id));
    }

    pub(super) fn http_dropped(&mut self, node: NodeId, id: u64) {
        let Some(Http { sid, kind, number, expected, .. }) = self.http.remove(&id) else { return };
        self.answers.give_up(expected);
        // It may not have been answered yet: whoever has the session has to know.
        let lost = match kind {
            HttpKind::Poll if number > 0 => Request::PollLost { sid, number },
            HttpKind::Post(_) if number > 0 => Request::PostLost { sid, number },
            _ => return,
        };
        self.dispatch(node, Location::birth(sid), lost);
    }

    // WebSockets.

    /// A connection whose handshake is not answered yet.
    pub(super) fn add_websocket(
        &mut self,
        client: ClientId,
        node: NodeId,
        shard: usize,
        conn: Rc<Conn>,
    ) -> usize {
        let lanes = [self.now; 2];
        let unread = VecDeque::new();
        self.websockets.push(WebSocket { client, node, shard, conn, unread, lanes, is_closed: false });
        self.websockets.len() - 1
    }

    /// A client opens a session on a WebSocket.
    pub(super) fn open_websocket(&mut self, client: ClientId, node: NodeId, shard: usize) -> usize {
        let conn = Conn::pending();
        conn.connect(Box::new(NoStream));
        let websocket = self.add_websocket(client, node, shard, conn.clone());
        let handshake = Default::default();
        self.with_shard(node, shard, |shard, now| shard.open_websocket(now, &conn, None, handshake));
        websocket
    }

    /// Of which WebSocket this is the connection.
    pub(super) fn websocket_of(&self, conn: &Rc<Conn>) -> Option<usize> {
        self.websockets.iter().position(|websocket| Rc::ptr_eq(&websocket.conn, conn))
    }

    /// A client sends something.
    pub(super) fn send_websocket(&mut self, websocket: usize, input: Input) {
        let mut lane = self.websockets[websocket].lanes[0];
        let at = self.arrival(&mut lane);
        self.websockets[websocket].lanes[0] = lane;
        self.schedule_at(at, Event::WebSocketIn(websocket, input));
    }

    pub(super) fn write_websocket(&mut self, websocket: usize, output: Output) {
        let mut lane = self.websockets[websocket].lanes[1];
        let at = self.arrival(&mut lane);
        self.websockets[websocket].lanes[1] = lane;
        self.schedule_at(at, Event::WebSocketOut(websocket, output));
    }

    pub(super) fn websocket_input(&mut self, websocket: usize, input: Input) {
        self.websockets[websocket].unread.push_back(input);
        self.read_websocket(websocket);
    }

    /// As the connection's task does it: nothing is read while the connection is paused.
    pub(super) fn read_websocket(&mut self, id: usize) {
        let websocket = &mut self.websockets[id];
        let (node, shard, conn) = (websocket.node, websocket.shard, websocket.conn.clone());
        if !conn.is_open() {
            websocket.unread.clear();
            return;
        }
        if conn.is_paused() || !conn.is_connected() {
            return;
        }
        match websocket.unread.pop_front() {
            Some(Input::Text(text)) => {
                let client = websocket.client;
                self.applied(client, &text);
                self.with_shard(node, shard, |shard, now| {
                    shard.connection_message(now, &conn, Message::Text(&text));
                });
            }
            Some(Input::Close) => {
                let role = conn.role.replace(Role::Nobody);
                conn.close(&Frame::close(None));
                self.with_shard(node, shard, |shard, now| shard.lost(now, role, CloseReason::TransportClose));
            }
            None => {}
        }
    }

    /// What has happened to the WebSockets of a shard: closed ones are told to their clients, and reading goes on.
    pub(super) fn look_after_websockets(&mut self, node: NodeId, shard: usize) {
        for id in 0..self.websockets.len() {
            let websocket = &mut self.websockets[id];
            if (websocket.node, websocket.shard) != (node, shard) {
                continue;
            }
            if !websocket.conn.is_open() {
                if !std::mem::replace(&mut websocket.is_closed, true) {
                    for frame in websocket.conn.take_queued() {
                        self.write_websocket(id, Output::Frame(frame));
                    }
                    self.write_websocket(id, Output::Closed);
                }
            } else if !websocket.unread.is_empty() && !websocket.conn.is_paused() {
                self.schedule_in(Duration::from_micros(10), Event::WebSocketRead(id));
            }
        }
    }

    /// A node has died: its clients notice soon.
    pub(super) fn drop_clients_of(&mut self, node: NodeId) {
        let lost: Vec<u64> =
            self.http.iter().filter(|(_, http)| http.node == node).map(|(id, _)| *id).collect();
        for id in lost {
            self.finish_http(id, Err("its node has died"));
        }
        for id in 0..self.websockets.len() {
            let websocket = &mut self.websockets[id];
            if websocket.node == node && !std::mem::replace(&mut websocket.is_closed, true) {
                self.write_websocket(id, Output::Closed);
            }
        }
    }

    /// Somebody in particular speaks to everybody in the namespace.
    pub(super) fn push_to_shard(&mut self, node: NodeId, shard: usize, message: ShardMessage) {
        self.nodes[node].mailboxes.push(shard as ShardId, message);
        self.touched(node);
    }
}
