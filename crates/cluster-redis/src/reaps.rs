//! Records of nodes that have died, removed through a connection of its own: there may be hundreds of thousands, and neither the
//! ordered calls nor the heartbeat wait for them. Any order will do, since other nodes reap at the same time.

use std::{sync::Arc, time::Instant};

use redis::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{
    RESPONSE,
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

/// A partition of a dead node's records that is to be removed.
pub(super) type Reap = (Call, CallToken);
/// Where that is asked for.
pub(super) type Reaps = UnboundedSender<Reap>;

/// Partitions that are begun at once.
const BATCH: usize = 32;

/// Reaps until the node ends.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    cluster: Arc<Cluster>,
    mut reaps: UnboundedReceiver<Reap>,
) {
    let mut commands = Commands::new(backend, context.clone(), RESPONSE);
    let mut batch = Vec::with_capacity(BATCH);
    while reaps.recv_many(&mut batch, BATCH).await > 0 {
        let format = cluster.write_format();
        let firsts = if cluster.status() == Status::Online {
            let made = batch.iter().flat_map(|(call, _)| context.commands(call, format)).collect();
            let sent = Instant::now();
            let firsts = commands.send(made).await;
            batch.iter().for_each(|(call, _)| context.observe(call_kind::of(call), sent.elapsed()));
            firsts
        } else {
            // Whoever is online reaps.
            vec![Err(CommandError { may_have_run: false }); batch.len()]
        };
        for ((call, token), first) in batch.drain(..).zip(firsts) {
            let mut values = first.map(|value| vec![value]);
            // Each call removes only some records, and the first tells what is to be told of them.
            let mut is_left = values.as_deref().is_ok_and(|values| context.reaped(values));
            while is_left {
                let rest = all(commands.send(context.commands(&call, format)).await);
                is_left = rest.as_deref().is_ok_and(|values| context.reaped(values));
                if let Err(error) = rest {
                    values = Err(error);
                }
            }
            let reply = match values {
                Ok(values) if !values.iter().any(|value| matches!(value, Value::ServerError(_))) => {
                    context.reply(call, values)
                }
                Ok(_) => Reply::Failed { may_have_run: true },
                Err(CommandError { may_have_run }) => Reply::Failed { may_have_run },
            };
            cluster.replied(Instant::now(), token, reply);
        }
    }
    // The pipeline has ended, and the node with it.
    std::future::pending().await
}
