//! WebSockets that want to take a session over.

use std::rc::Rc;

use signalbox_cluster::{Address, NodeTag, ShardId};
use slab::Slab;

use super::shrink::Shrink;
use crate::{
    routing::ConnectionRef,
    transport::{Conn, Role},
};

/// A WebSocket that wants to take a session over.
pub(in crate::shard) struct Probe {
    pub(in crate::shard) conn: Rc<Conn>,
    pub(in crate::shard) sid: Address,
    number: u64,
    /// It was probed; the session's owner knows.
    pub(in crate::shard) is_probed: bool,
}

/// The probes of a shard.
pub(in crate::shard) struct Probes {
    node: NodeTag,
    shard: ShardId,
    probes: Slab<Probe>,
}

impl Probes {
    pub(in crate::shard) fn new(node: NodeTag, shard: ShardId) -> Self {
        Self { node, shard, probes: Slab::new() }
    }

    /// Adds a connection, which has this role from now on.
    pub(in crate::shard) fn insert(&mut self, conn: &Rc<Conn>, sid: Address, number: u64) -> ConnectionRef {
        let probe = Probe { conn: conn.clone(), sid, number, is_probed: false };
        let key = self.probes.insert(probe) as u32;
        conn.role.set(Role::Probe(key));
        self.named(key, number)
    }

    fn named(&self, key: u32, number: u64) -> ConnectionRef {
        ConnectionRef { node: self.node, shard: self.shard, key, number }
    }

    /// How other shards and nodes name the probe with this key.
    pub(in crate::shard) fn name(&self, key: u32) -> Option<ConnectionRef> {
        Some(self.named(key, self.probes.get(key as usize)?.number))
    }

    pub(in crate::shard) fn get(&mut self, at: ConnectionRef) -> Option<&mut Probe> {
        self.probes.get_mut(at.key as usize).filter(|probe| probe.number == at.number)
    }

    /// Takes a probe out: it becomes a transport, or is closed.
    pub(in crate::shard) fn remove(&mut self, at: ConnectionRef) -> Option<Probe> {
        self.get(at)?;
        let probe = self.probes.remove(at.key as usize);
        probe.conn.role.set(Role::Nobody);
        Some(probe)
    }

    /// Those whose sessions were born on a node.
    pub(in crate::shard) fn of_node(&self, node: NodeTag) -> Vec<ConnectionRef> {
        let of_node = self.probes.iter().filter(|(_, probe)| probe.sid.node() == node);
        of_node.map(|(key, probe)| self.named(key as u32, probe.number)).collect()
    }

    /// Their connections.
    pub(in crate::shard) fn conns(&self) -> impl Iterator<Item = &Rc<Conn>> {
        self.probes.iter().map(|(_, probe)| &probe.conn)
    }

    #[cfg(test)]
    pub(in crate::shard) fn len(&self) -> usize {
        self.probes.len()
    }

    pub(in crate::shard) fn drain(&mut self) -> Vec<Probe> {
        self.probes.drain().collect()
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.probes.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_fit_a_later_probe_of_the_same_key() {
        let mut probes = Probes::new(NodeTag(1), 3);
        let sid = Address::random(NodeTag(2), 0);
        let conn = Conn::pending();
        let first = probes.insert(&conn, sid, 1);
        assert_eq!(conn.role.get(), Role::Probe(first.key));
        assert_eq!(probes.of_node(NodeTag(2)), [first]);
        assert!(probes.remove(first).is_some());
        assert_eq!(conn.role.get(), Role::Nobody);
        let second = probes.insert(&conn, sid, 2);
        assert_eq!(first.key, second.key);
        assert!(probes.get(first).is_none() && probes.get(second).is_some());
        assert!(probes.remove(first).is_none());
        assert_eq!(probes.name(second.key), Some(second));
    }
}
