//! What happens, and where.

use std::time::Instant;

use signalbox_cluster::{driver::CallToken, store::Reply};

use super::{
    client::ClientAction,
    edge::{Input, Output},
    faults::Fault,
    links::{Direction, Frame},
    store::{BusMessage, Lane, Operation},
    world::{ClientId, NodeId, World},
};

pub(super) enum Event {
    /// A node's driver says that time has passed.
    Tick(NodeId),
    /// A shard takes a message out of its mailbox.
    Mailbox(NodeId, usize),
    Timer(NodeId, usize),
    /// A call or a publication arrives at the store, over the so many-th connection of its lane.
    AtStore(NodeId, Lane, u64, Operation),
    StoreReply(NodeId, CallToken, Reply),
    /// A node receives something on the bus, over its so many-th connection.
    Bus(NodeId, u64, BusMessage),
    BusLost(NodeId),
    BusRetry(NodeId),
    Link(usize, Direction, Frame),
    /// An end of a connection notices that it is broken.
    LinkEnd(usize, Direction),
    /// A connection had its time to open.
    LinkConnect(usize),
    LinkBeat(usize),
    /// An answer had its time, or an acceptance.
    AnswerTimeout(usize, u64),
    HttpArrives(u64),
    /// The node notices that a client has given its request up.
    HttpDropped(NodeId, u64),
    /// Can a node take a session by now? Not asked after this time.
    CanTakeSession(u64, Instant),
    /// The client has its answer, or its connection broke.
    HttpDone(u64, Result<String, &'static str>),
    WebSocketIn(usize, Input),
    WebSocketRead(usize),
    WebSocketOut(usize, Output),
    ClientActs(ClientId, ClientAction),
    NamespaceBroadcast(NodeId),
    /// An operator's order reaches a node.
    Order(NodeId, usize),
    Inject(Fault),
    Heal(Fault),
}

/// Where an event happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Node(NodeId),
    /// The node, with something that it receives on the bus.
    Bus(NodeId),
    Store,
    Client(ClientId),
    Nowhere,
}

impl Event {
    pub(super) fn place(&self, world: &World) -> Place {
        match self {
            Self::Tick(node)
            | Self::Mailbox(node, _)
            | Self::Timer(node, _)
            | Self::StoreReply(node, ..)
            | Self::BusLost(node)
            | Self::BusRetry(node)
            | Self::HttpDropped(node, _)
            | Self::Order(node, _)
            | Self::NamespaceBroadcast(node) => Place::Node(*node),
            Self::Link(connection, direction, _) | Self::LinkEnd(connection, direction) => {
                Place::Node(world.links.end(*connection, *direction))
            }
            Self::LinkConnect(connection)
            | Self::LinkBeat(connection)
            | Self::AnswerTimeout(connection, _) => {
                Place::Node(world.links.end(*connection, Direction::Back))
            }
            Self::HttpArrives(http) | Self::CanTakeSession(http, _) => match world.http.get(http) {
                Some(http) => Place::Node(http.node),
                None => Place::Nowhere,
            },
            Self::WebSocketIn(websocket, _) | Self::WebSocketRead(websocket) => {
                Place::Node(world.websockets[*websocket].node)
            }
            Self::WebSocketOut(websocket, _) => Place::Client(world.websockets[*websocket].client),
            Self::HttpDone(http, _) => match world.http.get(http) {
                Some(http) => Place::Client(http.client),
                None => Place::Nowhere,
            },
            Self::ClientActs(client, _) => Place::Client(*client),
            Self::Bus(node, ..) => Place::Bus(*node),
            Self::AtStore(..) => Place::Store,
            Self::Inject(_) | Self::Heal(_) => Place::Nowhere,
        }
    }
}
