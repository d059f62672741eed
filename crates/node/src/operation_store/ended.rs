//! Operations that this node has ended: a failover of Redis may lose that, and bring back a record that says they run.

use std::collections::VecDeque;

use parking_lot::Mutex;
use signalbox_admin::operations::Operation;

/// Most that are remembered; the oldest go first.
const MOST: usize = 100;

/// The operations that this node has ended, as they were then.
#[derive(Debug, Default)]
pub(crate) struct EndedOperations(Mutex<VecDeque<Operation>>);

impl EndedOperations {
    /// This one is over.
    pub(crate) fn remember(&self, operation: &Operation) {
        let mut ended = self.0.lock();
        if ended.iter().any(|known| (&known.id, known.started_at) == (&operation.id, operation.started_at)) {
            return;
        }
        if ended.len() >= MOST {
            ended.pop_front();
        }
        ended.push_back(operation.clone());
    }

    /// How an operation ended, if this node has ended it. A request that is sent again much later may begin another one of the same name.
    pub(crate) fn find(&self, operation: &Operation) -> Option<Operation> {
        let is_it = |known: &&Operation| known.id == operation.id && known.started_at == operation.started_at;
        self.0.lock().iter().find(is_it).cloned()
    }
}
