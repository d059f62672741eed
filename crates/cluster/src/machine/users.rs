//! Users are written in batches, so that a connect or a join costs no call of its own.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use ahash::{AHashMap, AHashSet};

use super::{Machine, Output, Outputs, Pending, lease::RETRY, pending::Page};
use crate::{
    address::{Address, Owner, ShardId},
    command::{Delivery, Refused, Ticket},
    partition,
    store::{Call, Reply, User},
};

/// Users in one call.
pub(super) const BATCH: usize = 256;

/// Users that have yet to be written, by partition and socket, each with its profile; `None`: it is gone.
#[derive(Debug, Default)]
pub(super) struct PendingUserWrites {
    users: BTreeMap<(u8, Address, Arc<str>), Option<Arc<str>>>,
    /// A call failed: nothing is written before this.
    paused_until: Option<Instant>,
}

/// Pages that are read at once. There are as many as clients ask for different ones; the first page is one.
const MAX_READS: usize = 64;
/// Requests that wait for pages.
const MAX_WAITING: usize = 8192;
/// A page of so many users costs the store and the node a millisecond: while it is asked for again and again, it is read with each tick.
const LARGE: usize = 100;

/// Pages that are being read. All that ask for a page at the same moment share one answer.
#[derive(Debug, Default)]
pub(super) struct UserReads {
    reads: AHashMap<Page, UserRead>,
    /// Large ones that were read since the last tick.
    recent: AHashSet<Page>,
    /// Those that are to be read with the next one.
    due: Vec<Page>,
    waiting: usize,
}

/// A page that is being read.
#[derive(Debug, Default)]
struct UserRead {
    asked: Vec<(ShardId, Ticket)>,
    /// Those who asked since the call was made: their own socket may have been written after it. They share the next answer.
    next: Vec<(ShardId, Ticket)>,
}

impl PendingUserWrites {
    /// Everything is written again: what has changed is part of that.
    pub(super) fn clear(&mut self) {
        self.users.clear();
    }

    /// The user is another node's to write from now on.
    pub(super) fn forget(&mut self, namespace: &Arc<str>, socket: Address) {
        if !self.users.is_empty() {
            self.users.remove(&key(namespace.clone(), socket));
        }
    }
}

