//! What comes from the cluster: answers and changes for the shards, what other nodes publish, and what they send to this one.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use signalbox_admin::events::{Event, EventKind};
use signalbox_cluster::{BusDelivery, ClusterEvent, Delivery, DeliverySink, NodeTag, Owner, ShardId};
use signalbox_node_link::{Handler, Responder, Whereabouts};
use signalbox_telemetry::Metrics;
use tokio::runtime::Handle;

use super::{
    Peering, SESSIONS, identify::IDENTIFY, inquiries::INQUIRY, introduction::INTRODUCTION,
    refreshes::REFRESHED, socket_requests::SOCKETS,
};
use crate::{
    events::EventHub,
    ledger::{Ledger, share},
    protocol::{self, BusMessage, LinkNotice, LinkRequest, NodeMessage, RemoteSocketOp},
    routing::{SocketCommand, SocketOp},
    shard::{
        mailbox::ShardMessage, runtime::Mailboxes, tasks::TaskResult, transfer::message::TransferMessage,
    },
};

/// How often events that come in numbers are logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Brings everything to the shards' mailboxes. The cluster has it before there is a node.
pub(crate) struct ClusterEvents {
    node: NodeTag,
    mailboxes: Arc<Mailboxes>,
    ledger: Arc<Ledger>,
    metrics: Metrics,
    events: Arc<EventHub>,
    peering: Arc<OnceLock<Weak<Peering>>>,
    /// When one of the events was logged last that come in numbers.
    last_logged: Mutex<Option<Instant>>,
    /// Since when the node is degraded, or until when that time was counted.
    degraded_since: Mutex<Option<Instant>>,
}

impl ClusterEvents {
    pub(crate) fn new(
        node: NodeTag,
        mailboxes: Arc<Mailboxes>,
        ledger: Arc<Ledger>,
        metrics: Metrics,
        events: Arc<EventHub>,
    ) -> Self {
        Self {
            node,
            mailboxes,
            ledger,
            metrics,
            events,
            peering: Arc::default(),
            last_logged: Mutex::default(),
            degraded_since: Mutex::default(),
        }
    }

    /// The node is there.
    pub(crate) fn connect(&self, peering: &Arc<Peering>) {
        let _ = self.peering.set(Arc::downgrade(peering));
    }

    /// Counts the time since the node was degraded that was not counted yet.
    pub(crate) fn count_degraded_time(&self) {
        self.note_degraded(|since| since.map(|_| Instant::now()));
    }

    /// Counts the time up to now, and has it counted from `next` on.
    fn note_degraded(&self, next: impl FnOnce(Option<Instant>) -> Option<Instant>) {
        let since = &mut *self.degraded_since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = since {
            self.metrics.degraded_seconds.inc_by(since.elapsed().as_secs_f64());
        }
        *since = next(*since);
    }

    fn peering(&self) -> Option<Arc<Peering>> {
        self.peering.get()?.upgrade()
    }
}

