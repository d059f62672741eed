//! What this node says to the others through the store, and whether it got there.

use std::{sync::atomic::Ordering, time::Instant};

use bytes::Bytes;

use super::{Cluster, Scope, Store};
use crate::{
    address::NodeTag,
    driver::CallToken,
    machine::{Pending, Status},
    store::{Call, DirectMessage},
};

impl Cluster {
    /// Whether members on other nodes can be told of a broadcast, as far as is known: always when the node is alone, not while the
    /// store is away, nor just after a broadcast could not be published.
    pub fn can_publish(&self) -> bool {
        let is_online =
            self.status() == Status::Online && !self.has_failed_to_publish.load(Ordering::Acquire);
        !self.is_shared() || is_online
    }

    /// How many broadcasts of this node could not be published so far, or may not have been. Whoever has published something, and has
    /// waited for [`Command::FlushOutgoing`](crate::Command::FlushOutgoing), knows by it whether it has been.
    pub fn publish_failures(&self) -> u64 {
        self.publish_failures.load(Ordering::Acquire)
    }

    /// Publishes a broadcast to other nodes, whose [`DeliverySink::deliver_broadcast`](crate::DeliverySink::deliver_broadcast) receives
    /// it: at most once, and in the order of publishing within one scope. Not to this node. While the store is away, nobody receives it.
    /// Returns whether it is on its way; when the node is alone, nobody has to be told.
    pub fn broadcast(&self, now: Instant, scope: Scope<'_>, payload: Bytes) -> bool {
        if !self.is_shared() {
            return true;
        }
        let core = self.core.lock();
        if let Store::Remote(driver) = &core.store
            && core.machine.is_online(now)
        {
            let room = match scope {
                Scope::Room(room) => Some(room.clone()),
                Scope::Everywhere => None,
            };
            driver.publish(core.machine.owner(), room, payload);
            return true;
        }
        self.publish_failures.fetch_add(1, Ordering::AcqRel);
        false
    }

    /// Sends a message to one node, whose [`DeliverySink::deliver_node_message`](crate::DeliverySink::deliver_node_message) receives it at
    /// most once. `false` when the store is away. [`Command::SendToNode`](crate::Command::SendToNode) does the same, and tells whether the node received it.
    pub fn send_to_node(&self, now: Instant, to: NodeTag, payload: Bytes) -> bool {
        let core = self.core.lock();
        let Store::Remote(driver) = &core.store else { return false };
        let is_online = core.machine.is_online(now);
        if is_online {
            let message = DirectMessage::Payload(payload);
            let call = Call::SendDirect { from: core.machine.owner(), to, message };
            // A driver that has ended is one of a node that stops.
            let _ = driver.call(call, CallToken(Pending::None));
        }
        is_online
    }
}
