//! The connected sockets of each namespace.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use ahash::AHashMap;

use crate::{
    address::{Address, Owner},
    partition,
    store::{Reply, User},
    subject::SubjectList,
};

/// Users in one page.
pub const PAGE: usize = 1000;

/// Owners and profiles.
type Namespace = BTreeMap<Address, (Owner, Arc<str>)>;

#[derive(Debug, Default)]
pub(super) struct Users {
    namespaces: AHashMap<Arc<str>, Namespace>,
}

impl Users {
    pub(super) fn put(&mut self, owner: Owner, puts: Vec<User>, removes: &[(Arc<str>, Address)]) -> Reply {
        for (namespace, socket) in removes {
            self.remove(owner, namespace, *socket);
        }
        for (namespace, socket, profile) in puts {
            self.namespaces.entry(namespace).or_default().insert(socket, (owner, profile));
        }
        Reply::Done
    }

    /// Counts a connection of a subject: whether there was room.
    pub(super) fn count(&mut self, owner: Owner, list: &SubjectList, connection: Address, most: u64) -> bool {
        let counted = self.namespaces.get(list.name());
        let is_there = counted.is_some_and(|counted| counted.contains_key(&connection));
        if !is_there && counted.map_or(0, BTreeMap::len) as u64 >= most {
            return false;
        }
        self.namespaces.entry(list.name().clone()).or_default().insert(connection, (owner, "".into()));
        true
    }

    fn remove(&mut self, owner: Owner, namespace: &Arc<str>, socket: Address) {
        let is_theirs = |entry: &(Owner, Arc<str>)| entry.0.tag == owner.tag;
        if let Some(users) = self.namespaces.get_mut(namespace)
            && users.get(&socket).is_some_and(is_theirs)
        {
            users.remove(&socket);
            if users.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }

    pub(super) fn find(&self, namespace: &str, socket: Address) -> Reply {
        let users = self.namespaces.get(namespace);
        Reply::User(users.and_then(|users| users.get(&socket)).map(|(owner, _)| owner.tag))
    }

    pub(super) fn page(&self, namespace: &str, after: Option<Address>) -> Reply {
        let Some(users) = self.namespaces.get(namespace) else { return Reply::Users(Vec::new(), false) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = users.range((from, Bound::Unbounded));
        let page: Vec<_> =
            rest.by_ref().take(PAGE).map(|(socket, (_, profile))| (*socket, profile.clone())).collect();
        Reply::Users(page, rest.next().is_some())
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.namespaces.values().flat_map(|users| users.values().map(|(owner, _)| *owner))
    }

    pub(super) fn reap(&mut self, owner: Owner, partition: u8) {
        self.namespaces.retain(|namespace, users| {
            users.retain(|socket, (by, _)| {
                *by != owner || partition::of_user(namespace, *socket) != partition
            });
            !users.is_empty()
        });
    }
}
