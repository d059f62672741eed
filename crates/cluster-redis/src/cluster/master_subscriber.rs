//! The connection to one master through which channels are subscribed. It is probed, and one that does not answer is given up.
//!
//! Whether a channel is subscribed is taken from what the server pushes, by the channel's name. Its answer to a command counts
//! only when it is a refusal: a server ends subscriptions by itself when a slot leaves it, and that push looks like an answer.

use std::sync::Arc;

use bytes::Bytes;
use redis::{
    Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use signalbox_telemetry::Metrics;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::MissedTickBehavior,
};

use super::{super::PROBE, topology::Topology, url::Address};

/// Channels in one pipeline.
const BATCH: usize = 500;

/// What a subscriber is asked to do.
pub(super) enum SubscriberCommand {
    Subscribe(Bytes),
    Unsubscribe(Bytes),
}

/// What a subscriber reports.
pub(super) enum SubscriberEvent {
    /// The channel is subscribed from now on.
    Subscribed(Vec<u8>),
    /// It is not subscribed (any more).
    Unsubscribed(Vec<u8>),
    /// The server refuses to subscribe the channel.
    Refused(Bytes),
    /// A message: the channel's name, and the payload.
    Message(Vec<u8>, Vec<u8>),
    /// The connection is dead.
    Dead,
}

/// A subscriber connection, by a number that no other has.
pub(super) struct MasterSubscriber {
    pub(super) number: u32,
    pub(super) address: Address,
    commands: UnboundedSender<SubscriberCommand>,
}

impl MasterSubscriber {
    /// Connects in the background; commands that come before that wait. The connection ends when this is dropped.
    pub(super) fn open(
        number: u32,
        topology: Arc<Topology>,
        address: Address,
        events: UnboundedSender<(u32, SubscriberEvent)>,
        metrics: Metrics,
    ) -> Self {
        let (commands, receiver) = unbounded_channel();
        let at = address.clone();
        tokio::spawn(async move {
            let pushed = events.clone();
            let on_push = move |info: PushInfo| {
                if let Some(event) = event(info) {
                    let _ = pushed.send((number, event));
                }
            };
            match topology.subscriber(&at, on_push).await {
                Ok(connection) => {
                    metrics.redis_connections.with_label_values(&["subscriber"]).inc();
                    serve(connection, receiver, |event| drop(events.send((number, event)))).await;
                }
                Err(error) => tracing::debug!(%error, master = %at, "cannot subscribe at the master"),
            }
            let _ = events.send((number, SubscriberEvent::Dead));
        });
        Self { number, address, commands }
    }

    pub(super) fn command(&self, command: SubscriberCommand) {
        // A subscriber that has died has reported it.
        let _ = self.commands.send(command);
    }
}

/// What a push of the server means.
fn event(info: PushInfo) -> Option<SubscriberEvent> {
    let mut parts = info.data.into_iter().map(|part| match part {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    });
    match info.kind {
        PushKind::SMessage => Some(SubscriberEvent::Message(parts.next()?, parts.next()?)),
        PushKind::SSubscribe => Some(SubscriberEvent::Subscribed(parts.next()?)),
        PushKind::SUnsubscribe => Some(SubscriberEvent::Unsubscribed(parts.next()?)),
        PushKind::Disconnection => Some(SubscriberEvent::Dead),
        _ => None,
    }
}

/// Executes commands until the connection is dead, or the subscriber was dropped.
async fn serve(
    mut connection: MultiplexedConnection,
    mut commands: UnboundedReceiver<SubscriberCommand>,
    report: impl Fn(SubscriberEvent),
) {
    let mut probes = tokio::time::interval(PROBE);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let alive = tokio::select! {
            count = commands.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                execute(&mut connection, &mut batch, &report).await
            }
            _ = probes.tick() => connection.req_packed_command(&redis::cmd("PING")).await.map(|_| ()),
        };
        if alive.is_err() {
            return;
        }
    }
}

/// One Redis command for each channel: a server takes several channels at once only when they are of the same slot.
async fn execute(
    connection: &mut MultiplexedConnection,
    batch: &mut Vec<SubscriberCommand>,
    report: &impl Fn(SubscriberEvent),
) -> RedisResult<()> {
    let mut pipeline = Pipeline::with_capacity(batch.len());
    for command in batch.iter() {
        pipeline.add_command(command.encoded());
    }
    let answers = connection.req_packed_commands(&pipeline, 0, batch.len()).await?;
    for (command, answer) in batch.drain(..).zip(answers) {
        if let (SubscriberCommand::Subscribe(channel), Value::ServerError(error)) = (command, answer) {
            tracing::debug!(?error, "the master refuses a subscription");
            report(SubscriberEvent::Refused(channel));
        }
    }
    Ok(())
}

impl SubscriberCommand {
    fn encoded(&self) -> Cmd {
        let (name, channel) = match self {
            Self::Subscribe(channel) => ("SSUBSCRIBE", channel),
            Self::Unsubscribe(channel) => ("SUNSUBSCRIBE", channel),
        };
        let mut command = redis::cmd(name);
        command.arg(&channel[..]);
        command
    }
}
