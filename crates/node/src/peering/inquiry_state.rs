//! What answering an operator's questions needs: who describes the node, and how many are being answered.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicUsize, Ordering},
};

use signalbox_admin::{Node, NodeRates};
use signalbox_cluster::command::RealmId;

use super::outcomes::Outcomes;
use crate::protocol::inquiry::LogOrder;

/// Questions that are answered here at once, whoever asks. Each may cost a look at every session.
const MAX_AT_ONCE: usize = 32;

/// A node, as it describes itself.
pub(crate) trait DescribeNode: Send + Sync {
    /// What it is, and how it is.
    fn node(&self) -> Node;
    /// How much goes through it.
    fn rates(&self) -> NodeRates;
    /// The realm with this key, or the first.
    fn realm(&self, key: Option<&str>) -> Option<RealmId>;
    /// Has it drain, and end.
    fn request_drain(&self);
    /// Changes what it logs for a time; `false` if it cannot.
    fn set_log(&self, order: &LogOrder) -> bool;
}

/// What answering questions needs.
#[derive(Default)]
pub(super) struct Inquiries {
    node: OnceLock<Weak<dyn DescribeNode>>,
    /// Questions that are being answered.
    at_once: Arc<AtomicUsize>,
    pub(super) outcomes: Outcomes,
}

/// One of those that are being answered.
pub(super) struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Inquiries {
    /// Who describes the node; set once.
    pub(super) fn describe<T: DescribeNode + 'static>(&self, node: &Arc<T>) {
        let node: Weak<dyn DescribeNode> = Arc::<T>::downgrade(node);
        let _ = self.node.set(node);
    }

    /// `None` if there are too many.
    pub(super) fn begin(&self) -> Option<Turn> {
        let turn = Turn(self.at_once.clone());
        (self.at_once.fetch_add(1, Ordering::AcqRel) < MAX_AT_ONCE).then_some(turn)
    }

    pub(super) fn node(&self) -> Option<Arc<dyn DescribeNode>> {
        self.node.get()?.upgrade()
    }
}
