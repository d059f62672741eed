//! What goes wrong, and at which step.

use std::time::{Duration, Instant};

use super::{
    event::{Event, Place},
    world::{ClientId, NodeId, World},
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A node's process is killed.
    Kill(NodeId),
    /// A node does nothing for a while; what is sent to it waits.
    Pause(NodeId, Duration),
    /// The connections between two nodes break; others go on where they were.
    BreakLink(NodeId, NodeId),
    /// The connections between two nodes break, one of which is of a version that cannot go on.
    LoseLink(NodeId, NodeId),
    /// Nothing arrives between two nodes for a while.
    LinkDown(NodeId, NodeId, Duration),
    /// A node's subscriptions break; it subscribes again.
    LoseBus(NodeId),
    /// Redis is away for a while. It comes back with its data, or empty.
    StoreAway(Duration, bool),
    /// Everything in Redis is deleted.
    EmptyStore,
    /// A client closes its WebSocket.
    CloseWebSocket(ClientId),
    /// A client gives its GET up, and goes away.
    GiveUpPoll(ClientId),
}

impl Fault {
    /// How long it lasts.
    pub(super) fn lasts(self) -> Duration {
        match self {
            Self::Pause(_, lasts) | Self::LinkDown(_, _, lasts) | Self::StoreAway(lasts, _) => lasts,
            _ => Duration::ZERO,
        }
    }

    /// Whether it matters if this comes just before or just after something that happens there. What a fault does commutes with
    /// events at places that it does not touch: a node that is killed or paused neither sees what happens elsewhere, nor does what
    /// happens elsewhere see it before a message of it, or the lack of one, arrives. So one of the steps between two that it
    /// touches stands for all of them.
    pub(super) fn touches(self, step: &Step) -> bool {
        let place = step.place;
        match self {
            Self::Kill(node) | Self::Pause(node, _) => {
                place == Place::Node(node) || place == Place::Bus(node)
            }
            Self::BreakLink(one, other) | Self::LoseLink(one, other) | Self::LinkDown(one, other, _) => {
                step.links.contains(&(one.min(other), one.max(other)))
            }
            Self::LoseBus(node) => place == Place::Store || place == Place::Bus(node),
            Self::StoreAway(..) => place == Place::Store || matches!(place, Place::Bus(_)),
            Self::EmptyStore => place == Place::Store,
            Self::CloseWebSocket(client) | Self::GiveUpPoll(client) => place == Place::Client(client),
        }
    }
}

/// A step that a fault may come before.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) place: Place,
    pub(super) at: Instant,
    /// Pairs of nodes between which something was sent or has arrived.
    pub(super) links: Vec<(NodeId, NodeId)>,
}

/// The faults of a run.
#[derive(Default)]
pub(super) struct Injection {
    /// Steps are counted.
    pub(super) is_open: bool,
    /// The steps so far.
    pub(super) steps: Vec<Step>,
    /// Before which step what goes wrong.
    pub(super) fault: Option<(usize, Fault)>,
    /// What has gone wrong, and when.
    pub(super) injected: Vec<(Instant, Fault)>,
}

impl World {
    pub(super) fn next_step(&mut self, place: Place) {
        if !self.injection.is_open {
            return;
        }
        let step = self.injection.steps.len();
        self.injection.steps.push(Step { place, at: self.now, links: Vec::new() });
        if let Some((_, fault)) = self.injection.fault.filter(|(at, _)| *at == step) {
            self.inject(fault);
        }
    }

    /// The present step uses a link.
    pub(super) fn link_used(&mut self, nodes: (NodeId, NodeId)) {
        if self.injection.is_open
            && let Some(step) = self.injection.steps.last_mut()
        {
            step.links.push(nodes);
        }
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        // One that finds its node dead or paused, or Redis away, is none.
        let is_vain = match fault {
            Fault::Kill(node) | Fault::LoseBus(node) => self.nodes[node].is_dead,
            Fault::Pause(node, _) => self.nodes[node].is_dead || self.nodes[node].is_paused,
            Fault::StoreAway(..) => self.store.is_away,
            _ => false,
        };
        if is_vain {
            return;
        }
        self.trace(|| format!("--- {fault:?}"));
        self.injection.injected.push((self.now, fault));
        match fault {
            Fault::Kill(node) => {
                self.nodes[node].is_dead = true;
                self.nodes[node].connections.has_bus = false;
                self.close_links_of(node);
                self.drop_clients_of(node);
            }
            Fault::Pause(node, lasts) => {
                self.nodes[node].is_paused = true;
                self.schedule_in(lasts, Event::Heal(fault));
            }
            Fault::BreakLink(one, other) => self.break_links(one, other, true),
            Fault::LoseLink(one, other) => self.break_links(one, other, false),
            Fault::LinkDown(one, other, lasts) => {
                let until = self.now + lasts;
                self.links.take_down(one, other, until);
            }
            Fault::LoseBus(node) => self.break_bus(node),
            Fault::StoreAway(lasts, _) => {
                self.store.is_away = true;
                for node in 0..self.nodes.len() {
                    self.break_bus(node);
                }
                self.schedule_in(lasts, Event::Heal(fault));
            }
            Fault::EmptyStore => self.store.model.forget_everything(&super::store::config()),
            Fault::CloseWebSocket(client) => self.close_by_itself(client, true),
            Fault::GiveUpPoll(client) => self.close_by_itself(client, false),
        }
    }

    pub(super) fn heal(&mut self, fault: Fault) {
        self.trace(|| format!("--- over: {fault:?}"));
        match fault {
            Fault::Pause(node, _) => {
                self.nodes[node].is_paused = false;
                for event in std::mem::take(&mut self.nodes[node].deferred) {
                    self.schedule_at(self.now, event);
                }
            }
            Fault::StoreAway(_, is_emptied) => {
                self.store.is_away = false;
                if is_emptied {
                    self.store.restart_empty(self.now, self.began);
                }
            }
            _ => {}
        }
    }

    /// When the last fault is over.
    pub(super) fn faults_end(&self) -> Instant {
        let ends = self.injection.injected.iter().map(|(at, fault)| *at + fault.lasts());
        ends.max().unwrap_or(self.now).max(self.now)
    }
}
