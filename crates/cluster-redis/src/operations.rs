//! Long operations of operators, as the nodes of a cluster share them.
//!
//! They are few, and written once a second by whoever runs one. What each of them says is for the nodes to know; here they are texts with
//! versions, and a write takes place only if nobody else has written meanwhile.

use std::sync::Arc;

use redis::{Cmd, Value, cmd};
use signalbox_cluster::operations::{MAX_OPERATIONS, StoredOperation, Written};
use tokio::sync::{mpsc, oneshot};

use super::{
    RESPONSE,
    backend::Backend,
    calls::Context,
    commands::Commands,
    replies::{bytes, list},
    scripts::Invocation,
};

/// For how long one that runs is kept in seconds, if nobody writes it: after that, no node is left that would go on with it.
const RUNNING_KEPT: u32 = 600;
/// For how long those that are over are kept, in seconds.
const OVER_KEPT: u32 = 7 * 86_400;

/// Redis does not answer: what was to be written may be, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis does not answer")]
pub struct StoreAway;

/// A question to the store.
pub(super) enum Request {
    Write(StoredOperation, oneshot::Sender<Result<Written, StoreAway>>),
    Read { only_running: bool, answer: oneshot::Sender<Result<Vec<StoredOperation>, StoreAway>> },
}

/// The operations of a cluster, in its Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations(mpsc::UnboundedSender<Request>);

impl Operations {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Request>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self(requests), receiver)
    }

    /// Writes an operation, as [`OperationTable::write`](signalbox_cluster::operations::OperationTable::write) does.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn write(&self, operation: StoredOperation) -> Result<Written, StoreAway> {
        let (answer, answered) = oneshot::channel();
        // The thread has ended only when the node stops.
        let _ = self.0.send(Request::Write(operation, answer));
        answered.await.unwrap_or(Err(StoreAway))
    }

    /// All operations, or those that run.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn read(&self, only_running: bool) -> Result<Vec<StoredOperation>, StoreAway> {
        let (answer, answered) = oneshot::channel();
        let _ = self.0.send(Request::Read { only_running, answer });
        answered.await.unwrap_or(Err(StoreAway))
    }
}

/// Answers a node's questions until it ends.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let mut commands = Commands::new(backend, context.clone(), RESPONSE);
    while let Some(request) = requests.recv().await {
        match request {
            // Whoever asked was told that Redis is away: what they wanted does not happen later.
            Request::Write(_, answer) if answer.is_closed() => {}
            Request::Read { answer, .. } if answer.is_closed() => {}
            // Whoever asked may go meanwhile.
            Request::Write(operation, answer) => {
                let outcome = commands.send(vec![write(&context, &operation)]).await.pop();
                let _ = answer.send(outcome.and_then(Result::ok).and_then(written).ok_or(StoreAway));
            }
            Request::Read { only_running, answer } => {
                let _ = answer.send(read(&context, &mut commands, only_running).await.ok_or(StoreAway));
            }
        }
    }
    std::future::pending::<()>().await;
}

/// The keys of those that run, and of those that are over.
fn keys(context: &Context) -> [bytes::Bytes; 2] {
    ["operations", "operations-over"].map(|what| context.keys.nodes(what))
}

fn write(context: &Context, operation: &StoredOperation) -> Cmd {
    let StoredOperation { id, version, is_over, began, subject, text } = operation;
    let call = Invocation::of(&context.scripts.operation);
    let call = keys(context).iter().fold(call, |call, key| call.key(key));
    let call = call.arg(id).number(version).switch(*is_over).number(began).arg(subject);
    call.number(MAX_OPERATIONS).number(RUNNING_KEPT).number(OVER_KEPT).arg(text).command()
}

fn written(answer: Value) -> Option<Written> {
    let mut parts = list(answer).into_iter();
    let Some(Value::Int(kind)) = parts.next() else { return None };
    match (kind, parts.next()) {
        (1, Some(Value::Int(version))) => Some(Written::Stored(u64::try_from(version).ok()?)),
        (2, _) => Some(Written::Changed),
        (3, Some(id)) => Some(Written::Busy(String::from_utf8(bytes(id)?).ok()?)),
        (4, _) => Some(Written::Full),
        _ => None,
    }
}

async fn read(
    context: &Context,
    commands: &mut Commands,
    only_running: bool,
) -> Option<Vec<StoredOperation>> {
    let [running, over] = keys(context);
    let hgetall = |key: &[u8]| {
        let mut command = cmd("HGETALL");
        command.arg(key);
        command
    };
    let mut asked = vec![hgetall(&running)];
    if !only_running {
        asked.push(hgetall(&over));
    }
    let mut found = Vec::new();
    for (at, answer) in commands.send(asked).await.into_iter().enumerate() {
        let answer = answer.ok().filter(|answer| !matches!(answer, Value::ServerError(_)))?;
        let mut parts = list(answer).into_iter().map(|part| String::from_utf8(bytes(part)?).ok());
        while let (Some(id), Some(stored)) = (parts.next(), parts.next()) {
            // What is no text is nobody's.
            let known = id.zip(stored);
            found.extend(known.and_then(|(id, stored)| stored_operation(id, &stored, at == 1)));
        }
    }
    Some(found)
}

/// Reads what `operation.lua` writes; `None` for anything else.
fn stored_operation(id: String, stored: &str, is_over: bool) -> Option<StoredOperation> {
    let (head, text) = stored.split_once('\n')?;
    let mut head = head.splitn(4, ' ');
    let mut number = || head.next()?.parse().ok();
    // When it was written is of interest to the script alone.
    let (version, began, _): (u64, u64, u64) = (number()?, number()?, number()?);
    let subject = head.next()?.to_owned();
    Some(StoredOperation { id, version, is_over, began, subject, text: text.to_owned() })
}
