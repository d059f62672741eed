//! What is revoked, as the nodes of a cluster share it: texts, each kept until some time.
//!
//! Each node looks four times a second whether there is anything new, which is one small command, through a connection of its own. So a node
//! learns of a revocation within a fraction of a second, whether it was there when somebody revoked or came later, and whatever messages
//! were lost meanwhile. A node that finds less in Redis than it knows writes what it knows: a server that has lost its data, or a replica that
//! was promoted too early, forgets nothing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::Value;
use signalbox_cluster::{Cluster, Status};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    CannotConnect, RESPONSE,
    backend::Backend,
    calls::Context,
    commands::Commands,
    keys::Keys,
    replies::{bytes, list},
    scripts::{Invocation, Scripts},
};

/// How often a node looks whether there is anything new.
const LOOK: Duration = Duration::from_millis(250);
/// Most revocations that are kept of those without a name, and of those with one; with the longest names some 60 MB each.
const MOST: usize = 100_000;
/// Written at once.
const BATCH: usize = 500;
/// A time that stands for ever, in seconds: the largest that Redis' scripts can tell from the one before.
const FOREVER: u64 = (1 << 53) - 1;

/// Something that is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRevocation {
    /// What, as the node writes it.
    pub what: String,
    /// Until when it is kept, in seconds since 1970; `None`: for ever.
    pub until: Option<u64>,
    /// If it is for all tokens of one name that were issued before some time. It is not read again from Redis.
    pub cutoff: Option<Cutoff>,
}

/// What revokes whatever was issued before some time: of those with the same name only the one with the latest time is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cutoff {
    /// The name.
    pub name: String,
    /// The time, in seconds since 1970.
    pub before: u64,
}

impl Cutoff {
    /// The name for which there is always room.
    pub const EVERYBODY: &str = "all";
}

/// What a node itself knows to be revoked. It must not block.
pub trait RevocationList: Send + Sync {
    /// All of it.
    fn all(&self) -> Vec<StoredRevocation>;
    /// These are revoked as well, on some node; it may know them already.
    fn add(&self, revocations: Vec<StoredRevocation>);
    /// Whether it knows what was revoked anywhere: not before Redis was reached, nor while it is away.
    fn set_current(&self, is_current: bool);
}

/// Why tokens could not be revoked everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotRevoke {
    /// Redis did not answer. What this node knows to be revoked it writes when Redis is back.
    #[error("Redis does not answer: the other nodes will know when it is back")]
    Unreachable,
    /// As many are kept as may be, of single tokens or of subjects. All tokens can be revoked all the same.
    #[error(
        "100000 revocations of its kind are kept already (set --jwt-max-lifetime, or revoke all tokens issued before some time)"
    )]
    Full,
}

/// A revocation on its way to Redis.
pub(super) struct Request {
    revocations: Vec<StoredRevocation>,
    answer: oneshot::Sender<Result<(), CannotRevoke>>,
}

/// Revokes on all nodes.
#[derive(Debug, Clone)]
pub struct Revoker(mpsc::UnboundedSender<Request>);

impl Revoker {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Request>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self(requests), receiver)
    }

    /// Has these revoked; resolves when Redis has them.
    ///
    /// # Errors
    /// Redis does not answer, or has no room for them.
    pub async fn revoke(&self, revocations: Vec<StoredRevocation>) -> Result<(), CannotRevoke> {
        let (answer, answered) = oneshot::channel();
        // The thread has ended only when the node stops.
        let _ = self.0.send(Request { revocations, answer });
        answered.await.unwrap_or(Err(CannotRevoke::Unreachable))
    }
}

/// Revokes in the cluster at `url`, for a program that is no node. What is revoked follows from the time of Redis, in seconds since
/// 1970: nobody knows what the clock of an operator's machine says. It blocks, for seconds at most.
///
/// # Errors
/// The URL cannot be used, Redis does not answer, or has no room.
pub fn revoke_in(
    url: &str,
    authorities: Option<&[u8]>,
    prefix: &str,
    revocations: impl FnOnce(u64) -> Vec<StoredRevocation>,
) -> Result<Result<(), CannotRevoke>, CannotConnect> {
    let backend = Backend::new(url, authorities)?;
    let context = Arc::new(Context {
        keys: Keys::new(prefix),
        scripts: Scripts::new(),
        realms: Vec::new(),
        expire_timeout_ms: 0,
        publish: backend.publish(),
        metrics: signalbox_telemetry::Metrics::new(),
    });
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Ok(Err(CannotRevoke::Unreachable));
    };
    Ok(runtime.block_on(async {
        let mut store = Store::new(&backend, context);
        let now = store.time().await?;
        store.write(&revocations(now)).await
    }))
}

/// Keeps a node's list and the one in Redis alike, until the node ends. Without a list it only writes.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    cluster: Arc<Cluster>,
    known: Option<Arc<dyn RevocationList>>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let mut store = Store::new(backend, context);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_online = false;
    loop {
        tokio::select! {
            Some(Request { revocations, answer }) = requests.recv() => {
                // Whoever asked may have gone.
                let _ = answer.send(store.write(&revocations).await);
            }
            _ = looks.tick() => {}
        }
        let Some(known) = &known else { continue };
        // A node that joins again may be at another server, which may have lost something.
        let is_online = cluster.status() == Status::Online;
        if is_online && !was_online {
            store.seen.clear();
        }
        was_online = is_online;
        let is_current = store.exchange(&**known).await.is_some();
        if !is_current {
            // It may come back empty, and have come to the same number by then, whether or not the node has noticed that it was away.
            store.seen.clear();
        }
        known.set_current(is_current);
    }
}

