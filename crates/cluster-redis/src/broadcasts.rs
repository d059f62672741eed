//! Broadcasts that go beside a batch of the pipeline, over a connection of their own.

use std::{pin::Pin, sync::Arc, time::Duration, time::Instant};

use redis::{Cmd, Value};
use tokio::sync::Notify;

use super::{
    backend::Backend,
    backlog::{Backlog, Rooms},
    call_kind::PUBLISH,
    calls::Context,
    commands::Commands,
    driver::{DriverCommand, Publication},
    wire,
};
use signalbox_cluster::{Cluster, envelope::Format};

/// One batch of broadcasts at a time.
pub(super) struct Broadcasts {
    /// `None` while it is under way.
    idle: Option<Connection>,
    under_way: Option<Pin<Box<dyn Future<Output = Connection>>>>,
}

struct Connection {
    commands: Commands,
    context: Arc<Context>,
    cluster: Arc<Cluster>,
    /// Notified when a heartbeat has found the store away.
    degraded: Arc<Notify>,
}

impl Broadcasts {
    pub(super) fn new(
        backend: &Backend,
        context: Arc<Context>,
        cluster: Arc<Cluster>,
        degraded: Arc<Notify>,
        patience: Duration,
    ) -> Self {
        let commands = Commands::new(backend, context.clone(), patience);
        Self { idle: Some(Connection { commands, context, cluster, degraded }), under_way: None }
    }

    /// Sends what may go beside a batch that concerns these rooms.
    pub(super) fn begin(&mut self, backlog: &mut Backlog<DriverCommand>, rooms: &Rooms) {
        if self.under_way.is_some() {
            return;
        }
        let broadcasts = backlog.take_beside(rooms);
        if !broadcasts.is_empty()
            && let Some(connection) = self.idle.take()
        {
            self.under_way = Some(Box::pin(connection.send(broadcasts)));
        }
    }

    /// Waits until those under way have been answered; for ever if there are none.
    pub(super) async fn answered(&mut self) {
        match &mut self.under_way {
            Some(under_way) => self.idle = Some(under_way.await),
            None => std::future::pending().await,
        }
        self.under_way = None;
    }
}

impl Connection {
    async fn send(mut self, broadcasts: Vec<DriverCommand>) -> Self {
        let format = self.cluster.write_format();
        let made = broadcasts.iter().filter_map(|command| match command {
            DriverCommand::Publish(broadcast) => Some(publication(&self.context, broadcast, format)),
            _ => None,
        });
        let commands: Vec<Cmd> = made.collect();
        let sent = Instant::now();
        let answers = tokio::select! {
            answers = self.commands.send(commands) => Some(answers),
            () = self.degraded.notified() => None,
        };
        if answers.is_none() {
            self.commands.close();
        }
        let mut answers = answers.into_iter().flatten();
        for _ in &broadcasts {
            self.context.observe(PUBLISH, sent.elapsed());
            if !matches!(answers.next(), Some(Ok(Value::Int(_)))) {
                self.cluster.broadcast_failed(Instant::now());
            }
        }
        self
    }
}

/// What publishes a broadcast.
pub(super) fn publication(context: &Context, broadcast: &Publication, format: Format) -> Cmd {
    let Publication { from, room, payload, sent_at } = broadcast;
    let channel = match room {
        Some(room) => context.keys.room_channel(room),
        None => context.keys.everywhere(),
    };
    let broadcast = wire::Broadcast { format, from: *from, sent_at: *sent_at, payload };
    context.publish_broadcast(&channel, broadcast)
}
