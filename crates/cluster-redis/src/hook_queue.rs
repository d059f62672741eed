//! What is to be sent to the application's server, kept in Redis until it has taken it: in *lanes*, each of which is in order, and belongs
//! to one node at a time, which sends what waits in it. When that node dies, another one goes on where it was.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value, cmd};
use signalbox_telemetry::Metrics;
use tokio::sync::Mutex;

use super::{
    RESPONSE, RedisAccess,
    calls::Context,
    commands::{Commands, all},
    keys::Keys,
    replies::{bytes, list},
    scripts::{Invocation, Scripts},
};

/// How many lanes there are: the same in all versions, or what is about one client could be in two of them.
pub const HOOK_LANES: usize = 8;

/// For how long it is remembered which nodes there are, in seconds; renewed with everything that is written.
const NODES_KEPT: u64 = 7 * 86_400;

/// Something to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEntry {
    /// The text.
    pub text: String,
    /// It says of this node that it has come (`true`) or gone. Every node says so, and only the first one counts.
    pub node: Option<(String, bool)>,
}

/// Something that waits, with its id in the lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingHook {
    /// The id: milliseconds since 1970, a hyphen, a number.
    pub id: String,
    /// The text.
    pub text: String,
}

/// Redis does not answer, or has no memory left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis does not answer")]
pub struct HookQueueAway;

/// The queue. Its connections are its own: nothing of the node waits behind them.
pub struct HookQueue {
    context: Arc<Context>,
    /// Most that may wait in a lane.
    most: usize,
    writing: Mutex<Commands>,
    sending: Mutex<Commands>,
}

impl std::fmt::Debug for HookQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookQueue").field("most", &self.most).finish_non_exhaustive()
    }
}

impl HookQueue {
    /// The queue in a node's Redis. At most `most` entries wait in each lane.
    pub fn new(access: &RedisAccess, prefix: &str, metrics: Metrics, most: usize) -> Self {
        let backend = access.backend();
        let context = Arc::new(Context {
            keys: Keys::new(prefix),
            scripts: Scripts::new(),
            realms: Vec::new(),
            expire_timeout_ms: 0,
            publish: backend.publish(),
            metrics,
        });
        let commands = || Mutex::new(Commands::new(backend, context.clone(), RESPONSE));
        let (writing, sending) = (commands(), commands());
        Self { context, most, writing, sending }
    }

    /// Appends entries to a lane, in their order; returns how many of them were taken, from the first on: fewer than all if the lane is
    /// full. On an error some may have been.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn append(&self, lane: usize, entries: &[HookEntry]) -> Result<usize, HookQueueAway> {
        let head = Invocation::of(&self.context.scripts.hook_append)
            .key(self.lane(lane))
            .key(self.context.keys.nodes("hooks:nodes"))
            .number(self.most)
            .number(NODES_KEPT);
        let call = entries.iter().fold(head, |call, HookEntry { text, node }| {
            let (node, is_there) = node.as_ref().map_or(("", false), |(node, is_there)| (node, *is_there));
            call.arg(node).switch(is_there).arg(text)
        });
        let answers = send(&self.writing, vec![call.command()]).await?;
        match answers.first() {
            Some(Value::Int(taken)) => Ok((*taken).max(0) as usize),
            _ => Err(HookQueueAway),
        }
    }

    /// What waits first in each of these lanes, `most` of each.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn read(&self, lanes: &[usize], most: usize) -> Result<Vec<Vec<WaitingHook>>, HookQueueAway> {
        let read = |lane: &usize| {
            let mut read = cmd("XRANGE");
            read.arg(&self.lane(*lane)[..]).arg("-").arg("+").arg("COUNT").arg(most);
            read
        };
        let answers = send(&self.sending, lanes.iter().map(read).collect()).await?;
        Ok(answers.into_iter().map(|answer| list(answer).into_iter().filter_map(entry).collect()).collect())
    }

    /// Removes what was sent.
    ///
    /// # Errors
    /// Redis does not answer; it may be removed all the same.
    pub async fn remove(&self, lane: usize, ids: &[String]) -> Result<(), HookQueueAway> {
        let mut remove = cmd("XDEL");
        remove.arg(&self.lane(lane)[..]).arg(ids);
        send(&self.sending, vec![remove]).await.map(drop)
    }

    /// Takes lanes for a node, or keeps them, for so long; with a time of zero gives them up. Returns for each whether it is the node's.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn lease(
        &self,
        lanes: &[usize],
        owner: &str,
        time: Duration,
    ) -> Result<Vec<bool>, HookQueueAway> {
        let lease = |lane: &usize| {
            Invocation::of(&self.context.scripts.hook_lease)
                .key(self.context.keys.nodes(&format!("hooks:owner:{lane}")))
                .arg(owner)
                .number(time.as_millis())
                .command()
        };
        let answers = send(&self.sending, lanes.iter().map(lease).collect()).await?;
        Ok(answers.into_iter().map(|answer| answer == Value::Int(1)).collect())
    }

    /// How many wait in all lanes together, and since when the oldest of them, in milliseconds since 1970.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn waiting(&self) -> Result<(u64, Option<u64>), HookQueueAway> {
        let lanes: Vec<usize> = (0..HOOK_LANES).collect();
        let count = |lane: &usize| {
            let mut count = cmd("XLEN");
            count.arg(&self.lane(*lane)[..]);
            count
        };
        let counts = send(&self.sending, lanes.iter().map(count).collect()).await?;
        let count = |answer: &Value| if let Value::Int(count) = answer { (*count).max(0) as u64 } else { 0 };
        let firsts = self.read(&lanes, 1).await?;
        let since = |first: &WaitingHook| first.id.split_once('-')?.0.parse().ok();
        Ok((counts.iter().map(count).sum(), firsts.iter().flatten().filter_map(since).min()))
    }

    fn lane(&self, lane: usize) -> bytes::Bytes {
        self.context.keys.nodes(&format!("hooks:{lane}"))
    }
}

async fn send(commands: &Mutex<Commands>, batch: Vec<Cmd>) -> Result<Vec<Value>, HookQueueAway> {
    let answers = commands.lock().await.send(batch).await;
    let values = all(answers).map_err(|_| HookQueueAway)?;
    let is_error = values.iter().any(|value| matches!(value, Value::ServerError(_)));
    if is_error { Err(HookQueueAway) } else { Ok(values) }
}

/// An entry of a stream: its id, and its fields.
fn entry(value: Value) -> Option<WaitingHook> {
    let mut parts = list(value).into_iter();
    let id = String::from_utf8(bytes(parts.next()?)?).ok()?;
    let text = list(parts.next()?).into_iter().nth(1).and_then(bytes)?;
    Some(WaitingHook { id, text: String::from_utf8(text).ok()? })
}
