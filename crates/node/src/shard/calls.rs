//! What runs beside the shard: handlers, middlewares, slow verdicts. They begin once the shard's state is at rest, so they may use
//! it like anybody else: through the inbox.

use std::{future::Future, pin::Pin, sync::Arc};

use signalbox_cluster::ShardId;

use crate::{
    app::{ConnectHandler, ConnectRefused, DisconnectHandler, Event, EventHandler, Middleware, Socket},
    mailbox::ShardMessage,
    node::NodeShared,
    policy::{Decided, Verdict},
};

/// Something to begin.
pub(crate) enum Task {
    Event { handler: EventHandler, socket: Socket, event: Event },
    Connected { handler: ConnectHandler, socket: Socket, auth: Option<String> },
    Disconnected { handler: DisconnectHandler, socket: Socket, reason: String },
    Middlewares { ticket: u64, middlewares: Vec<Middleware>, socket: Socket, auth: Option<String> },
    Verdict { ticket: u64, verdict: Pin<Box<dyn Future<Output = Verdict> + Send>> },
}

/// What came of something that took a while.
pub(crate) enum TaskResult {
    Decided(Decided),
    Middlewares(Result<(), ConnectRefused>),
    /// A signal found its socket, or not.
    Signalled(bool),
    /// It is somebody's turn again.
    Yield,
    /// Nothing: it panicked.
    Failed,
}

impl Task {
    /// Begins it, on the shard's thread.
    pub(crate) fn begin(self, shard: ShardId, node: &Arc<NodeShared>) {
        let answer = |ticket| Answer { node: node.clone(), shard, ticket, outcome: None };
        match self {
            Self::Event { handler, socket, event } => {
                actix_rt::spawn(handler(socket, event));
            }
            Self::Connected { handler, socket, auth } => {
                actix_rt::spawn(handler(socket, auth));
            }
            Self::Disconnected { handler, socket, reason } => {
                actix_rt::spawn(handler(socket, reason));
            }
            Self::Middlewares { ticket, middlewares, socket, auth } => {
                let answer = answer(ticket);
                actix_rt::spawn(async move {
                    let mut result = Ok(());
                    for middleware in middlewares {
                        result = middleware(socket.clone(), auth.clone()).await;
                        if result.is_err() {
                            break;
                        }
                    }
                    answer.give(TaskResult::Middlewares(result));
                });
            }
            Self::Verdict { ticket, verdict } => {
                let answer = answer(ticket);
                actix_rt::spawn(async move {
                    let decided = verdict.await.decided().await;
                    answer.give(TaskResult::Decided(decided));
                });
            }
        }
    }
}

/// Tells the shard what came of something, also when nothing did because it panicked: whoever waits must not wait forever.
struct Answer {
    node: Arc<NodeShared>,
    shard: ShardId,
    ticket: u64,
    outcome: Option<TaskResult>,
}

impl Answer {
    fn give(mut self, outcome: TaskResult) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(TaskResult::Failed);
        self.node.inboxes.push(self.shard, ShardMessage::TaskDone(self.ticket, outcome));
    }
}
