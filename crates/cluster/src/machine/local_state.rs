//! The node's own claims, memberships and users: the authority on its clients, whatever the store has.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use ahash::AHashMap;

use crate::{
    Config,
    address::Address,
    command::{PeerAt, RealmId},
    model::queues::Queues,
    record::{Record, RoomName},
    store::ClaimRank,
};

/// Waits that the node keeps itself are numbered from here; the store's are numbered from 0.
pub(super) const LOCAL_WAITS: u64 = 1 << 62;
/// Users in one page.
const PAGE: usize = 1000;

#[derive(Debug)]
pub(super) struct LocalClaim {
    pub(super) at: PeerAt,
    pub(super) token: Arc<str>,
    /// Its rank, as it was last claimed.
    pub(super) rank: ClaimRank,
    /// The store has confirmed it. When it is claimed again, it counts as granted by the store.
    pub(super) is_kept: bool,
}

#[derive(Debug)]
pub(super) struct LocalState {
    /// Whether memberships and users are kept here. When the node is alone, the store has all of them, and is never away.
    is_shared: bool,
    pub(super) claims: Vec<AHashMap<Arc<str>, LocalClaim>>,
    pub(super) rooms: AHashMap<RoomName, BTreeMap<Address, Arc<Record>>>,
    pub(super) users: AHashMap<Arc<str>, BTreeMap<Address, Arc<str>>>,
    /// Messages that wait for their addressees while the store is away.
    pub(super) queues: Queues,
}

impl LocalState {
    pub(super) fn new(config: &Config, is_shared: bool) -> Self {
        Self {
            is_shared,
            claims: config.realms.iter().map(|_| AHashMap::new()).collect(),
            rooms: AHashMap::new(),
            users: AHashMap::new(),
            queues: Queues::new(config.expire_timeout, LOCAL_WAITS),
        }
    }

    pub(super) fn claim(&self, realm: RealmId, id: &str) -> Option<&LocalClaim> {
        self.claims.get(usize::from(realm))?.get(id)
    }

    pub(super) fn claimed(&mut self, realm: RealmId, id: Arc<str>, claim: LocalClaim) {
        if let Some(claims) = self.claims.get_mut(usize::from(realm)) {
            claims.insert(id, claim);
        }
    }

    /// Ends a claim of this generation.
    pub(super) fn released(&mut self, realm: RealmId, id: &str, generation: u64) {
        if let Some(claims) = self.claims.get_mut(usize::from(realm))
            && claims.get(id).is_some_and(|claim| claim.at.generation == generation)
        {
            claims.remove(id);
            crate::shrink_if_sparse(claims);
        }
    }

    pub(super) fn held(&self) -> usize {
        self.claims.iter().map(|claims| claims.len()).sum()
    }

    pub(super) fn ids(&self, realm: RealmId) -> Vec<Arc<str>> {
        self.claims.get(usize::from(realm)).map(|claims| claims.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn joined(&mut self, room: &RoomName, record: &Arc<Record>) {
        if self.is_shared {
            self.rooms.entry(room.clone()).or_default().insert(record.socket, record.clone());
        }
    }

    pub(super) fn left(&mut self, room: &RoomName, socket: Address) {
        if let Some(members) = self.rooms.get_mut(room) {
            members.remove(&socket);
            if members.is_empty() {
                self.rooms.remove(room);
                crate::shrink_if_sparse(&mut self.rooms);
            }
        }
    }

    pub(super) fn is_member(&self, room: &RoomName, socket: Address) -> bool {
        self.rooms.get(room).is_some_and(|members| members.contains_key(&socket))
    }

    pub(super) fn members(&self, room: &RoomName) -> Vec<Arc<Record>> {
        self.rooms.get(room).map(|members| members.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn user(&mut self, namespace: &Arc<str>, socket: Address, profile: Option<Arc<str>>) {
        if !self.is_shared {
            return;
        }
        match profile {
            Some(profile) => {
                self.users.entry(namespace.clone()).or_default().insert(socket, profile);
            }
            None => {
                if let Some(users) = self.users.get_mut(namespace) {
                    users.remove(&socket);
                    if users.is_empty() {
                        self.users.remove(namespace);
                    }
                }
            }
        }
    }

    pub(super) fn users(&self, namespace: &str, after: Option<Address>) -> (Vec<(Address, Arc<str>)>, bool) {
        let Some(users) = self.users.get(namespace) else { return (Vec::new(), false) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = users.range((from, Bound::Unbounded));
        let page = rest.by_ref().take(PAGE).map(|(socket, profile)| (*socket, profile.clone())).collect();
        (page, rest.next().is_some())
    }
}