/// The list in Redis.
struct Store {
    commands: Commands,
    context: Arc<Context>,
    /// The number of the last revocation that was read; empty: none was.
    seen: String,
}

impl Store {
    fn new(backend: &Backend, context: Arc<Context>) -> Self {
        Self { commands: Commands::new(backend, context.clone(), RESPONSE), context, seen: String::new() }
    }

    fn invocation(&self, script: &redis::Script) -> Invocation {
        let keys =
            ["revoked", "revocations", "revocation", "cutoffs"].map(|what| self.context.keys.nodes(what));
        keys.iter().fold(Invocation::of(script), |invocation, key| invocation.key(key))
    }

    /// The server's time, in seconds since 1970.
    async fn time(&mut self) -> Result<u64, CannotRevoke> {
        let call = self.invocation(&self.context.scripts.time);
        let answer = self.commands.send(vec![call.command()]).await.pop().and_then(Result::ok);
        let time = answer.and_then(bytes).and_then(|time| String::from_utf8(time).ok()?.parse().ok());
        time.ok_or(CannotRevoke::Unreachable)
    }

    async fn write(&mut self, revocations: &[StoredRevocation]) -> Result<(), CannotRevoke> {
        for batch in revocations.chunks(BATCH) {
            let script = &self.context.scripts.revoke;
            let head = self.invocation(script).number(MOST).number(FOREVER).arg(Cutoff::EVERYBODY);
            let call = batch.iter().fold(head, |call, StoredRevocation { what, until, cutoff }| {
                let (name, before) = cutoff.as_ref().map_or(("", 0), |it| (it.name.as_str(), it.before));
                let call = call.arg(what).number(until.unwrap_or(FOREVER).min(FOREVER));
                call.arg(name).number(before.min(FOREVER))
            });
            match self.commands.send(vec![call.command()]).await.pop() {
                Some(Ok(Value::Int(1))) => {}
                Some(Ok(Value::Int(_))) => return Err(CannotRevoke::Full),
                _ => return Err(CannotRevoke::Unreachable),
            }
        }
        Ok(())
    }

    /// Reads what is new, and writes what Redis lacks; `None` if Redis does not answer.
    async fn exchange(&mut self, known: &dyn RevocationList) -> Option<()> {
        let call = self.invocation(&self.context.scripts.revoked).arg(&self.seen);
        let answer = self.commands.send(vec![call.command()]).await.pop()?.ok()?;
        if matches!(answer, Value::ServerError(_)) {
            return None;
        }
        let mut parts =
            list(answer).into_iter().filter_map(bytes).filter_map(|part| String::from_utf8(part).ok());
        let last = parts.next()?;
        if last == self.seen && !last.is_empty() {
            return Some(());
        }
        let is_whole = is_read_from_the_beginning(&self.seen, &last);
        let mut read = Vec::new();
        while let (Some(what), Some(until)) = (parts.next(), parts.next()) {
            // A time is a number in any of the forms in which Redis writes one.
            let until = until.parse::<f64>().map_or(FOREVER, |until| until as u64);
            read.push(StoredRevocation { what, until: (until < FOREVER).then_some(until), cutoff: None });
        }
        if is_whole {
            let missing = missing(known.all(), &read, now());
            if !missing.is_empty() {
                // One that is full is not to be asked again and again.
                if self.write(&missing).await == Err(CannotRevoke::Unreachable) {
                    return None;
                }
            }
        }
        if !read.is_empty() {
            known.add(read);
        }
        self.seen = last;
        Some(())
    }
}

/// As `revoked.lua` decides it.
fn is_read_from_the_beginning(seen: &str, last: &str) -> bool {
    match (seen.parse::<u64>(), last.parse::<u64>()) {
        (Ok(seen), Ok(last)) => last < seen,
        _ => true,
    }
}

/// What a node knows and Redis lacks, or would forget too early.
fn missing(known: Vec<StoredRevocation>, stored: &[StoredRevocation], now: u64) -> Vec<StoredRevocation> {
    let end = |revocation: &StoredRevocation| revocation.until.unwrap_or(FOREVER);
    let stored: HashMap<&str, u64> =
        stored.iter().map(|stored| (stored.what.as_str(), end(stored))).collect();
    let lacks = |known: &StoredRevocation| {
        end(known) > now && stored.get(known.what.as_str()).is_none_or(|stored| *stored < end(known))
    };
    known.into_iter().filter(lacks).collect()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_lacks_is_written_again_and_nothing_that_is_over() {
        let revocation = |what: &str, until| StoredRevocation { what: what.into(), until, cutoff: None };
        let known = vec![
            revocation("there", Some(200)),
            revocation("longer", Some(300)),
            revocation("ever", None),
            revocation("over", Some(100)),
            revocation("lost", Some(101)),
        ];
        let stored =
            [revocation("there", Some(200)), revocation("longer", Some(200)), revocation("ever", Some(200))];
        let whats: Vec<_> = missing(known, &stored, 100).into_iter().map(|missing| missing.what).collect();
        assert_eq!(whats, ["longer", "ever", "lost"]);
    }

    #[test]
    fn a_number_that_is_lower_or_gone_has_everything_read() {
        let cases = [("", "5", true), ("5", "", true), ("5", "4", true), ("5", "6", false), ("", "", true)];
        for (seen, last, expected) in cases {
            assert_eq!(is_read_from_the_beginning(seen, last), expected, "{seen} {last}");
        }
    }
}
