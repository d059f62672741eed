//! What an operator may ask of a cluster, through any of its nodes.
//!
//! ```no_run
//! # async fn look(node: signalbox_node::Node) {
//! use signalbox_node::admin::{Answer, Question};
//!
//! let answers = node.ask_cluster(Question::Node).await;
//! if let Answer::Nodes(nodes) = answers.answer {
//!     nodes.iter().for_each(|node| println!("{} has {} peers", node.name, node.peers));
//! }
//! answers.partial.iter().for_each(|missing| println!("{} does not answer", missing.name));
//! # }
//! ```

pub use signalbox_admin as rows;

use std::{collections::BTreeSet, time::Instant};

use signalbox_admin::{
    Partial, PartialReason,
    events::{EventFilter, EventKind},
    operations::{Operation, OperationKind},
};
use signalbox_cluster::{Address, NodeInfo, envelope::Format};

pub use crate::events::{EventFeed, EventListener, FellBehind, ListenerGauge, Told};
pub use crate::operations::{CannotBegin, MAX_RATE, NewOperation};
pub use crate::peering::inquiries::ANSWER_BY;
pub use crate::protocol::inquiry::{
    Act, Answer, Emission, Listing, LogOrder, More, Once, PeerOrder, Question, SocketFilter, principal_row,
};
use crate::{app::SocketRouter, node::Node, peering::inquiries::Nodes};
pub use signalbox_cluster_redis::StoreAway;
pub use signalbox_socketio::args::is_reserved;

/// What the nodes of a cluster have answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The answers of those that have, joined.
    pub answer: Answer,
    /// Those that have not.
    pub partial: Vec<Partial>,
}

impl Node {
    /// Puts a question to every node of the cluster. It is answered within two seconds, by those that have answered until then.
    pub async fn ask_cluster(&self, question: Question) -> Answers {
        let (answer, partial) = self.shared.peering.inquire(question, Nodes::All).await;
        Answers { answer, partial }
    }

    /// Puts a question to every node of the cluster, like [`Self::ask_cluster`]: they have until `until`, which is [`ANSWER_BY`] from when it
    /// was asked for.
    pub async fn ask_cluster_until(&self, until: Instant, question: Question) -> Answers {
        let (answer, partial) = self.shared.peering.inquire_until(until.into(), question, Nodes::All).await;
        Answers { answer, partial }
    }

    /// The same, where more than one question is put: whoever did not answer an earlier one is asked and not waited for. `unheard` are the ids of
    /// these nodes; they are named as not having answered in time.
    pub async fn ask_cluster_without(
        &self,
        until: Instant,
        question: Question,
        unheard: &BTreeSet<String>,
    ) -> Answers {
        let peering = &self.shared.peering;
        let (answer, partial) = peering.inquire_without(until.into(), question, Nodes::All, unheard).await;
        Answers { answer, partial }
    }

    /// Puts a question to one node, named by its id or its name; `None` if this node knows none of that name.
    pub async fn ask_node(&self, node: &str, question: Question) -> Option<Answers> {
        let tag = self.find_node(node)?;
        let (answer, partial) = self.shared.peering.inquire(question, Nodes::One(tag)).await;
        Some(Answers { answer, partial })
    }

    /// Listens to what happens in the cluster: what this filter admits, from now on, or behind a position that this node has told and still
    /// knows. Nodes that cannot be heard are named in what it gets. Nothing is recorded while nobody listens.
    pub async fn listen(&self, filter: EventFilter, after: Option<&str>) -> EventListener {
        self.shared.peering.listen(filter, after).await
    }

    /// Feeds what happens on this node, and which nodes are there, come and go, to somebody who has to get all of it. There is one of these at most;
    /// `None` for another one. At most `queue` events wait; what does not fit is dropped, and a marker says how many.
    pub fn feed_events(&self, kinds: &[EventKind], queue: usize) -> Option<EventFeed> {
        let feed = self.shared.hub.feed(kinds, queue)?;
        // Those that were seen before.
        for (tag, node) in self.shared.cluster.nodes().iter().filter(|(tag, _)| **tag != self.shared.tag) {
            self.shared.hub.remember_name(*tag, &node.name);
            self.shared.hub.report_node(EventKind::NodeUp, *tag);
        }
        Some(feed)
    }

