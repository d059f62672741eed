//! Connections of each subject, counted where they are limited. The store counts those of all nodes, and decides. While it is away a
//! node counts its own.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Instant,
};

use ahash::AHashMap;

use super::{Machine, Output, Outputs, Pending, pending::Counting};
use crate::{
    address::Address,
    command::{Counted, Delivery},
    partition,
    store::{Call, Reply},
    subject::SubjectList,
};

/// What a list says of a connection beside its node: nothing.
const PROFILE: &str = "";

/// The connections of this node that are counted, by the lists they are in; each with how many hold its place. A peer whose id another
/// connection has taken over shares its place with that one for a moment.
#[derive(Debug, Default)]
pub(super) struct Connections {
    lists: AHashMap<Arc<str>, BTreeMap<Address, u32>>,
}

impl Connections {
    fn hold(&mut self, list: &Arc<str>, connection: Address) {
        *self.lists.entry(list.clone()).or_default().entry(connection).or_default() += 1;
    }

    /// Whether nobody holds the place any more.
    fn release(&mut self, list: &Arc<str>, connection: Address) -> bool {
        let Some(connections) = self.lists.get_mut(list) else { return false };
        let Some(holders) = connections.get_mut(&connection) else { return false };
        *holders -= 1;
        if *holders > 0 {
            return false;
        }
        connections.remove(&connection);
        if connections.is_empty() {
            self.lists.remove(list);
            crate::shrink_if_sparse(&mut self.lists);
        }
        true
    }

    fn held(&self, list: &Arc<str>) -> u64 {
        self.lists.get(list).map_or(0, |connections| connections.len() as u64)
    }

    fn holds(&self, list: &str, connection: Address) -> bool {
        self.lists.get(list).is_some_and(|connections| connections.contains_key(&connection))
    }

    /// The lists.
    pub(super) fn lists(&self) -> impl Iterator<Item = &Arc<str>> {
        self.lists.keys()
    }

    /// How many lists there are.
    pub(super) fn len(&self) -> usize {
        self.lists.len()
    }

    /// Those in a list, as the store has them, behind one of them.
    pub(super) fn behind(
        &self,
        list: &str,
        after: Option<Address>,
    ) -> impl Iterator<Item = (Address, Arc<str>)> {
        let from = (after.map_or(Unbounded, Excluded), Unbounded);
        let connections = self.lists.get(list).into_iter().flat_map(move |list| list.range(from));
        connections.map(|(connection, _)| (*connection, PROFILE.into()))
    }
}

impl Machine {
    /// A connection is to be counted, if there is room for it.
    pub(super) fn count_connection(&mut self, now: Instant, counting: Counting, out: &mut Outputs) {
        let Counting { list, connection, most, .. } = &counting;
        let (list, connection, most) = (list.clone(), *connection, *most);
        self.connections.hold(list.name(), connection);
        self.users.forget(list.name(), connection);
        if self.lease.is_valid(now) {
            let call = Call::CountConnection { owner: self.owner(), list, connection, most };
            out.push_back(Output::Call(call, Pending::CountConnection(counting)));
        } else {
            self.count_alone(&counting, out);
        }
    }

    /// The store has counted a connection, or not.
    pub(super) fn connection_counted(
        &mut self,
        now: Instant,
        counting: &Counting,
        reply: &Reply,
        out: &mut Outputs,
    ) {
        let (list, connection) = (counting.list.name(), counting.connection);
        match reply {
            Reply::Counted(true) => answer(counting, Counted::Within, out),
            Reply::Counted(false) => {
                self.connections.release(list, connection);
                answer(counting, Counted::TooMany, out);
            }
            _ => {
                self.count_alone(counting, out);
                // It may have been counted, or not: what is so by now is written, as soon as that is possible.
                self.user_not_written(now, list.clone(), connection);
            }
        }
    }

    /// The store is away: this node's connections are all that is known.
    fn count_alone(&mut self, counting: &Counting, out: &mut Outputs) {
        let list = counting.list.name();
        let counted = if self.connections.held(list) <= counting.most {
            Counted::WithinHere
        } else {
            self.connections.release(list, counting.connection);
            Counted::TooMany
        };
        answer(counting, counted, out);
    }

    /// A connection is counted no more.
    pub(super) fn uncount_connection(
        &mut self,
        now: Instant,
        list: &SubjectList,
        connection: Address,
        out: &mut Outputs,
    ) {
        let name = list.name();
        if !self.connections.release(name, connection) {
            return;
        }
        self.users.forget(name, connection);
        // Not with the other users, a moment later: who has just left may be coming back, to another node.
        if self.lease.is_valid(now) {
            let partition = partition::of_user(name, connection);
            let removes = vec![(name.clone(), connection)];
            let call =
                Call::PutUsers { owner: self.owner(), partition, puts: Vec::new(), removes: removes.clone() };
            out.push_back(Output::Call(call, Pending::PutUsers(removes)));
        }
    }

    /// A user of a namespace is this node's from now on: a socket, or a connection that is counted.
    pub(super) fn user_adopted(&mut self, namespace: &Arc<str>, socket: Address, profile: &Arc<str>) {
        if SubjectList::is_name(namespace) {
            self.connections.hold(namespace, socket);
        } else {
            self.own.user(namespace, socket, Some(profile.clone()));
        }
    }

    /// The profile of a user of this node, as the store is to have it.
    pub(super) fn profile_of(&self, namespace: &str, socket: Address) -> Option<Arc<str>> {
        if SubjectList::is_name(namespace) {
            return self.connections.holds(namespace, socket).then(|| PROFILE.into());
        }
        self.own.users.get(namespace).and_then(|users| users.get(&socket)).cloned()
    }
}

fn answer(counting: &Counting, counted: Counted, out: &mut Outputs) {
    let Counting { shard, ticket, .. } = *counting;
    out.push_back(Output::Deliver(shard, Delivery::ConnectionCounted { ticket, counted }));
}

#[cfg(test)]
mod tests;
