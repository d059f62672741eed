//! The channels that this node wants, each subscribed at the master that owns its slot.
//!
//! When a slot leaves its master, or the master dies or is demoted, the manager subscribes the channel at the next owner and
//! tells the cluster that messages may have been missed in between. Messages count only when they come from the master at which
//! the channel is (to be) subscribed: a replica receives what its master receives, and would deliver everything twice.

use std::{collections::hash_map::Entry, sync::Arc, time::Duration, time::Instant};

use ahash::{AHashMap, AHashSet};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::MissedTickBehavior,
};

use super::{
    super::{
        RESPONSE, backoff, calls::Context, dispatch::dispatch, keys, keys::Channel,
        subscription_change::SubscriptionChange,
    },
    master_subscriber::{MasterSubscriber, SubscriberCommand, SubscriberEvent},
    slot_map::SlotMap,
    topology::Topology,
};
use signalbox_cluster::{Cluster, address::NodeTag};

/// Subscription changes that are taken at once.
const BATCH: usize = 500;
/// How often the manager looks for subscriptions that were not confirmed in time.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The manager's own number among its subscribers: under it the manager tells itself that the topology was refreshed.
const MANAGER: u32 = 0;

/// The state of a channel's subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    /// Not subscribed, and nobody was asked to.
    Lost,
    /// A subscriber was asked to subscribe it, at this time.
    Requested(u32, Instant),
    /// A subscriber has confirmed it.
    Active(u32),
}

/// Keeps the bus subscribed until the node ends.
pub(in super::super) async fn run(
    topology: Arc<Topology>,
    context: &Context,
    tag: NodeTag,
    cluster: &Cluster,
    mut changes: UnboundedReceiver<SubscriptionChange>,
) {
    let (events, mut reported) = unbounded_channel();
    let mut slot_maps = topology.watch();
    let mut manager = SubscriptionManager {
        topology,
        context,
        tag,
        cluster,
        channels: AHashMap::new(),
        inactive: AHashSet::new(),
        subscribers: Vec::new(),
        last: MANAGER,
        events,
        is_refreshing: false,
        is_bus_lost: true,
        was_bus_ready: false,
    };
    manager.subscribe(Channel::Everywhere);
    manager.subscribe(Channel::Node);
    manager.refresh_topology(Duration::ZERO);
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            event = reported.recv() => match event {
                Some((MANAGER, _)) => manager.topology_refreshed(),
                Some((subscriber, event)) => manager.event(subscriber, event),
                // The manager holds a sender itself.
                None => return,
            },
            count = changes.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                for change in batch.drain(..) {
                    match change {
                        SubscriptionChange::Subscribe(room) => manager.subscribe(Channel::Room(room)),
                        SubscriptionChange::Unsubscribe(room) => manager.unsubscribe(&Channel::Room(room)),
                    }
                }
            }
            _ = slot_maps.changed() => {
                let slot_map = slot_maps.borrow_and_update().clone();
                manager.follow(&slot_map);
            }
            _ = checks.tick() => manager.check_unconfirmed(),
        }
    }
}

struct SubscriptionManager<'a> {
    topology: Arc<Topology>,
    context: &'a Context,
    tag: NodeTag,
    cluster: &'a Cluster,
    /// All channels that are wanted.
    channels: AHashMap<Channel, Subscription>,
    /// Those of them whose subscription is not active.
    inactive: AHashSet<Channel>,
    subscribers: Vec<MasterSubscriber>,
    /// The number of the last subscriber.
    last: u32,
    events: UnboundedSender<(u32, SubscriberEvent)>,
    /// The topology is being refreshed.
    is_refreshing: bool,
    /// The node's own channel, or that of all nodes, is not subscribed.
    is_bus_lost: bool,
    /// Both were, once. Rooms are subscribed only after that, so that a node that has joined a room receives everything.
    was_bus_ready: bool,
}