/// Makes the node known to the others, as soon as there is one: the cluster is there before it.
async fn introduce(peering: Arc<OnceLock<Weak<Peering>>>) {
    loop {
        match peering.get().map(Weak::upgrade) {
            Some(Some(peering)) => return peering.introduce().await,
            Some(None) => return,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

impl ClusterEvents {
    /// Reports what changes the node's part in the cluster to those who listen.
    fn report(&self, event: ClusterEvent) {
        match event {
            ClusterEvent::NodeSeen(node) => {
                let nodes = self.peering().map(|peering| peering.cluster.nodes());
                if let Some(known) = nodes.as_ref().and_then(|nodes| nodes.get(&node)) {
                    self.events.remember_name(node, &known.name);
                }
                self.events.report_node(EventKind::NodeUp, node);
            }
            ClusterEvent::NodeGone(node) => self.events.report_node(EventKind::NodeDown, node),
            ClusterEvent::Degraded(_) if self.events.wants(EventKind::Degraded) => {
                let reason = event.name().trim_start_matches("degraded_").to_owned();
                self.events.report(Event { reason: Some(reason), ..Event::of(EventKind::Degraded) });
            }
            ClusterEvent::Online { degraded_for, .. } if self.events.wants(EventKind::Online) => {
                let count = degraded_for.map(|degraded_for| degraded_for.as_millis() as u64);
                self.events.report(Event { count, ..Event::of(EventKind::Online) });
            }
            _ => {}
        }
    }
}

impl DeliverySink for ClusterEvents {
    fn deliver(&self, shard: ShardId, delivery: Delivery) {
        self.mailboxes.push(shard, ShardMessage::Cluster(delivery));
    }

    fn offer(&self, shard: ShardId, delivery: Delivery) -> bool {
        self.mailboxes.broadcast(shard, ShardMessage::Cluster(delivery))
    }

    fn is_congested(&self, shard: ShardId) -> bool {
        self.mailboxes.is_full(shard)
    }

    fn deliver_broadcast(&self, delivery: BusDelivery) {
        match BusMessage::decode(delivery.from.tag, &delivery.payload) {
            Ok(BusMessage::Broadcast(mut broadcast)) => {
                broadcast.published = delivery.published;
                broadcast.message = share(&self.ledger, None, broadcast.message);
                let deliver = |shard| {
                    self.mailboxes.broadcast(shard, ShardMessage::Broadcast(broadcast.clone()));
                };
                match delivery.route {
                    Some(route) => route.shards().for_each(deliver),
                    None => self.mailboxes.shards().for_each(deliver),
                }
            }
            Ok(BusMessage::Marker(marker)) => {
                if self.node == marker.source.node {
                    let is_current = delivery.is_current;
                    let message = TransferMessage::RoomMarker { marker, is_current };
                    self.mailboxes.push(marker.source.shard, ShardMessage::Transfer(message));
                }
            }
            Err(_) => self.metrics.bus_refused.inc(),
        }
    }

    fn deliver_node_message(&self, _: Owner, payload: Bytes) {
        if let Some(peering) = self.peering() {
            peering.handle_node_message(&payload);
        }
    }

    fn observe(&self, event: ClusterEvent) {
        self.metrics.cluster_events.with_label_values(&[event.name()]).inc();
        // Heartbeats are answered on the thread of the cluster's driver, which has a runtime.
        if let (ClusterEvent::Online { .. }, Ok(runtime)) = (&event, Handle::try_current()) {
            runtime.spawn(introduce(self.peering.clone()));
        }
        self.report(event);
        match event {
            ClusterEvent::Degraded(reason) => {
                self.note_degraded(|_| Some(Instant::now()));
                tracing::warn!(?reason, "the node is degraded: it serves from what it knows");
            }
            ClusterEvent::Online { epoch, degraded_for: Some(degraded_for) } => {
                self.note_degraded(|_| None);
                let degraded_for_ms = degraded_for.as_millis() as u64;
                tracing::info!(epoch, degraded_for_ms, "the node is online again");
            }
            ClusterEvent::Online { epoch, .. } => tracing::info!(epoch, "the node has joined the cluster"),
            ClusterEvent::Rewritten { calls, took } => {
                tracing::info!(calls, took_ms = took.as_millis() as u64, "all records are written again");
            }
            ClusterEvent::NodeSeen(node) => tracing::info!(%node, "another node is there"),
            ClusterEvent::NodeGone(node) => {
                tracing::info!(%node, "another node is gone");
                for shard in self.mailboxes.shards() {
                    self.mailboxes.push(shard, ShardMessage::NodeGone);
                }
            }
            ClusterEvent::SubscriptionsLost => {
                tracing::warn!("the subscriptions are lost: nothing of other nodes is received");
            }
            ClusterEvent::SubscriptionsRestored => tracing::info!("the subscriptions are restored"),
            // They come in numbers: the metric has them all.
            event => {
                let last = &mut *self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
                if last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
                    *last = Some(Instant::now());
                    tracing::warn!(event = event.name(), "something of the cluster was lost");
                }
            }
        }
    }
}

impl Handler for ClusterEvents {
    fn request(&self, from: NodeTag, kind: u8, body: Bytes, answer: Responder) {
        let Some(peering) = self.peering() else { return };
        match kind {
            SESSIONS => {}
            INTRODUCTION => return peering.serve_introduction(from, answer),
            IDENTIFY => return peering.serve_identify(from, &body, answer),
            INQUIRY => return peering.serve_inquiry(from, &body, answer),
            SOCKETS => return peering.serve_socket_request(from, &body, answer),
            _ => return,
        }
        match protocol::decode_traced::<LinkRequest<'_>>(&body) {
            Ok((trace, mut request)) => {
                if let LinkRequest::Take(session) = &mut request {
                    session.trace = trace;
                }
                peering.serve(from, &body, request, answer);
            }
            Err(error) => {
                self.metrics.bus_refused.inc();
                tracing::debug!(node = %from, %error, "unreadable request of another node");
            }
        }
    }

    fn node_lost(&self, from: NodeTag) {
        for shard in self.mailboxes.shards() {
            self.mailboxes.push(shard, ShardMessage::NodeLost(from));
        }
    }

    fn whereabouts(&self, node: NodeTag) -> Whereabouts {
        let Some(peering) = self.peering() else { return Whereabouts::Unknown };
        let nodes = peering.cluster.nodes();
        match nodes.get(&node).map(|node| node.link) {
            Some(Some(addr)) => Whereabouts::At(addr),
            Some(None) => Whereabouts::Unknown,
            None => Whereabouts::Gone,
        }
    }

    fn is_previous(&self, node: NodeTag) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        let peering = self.peering();
        Box::pin(async move {
            match peering {
                Some(peering) => peering.is_previous(node).await,
                None => false,
            }
        })
    }

    fn notice(&self, _: NodeTag, kind: u8, body: Bytes) {
        let Some(peering) = self.peering() else { return };
        match kind {
            SESSIONS => {}
            REFRESHED => return peering.handle_refreshed(&body),
            _ => return,
        }
        match protocol::decode::<LinkNotice<'_>>(&body) {
            Ok(notice) => peering.handle_notice(&body, notice),
            Err(_) => self.metrics.bus_refused.inc(),
        }
    }
}

impl Peering {
    /// Another node sends something for a socket of this one.
    pub(super) fn handle_node_message(&self, payload: &Bytes) {
        match NodeMessage::decode(payload) {
            Ok(NodeMessage::SocketOp { to, namespace, what }) => {
                let op = match what {
                    RemoteSocketOp::Send { message, volatile } => SocketOp::Send { message, volatile },
                    RemoteSocketOp::Signal { message, reply, trace } => {
                        SocketOp::Signal { message, reply: Some(reply), trace }
                    }
                    RemoteSocketOp::Disconnect { close } => SocketOp::Disconnect { close },
                };
                let command = SocketCommand { to, namespace, op };
                match self.addresses.shard_of(to) {
                    Some(shard) => self.mailboxes.push(shard, ShardMessage::SocketCommand(command)),
                    None => self.socket_not_found(command.op),
                }
            }
            Ok(NodeMessage::Acked { shard, socket, id, args }) => {
                self.mailboxes.push(shard, ShardMessage::Acked { socket, id, args });
            }
            Ok(NodeMessage::Signalled { shard, ticket, found }) => {
                let result = ShardMessage::TaskDone(ticket, TaskResult::Signalled(found));
                self.mailboxes.push(shard, result);
            }
            Err(_) => self.metrics.bus_refused.inc(),
        }
    }
}
