//! Clients, as `engine.io-client` and `socket.io-client` behave: polling first, then a WebSocket, with one GET and one POST at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::RngExt as _;
use signalbox_cluster::Address;
use signalbox_websocket::Frame;

use super::{
    edge::{HttpKind, Input, Output},
    event::Event,
    world::{ClientId, NodeId, World},
};

/// How a client reaches its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Polling,
    /// The probe was answered: the last GET and POST are waited for.
    Pausing,
    WebSocket(usize),
    Closed,
}

/// What a client does by itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum ClientAction {
    /// Says something in its rooms, now and then.
    Talk,
    /// Joins, leaves, or changes its profile.
    Churn,
    /// Answers what it was asked, with the number that the answer bears.
    Answer(u64),
    /// Opens a WebSocket for its session.
    Upgrade { node: NodeId, shard: usize },
}

/// A message that a client has sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Instant,
    /// When it was applied, as far as the client or the world knows.
    pub(super) applied: Option<Instant>,
}

/// What an ack is for.
#[derive(Debug)]
pub(super) enum Asked {
    Join(&'static str),
    Leave(&'static str),
}

pub(super) struct Client {
    pub(super) name: String,
    pub(super) sid: Option<Address>,
    pub(super) socket: Option<Address>,
    pub(super) transport: Transport,
    /// The node that its requests go to; `None`: any.
    pub(super) balancer: Option<NodeId>,
    /// The WebSocket that it probes.
    pub(super) probe: Option<usize>,
    poll: Option<u64>,
    post: Option<u64>,
    upgrade: Option<u64>,
    outgoing: Vec<String>,
    /// The messages in the POST under way: room and number.
    posted: Vec<(String, usize)>,
    pub(super) asked: BTreeMap<u64, Asked>,
    last_ack: u64,
    /// Rooms that it joins once it is connected.
    pub(super) joins: Vec<&'static str>,
    /// Who is in its rooms, as far as it was told.
    pub(super) rooms: BTreeMap<&'static str, BTreeSet<Address>>,
    pub(super) sent: BTreeMap<String, Vec<Sent>>,
    /// What it received, by sender and room.
    pub(super) received: BTreeMap<String, Vec<usize>>,
    /// Operators' orders that it received, and how often.
    pub(super) orders: BTreeMap<usize, usize>,
    /// Members that left, or came back, although they are the same: only what was cut off long enough may.
    pub(super) returned: Vec<Address>,
    pub(super) gone: BTreeSet<Address>,
    /// The nodes that the session was on.
    pub(super) homes: BTreeSet<NodeId>,
    /// Nodes its requests landed on, and when they were sent and answered.
    pub(super) requests: Vec<(NodeId, Instant, Option<Instant>)>,
    /// When it sent the upgrade packet, and when the transfer was over.
    pub(super) upgraded_at: Option<Instant>,
    pub(super) moved_at: Option<Instant>,
    pub(super) closed: Option<(Instant, &'static str)>,
    pub(super) is_churning: bool,
}

impl Client {
    pub(super) fn new(name: String, joins: &[&'static str]) -> Self {
        Self {
            name,
            sid: None,
            socket: None,
            transport: Transport::Polling,
            balancer: None,
            probe: None,
            poll: None,
            post: None,
            upgrade: None,
            outgoing: Vec::new(),
            posted: Vec::new(),
            asked: BTreeMap::new(),
            last_ack: 0,
            joins: joins.to_vec(),
            rooms: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            orders: BTreeMap::new(),
            returned: Vec::new(),
            gone: BTreeSet::new(),
            homes: BTreeSet::new(),
            requests: Vec::new(),
            upgraded_at: None,
            moved_at: None,
            closed: None,
            is_churning: false,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.transport != Transport::Closed
    }
}

impl World {
    /// A client opens a session by polling.
    pub(super) fn open_polling(&mut self, client: ClientId, node: NodeId, shard: usize) {
        let handshake = Default::default();
        let (sid, body) =
            self.with_shard(node, shard, |shard, now| shard.open_polling(now, None, handshake, None));
        assert!(body.starts_with('0'), "{body}");
        self.clients[client].sid = Some(sid);
        self.clients[client].homes.insert(node);
        self.emit(client, "40".to_owned());
        self.poll(client);
    }

    pub(super) fn open_on_websocket(&mut self, client: ClientId, node: NodeId, shard: usize) {
        let websocket = self.open_websocket(client, node, shard);
        self.clients[client].transport = Transport::WebSocket(websocket);
        self.clients[client].homes.insert(node);
        self.emit(client, "40".to_owned());
    }

    pub(super) fn client_acts(&mut self, client: ClientId, action: ClientAction) {
        if !self.clients[client].is_there() {
            return;
        }
        match action {
            ClientAction::Talk => {
                if self.now < self.checks.talks_until {
                    self.talk(client);
                    let pause = self.pause_between_words();
                    self.schedule_in(pause, Event::ClientActs(client, action));
                }
            }
            ClientAction::Churn => {
                if self.now < self.checks.talks_until {
                    self.churn(client);
                    let pause = 2 * self.pause_between_words();
                    self.schedule_in(pause, Event::ClientActs(client, action));
                }
            }
            ClientAction::Answer(id) => self.emit(client, format!("43{id}[\"{}\"]", super::ANSWER)),
            ClientAction::Upgrade { node, shard } => {
                if self.clients[client].transport == Transport::Polling
                    && let Some(sid) = self.clients[client].sid
                {
                    self.trace(|| format!("client {client} opens a WebSocket on node {node}"));
                    let kind = HttpKind::Upgrade { shard, websocket: None };
                    self.clients[client].upgrade = Some(self.send_http(client, node, sid, kind));
                }
            }
        }
    }

    fn pause_between_words(&mut self) -> Duration {
        let millis = if self.now < self.checks.talks_fast_until { 10..30 } else { 150..250 };
        Duration::from_millis(self.rng.random_range(millis))
    }

    /// Says the next number in each of its rooms.
    pub(super) fn talk(&mut self, client: ClientId) {
        let now = self.now;
        let state = &mut self.clients[client];
        let rooms: Vec<&'static str> = state.rooms.keys().copied().collect();
        for room in rooms {
            let source = format!("{}/{room}", self.clients[client].name);
            let sent = self.clients[client].sent.entry(source.clone()).or_default();
            let number = sent.len();
            sent.push(Sent { at: now, applied: None });
            self.emit(client, format!("42[\"message\",\"{room}\",\"{source}:{number}\"]"));
        }
    }

    fn churn(&mut self, client: ClientId) {
        if !self.clients[client].asked.is_empty() {
            return;
        }
        let room = super::ROOMS[0];
        let is_in = self.clients[client].rooms.contains_key(room);
        if is_in && self.rng.random_bool(0.4) {
            self.leave(client, room);
        } else {
            self.join(client, room);
        }
    }

    pub(super) fn join(&mut self, client: ClientId, room: &'static str) {
        let state = &mut self.clients[client];
        state.last_ack += 1;
        let ack = state.last_ack;
        state.asked.insert(ack, Asked::Join(room));
        self.emit(client, format!("42{ack}[\"join\",\"{room}\",{{\"n\":{ack}}}]"));
    }

    fn leave(&mut self, client: ClientId, room: &'static str) {
        let state = &mut self.clients[client];
        state.last_ack += 1;
        let ack = state.last_ack;
        state.asked.insert(ack, Asked::Leave(room));
        self.emit(client, format!("42{ack}[\"leave\",\"{room}\"]"));
    }

    /// Sends a packet, once the transport can.
    pub(super) fn emit(&mut self, client: ClientId, packet: String) {
        match self.clients[client].transport {
            Transport::WebSocket(websocket) => self.send_websocket(websocket, Input::Text(packet)),
            Transport::Polling | Transport::Pausing => {
                self.clients[client].outgoing.push(packet);
                self.post(client);
            }
            Transport::Closed => {}
        }
    }

    /// The node that a request lands on.
    fn balance(&mut self, client: ClientId) -> NodeId {
        if let Some(node) = self.clients[client].balancer {
            return node;
        }
        let live: Vec<NodeId> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_dead).collect();
        live[self.rng.random_range(0..live.len())]
    }

    fn poll(&mut self, client: ClientId) {
        let state = &self.clients[client];
        let Some(sid) = state.sid.filter(|_| state.transport == Transport::Polling && state.poll.is_none())
        else {
            return;
        };
        let node = self.balance(client);
        let http = self.send_http(client, node, sid, HttpKind::Poll);
        self.clients[client].requests.push((node, self.now, None));
        self.clients[client].poll = Some(http);
    }

    fn post(&mut self, client: ClientId) {
        let state = &self.clients[client];
        let can_post = state.transport == Transport::Polling && state.post.is_none();
        let Some(sid) = state.sid.filter(|_| can_post && !state.outgoing.is_empty()) else { return };
        let packets = std::mem::take(&mut self.clients[client].outgoing);
        self.clients[client].posted = packets.iter().filter_map(|packet| message_of(packet)).collect();
        let body = Bytes::from(packets.join("\x1e"));
        let node = self.balance(client);
        let http = self.send_http(client, node, sid, HttpKind::Post(body));
        self.clients[client].requests.push((node, self.now, None));
        self.clients[client].post = Some(http);
    }

    /// A message of a client was applied.
    pub(super) fn applied(&mut self, client: ClientId, packet: &str) {
        if let Some((source, number)) = message_of(packet) {
            self.was_applied(client, &source, number);
        }
    }

    fn was_applied(&mut self, client: ClientId, source: &str, number: usize) {
        let now = self.now;
        let sent = self.clients[client].sent.get_mut(source).and_then(|sent| sent.get_mut(number));
        if let Some(sent) = sent {
            sent.applied.get_or_insert(now);
        }
    }

    pub(super) fn http_done(&mut self, id: u64, result: Result<String, &'static str>) {
        let Some(http) = self.http.remove(&id) else { return };
        let client = http.client;
        let state = &mut self.clients[client];
        if !state.is_there() {
            return;
        }
        let now = self.now;
        if let Some(request) =
            state.requests.iter_mut().rev().find(|(node, _, done)| *node == http.node && done.is_none())
        {
            request.2 = Some(now);
        }
        if state.poll == Some(id) {
            state.poll = None;
            match result {
                Ok(body) => {
                    for packet in body.split('\x1e') {
                        self.receive(client, packet);
                    }
                }
                Err(why) => self.close(client, why),
            }
            self.poll(client);
        } else if state.post == Some(id) {
            state.post = None;
            for (source, number) in std::mem::take(&mut state.posted) {
                self.was_applied(client, &source, number);
            }
            if let Err(why) = result {
                self.close(client, why);
            }
            self.post(client);
        } else if state.upgrade == Some(id) {
            // Polling goes on.
            state.upgrade = None;
        }
        self.upgrade_if_paused(client);
    }

    /// Something has arrived on a WebSocket, at the client.
    pub(super) fn websocket_output(&mut self, websocket: usize, output: Output) {
        let client = self.websockets[websocket].client;
        let state = &mut self.clients[client];
        if !state.is_there() {
            return;
        }
        let is_transport = state.transport == Transport::WebSocket(websocket);
        match output {
            Output::Open => {
                state.upgrade = None;
                state.probe = Some(websocket);
                self.send_websocket(websocket, Input::Text("2probe".to_owned()));
            }
            Output::Closed if is_transport => self.close(client, "its WebSocket was closed"),
            Output::Closed if state.probe == Some(websocket) => {
                // Polling goes on.
                self.trace(|| format!("client {client}: its probe was closed"));
                let state = &mut self.clients[client];
                state.probe = None;
                state.transport = Transport::Polling;
                self.poll(client);
                self.post(client);
            }
            Output::Closed => {}
            Output::Frame(bytes) => {
                let Some(frame) = Frame::from_bytes(bytes) else { return };
                let text = String::from_utf8_lossy(frame.payload()).into_owned();
                if is_transport {
                    self.receive(client, &text);
                } else if text == "3probe" && state.probe == Some(websocket) {
                    state.transport = Transport::Pausing;
                    self.upgrade_if_paused(client);
                }
            }
        }
    }

    /// Once its last GET and POST are answered, a client goes over to its WebSocket.
    fn upgrade_if_paused(&mut self, client: ClientId) {
        let state = &mut self.clients[client];
        let Some(websocket) = state.probe else { return };
        if state.transport != Transport::Pausing || state.poll.is_some() || state.post.is_some() {
            return;
        }
        state.transport = Transport::WebSocket(websocket);
        state.probe = None;
        state.upgraded_at = Some(self.now);
        let outgoing = std::mem::take(&mut state.outgoing);
        self.trace(|| format!("client {client} upgrades"));
        self.send_websocket(websocket, Input::Text("5".to_owned()));
        for packet in outgoing {
            self.send_websocket(websocket, Input::Text(packet));
        }
    }

    /// The client's session is over, as it sees it.
    pub(super) fn close(&mut self, client: ClientId, why: &'static str) {
        let now = self.now;
        let state = &mut self.clients[client];
        if !state.is_there() {
            return;
        }
        self.trace(|| format!("client {client} is closed: {why}"));
        let state = &mut self.clients[client];
        let transport = std::mem::replace(&mut state.transport, Transport::Closed);
        state.closed = Some((now, why));
        let requests = [state.poll.take(), state.post.take(), state.upgrade.take()];
        let probe = state.probe.take();
        for http in requests.into_iter().flatten() {
            self.give_up_http(http);
        }
        let websocket = if let Transport::WebSocket(websocket) = transport { Some(websocket) } else { probe };
        if let Some(websocket) = websocket {
            self.send_websocket(websocket, Input::Close);
        }
    }

    /// A client closes its WebSocket, or gives its poll up, by itself.
    pub(super) fn close_by_itself(&mut self, client: ClientId, closes_websocket: bool) {
        let state = &mut self.clients[client];
        match (state.transport, state.probe, closes_websocket) {
            (Transport::WebSocket(_), _, true) => self.close(client, "by itself"),
            // A page that goes away closes both.
            (Transport::Polling | Transport::Pausing, _, false) => self.close(client, "by itself"),
            (Transport::Polling | Transport::Pausing, Some(websocket), true) => {
                state.probe = None;
                state.transport = Transport::Polling;
                self.send_websocket(websocket, Input::Close);
                self.poll(client);
                self.post(client);
            }
            _ => {}
        }
    }
}

/// The room message in a packet: whose it is, and its number.
fn message_of(packet: &str) -> Option<(String, usize)> {
    let rest = packet.strip_prefix("42[\"message\",\"")?;
    let data = rest.split('"').nth(2)?;
    let (source, number) = data.split_once(':')?;
    Some((source.to_owned(), number.parse().ok()?))
}
