//! Starts what runs beside the shard, on the shard's thread.

use std::sync::Arc;

use signalbox_cluster::ShardId;

use super::Mailboxes;
use crate::shard::{
    mailbox::ShardMessage,
    tasks::{Task, TaskResult},
};

/// Starts a task; its result comes through the shard's mailbox.
pub(super) fn start(task: Task, shard: ShardId, mailboxes: &Arc<Mailboxes>) {
    let pending = |ticket| PendingResult { mailboxes: mailboxes.clone(), shard, ticket, result: None };
    match task {
        Task::Event { handler, socket, event } => {
            actix_rt::spawn(handler(socket, event));
        }
        Task::Connected { handler, socket, auth } => {
            actix_rt::spawn(handler(socket, auth));
        }
        Task::Disconnected { handler, socket, reason } => {
            actix_rt::spawn(handler(socket, reason));
        }
        Task::Middlewares { ticket, middlewares, socket, auth } => {
            let pending = pending(ticket);
            actix_rt::spawn(async move {
                let mut result = Ok(());
                for middleware in middlewares {
                    result = middleware(socket.clone(), auth.clone()).await;
                    if result.is_err() {
                        break;
                    }
                }
                pending.complete(TaskResult::Middlewares(result));
            });
        }
        Task::Verdict { ticket, verdict } => {
            let pending = pending(ticket);
            actix_rt::spawn(async move {
                let decided = verdict.await.decided().await;
                pending.complete(TaskResult::Decided(decided));
            });
        }
    }
}

/// Tells the shard the result of a task, also when there is none because it panicked: whoever waits must not wait forever.
struct PendingResult {
    mailboxes: Arc<Mailboxes>,
    shard: ShardId,
    ticket: u64,
    result: Option<TaskResult>,
}

impl PendingResult {
    fn complete(mut self, result: TaskResult) {
        self.result = Some(result);
    }
}

impl Drop for PendingResult {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or(TaskResult::Failed);
        self.mailboxes.push(self.shard, ShardMessage::TaskDone(self.ticket, result));
    }
}