fn key(namespace: Arc<str>, socket: Address) -> (u8, Address, Arc<str>) {
    (partition::of_user(&namespace, socket), socket, namespace)
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
        self.users.users.insert(key(namespace, socket), profile);
        // When the node is alone, a call costs nothing, and others see the user at once.
        if !self.lease.is_shared() {
            self.flush_users(now, out);
        }
    }

    pub(super) fn users_tick(&mut self, now: Instant, out: &mut Outputs) {
        if self.users.paused_until.is_none_or(|until| until <= now) {
            self.users.paused_until = None;
            self.flush_users(now, out);
        }
        self.user_reads.recent.clear();
        for page in std::mem::take(&mut self.user_reads.due) {
            self.read_again(now, page, out);
        }
    }

    /// A user that could not be written is written again, as the local state has it by then.
    pub(super) fn user_not_written(&mut self, now: Instant, namespace: Arc<str>, socket: Address) {
        let profile = self.profile_of(&namespace, socket);
        self.users.users.entry(key(namespace, socket)).or_insert(profile);
        self.users.paused_until = Some(now + RETRY);
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
        while let Some(((partition, socket, namespace), profile)) = entries.next() {
            match profile {
                Some(profile) => puts.push((namespace, socket, profile)),
                None => removes.push((namespace, socket)),
            }
            let is_last = entries.peek().is_none_or(|((next, ..), _)| *next != partition);
            if is_last || puts.len() + removes.len() >= BATCH {
                let (puts, removes) = (std::mem::take(&mut puts), std::mem::take(&mut removes));
                put_users(owner, partition, puts, removes, out);
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
        if !self.lease.is_valid(now) {
            let page = (namespace, after);
            self.list_own_users(&page, &[(shard, ticket)], out);
            return;
        }
        let page = (namespace, after);
        let UserReads { reads, recent, due, waiting } = &mut self.user_reads;
        let is_full = *waiting >= MAX_WAITING || reads.len() >= MAX_READS && !reads.contains_key(&page);
        if is_full {
            out.push_back(Output::Deliver(shard, Delivery::Refused { ticket, why: Refused::Busy }));
            return;
        }
        *waiting += 1;
        match reads.get_mut(&page) {
            Some(read) => read.next.push((shard, ticket)),
            None => {
                reads.insert(page.clone(), UserRead { asked: vec![(shard, ticket)], next: Vec::new() });
                match recent.contains(&page) {
                    true => due.push(page),
                    false => self.read_users(now, page, out),
                }
            }
        }
    }

    fn read_users(&mut self, now: Instant, page: Page, out: &mut Outputs) {
        // The sockets for which shards ask are in the list too.
        self.flush_users(now, out);
        let call = Call::Users { namespace: page.0.clone(), after: page.1 };
        out.push_back(Output::Call(call, Pending::ListUsers(page)));
    }

    /// A page was read, or could not be.
    pub(super) fn users_listed(&mut self, now: Instant, page: Page, reply: Reply, out: &mut Outputs) {
        let Some(UserRead { asked, next }) = self.user_reads.reads.remove(&page) else { return };
        self.user_reads.waiting -= asked.len();
        let is_large = matches!(&reply, Reply::Users(users, _) if users.len() >= LARGE);
        match reply {
            Reply::Users(users, more) => {
                let users: Arc<[_]> = users.into();
                for (shard, ticket) in asked {
                    let listed = Delivery::Users { ticket, users: users.clone(), more };
                    out.push_back(Output::Deliver(shard, listed));
                }
            }
            _ if self.lease.is_valid(now) => {
                for (shard, ticket) in asked {
                    out.push_back(Output::Deliver(shard, Delivery::Refused { ticket, why: Refused::Busy }));
                }
            }
            _ => self.list_own_users(&page, &asked, out),
        }
        if is_large {
            self.user_reads.recent.insert(page.clone());
        }
        if next.is_empty() {
            return;
        }
        self.user_reads.reads.insert(page.clone(), UserRead { asked: next, next: Vec::new() });
        match is_large {
            true => self.user_reads.due.push(page),
            false => self.read_again(now, page, out),
        }
    }

    /// Reads a page for those who asked while it was read.
    fn read_again(&mut self, now: Instant, page: Page, out: &mut Outputs) {
        if self.lease.is_valid(now) {
            // Whoever has asked until now shares the answer.
            if let Some(read) = self.user_reads.reads.get_mut(&page) {
                let next = std::mem::take(&mut read.next);
                read.asked.extend(next);
            }
            self.read_users(now, page, out);
        } else if let Some(UserRead { mut asked, next }) = self.user_reads.reads.remove(&page) {
            asked.extend(next);
            self.user_reads.waiting -= asked.len();
            self.list_own_users(&page, &asked, out);
        }
    }

    /// The store is away: the users of this node are all that is known.
    fn list_own_users(&self, (namespace, after): &Page, asked: &[(ShardId, Ticket)], out: &mut Outputs) {
        let (users, more) = self.own.users(namespace, *after);
        let users: Arc<[_]> = users.into();
        for (shard, ticket) in asked {
            let listed = Delivery::Users { ticket: *ticket, users: users.clone(), more };
            out.push_back(Output::Deliver(*shard, listed));
        }
    }
}

pub(super) fn put_users(
    owner: Owner,
    partition: u8,
    puts: Vec<User>,
    removes: Vec<(Arc<str>, Address)>,
    out: &mut Outputs,
) {
    let put = puts.iter().map(|(namespace, socket, _)| (namespace.clone(), *socket));
    let users = put.chain(removes.iter().cloned()).collect();
    let call = Call::PutUsers { owner, partition, puts, removes };
    out.push_back(Output::Call(call, Pending::PutUsers(users)));
}
