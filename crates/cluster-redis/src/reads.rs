//! Pages of users, read through a connection of their own: however many are asked for, neither the ordered calls nor the heartbeat
//! wait behind them. One page is read at a time; the cluster bounds how many are asked for at once.

use std::{sync::Arc, time::Instant};

use redis::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{
    RESPONSE,
    backend::Backend,
    calls::Context,
    command_error::CommandError,
    commands::{Commands, all},
    replies,
};
use signalbox_cluster::{
    Cluster,
    address::Address,
    driver::CallToken,
    model::users::PAGE,
    partition::{self, PARTITIONS},
    store::{Call, Reply},
};

/// A page that is asked for.
pub(super) type Read = (Call, CallToken);
/// Where pages are asked for.
pub(super) type Reads = UnboundedSender<Read>;

/// Reads pages until the node ends.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    cluster: Arc<Cluster>,
    mut reads: UnboundedReceiver<Read>,
) {
    let mut commands = Commands::new(backend, context.clone(), RESPONSE);
    while let Some((call, token)) = reads.recv().await {
        let Call::Users { namespace, after } = call else { continue };
        let reply = match users(&mut commands, &context, &namespace, after).await {
            Ok((users, more)) => Reply::Users(users, more),
            Err(CommandError { may_have_run }) => Reply::Failed { may_have_run },
        };
        cluster.replied(Instant::now(), token, reply);
    }
    // The pipeline has ended, and the node with it.
    std::future::pending().await
}

/// Reads a page of users; returns it, and whether there are more. The partitions are counted first, so that only those are read
/// that are not empty, and no more of them than the page takes.
pub(super) async fn users(
    commands: &mut Commands,
    context: &Context,
    namespace: &str,
    after: Option<Address>,
) -> Result<(Vec<(Address, Arc<str>)>, bool), CommandError> {
    let first = after.map_or(0, |after| usize::from(partition::of_user(namespace, after)));
    let count = |partition| context.count_users(namespace, partition as u8);
    let counts = all(commands.send((first..PARTITIONS).map(count).collect()).await)?;
    let mut partitions = (first..PARTITIONS).zip(counts.iter().map(number)).filter(|(_, count)| *count > 0);
    let mut users = Vec::new();
    while users.len() <= PAGE {
        let (mut pages, mut expected) = (Vec::new(), users.len());
        while expected <= PAGE
            && let Some((partition, count)) = partitions.next()
        {
            let after = after.filter(|_| partition == first);
            pages.push(context.page(namespace, partition as u8, after, PAGE + 1 - expected));
            // How many of the first partition come behind `after` is not known.
            expected += if after.is_some() { 0 } else { count };
        }
        if pages.is_empty() {
            break;
        }
        let values = all(commands.send(pages).await)?;
        users.extend(values.into_iter().flat_map(replies::users));
    }
    let more = users.len() > PAGE;
    users.truncate(PAGE);
    Ok((users, more))
}

fn number(value: &Value) -> usize {
    match value {
        Value::Int(number) => usize::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}
