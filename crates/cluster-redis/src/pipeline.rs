//! Calls in their order, pipelined: the calls that are asked for while one batch is under way are the next batch.

use std::{sync::Arc, time::Instant};

use redis::{Cmd, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{
    backend::Backend,
    calls::Context,
    command_error::CommandError,
    commands::{Commands, all},
    connection::code,
    driver::DriverCommand,
    replies,
    subscription_change::SubscriptionChange,
};
use signalbox_cluster::{
    Cluster,
    address::Address,
    driver::{CallToken, DriverEnded},
    model::users::PAGE,
    partition::{self, PARTITIONS},
    store::{Call, Reply},
};

/// Calls in one batch.
const BATCH: usize = 512;
/// Partitions that a listing of users reads at once.
const CHUNK: usize = 16;

/// A part of a batch: a call, or a broadcast, which has no reply.
struct Item {
    call: Option<Box<(Call, CallToken)>>,
    commands: usize,
}

/// Makes calls until the node ends.
pub(super) async fn run(
    backend: Arc<Backend>,
    context: Arc<Context>,
    cluster: Arc<Cluster>,
    mut calls: UnboundedReceiver<DriverCommand>,
    subscriptions: UnboundedSender<SubscriptionChange>,
) {
    let mut pipeline = CommandPipeline {
        commands: Commands::new(&backend, context.clone()),
        heartbeat_connection: Arc::new(tokio::sync::Mutex::new(Commands::new(&backend, context.clone()))),
        backend,
        context,
        cluster,
        subscriptions,
    };
    let mut batch = Vec::with_capacity(BATCH);
    while calls.recv_many(&mut batch, BATCH).await > 0 {
        if let Some(ended) = pipeline.take(batch.drain(..)).await {
            drop(ended);
            return;
        }
    }
}

struct CommandPipeline {
    commands: Commands,
    /// The heartbeat has a connection of its own, so that it never waits behind a long batch.
    heartbeat_connection: Arc<tokio::sync::Mutex<Commands>>,
    backend: Arc<Backend>,
    context: Arc<Context>,
    cluster: Arc<Cluster>,
    subscriptions: UnboundedSender<SubscriptionChange>,
}

impl CommandPipeline {
    /// Executes a batch; returns the token of the end, if the driver is to end.
    async fn take(&mut self, batch: impl Iterator<Item = DriverCommand>) -> Option<DriverEnded> {
        let (mut items, mut commands): (Vec<Item>, Vec<Cmd>) = Default::default();
        let mut listings = Vec::new();
        let mut ended = None;
        let format = self.cluster.write_format();
        for asked in batch {
            match asked {
                DriverCommand::Call(call) => match &call.0 {
                    Call::Heartbeat { .. } => self.send_heartbeat(*call),
                    Call::Users { .. } => listings.push(*call),
                    _ => {
                        let made = self.context.commands(&call.0, format);
                        items.push(Item { commands: made.len(), call: Some(call) });
                        commands.extend(made);
                    }
                },
                DriverCommand::Publish { from, room, payload } => {
                    let channel = match &room {
                        Some(room) => self.context.keys.room_channel(room),
                        None => self.context.keys.everywhere(),
                    };
                    let message = super::wire::encode_broadcast(format, from, &payload);
                    commands.push(self.context.publish(&channel, &message));
                    items.push(Item { commands: 1, call: None });
                }
                DriverCommand::Subscribe(room) => {
                    drop(self.subscriptions.send(SubscriptionChange::Subscribe(room)))
                }
                DriverCommand::Unsubscribe(room) => {
                    drop(self.subscriptions.send(SubscriptionChange::Unsubscribe(room)))
                }
                DriverCommand::End(end) => ended = Some(end),
            }
        }
        if !commands.is_empty() {
            let answers = self.commands.send(commands).await;
            self.answer(items, answers).await;
        }
        // Listings come last: everything that was asked for before them is done, and they see it.
        for (call, token) in listings {
            self.list(call, token);
        }
        ended
    }

    async fn answer(&mut self, items: Vec<Item>, answers: Vec<Result<Value, CommandError>>) {
        let mut answers = answers.into_iter();
        let mut is_lost = false;
        for item in items {
            let values = all(answers.by_ref().take(item.commands).collect());
            is_lost |= values.is_err();
            let Some(call) = item.call else { continue };
            let (call, token) = *call;
            if let (Call::Reap { .. }, Ok(values)) = (&call, &values) {
                self.reap_rest(&call, values).await;
            }
            let reply = match values {
                Ok(values) => match values.iter().find(|value| matches!(value, Value::ServerError(_))) {
                    Some(error) => {
                        tracing::warn!(?error, "Redis refuses a command");
                        // A script may fail after it has done a part; other errors come before anything is done.
                        Reply::Failed { may_have_run: code(error) == Some("ERR") }
                    }
                    None => self.context.reply(call, values),
                },
                Err(CommandError { may_have_run }) => Reply::Failed { may_have_run },
            };
            self.cluster.replied(Instant::now(), token, reply);
        }
        if is_lost {
            // Broadcasts have no reply that would say so.
            self.cluster.store_lost(Instant::now());
        }
    }

    /// Each call removes only some records; the rest is removed here.
    async fn reap_rest(&mut self, call: &Call, values: &[Value]) {
        let mut is_left = replies::has_more_to_reap(values);
        while is_left {
            let answer =
                all(self.commands.send(self.context.commands(call, self.cluster.write_format())).await);
            is_left = answer.is_ok_and(|values| replies::has_more_to_reap(&values));
        }
    }

    fn send_heartbeat(&self, (call, token): (Call, CallToken)) {
        let (heartbeat_connection, context, cluster) =
            (self.heartbeat_connection.clone(), self.context.clone(), self.cluster.clone());
        tokio::spawn(async move {
            let reply = match all(heartbeat_connection
                .lock()
                .await
                .send(context.commands(&call, cluster.write_format()))
                .await)
            {
                Ok(values) if !values.iter().any(|value| matches!(value, Value::ServerError(_))) => {
                    context.reply(call, values)
                }
                Ok(_) => Reply::Failed { may_have_run: true },
                Err(CommandError { may_have_run }) => Reply::Failed { may_have_run },
            };
            cluster.replied(Instant::now(), token, reply);
        });
    }

    fn list(&self, call: Call, token: CallToken) {
        let Call::Users { namespace, after } = call else { return };
        let (context, cluster) = (self.context.clone(), self.cluster.clone());
        let mut commands = Commands::new(&self.backend, context.clone());
        tokio::spawn(async move {
            let reply = match users(&mut commands, &context, &namespace, after).await {
                Ok((users, more)) => Reply::Users(users, more),
                Err(CommandError { may_have_run }) => Reply::Failed { may_have_run },
            };
            cluster.replied(Instant::now(), token, reply);
        });
    }
}

/// Reads a page of users, partition by partition; returns it, and whether there are more.
pub(super) async fn users(
    commands: &mut Commands,
    context: &Context,
    namespace: &str,
    after: Option<Address>,
) -> Result<(Vec<(Address, Arc<str>)>, bool), CommandError> {
    let first = after.map_or(0, |after| usize::from(partition::of_user(after)));
    let mut users = Vec::new();
    let mut partitions = (first..PARTITIONS).peekable();
    while users.len() <= PAGE && partitions.peek().is_some() {
        let chunk = partitions.by_ref().take(CHUNK);
        let pages = chunk.map(|partition| {
            let after = after.filter(|_| partition == first);
            context.page(namespace, partition as u8, after)
        });
        let values = all(commands.send(pages.collect()).await)?;
        users.extend(values.into_iter().flat_map(replies::users));
    }
    let more = users.len() > PAGE;
    users.truncate(PAGE);
    Ok((users, more))
}
