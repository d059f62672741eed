//! Calls in their order, pipelined: what is asked for while one batch is under way goes into the next ones ([`Backlog`]).

use std::{pin::pin, sync::Arc, time::Duration, time::Instant};

use redis::{Cmd, Value};
use tokio::sync::{
    Notify,
    mpsc::{UnboundedReceiver, UnboundedSender},
};

use super::{
    backend::Backend,
    backlog::Backlog,
    broadcasts::{Broadcasts, publication},
    call_kind::{self, PUBLISH},
    calls::Context,
    command_error::CommandError,
    commands::{Commands, all},
    connection::code,
    driver::DriverCommand,
    reads::Reads,
    reaps::Reaps,
    subscription_change::SubscriptionChange,
};
use signalbox_cluster::{
    Cluster, NodeTag,
    driver::{CallToken, DriverEnded},
    model::LEASE,
    store::{Call, Reply},
};

/// Commands that are taken out of the queue at once.
const TAKEN: usize = 4096;
/// How long a batch may take to be answered. A store that is slow is waited for as long as the heartbeat finds it there.
const PATIENCE: Duration = LEASE;

/// A part of a batch: a call, or a broadcast, which has no reply.
struct Item {
    call: Option<Box<(Call, CallToken)>>,
    commands: usize,
}

/// Where that goes which is not to be done in order.
pub(super) struct Beside {
    pub(super) subscriptions: UnboundedSender<SubscriptionChange>,
    pub(super) reads: Reads,
    pub(super) reaps: Reaps,
}

/// Makes calls until the node ends.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    tag: NodeTag,
    cluster: Arc<Cluster>,
    mut calls: UnboundedReceiver<DriverCommand>,
    beside: Beside,
    degraded: Arc<Notify>,
) {
    let mut broadcasts =
        Broadcasts::new(backend, context.clone(), cluster.clone(), degraded.clone(), PATIENCE);
    let mut pipeline = CommandPipeline {
        commands: Commands::new(backend, context.clone(), PATIENCE),
        degraded,
        context,
        tag,
        cluster,
        beside,
        has_given_up: false,
    };
    let (mut batch, mut asked, mut backlog) = (Vec::new(), Vec::new(), Backlog::new());
    loop {
        if backlog.is_empty() {
            tokio::select! {
                count = calls.recv_many(&mut batch, TAKEN) => {
                    if count == 0 {
                        return;
                    }
                }
                () = broadcasts.answered() => {
                    backlog.answered_beside();
                    continue;
                }
            }
        }
        while batch.len() < TAKEN
            && let Ok(command) = calls.try_recv()
        {
            batch.push(command);
        }
        // What waits for a store that is away has failed, too.
        let is_given_up = std::mem::take(&mut pipeline.has_given_up) && !backlog.is_empty();
        if is_given_up {
            let mut given_up = Vec::new();
            backlog.take_all(&mut given_up);
            if let Some(ended) = pipeline.take(given_up.into_iter(), false).await {
                drop(ended);
                return;
            }
        }
        backlog.next_batch(&mut batch);
        if batch.is_empty() {
            // Everything has failed, or what waits is behind the broadcasts that went beside the last batch.
            if backlog.has_beside() {
                broadcasts.answered().await;
                backlog.answered_beside();
            }
            continue;
        }
        let rooms = Backlog::rooms_of(&batch);
        let ended = {
            let mut sent = pin!(pipeline.take(batch.drain(..), true));
            loop {
                broadcasts.begin(&mut backlog, &rooms);
                tokio::select! {
                    ended = &mut sent => break ended,
                    () = broadcasts.answered() => backlog.answered_beside(),
                    // The node ends with a command, and not with this.
                    Some(command) = calls.recv() => {
                        asked.push(command);
                        while asked.len() < TAKEN
                            && let Ok(command) = calls.try_recv()
                        {
                            asked.push(command);
                        }
                        backlog.wait(&mut asked);
                    }
                }
            }
        };
        if let Some(ended) = ended {
            drop(ended);
            return;
        }
        batch.shrink_to(TAKEN);
        asked.shrink_to(TAKEN);
    }
}