impl SubscriptionManager<'_> {
    fn subscribe(&mut self, channel: Channel) {
        match self.channels.entry(channel.clone()) {
            Entry::Occupied(known) => {
                if let (Subscription::Active(_), Channel::Room(room)) = (known.get(), &channel) {
                    self.cluster.subscribed(Instant::now(), room);
                }
            }
            Entry::Vacant(place) => {
                place.insert(Subscription::Lost);
                self.inactive.insert(channel.clone());
                self.request(&channel);
            }
        }
    }

    fn unsubscribe(&mut self, channel: &Channel) {
        self.inactive.remove(channel);
        if let Some(Subscription::Requested(subscriber, _) | Subscription::Active(subscriber)) =
            self.channels.remove(channel)
        {
            self.unsubscribe_at(subscriber, channel);
        }
    }

    fn unsubscribe_at(&self, subscriber: u32, channel: &Channel) {
        if let Some(subscriber) = self.subscribers.iter().find(|known| known.number == subscriber) {
            let name = self.context.keys.channel(channel, self.tag);
            subscriber.command(SubscriberCommand::Unsubscribe(name));
        }
    }

    /// Asks the owner of a channel's slot, if there is one, to subscribe it.
    fn request(&mut self, channel: &Channel) {
        if matches!(channel, Channel::Room(_)) && !self.was_bus_ready {
            return;
        }
        let name = self.context.keys.channel(channel, self.tag);
        let slot_map = self.topology.slot_map();
        let Some(master) = slot_map.owner(keys::slot(&name)) else {
            self.refresh_topology(backoff());
            return;
        };
        let index = match self.subscribers.iter().position(|known| known.address == master.address) {
            Some(index) => index,
            None => {
                self.last += 1;
                let (topology, address) = (self.topology.clone(), master.address.clone());
                let subscriber = MasterSubscriber::open(
                    self.last,
                    topology,
                    address,
                    self.events.clone(),
                    self.context.metrics.clone(),
                );
                self.subscribers.push(subscriber);
                self.subscribers.len() - 1
            }
        };
        let subscriber = &self.subscribers[index];
        subscriber.command(SubscriberCommand::Subscribe(name));
        self.channels.insert(channel.clone(), Subscription::Requested(subscriber.number, Instant::now()));
    }

    /// Refreshes the topology after a pause, and then requests again what is not subscribed.
    fn refresh_topology(&mut self, pause: Duration) {
        if std::mem::replace(&mut self.is_refreshing, true) {
            return;
        }
        let (topology, events) = (self.topology.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            topology.refresh(Instant::now()).await;
            // Only the number matters; any event will do.
            let _ = events.send((MANAGER, SubscriberEvent::Dead));
        });
    }

    fn topology_refreshed(&mut self) {
        self.is_refreshing = false;
        self.request_lost();
    }

    fn request_lost(&mut self) {
        let lost: Vec<Channel> =
            self.inactive.iter().filter(|channel| self.is_lost(channel)).cloned().collect();
        for channel in lost {
            self.request(&channel);
        }
    }

    fn is_lost(&self, channel: &Channel) -> bool {
        self.channels.get(channel) == Some(&Subscription::Lost)
    }

    /// Requests again what was not confirmed in time.
    fn check_unconfirmed(&mut self) {
        let mut is_late = false;
        for channel in &self.inactive {
            if let Some(state @ Subscription::Requested(..)) = self.channels.get_mut(channel)
                && let Subscription::Requested(_, since) = *state
                && since.elapsed() >= RESPONSE
            {
                *state = Subscription::Lost;
                is_late = true;
            }
        }
        if is_late {
            self.refresh_topology(backoff());
        }
    }

    fn event(&mut self, subscriber: u32, event: SubscriberEvent) {
        match event {
            SubscriberEvent::Subscribed(name) => self.subscribed(subscriber, &name),
            SubscriberEvent::Unsubscribed(name) => {
                // A channel that was requested anew is confirmed after this, and not lost.
                if let Some(channel) = self.context.keys.read_channel(&name)
                    && self.channels.get(&channel) == Some(&Subscription::Active(subscriber))
                {
                    self.lose(channel);
                    self.refresh_topology(Duration::ZERO);
                }
            }
            SubscriberEvent::Refused(name) => {
                if let Some(channel) = self.context.keys.read_channel(&name)
                    && let Some(state @ Subscription::Requested(..)) = self.channels.get_mut(&channel)
                    && matches!(*state, Subscription::Requested(asked, _) if asked == subscriber)
                {
                    *state = Subscription::Lost;
                    self.refresh_topology(backoff());
                }
            }
            SubscriberEvent::Message(name, payload) => {
                let Some(channel) = self.context.keys.read_channel(&name) else { return };
                if let Some(Subscription::Requested(of, _) | Subscription::Active(of)) =
                    self.channels.get(&channel)
                    && *of == subscriber
                {
                    dispatch(self.context, self.cluster, channel, &payload.into());
                }
            }
            SubscriberEvent::Dead => self.subscriber_died(subscriber),
        }
    }

    fn subscribed(&mut self, subscriber: u32, name: &[u8]) {
        let Some(channel) = self.context.keys.read_channel(name) else { return };
        let Some(state) = self.channels.get_mut(&channel) else { return };
        if !matches!(*state, Subscription::Requested(asked, _) if asked == subscriber) {
            return;
        }
        *state = Subscription::Active(subscriber);
        self.inactive.remove(&channel);
        match &channel {
            Channel::Room(room) => self.cluster.subscribed(Instant::now(), room),
            Channel::Everywhere | Channel::Node => {
                let fixed = [Channel::Everywhere, Channel::Node];
                if self.is_bus_lost && fixed.iter().all(|fixed| !self.inactive.contains(fixed)) {
                    self.is_bus_lost = false;
                    self.cluster.bus_restored(Instant::now());
                    if !std::mem::replace(&mut self.was_bus_ready, true) {
                        self.request_lost();
                    }
                }
            }
        }
    }

    /// Messages of a channel are not received any more.
    fn lose(&mut self, channel: Channel) {
        match &channel {
            Channel::Room(room) => self.cluster.subscription_lost(Some(room)),
            Channel::Everywhere | Channel::Node => {
                self.is_bus_lost = true;
                self.cluster.bus_lost();
            }
        }
        self.channels.insert(channel.clone(), Subscription::Lost);
        self.inactive.insert(channel);
    }

    fn subscriber_died(&mut self, subscriber: u32) {
        let Some(index) = self.subscribers.iter().position(|known| known.number == subscriber) else {
            return;
        };
        let address = self.subscribers.swap_remove(index).address;
        tracing::debug!(master = %address, "lost the subscriber connection to the master");
        let (mut lost, mut requested) = (Vec::new(), Vec::new());
        for (channel, state) in &self.channels {
            match state {
                Subscription::Active(at) if *at == subscriber => lost.push(channel.clone()),
                Subscription::Requested(at, _) if *at == subscriber => requested.push(channel.clone()),
                _ => {}
            }
        }
        for channel in lost {
            self.lose(channel);
        }
        for channel in requested {
            self.channels.insert(channel, Subscription::Lost);
        }
        self.refresh_topology(backoff());
    }

    /// The slot map has changed: channels whose slot has another owner now are subscribed there.
    fn follow(&mut self, slot_map: &SlotMap) {
        let addresses: AHashMap<u32, &_> =
            self.subscribers.iter().map(|known| (known.number, &known.address)).collect();
        let mut moved = Vec::new();
        for (channel, state) in &self.channels {
            let (Subscription::Requested(at, _) | Subscription::Active(at)) = *state else { continue };
            let name = self.context.keys.channel(channel, self.tag);
            let owner = slot_map.owner(keys::slot(&name)).map(|owner| &owner.address);
            // While the slot has no owner, the channel stays where it is.
            if owner.is_some() && owner != addresses.get(&at).copied() {
                moved.push((channel.clone(), *state, at));
            }
        }
        for (channel, state, subscriber) in moved {
            self.unsubscribe_at(subscriber, &channel);
            if let Subscription::Active(_) = state {
                self.lose(channel.clone());
            }
            self.request(&channel);
        }
        let in_use: AHashSet<u32> = self
            .channels
            .values()
            .filter_map(|state| match state {
                Subscription::Requested(at, _) | Subscription::Active(at) => Some(*at),
                Subscription::Lost => None,
            })
            .collect();
        self.subscribers.retain(|subscriber| in_use.contains(&subscriber.number));
    }
}