    /// The node of this id or name: ids go before names.
    fn find_node(&self, node: &str) -> Option<signalbox_cluster::NodeTag> {
        let nodes = self.shared.cluster.nodes();
        let is_here = self.shared.tag.to_string() == node || self.shared.name.as_deref() == Some(node);
        let of_id = nodes.keys().find(|tag| tag.to_string() == node);
        let found = of_id.or_else(|| nodes.iter().find(|(_, info)| info.name == node).map(|(tag, _)| tag));
        found.copied().or_else(|| is_here.then_some(self.shared.tag))
    }

    /// All long operations that are known, the latest first.
    ///
    /// # Errors
    /// Redis is away, where they are kept.
    pub async fn operations(&self) -> Result<Vec<Operation>, StoreAway> {
        self.shared.all_operations().await
    }

    /// Begins to drain a node, named by its id or its name. It is not asked: one that does not answer begins when it can.
    ///
    /// # Errors
    /// There is no such node; it drains already; Redis is away.
    pub async fn begin_drain(&self, node: &str, new: &NewOperation) -> Result<Operation, CannotBegin> {
        let node = self.find_node(node).ok_or(CannotBegin::NoSuchNode)?;
        let is_older = |info: &NodeInfo| !info.reads.contains(Format::V2);
        if self.shared.cluster.nodes().get(&node).is_some_and(is_older) {
            return Err(CannotBegin::OlderNode);
        }
        self.shared.begin_operation(OperationKind::Drain, node, None, new).await
    }

    /// Begins to rebalance the cluster: the nodes with the most Socket.IO clients send so many away in a second (1 to [`MAX_RATE`]), all
    /// together, until all nodes have equally many.
    ///
    /// # Errors
    /// The cluster is rebalanced already; Redis is away.
    pub async fn begin_rebalance(&self, rate: u32, new: &NewOperation) -> Result<Operation, CannotBegin> {
        let (kind, rate) = (OperationKind::Rebalance, Some(rate.clamp(1, MAX_RATE)));
        self.shared.begin_operation(kind, self.shared.tag, rate, new).await
    }

    /// Stops an operation; the node that runs it says so within seconds. One that is over stays as it is. `None`: there is no such one.
    /// Redis is waited for until then.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn stop_operation(&self, id: &str, until: Instant) -> Result<Option<Operation>, StoreAway> {
        self.shared.stop_operation(id, until).await
    }

    /// Begins something that bears a key of whoever asks for it, unless it was begun already, here or on another node, in the last ten
    /// minutes. `None`: as much is under way as can be remembered. What is new has to end with [`Self::finish_once`].
    pub async fn begin_once(&self, key: &str) -> Option<Once> {
        self.shared.peering.begin_once(key).await
    }

    /// Something that bears a key has this outcome; without one it may be begun again.
    pub fn finish_once(&self, key: &str, outcome: Option<String>) {
        self.shared.peering.finish_once(key, outcome);
    }

    /// Whether a room may not have this name: it may be a socket's id, and whoever is in that room would listen in.
    pub fn is_socket_id(&self, name: &str) -> bool {
        Address::parse(name).is_some_and(|address| SocketRouter::is_known(&*self.shared.peering, address))
    }

    /// Whether broadcasts reach the other nodes, as far as is known.
    pub fn can_publish(&self) -> bool {
        self.shared.cluster.can_publish()
    }

    /// The other nodes that this one knows, for what does not reach them.
    pub fn others_unreached(&self) -> Vec<Partial> {
        let nodes = self.shared.cluster.nodes();
        let others = nodes.iter().filter(|(tag, _)| **tag != self.shared.tag);
        let reason = PartialReason::Unreachable;
        others.map(|(tag, node)| Partial { node: tag.to_string(), name: node.name.clone(), reason }).collect()
    }

    /// How many nodes this one knows, itself included.
    pub fn nodes_known(&self) -> usize {
        self.shared.cluster.nodes().len().max(1)
    }
}
