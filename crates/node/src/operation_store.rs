//! Where operations are kept: in Redis, or with a node that is alone.
//!
//! - `ended`: what is over stays over, though Redis forgets it.

mod ended;

use parking_lot::Mutex;
use signalbox_admin::operations::{Operation, OperationKind};
use signalbox_cluster::operations::{OperationTable, StoredOperation, Written};
use signalbox_cluster_redis::StoreAway;

pub(crate) use self::ended::EndedOperations;

/// The operations of the cluster.
#[derive(Debug)]
pub(crate) enum OperationStore {
    /// The node is alone.
    Alone(Mutex<OperationTable>),
    /// All nodes have them.
    Shared(signalbox_cluster_redis::Operations),
}

/// An operation, and the version that it was read in.
#[derive(Debug, Clone)]
pub(crate) struct Versioned {
    pub(crate) version: u64,
    pub(crate) operation: Operation,
}

impl OperationStore {
    /// Of a node that is alone, or of its cluster.
    pub(crate) fn new(shared: Option<signalbox_cluster_redis::Operations>) -> Self {
        shared.map_or_else(|| Self::Alone(Mutex::default()), Self::Shared)
    }

    /// Writes an operation if nobody else has; counts its version up then.
    pub(crate) async fn write(&self, versioned: &mut Versioned) -> Result<Written, StoreAway> {
        let stored = versioned.stored();
        let written = match self {
            Self::Alone(table) => table.lock().write(stored),
            Self::Shared(operations) => operations.write(stored).await?,
        };
        if let Written::Stored(version) = written {
            versioned.version = version;
        }
        Ok(written)
    }

    /// Those that run, or all.
    pub(crate) async fn read(&self, only_running: bool) -> Result<Vec<Versioned>, StoreAway> {
        let stored = match self {
            Self::Alone(table) if only_running => table.lock().running(),
            Self::Alone(table) => table.lock().all(),
            Self::Shared(operations) => operations.read(only_running).await?,
        };
        // What a later version has written, nodes of that version run.
        Ok(stored.iter().filter_map(Versioned::of).collect())
    }
}

impl Versioned {
    /// `None` where the text does not say what its record says of it: then no node could write it again.
    fn of(stored: &StoredOperation) -> Option<Self> {
        let known = Self { version: stored.version, operation: serde_json::from_str(&stored.text).ok()? };
        let same = StoredOperation { text: stored.text.clone(), ..known.stored() };
        (same == *stored).then_some(known)
    }

    fn stored(&self) -> StoredOperation {
        let operation = &self.operation;
        StoredOperation {
            id: operation.id.clone(),
            version: self.version,
            is_over: operation.status.is_over(),
            began: operation.started_at,
            subject: match operation.kind {
                OperationKind::Rebalance => "rebalance".to_owned(),
                OperationKind::Drain => format!("drain {}", operation.runner),
            },
            // Texts and numbers make JSON.
            text: serde_json::to_string(operation).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_admin::operations::OperationStatus;

    use super::*;

    #[test]
    fn a_record_is_read_only_if_it_could_be_written_again() {
        let operation = Operation {
            id: "1".to_owned(),
            kind: OperationKind::Drain,
            status: OperationStatus::Running,
            detail: String::new(),
            runner: "node".to_owned(),
            runner_name: "name".to_owned(),
            started_by: "somebody".to_owned(),
            started_at: 5,
            updated_at: 6,
            ended_at: None,
            total: 7,
            done: 8,
            rate: None,
            nodes: Vec::new(),
        };
        let stored = Versioned { version: 3, operation: operation.clone() }.stored();
        assert_eq!(
            Versioned::of(&stored).map(|known| (known.version, known.operation)),
            Some((3, operation))
        );
        let changed = |change: &dyn Fn(&mut StoredOperation)| {
            let mut stored = stored.clone();
            change(&mut stored);
            Versioned::of(&stored)
        };
        assert!(changed(&|stored| stored.id.push('2')).is_none());
        assert!(changed(&|stored| stored.is_over = true).is_none());
        assert!(changed(&|stored| stored.subject = "rebalance".to_owned()).is_none());
        assert!(changed(&|stored| stored.began = 6).is_none());
        assert!(changed(&|stored| stored.text = "{}".to_owned()).is_none());
        assert!(changed(&|stored| stored.text = stored.text.replace("drain", "later-kind")).is_none());
    }
}
