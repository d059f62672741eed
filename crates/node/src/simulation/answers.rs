//! Answers of shards, on their way to whoever asked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use signalbox_cluster::Address;

use super::world::{NodeId, World};
use crate::{
    protocol::{RequestRefused, inquiry},
    routing::Reply,
};

/// What a shard answers.
pub(super) enum Answer {
    Exists(bool),
    Body(Result<String, RequestRefused>),
    /// A poll has to wait.
    Accepted,
    Begun(Result<(), RequestRefused>),
    Applied,
    Upgrade(Result<bool, RequestRefused>),
    Selected(inquiry::Answer),
}

/// Who asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// A client's request.
    Http(u64),
    /// Another node: the request with this number, over this connection.
    Link { connection: usize, number: u64 },
    /// Another node wants to know that its poll has to wait.
    Acceptance { node: NodeId, to: NodeId, number: u64 },
    /// A node that was given this order.
    Order { node: NodeId, number: usize },
}

type Given = Arc<Mutex<Vec<(u64, Option<Answer>)>>>;

/// Everybody who waits, and the answers that nobody has taken to them yet.
#[derive(Default)]
pub(super) struct Answers {
    given: Given,
    askers: BTreeMap<u64, (Asker, Arc<AtomicBool>)>,
    /// The polls among them: session and number.
    polls: BTreeMap<u64, (Address, u64)>,
    last: u64,
}

/// Says also that there will be no answer.
struct OnDrop {
    asker: u64,
    given: Given,
    is_given: bool,
}

impl OnDrop {
    fn give(&mut self, answer: Option<Answer>) {
        if !std::mem::replace(&mut self.is_given, true) {
            self.given.lock().unwrap_or_else(PoisonError::into_inner).push((self.asker, answer));
        }
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.give(None);
    }
}

impl Answers {
    /// A way back to `asker`, and the number by which it can be told that nobody waits any more.
    pub(super) fn expect<T: 'static>(
        &mut self,
        asker: Asker,
        answer: impl FnOnce(T) -> Answer + Send + 'static,
    ) -> (u64, Reply<T>) {
        self.last += 1;
        let waits = Arc::new(AtomicBool::new(true));
        self.askers.insert(self.last, (asker, waits.clone()));
        let mut back = OnDrop { asker: self.last, given: self.given.clone(), is_given: false };
        let reply = Reply::new(move |value| {
            let waits = waits.load(Ordering::Relaxed);
            back.give(Some(answer(value)));
            waits
        });
        (self.last, reply)
    }

    /// Nobody waits for this one any more.
    pub(super) fn give_up(&mut self, number: u64) {
        if let Some((_, waits)) = self.askers.remove(&number) {
            waits.store(false, Ordering::Relaxed);
        }
    }

    /// This one waits for the answer to a poll.
    pub(super) fn is_poll(&mut self, number: u64, poll: (Address, u64)) {
        self.polls.insert(number, poll);
    }

    /// The poll that this one waits for, if it still does.
    pub(super) fn poll_of(&self, number: u64) -> Option<(Address, u64)> {
        self.askers.get(&number)?;
        self.polls.get(&number).copied()
    }

    /// The answers that were given, and to whom.
    pub(super) fn take(&mut self) -> Vec<(Asker, Option<Answer>)> {
        let given = std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner));
        let asker = |(number, answer)| Some((self.askers.remove(&number)?.0, answer));
        given.into_iter().filter_map(asker).collect()
    }
}

impl World {
    pub(super) fn answered(&mut self, asker: Asker, answer: Option<Answer>) {
        match asker {
            Asker::Http(http) => self.http_answered(http, answer),
            Asker::Link { connection, number } => self.respond_with(connection, number, answer),
            Asker::Order { node, number } => self.selected(node, number, answer),
            Asker::Acceptance { node, to, number } => {
                if answer.is_some() {
                    self.accepted(node, to, number);
                }
            }
        }
    }
}
