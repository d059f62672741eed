//! The other nodes of the cluster: requests for their sessions and ours, messages for sockets, sessions that move.
//!
//! - `bus`: what other nodes publish, and send to this one through the store.
//! - `requests`: requests that landed here, for sessions of other nodes. They go over the node link as they go to another shard.
//! - `serve`: requests of other nodes, for sessions that live here.
//! - `transfers`, `transfer_answers`: sessions that move to or from another node.
//! - `router`: how handlers reach sockets, wherever these are.
//! - `acceptance`: early signs that an owner has taken a request that has to wait. An owner that does not even accept a request is
//!   taken for gone.
//! - `ack_losses`: answers of clients that are lost on their way to whoever waits for them.
//! - `introduction`: a node that has joined makes itself known to the others before it takes clients.
//! - `identify`: whose a session of another node is.
//! - `inquiries`, `inquiry_state`: what an operator asks of every node.
//! - `listening`: what happens on every node, for those who listen here.
//! - `orders`, `order_run`: what an operator has done with sockets and peers; `outcomes`: what became of it; `shed`: clients that are sent
//!   away.
//! - `socket_requests`: operations on sockets of other nodes, with an answer.
//! - `node_lookup`: nodes that nobody here knows.
//! - `refreshes`: new tokens of clients, which count on all nodes.
//! - `relayed_polls`: polls that wait here for sessions of other nodes.
//! - `revocations`: what is revoked on all nodes; `rules`: the rules that all have.

mod acceptance;
mod ack_losses;
pub(crate) mod bus;
mod identify;
pub(crate) mod inquiries;
pub(crate) mod inquiry_state;
mod introduction;
mod listening;
mod node_lookup;
mod order_run;
mod orders;
mod outcomes;
mod refreshes;
mod relayed_polls;
mod requests;
pub(crate) mod revocations;
mod router;
pub(crate) mod rules;
mod serve;
mod shed;
mod socket_requests;
mod transfer_answers;
mod transfers;

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use signalbox_cluster::{
    Cluster, NodeTag, Status,
    envelope::{Format, FormatRange, common_format},
};
use signalbox_node_link::{LinkError, LinkHandle, RemoteNode};
use signalbox_telemetry::Metrics;

use self::{
    acceptance::Acceptances,
    ack_losses::AckLosses,
    inquiry_state::Inquiries,
    node_lookup::{Lookup, NodeLookup},
    relayed_polls::RelayedPolls,
    transfer_answers::TransferAnswers,
};
use crate::{
    events::EventHub,
    lifecycle::Lifecycle,
    protocol::{self, LinkNotice, LinkRequest, LinkResponse, NodeMessage},
    routing::{LocalAddresses, Location},
    shard::runtime::Mailboxes,
};

/// How long a live node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A request that fails within this time has found nobody there.
const GONE_WITHIN: Duration = Duration::from_millis(500);
/// How long it is asked whether a node has taken a session: longer than it expects one.
const UNKNOWN_AFTER: Duration = Duration::from_secs(11);
/// How long the owner of a session may take to accept a request of its client: one that fails closes the session, so the owner is given
/// longer than the link gives it.
const ACCEPT_WITHIN: Duration = Duration::from_secs(5);
/// How often, and how many times, a node that is looked for is looked up: it may have joined this very moment.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(50);
const LOOKUPS: u32 = 10;
/// How long a WebSocket may wait for the cluster to become stable after an outage: polling goes on meanwhile.
const STABLE_TIMEOUT: Duration = Duration::from_secs(8);
const STABLE_INTERVAL: Duration = Duration::from_millis(100);

/// What the node's own code sends over the link; other kinds are free.
const SESSIONS: u8 = 1;

/// This node among the others.
pub(crate) struct Peering {
    node: NodeTag,
    cluster: Arc<Cluster>,
    /// The link to other nodes, once it is there.
    link: LinkHandle,
    mailboxes: Arc<Mailboxes>,
    addresses: Arc<LocalAddresses>,
    lifecycle: Arc<Lifecycle>,
    metrics: Metrics,
    acceptances: Acceptances,
    relayed_polls: RelayedPolls,
    node_lookup: NodeLookup,
    /// Whether this node has made itself known to the others.
    is_introduced: AtomicBool,
    transfer_answers: TransferAnswers,
    inquiries: Inquiries,
    events: Arc<EventHub>,
    ack_losses: AckLosses,
}

