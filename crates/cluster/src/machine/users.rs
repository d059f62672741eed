//! Users are written in batches, so that a connect or a join costs no call of its own.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{Machine, Output, Outputs, Pending};
use crate::{
    address::{Address, ShardId},
    command::{Delivery, Ticket},
    partition,
    store::{Call, User},
};

/// Users in one call.
const BATCH: usize = 256;

/// Users that have yet to be written, by partition and socket.
#[derive(Debug, Default)]
pub(super) struct PendingUserWrites {
    users: BTreeMap<(u8, Address), Changed>,
}

/// The namespace, and the profile; `None`: the user is gone.
type Changed = (Arc<str>, Option<Arc<str>>);

impl PendingUserWrites {
    /// The user is another node's to write from now on.
    pub(super) fn forget(&mut self, socket: Address) {
        self.users.remove(&(partition::of_user(socket), socket));
    }
}

impl Machine {
    /// A user has come, changed its profile, or gone.
    pub(super) fn user_changed(
        &mut self,
        now: Instant,
        namespace: Arc<str>,
        socket: Address,
        profile: Option<Arc<str>>,
        out: &mut Outputs,
    ) {
        self.own.user(&namespace, socket, profile.clone());
        self.users.users.insert((partition::of_user(socket), socket), (namespace, profile));
        // When the node is alone, a call costs nothing, and others see the user at once.
        if !self.lease.is_shared() {
            self.flush_users(now, out);
        }
    }

    pub(super) fn flush_users(&mut self, now: Instant, out: &mut Outputs) {
        if self.users.users.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.users.users);
        if !self.lease.is_valid(now) {
            // Everything is written again when the store is back.
            return;
        }
        let owner = self.owner();
        let (mut puts, mut removes): (Vec<User>, Vec<(Arc<str>, Address)>) = Default::default();
        let mut entries = dirty.into_iter().peekable();
        while let Some(((partition, socket), (namespace, profile))) = entries.next() {
            match profile {
                Some(profile) => puts.push((namespace, socket, profile)),
                None => removes.push((namespace, socket)),
            }
            let is_last = entries.peek().is_none_or(|((next, _), _)| *next != partition);
            if is_last || puts.len() + removes.len() >= BATCH {
                let (puts, removes) = (std::mem::take(&mut puts), std::mem::take(&mut removes));
                let call = Call::PutUsers { owner, partition, puts, removes };
                out.push_back(Output::Call(call, Pending::None));
            }
        }
    }

    pub(super) fn put_all_users(&mut self, out: &mut Outputs) {
        self.users.users.clear();
        let owner = self.owner();
        let mut parts: BTreeMap<u8, Vec<User>> = BTreeMap::new();
        let mut namespaces: Vec<_> = self.own.users.iter().collect();
        namespaces.sort_unstable_by_key(|(namespace, _)| *namespace);
        for (namespace, users) in namespaces {
            for (socket, profile) in users {
                let user = (namespace.clone(), *socket, profile.clone());
                parts.entry(partition::of_user(*socket)).or_default().push(user);
            }
        }
        for (partition, users) in parts {
            for puts in users.chunks(BATCH) {
                let call = Call::PutUsers { owner, partition, puts: puts.to_vec(), removes: Vec::new() };
                out.push_back(Output::Call(call, Pending::None));
            }
        }
    }

    pub(super) fn list_users(
        &mut self,
        now: Instant,
        shard: ShardId,
        ticket: Ticket,
        namespace: Arc<str>,
        after: Option<Address>,
        out: &mut Outputs,
    ) {
        if self.lease.is_valid(now) {
            // The socket for which the shard asks is in the list too.
            self.flush_users(now, out);
            let call = Call::Users { namespace: namespace.clone(), after };
            out.push_back(Output::Call(call, Pending::ListUsers { shard, ticket, namespace, after }));
        } else {
            let (users, more) = self.own.users(&namespace, after);
            out.push_back(Output::Deliver(shard, Delivery::Users { ticket, users, more }));
        }
    }
}