struct CommandPipeline {
    commands: Commands,
    /// Notified when a heartbeat has found the store away: a batch on its way is given up.
    degraded: Arc<Notify>,
    context: Arc<Context>,
    tag: NodeTag,
    cluster: Arc<Cluster>,
    beside: Beside,
    /// The last batch was given up.
    has_given_up: bool,
}

impl CommandPipeline {
    /// Executes a batch, or lets it fail (`is_sent`: whether it goes to the store at all); returns the token of the end, if the driver is
    /// to end.
    async fn take(
        &mut self,
        batch: impl Iterator<Item = DriverCommand>,
        is_sent: bool,
    ) -> Option<DriverEnded> {
        let (mut items, mut commands): (Vec<Item>, Vec<Cmd>) = Default::default();
        let mut listings = Vec::new();
        let mut ended = None;
        let format = self.cluster.write_format();
        for asked in batch {
            match asked {
                DriverCommand::Call(call) => match &call.0 {
                    Call::Users { .. } => listings.push(*call),
                    // The node's own records go before its lease, in order.
                    Call::Reap { owner, .. } if owner.tag != self.tag => {
                        drop(self.beside.reaps.send(*call));
                    }
                    _ => {
                        let made = self.context.commands(&call.0, format);
                        items.push(Item { commands: made.len(), call: Some(call) });
                        commands.extend(made);
                    }
                },
                DriverCommand::Publish(broadcast) => {
                    commands.push(publication(&self.context, &broadcast, format));
                    items.push(Item { commands: 1, call: None });
                }
                DriverCommand::Subscribe(room) => {
                    drop(self.beside.subscriptions.send(SubscriptionChange::Subscribe(room)))
                }
                DriverCommand::Unsubscribe(room) => {
                    drop(self.beside.subscriptions.send(SubscriptionChange::Unsubscribe(room)))
                }
                DriverCommand::End(end) => ended = Some(end),
            }
        }
        if !commands.is_empty() {
            let sent = Instant::now();
            let answers = match is_sent {
                true => self.send(commands).await,
                false => vec![Err(CommandError { may_have_run: false }); commands.len()],
            };
            self.answer(items, answers, sent.elapsed()).await;
        }
        // Listings come last: everything that was asked for before them is done, and they see it.
        for read in listings {
            let _ = self.beside.reads.send(read);
        }
        ended
    }

    /// Sends commands, and waits for their answers for as long as the store is there.
    async fn send(&mut self, commands: Vec<Cmd>) -> Vec<Result<Value, CommandError>> {
        let count = commands.len();
        let given_up = tokio::select! {
            answers = self.commands.send(commands) => return answers,
            () = self.degraded.notified() => vec![Err(CommandError { may_have_run: true }); count],
        };
        self.commands.close();
        self.has_given_up = true;
        given_up
    }

    async fn answer(&mut self, items: Vec<Item>, answers: Vec<Result<Value, CommandError>>, took: Duration) {
        let mut answers = answers.into_iter();
        for item in items {
            let kind = item.call.as_ref().map_or(PUBLISH, |call| call_kind::of(&call.0));
            self.context.observe(kind, took);
            let values = all(answers.by_ref().take(item.commands).collect());
            let Some(call) = item.call else {
                if !matches!(values.as_deref(), Ok([Value::Int(_)])) {
                    self.cluster.broadcast_failed(Instant::now());
                }
                continue;
            };
            let (call, token) = *call;
            if let (Call::Reap { .. }, Ok(values)) = (&call, &values) {
                self.reap_rest(&call, values).await;
            }
            let reply = match values {
                Ok(values) => match values.iter().find(|value| matches!(value, Value::ServerError(_))) {
                    Some(error) => {
                        self.context.failed("refused");
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
    }

    /// Each call removes only some records; the rest is removed here.
    async fn reap_rest(&mut self, call: &Call, values: &[Value]) {
        let mut is_left = self.context.reaped(values);
        while is_left {
            let commands = self.context.commands(call, self.cluster.write_format());
            let answer = all(self.send(commands).await);
            is_left = answer.is_ok_and(|values| self.context.reaped(&values));
        }
    }
}