impl Peering {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        link: LinkHandle,
        mailboxes: Arc<Mailboxes>,
        addresses: Arc<LocalAddresses>,
        lifecycle: Arc<Lifecycle>,
        metrics: Metrics,
        events: Arc<EventHub>,
    ) -> Self {
        Self {
            node: addresses.node,
            cluster,
            link,
            mailboxes,
            addresses,
            lifecycle,
            metrics,
            acceptances: Acceptances::default(),
            relayed_polls: RelayedPolls::default(),
            node_lookup: NodeLookup::default(),
            is_introduced: AtomicBool::default(),
            transfer_answers: TransferAnswers::default(),
            inquiries: Inquiries::default(),
            events,
            ack_losses: AckLosses::default(),
        }
    }

    /// Polls that wait here for sessions of other nodes.
    pub(crate) fn relayed_polls(&self) -> &RelayedPolls {
        &self.relayed_polls
    }

    /// Whether a location may have sessions: it is a shard here, or on a node that can be reached.
    fn is_known(&self, location: Location) -> bool {
        match location.node == self.node {
            true => usize::from(location.shard) < self.mailboxes.len(),
            false => self.can_reach(location.node),
        }
    }

    /// Whether another node is known, and how to reach it.
    fn can_reach(&self, node: NodeTag) -> bool {
        self.link.get().is_some() && self.cluster.link_addr(node).is_some()
    }

    /// Whether a node is known, and known to read the previous format only.
    async fn is_previous(&self, tag: NodeTag) -> bool {
        self.look_up(tag).await && self.format_for(tag) == Format::V1
    }

    /// Whether a node is known; it is looked up in the list of nodes once more unless it is.
    async fn look_up(&self, tag: NodeTag) -> bool {
        if self.can_reach(tag) || !self.cluster.is_shared() {
            return self.can_reach(tag);
        }
        match self.node_lookup.check(tag, LOOKUP_INTERVAL * LOOKUPS) {
            Lookup::Start => self.cluster.refresh_nodes(Instant::now()),
            Lookup::Wait => {}
            Lookup::Unknown => return false,
        }
        for _ in 0..LOOKUPS {
            tokio::time::sleep(LOOKUP_INTERVAL).await;
            if self.can_reach(tag) {
                return true;
            }
        }
        false
    }

    /// The same; a node that nobody here knows is looked up in the list of nodes once more.
    pub(crate) async fn find(&self, location: Location) -> bool {
        self.is_known(location) || location.node != self.node && self.look_up(location.node).await
    }

    /// Whether a session of another node can come here, now or as soon as the cluster is stable.
    pub(crate) async fn can_take_session(&self) -> bool {
        let until = Instant::now() + STABLE_TIMEOUT;
        while self.cluster.status() == Status::Online
            && !self.lifecycle.is_leaving()
            && Instant::now() < until
        {
            if self.cluster.is_stable() {
                return true;
            }
            tokio::time::sleep(STABLE_INTERVAL).await;
        }
        false
    }

    /// The newest format that a node reads. A node that joined this very moment may read less than the others do.
    fn format_for(&self, node: NodeTag) -> Format {
        let reads = self.cluster.nodes().get(&node).map_or(FormatRange::UNSTATED, |node| node.reads);
        common_format([reads])
    }

    /// Writes something for one node.
    fn encode_for(&self, node: NodeTag, value: &impl Serialize) -> Bytes {
        protocol::encode(self.format_for(node), value)
    }

    /// Sends a notice over the link; `false` if the node cannot be reached. A node that cannot be told is gone, and what it should
    /// know with it.
    fn notify(&self, to: NodeTag, notice: &LinkNotice<'_>) -> bool {
        let link = self.link.get().zip(RemoteNode::find(&self.cluster, to));
        link.is_some_and(|(link, peer)| link.notify(peer, SESSIONS, self.encode_for(to, notice)).is_ok())
    }

    /// Sends a request over the link; the answer is `None` when it does not come.
    fn ask(
        &self,
        to: NodeTag,
        request: &LinkRequest<'_>,
    ) -> impl Future<Output = Option<LinkResponse>> + Send + 'static {
        let response = self.request(to, request);
        async move { response.await.ok() }
    }

    /// The same, with why the answer does not come.
    fn request(
        &self,
        to: NodeTag,
        request: &LinkRequest<'_>,
    ) -> impl Future<Output = Result<LinkResponse, NoAnswer>> + Send + 'static {
        let link = self.link.get().zip(RemoteNode::find(&self.cluster, to));
        let trace = match request {
            LinkRequest::Take(session) => session.trace.as_deref(),
            _ => None,
        };
        let encoded = || protocol::encode_traced(self.format_for(to), trace, request);
        let answer = link.map(|(link, peer)| link.request(peer, SESSIONS, encoded()));
        // Those wait at the other end until there is something to say.
        let is_timed = !matches!(request, LinkRequest::Poll { .. });
        let metrics = self.metrics.clone();
        async move {
            let asked = Instant::now();
            let (outcome, response) = match answer {
                Some(answer) => match answer.await.map(|bytes| protocol::decode(&bytes)) {
                    Ok(Ok(response)) => ("answered", Ok(response)),
                    Ok(Err(_)) => ("unreadable", Err(NoAnswer::Unreadable)),
                    Err(error) => (name_of(error), Err(NoAnswer::Link(error))),
                },
                None => ("unknown_node", Err(NoAnswer::UnknownNode)),
            };
            metrics.link_requests.with_label_values(&[outcome]).inc();
            if is_timed && response.is_ok() {
                metrics.link_seconds.observe(asked.elapsed().as_secs_f64());
            }
            response
        }
    }

    /// Sends a message to one node through the store, at most once; `false` if that cannot be done now.
    fn send_node_message(&self, node: NodeTag, message: &NodeMessage) -> bool {
        let format = self.format_for(node);
        self.cluster.send_to_node(Instant::now(), node, message.encode(format))
    }
}

/// Why a request has no answer.
enum NoAnswer {
    /// No node of the cluster has the tag.
    UnknownNode,
    /// What came is no answer.
    Unreadable,
    /// The link has none.
    Link(LinkError),
}

/// A failed request's outcome, as the label of a metric.
fn name_of(error: LinkError) -> &'static str {
    match error {
        LinkError::Unreachable => "unreachable",
        LinkError::WrongNode => "wrong_node",
        LinkError::Full => "full",
        LinkError::Refused => "refused",
        LinkError::Broken => "broken",
    }
}
