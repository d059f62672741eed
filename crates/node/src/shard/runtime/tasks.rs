//! Starts what runs beside the shard, on the shard's thread.

use std::{future::Future, pin::Pin, rc::Rc, sync::Arc};

use signalbox_cluster::ShardId;

use super::mailboxes::Mailboxes;
use crate::{
    app::Socket,
    panics::{Panicked, guarded, guarded_future, report},
    shard::{
        context::ShardContext,
        mailbox::ShardMessage,
        tasks::{Task, TaskResult},
    },
};

/// Starts a task; its result comes through the shard's mailbox.
pub(super) fn start(task: Task, shard: ShardId, mailboxes: &Arc<Mailboxes>, context: &Rc<ShardContext>) {
    let pending = |ticket| PendingResult { mailboxes: mailboxes.clone(), shard, ticket, result: None };
    match task {
        Task::Event { handler, socket, event } => {
            run_handler(context, "event", socket.clone(), || handler(socket, event));
        }
        Task::Connected { handler, socket, auth } => {
            run_handler(context, "connect", socket.clone(), || handler(socket, auth));
        }
        Task::Disconnected { handler, socket, reason } => {
            run_handler(context, "disconnect", socket.clone(), || handler(socket, reason));
        }
        Task::Middlewares { ticket, middlewares, socket, auth } => {
            let (pending, context) = (pending(ticket), context.clone());
            actix_rt::spawn(async move {
                let mut result = Ok(Ok(()));
                for middleware in middlewares {
                    result = match guarded(|| middleware(socket.clone(), auth.clone())) {
                        Ok(future) => guarded_future(future).await,
                        Err(panicked) => Err(panicked),
                    };
                    if result != Ok(Ok(())) {
                        break;
                    }
                }
                match result {
                    Ok(result) => pending.complete(TaskResult::Middlewares(result)),
                    // Dropped, `pending` says that there is no result.
                    Err(Panicked) => report(&context.metrics, "middleware", socket.namespace()),
                }
            });
        }
        Task::Call { ticket, called } => {
            let (pending, context) = (pending(ticket), context.clone());
            actix_rt::spawn(async move {
                match guarded_future(called).await {
                    Ok(answer) => pending.complete(TaskResult::Called(answer.map(Box::new))),
                    Err(Panicked) => report(&context.metrics, "hooks", "call"),
                }
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

/// Starts a handler. One that panics, at once or later, ends its client's connection.
fn run_handler(
    context: &Rc<ShardContext>,
    name: &'static str,
    socket: Socket,
    handler: impl FnOnce() -> Pin<Box<dyn Future<Output = ()>>>,
) {
    let context = context.clone();
    let failed = move || {
        report(&context.metrics, "handler", name);
        socket.close_connection();
    };
    match guarded(handler) {
        Ok(future) => {
            actix_rt::spawn(async move {
                if guarded_future(future).await == Err(Panicked) {
                    failed();
                }
            });
        }
        Err(Panicked) => failed(),
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
