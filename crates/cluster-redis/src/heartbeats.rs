//! Heartbeats, through a queue and a connection of their own: however much else is asked for, the node renews its lease.

use std::{sync::Arc, time::Duration, time::Instant};

use redis::Value;
use tokio::sync::{
    Notify,
    mpsc::{UnboundedReceiver, UnboundedSender},
};

use super::{
    backend::Backend,
    call_kind,
    calls::Context,
    command_error::CommandError,
    commands::{Commands, all},
};
use signalbox_cluster::{
    Cluster, Status,
    driver::CallToken,
    store::{Call, Reply},
};

/// A heartbeat that is to be sent.
pub(super) type Heartbeat = (Call, CallToken);
/// Where that is asked for.
pub(super) type Heartbeats = UnboundedSender<Heartbeat>;

/// How long a heartbeat may take. It is repeated once before the node is degraded, well before the lease ends.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Sends heartbeats until the node ends. `degraded` is notified when one has found the store away.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    cluster: Arc<Cluster>,
    mut heartbeats: UnboundedReceiver<Heartbeat>,
    degraded: Arc<Notify>,
) {
    let mut commands = Commands::new(backend, context.clone(), PATIENCE);
    while let Some((call, token)) = heartbeats.recv().await {
        let sent = Instant::now();
        let answers = commands.send(context.commands(&call, cluster.write_format())).await;
        context.observe(call_kind::of(&call), sent.elapsed());
        let reply = match all(answers) {
            Ok(values) if !values.iter().any(|value| matches!(value, Value::ServerError(_))) => {
                context.reply(call, values)
            }
            Ok(_) => Reply::Failed { may_have_run: true },
            Err(CommandError { may_have_run }) => Reply::Failed { may_have_run },
        };
        cluster.replied(Instant::now(), token, reply);
        if cluster.status() == Status::Degraded {
            degraded.notify_waiters();
        }
    }
    // The pipeline ends too, and the node with it.
    std::future::pending().await
}
