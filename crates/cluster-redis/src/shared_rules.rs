//! The rules that all nodes of a cluster have: one text with a version, in Redis.
//!
//! Each node looks twice a second whether the version is another one, which is one small command, through a connection of its own. So a
//! node takes new rules within a second, whether it was there when somebody put them or came later, and whatever messages were lost
//! meanwhile. A node that finds an older version in Redis than it has writes its own: a server that has lost its data forgets nothing.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    RESPONSE,
    backend::Backend,
    calls::Context,
    commands::Commands,
    replies::{bytes, list},
    scripts::Invocation,
};

/// How often a node looks whether there are others.
const LOOK: Duration = Duration::from_millis(500);

/// Rules as the nodes share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionedRules {
    /// Counted from 1; 0: nobody has ever put any.
    pub version: u64,
    /// Empty: each node goes by its own.
    pub text: Arc<str>,
}

/// What a node has. It must not block.
pub trait RulesHolder: Send + Sync {
    /// The latest that it was told.
    fn latest(&self) -> VersionedRules;
    /// There are later ones.
    fn take(&self, rules: VersionedRules);
}

/// Why rules could not be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotPutRules {
    /// Redis did not answer. They may be in force all the same, if it was asked.
    #[error("Redis does not answer")]
    Unreachable,
    /// Others are in force than whoever puts them has seen.
    #[error("version {0} is in force")]
    Changed(u64),
}

/// Rules on their way to Redis.
pub(super) struct Request {
    text: String,
    expected: Option<u64>,
    answer: oneshot::Sender<Result<u64, CannotPutRules>>,
}

/// Puts rules in force on all nodes.
#[derive(Debug, Clone)]
pub struct RulesStore(mpsc::UnboundedSender<Request>);

impl RulesStore {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Request>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self(requests), receiver)
    }

    /// Puts these in force, if `expected` is the version that is, or `None`. Gives back their version when Redis, and this node, have
    /// them.
    ///
    /// # Errors
    /// Redis does not answer, or others are in force.
    pub async fn put(&self, text: String, expected: Option<u64>) -> Result<u64, CannotPutRules> {
        let (answer, answered) = oneshot::channel();
        // The thread has ended only when the node stops.
        let _ = self.0.send(Request { text, expected, answer });
        answered.await.unwrap_or(Err(CannotPutRules::Unreachable))
    }
}

/// Keeps a node's rules and those in Redis alike, until the node ends.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    holder: Option<Arc<dyn RulesHolder>>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let Some(holder) = holder else { return std::future::pending().await };
    let mut store = Store { commands: Commands::new(backend, context.clone(), RESPONSE), context };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            Some(request) = requests.recv() => Some(request),
            _ = looks.tick() => None,
        };
        let put = match &asked {
            Some(Request { text, expected, .. }) => Some(store.put(&*holder, text, *expected).await),
            None => None,
        };
        store.exchange(&*holder).await;
        if let Some((Request { answer, .. }, put)) = asked.zip(put) {
            // Whoever asked may have gone.
            let _ = answer.send(put);
        }
    }
}

/// The rules in Redis.
struct Store {
    commands: Commands,
    context: Arc<Context>,
}

impl Store {
    /// The version in Redis, and the text if it is later than this one.
    async fn read(&mut self, version: u64) -> Option<(u64, Option<String>)> {
        let call = Invocation::of(&self.context.scripts.rules).key(self.context.keys.nodes("rules"));
        let answer = self.commands.send(vec![call.number(version).command()]).await.pop()?.ok()?;
        if matches!(answer, Value::ServerError(_)) {
            return None;
        }
        let mut parts = list(answer)
            .into_iter()
            .filter_map(bytes)
            .map(|part| String::from_utf8(part).unwrap_or_default());
        let version = parts.next()?.parse().ok()?;
        Some((version, parts.next()))
    }

    /// Writes rules whose version is later than these two, or is the second one where it is to be written again.
    async fn write(&mut self, text: &str, mode: &str, known: u64) -> Option<(bool, u64)> {
        let call = Invocation::of(&self.context.scripts.put_rules).key(self.context.keys.nodes("rules"));
        let call = call.arg(mode).number(known).arg(text);
        match self.commands.send(vec![call.command()]).await.pop()?.ok()? {
            Value::Array(parts) => match parts[..] {
                [Value::Int(done), Value::Int(version)] => Some((done == 1, version.try_into().ok()?)),
                _ => None,
            },
            _ => None,
        }
    }

    async fn put(
        &mut self,
        holder: &dyn RulesHolder,
        text: &str,
        expected: Option<u64>,
    ) -> Result<u64, CannotPutRules> {
        let mode = expected.map_or_else(|| "any".to_owned(), |expected| expected.to_string());
        match self.write(text, &mode, holder.latest().version).await {
            Some((true, version)) => Ok(version),
            Some((false, version)) => Err(CannotPutRules::Changed(version)),
            None => Err(CannotPutRules::Unreachable),
        }
    }

    /// Takes what is later, or writes what Redis has lost.
    async fn exchange(&mut self, holder: &dyn RulesHolder) {
        let own = holder.latest();
        match self.read(own.version).await {
            Some((version, Some(text))) if version > own.version => {
                holder.take(VersionedRules { version, text: text.into() });
            }
            Some((version, _)) if version < own.version => {
                self.write(&own.text, "again", own.version).await;
            }
            _ => {}
        }
    }
}
