//! The driver for a cluster of one node: the model is the store, and every step is taken at once under one lock. Letters to
//! peers that are here take no lock at all.

use std::{sync::Arc, time::Instant};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::{
    Config,
    address::ShardId,
    command::{Command, Delivery, Letter, Outlet, PeerAt, RealmId},
    machine::{Machine, Output, Outputs},
    model::Model,
    record::RoomName,
    route::Route,
};

type Directory = papaya::HashMap<Arc<str>, PeerAt, RandomState>;

/// A cluster of one node.
pub struct Memory {
    outlet: Arc<dyn Outlet>,
    /// Who holds which id, per realm; read without a lock, written under the core's.
    directories: Vec<Directory>,
    core: Mutex<Core>,
}

struct Core {
    machine: Machine,
    model: Model,
    outputs: Outputs,
    /// Letters dropped, and waits opened, so far.
    overflows: u64,
    waits: u64,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// What became of a letter that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or waits for its addressee with earlier ones.
    Taken,
    /// It is the first of its sender that waits for its addressee.
    Waits,
    /// It was dropped: its sender does not hold its id any more.
    Fenced,
    /// It was dropped: an inbox is full, or too much waits already.
    Overflow,
}

impl Memory {
    /// A cluster whose deliveries go to `outlet`.
    pub fn new(config: &Config, outlet: Arc<dyn Outlet>) -> Self {
        Self {
            outlet,
            directories: config.realms.iter().map(|_| Directory::default()).collect(),
            core: Mutex::new(Core {
                machine: Machine::default(),
                model: Model::new(config),
                outputs: Outputs::new(),
                overflows: 0,
                waits: 0,
            }),
        }
    }

    /// Takes a command; its answer arrives in the inbox of the shard that asks.
    pub fn submit(&self, now: Instant, command: Command) {
        let core = &mut *self.core.lock();
        core.machine.command(command, &|shard| self.outlet.is_congested(shard), &mut core.outputs);
        self.run(core, now);
    }

    /// Sends a letter to whoever holds its addressee's id, or lets it wait. A sender whose id was taken over or given up is not
    /// heard any more.
    pub fn send(&self, now: Instant, letter: Letter) -> Sent {
        let directory = &self.directories[usize::from(letter.realm)];
        let holds = |at: &PeerAt| at.generation == letter.from.generation;
        if letter.hops == 0 && !directory.pin().get(&*letter.src).is_some_and(holds) {
            return Sent::Fenced;
        }
        // One that was sent on too often is judged by the store alone.
        if letter.hops < 2
            && let Some(to) = directory.pin().get(&*letter.dst).copied()
        {
            return self.offer(to, letter);
        }
        let core = &mut *self.core.lock();
        let (overflows, waits) = (core.overflows, core.waits);
        core.machine.letter(letter, &mut core.outputs);
        self.run(core, now);
        match (core.overflows == overflows, core.waits == waits) {
            (_, false) => Sent::Waits,
            (false, _) => Sent::Overflow,
            (true, true) => Sent::Taken,
        }
    }

    fn offer(&self, to: PeerAt, letter: Letter) -> Sent {
        let offered = self.outlet.offer(to.shard, Delivery::Letter { to, letter });
        if offered { Sent::Taken } else { Sent::Overflow }
    }

    /// Whether somebody holds an id.
    pub fn is_held(&self, realm: RealmId, id: &str) -> bool {
        self.directories[usize::from(realm)].pin().get(id).is_some()
    }

    /// The route of a room, made if there is none. Give it back with [`Memory::release_route`].
    pub fn route(&self, room: &RoomName) -> Arc<Route> {
        self.core.lock().machine.route(room)
    }

    /// The route of a room, if anybody on this node is in it.
    pub fn find_route(&self, room: &RoomName) -> Option<Arc<Route>> {
        self.core.lock().machine.find_route(room)
    }

    /// A shard has no member in the room any more, and none that is about to join.
    pub fn release_route(&self, room: &RoomName, route: Arc<Route>, shard: ShardId) {
        let mut core = self.core.lock();
        route.remove(shard);
        drop(route);
        core.machine.forget_route(room);
    }

    fn run(&self, core: &mut Core, now: Instant) {
        while let Some(output) = core.outputs.pop_front() {
            match output {
                Output::Call(call, pending) => {
                    let (reply, published) = core.model.execute(call, now);
                    // Published before it is answered: whoever joins is told of what came before by the answer.
                    if let Some(delta) = published {
                        core.machine.bus(delta, &mut core.outputs);
                    }
                    core.machine.reply(pending, reply, &mut core.outputs);
                }
                Output::Deliver(shard, delivery) => {
                    core.waits += u64::from(matches!(delivery, Delivery::Waiting { .. }));
                    self.outlet.deliver(shard, delivery);
                }
                Output::Offer(to, letter) => {
                    if self.offer(to, letter) == Sent::Overflow {
                        core.overflows += 1;
                    }
                }
                Output::Held { realm, id, at } => {
                    self.directories[usize::from(realm)].pin().insert(id, at);
                }
                Output::Freed { realm, id, generation } => {
                    let directory = self.directories[usize::from(realm)].pin();
                    if directory.get(&*id).is_some_and(|at| at.generation == generation) {
                        directory.remove(&*id);
                    }
                }
                Output::Overflow => core.overflows += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests;
