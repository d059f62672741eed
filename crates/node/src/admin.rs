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

use signalbox_admin::Partial;

use crate::node::Node;
pub use crate::protocol::inquiry::{Answer, Listing, More, Question, SocketFilter};

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
        let (answer, partial) = self.shared.peering.inquire(question, None).await;
        Answers { answer, partial }
    }

    /// Puts a question to one node, named by its id or its name; `None` if this node knows none of that name.
    pub async fn ask_node(&self, node: &str, question: Question) -> Option<Answers> {
        let tag = self.find_node(node)?;
        let (answer, partial) = self.shared.peering.inquire(question, Some(tag)).await;
        Some(Answers { answer, partial })
    }

    /// The node of this id or name: ids go before names.
    fn find_node(&self, node: &str) -> Option<signalbox_cluster::NodeTag> {
        let nodes = self.shared.cluster.nodes();
        let is_here = self.shared.tag.to_string() == node || self.shared.name.as_deref() == Some(node);
        let of_id = nodes.keys().find(|tag| tag.to_string() == node);
        let found = of_id.or_else(|| nodes.iter().find(|(_, info)| info.name == node).map(|(tag, _)| tag));
        found.copied().or_else(|| is_here.then_some(self.shared.tag))
    }

    /// How many nodes this one knows, itself included.
    pub fn nodes_known(&self) -> usize {
        self.shared.cluster.nodes().len().max(1)
    }
}
