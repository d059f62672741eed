//! Long operations of operators, as the nodes of a cluster share them: texts with versions, each about one subject.
//!
//! [`OperationTable`] says what a store does with them. It is the store of a node that is alone, and the model of the one in Redis.

use std::collections::BTreeMap;

/// Most operations that run, and most of those that are over that are kept.
pub const MAX_OPERATIONS: usize = 100;

/// An operation, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOperation {
    /// Its name: letters and digits.
    pub id: String,
    /// How often it was written.
    pub version: u64,
    /// Whether it is over. Then it does not change any more.
    pub is_over: bool,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// What it is about, without line feeds. One that runs keeps another with the same subject from beginning.
    pub subject: String,
    /// What is known of it.
    pub text: String,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is stored, with this version.
    Stored(u64),
    /// Somebody else has written it since, or it is over.
    Changed,
    /// Another one about the subject runs: its name.
    Busy(String),
    /// As many run as may.
    Full,
}

/// The operations of a cluster.
#[derive(Debug, Clone, Default)]
pub struct OperationTable {
    running: BTreeMap<String, StoredOperation>,
    over: BTreeMap<String, StoredOperation>,
}

impl OperationTable {
    /// Writes an operation if its version is still `operation.version`, which is 0 for a new one.
    pub fn write(&mut self, operation: StoredOperation) -> Written {
        let known = self.running.get(&operation.id).map_or(0, |known| known.version);
        if self.over.contains_key(&operation.id) || known != operation.version {
            return Written::Changed;
        }
        if known == 0 && !operation.is_over {
            if let Some(other) = self.running.values().find(|other| other.subject == operation.subject) {
                return Written::Busy(other.id.clone());
            }
            if self.running.len() >= MAX_OPERATIONS {
                return Written::Full;
            }
        }
        let version = known + 1;
        let operation = StoredOperation { version, ..operation };
        if !operation.is_over {
            self.running.insert(operation.id.clone(), operation);
            return Written::Stored(version);
        }
        self.running.remove(&operation.id);
        self.over.insert(operation.id.clone(), operation);
        while self.over.len() > MAX_OPERATIONS {
            let Some(oldest) = self.over.values().min_by_key(|over| (over.began, over.id.clone())) else {
                break;
            };
            let oldest = oldest.id.clone();
            self.over.remove(&oldest);
        }
        Written::Stored(version)
    }

    /// Those that run.
    pub fn running(&self) -> Vec<StoredOperation> {
        self.running.values().cloned().collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<StoredOperation> {
        self.running.values().chain(self.over.values()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: &str, version: u64, is_over: bool, subject: &str) -> StoredOperation {
        let (id, subject) = (id.to_owned(), subject.to_owned());
        StoredOperation { id, version, is_over, began: 7, subject, text: String::new() }
    }

    #[test]
    fn one_runs_about_a_subject_and_whoever_comes_too_late_changes_nothing() {
        let mut table = OperationTable::default();
        assert_eq!(table.write(operation("a", 0, false, "x")), Written::Stored(1));
        assert_eq!(table.write(operation("b", 0, false, "x")), Written::Busy("a".to_owned()));
        assert_eq!(table.write(operation("b", 0, false, "y")), Written::Stored(1));
        assert_eq!(table.write(operation("a", 1, false, "x")), Written::Stored(2));
        assert_eq!(table.write(operation("a", 1, false, "x")), Written::Changed);
        assert_eq!(table.write(operation("a", 2, true, "x")), Written::Stored(3));
        assert_eq!(table.write(operation("a", 3, false, "x")), Written::Changed);
        assert_eq!(table.write(operation("c", 0, false, "x")), Written::Stored(1));
        assert_eq!((table.running().len(), table.all().len()), (2, 3));
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let mut table = OperationTable::default();
        for number in 0..2 * MAX_OPERATIONS as u64 {
            let id = format!("{number:04}");
            let over = StoredOperation { began: number, ..operation(&id, 0, true, "x") };
            assert_eq!(table.write(over), Written::Stored(1));
        }
        assert_eq!((table.all().len(), table.all()[0].began), (MAX_OPERATIONS, MAX_OPERATIONS as u64));
        for number in 0..MAX_OPERATIONS {
            let running = operation(&format!("r{number}"), 0, false, &number.to_string());
            assert_eq!(table.write(running), Written::Stored(1));
        }
        assert_eq!(table.write(operation("more", 0, false, "more")), Written::Full);
    }
}
