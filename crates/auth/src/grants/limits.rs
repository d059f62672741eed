//! Limits that a grant sets for its holder, in place of the node's own.

use serde::{Serialize, Serializer};

/// Something that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Connections of the subject, in the whole cluster.
    Connections,
    /// Namespaces on one connection.
    Namespaces,
    /// Rooms that one socket is in.
    Rooms,
    /// Events in a second on one connection.
    EventsPerSecond,
    /// Bytes in a second on one connection.
    BytesPerSecond,
    /// Joins in a second on one connection.
    JoinsPerSecond,
    /// Bytes of one message.
    MessageBytes,
    /// Bytes of a member's profile.
    ProfileBytes,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Namespaces,
        Self::Rooms,
        Self::EventsPerSecond,
        Self::BytesPerSecond,
        Self::JoinsPerSecond,
        Self::MessageBytes,
        Self::ProfileBytes,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Namespaces => "namespaces",
            Self::Rooms => "rooms",
            Self::EventsPerSecond => "eventsPerSecond",
            Self::BytesPerSecond => "bytesPerSecond",
            Self::JoinsPerSecond => "joinsPerSecond",
            Self::MessageBytes => "messageBytes",
            Self::ProfileBytes => "profileBytes",
        }
    }
}

/// The limits that a grant sets. What it does not set is for the node to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits([Option<u64>; Limit::ALL.len()]);

impl Limits {
    /// What it says about a limit.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        self.0[limit as usize]
    }

    /// Sets a limit.
    pub fn set(&mut self, limit: Limit, most: u64) {
        self.0[limit as usize] = Some(most);
    }

    /// Whether it sets none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            Limit::ALL.iter().filter_map(|limit| self.get(*limit).map(|most| (limit.name(), most))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_place_of_its_own() {
        for (at, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, at);
            let mut limits = Limits::default();
            limits.set(limit, 7);
            assert_eq!(Limit::ALL.map(|each| limits.get(each)).iter().flatten().count(), 1);
            assert_eq!(serde_json::to_string(&limits).unwrap(), format!("{{\"{}\":7}}", limit.name()));
        }
    }
}
