//! What a [`Driver`](crate::driver::Driver) gives back to the cluster.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::Cluster;
use crate::{
    address::Owner,
    command::BusDelivery,
    driver::CallToken,
    event::ClusterEvent,
    record::RoomName,
    store::{DirectMessage, Reply, RoomDelta},
};

/// How long after a broadcast could not be published the next ones are doubted.
const PUBLISH_DOUBT: Duration = Duration::from_secs(1);

/// What a driver calls.
impl Cluster {
    /// A call was answered.
    pub fn replied(&self, now: Instant, token: CallToken, reply: Reply) {
        self.step(now, |machine, out| machine.reply(now, token.0, reply, out));
    }

    /// A change of a room was published.
    pub fn room_changed(&self, now: Instant, delta: RoomDelta) {
        self.step(now, |machine, out| machine.room_changed(delta, out));
    }

    /// A broadcast of another node has arrived: of a room, or of all nodes.
    pub fn received_broadcast(
        &self,
        from: Owner,
        room: Option<RoomName>,
        published: Option<Instant>,
        payload: Bytes,
    ) {
        // The lock is held until every shard has it: see `Cluster::barrier`.
        let core = self.core.lock();
        if from.tag == core.machine.owner().tag || core.machine.is_dead(from) {
            return;
        }
        let (route, is_current) = match &room {
            Some(room) => match core.machine.find_route(room) {
                Some(route) => (Some(route), core.machine.is_current(room)),
                None => return,
            },
            None => (None, true),
        };
        self.sink.deliver_broadcast(BusDelivery { from, room, route, is_current, published, payload });
    }

    /// A message of another node to this one has arrived.
    pub fn received_direct(&self, now: Instant, from: Owner, message: DirectMessage) {
        match message {
            DirectMessage::Payload(payload) => {
                if !self.core.lock().machine.is_dead(from) {
                    self.sink.deliver_node_message(from, payload);
                }
            }
            message => self.step(now, |machine, out| machine.direct_message(now, from, message, out)),
        }
    }

    /// A room is subscribed: everything that is published from now on arrives.
    pub fn subscribed(&self, now: Instant, room: &RoomName) {
        self.step(now, |machine, out| machine.subscribed(now, room, out));
    }

    /// Messages of a room, or of all rooms and to this node, may have been missed. [`Cluster::subscribed`] follows for each room
    /// once it is subscribed again.
    pub fn subscription_lost(&self, room: Option<&RoomName>) {
        self.core.lock().machine.subscription_lost(room);
        match room {
            Some(_) => self.sink.observe(ClusterEvent::RoomSubscriptionLost),
            None => self.bus_gone(),
        }
    }

    /// Messages to this node, or to all nodes, may have been missed; those of rooms have not been.
    pub fn bus_lost(&self) {
        self.core.lock().machine.bus_lost();
        self.bus_gone();
    }

    fn bus_gone(&self) {
        if self.is_bus_there.swap(false, Ordering::AcqRel) {
            self.sink.observe(ClusterEvent::SubscriptionsLost);
        }
    }

    /// Messages to this node, and to all nodes, arrive (again).
    pub fn bus_restored(&self, now: Instant) {
        self.step(now, |machine, out| machine.bus_restored(now, out));
        let is_news = !self.is_bus_there.swap(true, Ordering::AcqRel);
        if self.was_bus_there.swap(true, Ordering::AcqRel) && is_news {
            self.sink.observe(ClusterEvent::SubscriptionsRestored);
        }
    }

    /// A broadcast could not be published, or it is not known whether it was.
    pub fn broadcast_failed(&self, now: Instant) {
        self.step(now, |machine, _| machine.broadcast_failed(now));
        self.core.lock().publish_failed = Some(now);
        self.has_failed_to_publish.store(true, Ordering::Release);
        self.publish_failures.fetch_add(1, Ordering::AcqRel);
        self.sink.observe(ClusterEvent::BroadcastFailed);
    }

    /// A message that came through a channel could not be read.
    pub fn received_unreadable(&self, is_format_unknown: bool) {
        let format = ClusterEvent::UnknownFormat;
        self.sink.observe(if is_format_unknown { format } else { ClusterEvent::UnreadableMessage });
    }

    /// Time has passed. To be called every 100 ms or so.
    pub fn tick(&self, now: Instant) {
        self.step(now, |machine, out| machine.tick(now, out));
        let failed = &mut self.core.lock().publish_failed;
        if failed.is_some_and(|failed| failed + PUBLISH_DOUBT <= now) {
            *failed = None;
            self.has_failed_to_publish.store(false, Ordering::Release);
        }
    }
}
