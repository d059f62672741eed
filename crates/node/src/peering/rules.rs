//! The rules that are in force: those that were put by the admin API on any node of the cluster, or else the node's own.

use std::{sync::Arc, thread};

use parking_lot::Mutex;
use signalbox_cluster_redis::{CannotPutRules, RulesHolder, RulesStore, VersionedRules};
use signalbox_rules::{Problem, RuleSet};
use signalbox_telemetry::Metrics;

use crate::{
    app::{App, Hooks},
    shard::{mailbox::ShardMessage, runtime::Mailboxes},
};

/// Where rules come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulesSource {
    /// They were put by the admin API: all nodes of the cluster have them.
    Cluster,
    /// The node's own.
    Own,
    /// The built-in vocabulary, which is the node's own where it has no others.
    Builtin,
    /// The node has none: only the handlers of its application serve.
    Application,
}

/// The rules that are in force on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesInForce {
    /// Where they come from.
    pub source: RulesSource,
    /// The version of the last that were put, counted from 1; 0: there were none. It is that of `text`, where that comes from the cluster.
    pub version: u64,
    /// How many there are.
    pub count: usize,
    /// Their text.
    pub text: Arc<str>,
}

/// Why rules were not put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutRulesError {
    /// They are wrong: at least one problem.
    #[error("the rules are wrong")]
    Wrong(Vec<Problem>),
    /// The cluster did not take them.
    #[error(transparent)]
    NotTaken(#[from] CannotPutRules),
}

/// The rules of a node.
pub(crate) struct SharedRules {
    mailboxes: Arc<Mailboxes>,
    hooks: Option<Arc<dyn Hooks>>,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    own: Option<Arc<RuleSet>>,
    /// The latest that were put; an empty text: the node's own count.
    latest: VersionedRules,
    /// Those in force that were put, and their version.
    put: Option<(u64, Arc<RuleSet>)>,
}

impl SharedRules {
    pub(crate) fn new(app: &App, mailboxes: Arc<Mailboxes>, metrics: Metrics) -> Self {
        let state = State { own: app.rules.clone(), ..State::default() };
        Self { mailboxes, hooks: app.hooks.clone(), metrics, state: Arc::new(Mutex::new(state)) }
    }

    /// Rules of this text.
    ///
    /// # Errors
    /// What is wrong with them, hooks that the node does not have included.
    pub(crate) fn read(&self, text: &str) -> Result<RuleSet, Vec<Problem>> {
        read(text, self.hooks.as_deref())
    }

    /// Replaces the node's own rules; whether they are in force, and not others that were put.
    pub(crate) fn set_own(&self, rules: Arc<RuleSet>) -> bool {
        let mut state = self.state.lock();
        state.own = Some(rules);
        let is_in_force = state.put.is_none();
        if is_in_force {
            publish(&self.mailboxes, &state);
        }
        is_in_force
    }

    /// Puts rules in force on all nodes, if `expected` is the version that is, or `None`. An empty text has each node go by its own.
    pub(crate) async fn put(
        &self,
        store: Option<&RulesStore>,
        text: &str,
        expected: Option<u64>,
    ) -> Result<u64, PutRulesError> {
        if !text.is_empty() {
            self.read(text).map_err(PutRulesError::Wrong)?;
        }
        if let Some(store) = store {
            return Ok(store.put(text.to_owned(), expected).await?);
        }
        let rules = {
            let mut state = self.state.lock();
            let version = state.latest.version;
            if expected.is_some_and(|expected| expected != version) {
                return Err(CannotPutRules::Changed(version).into());
            }
            state.latest = VersionedRules { version: version + 1, text: text.into() };
            state.latest.clone()
        };
        let version = rules.version;
        self.compile(rules);
        Ok(version)
    }

    /// They are compiled on a thread of their own: whoever tells of them has no time for that.
    fn compile(&self, rules: VersionedRules) {
        let (mailboxes, hooks, state) = (self.mailboxes.clone(), self.hooks.clone(), self.state.clone());
        let metrics = self.metrics.clone();
        let compile = move || {
            let VersionedRules { version, text } = rules;
            let compiled = (!text.is_empty()).then(|| read(&text, hooks.as_deref())).transpose();
            let mut state = state.lock();
            if state.latest.version != version {
                return;
            }
            match compiled {
                Ok(compiled) => {
                    state.put = compiled.map(|rules| (version, Arc::new(rules)));
                    metrics.rules_version.set(version as i64);
                    publish(&mailboxes, &state);
                    tracing::info!(version, is_own = state.put.is_none(), "other rules are in force");
                }
                Err(problems) => {
                    let first = problems.first().map(ToString::to_string).unwrap_or_default();
                    tracing::error!(
                        version,
                        "rules that another node has put are wrong here; those in force stay: {first}"
                    );
                }
            }
        };
        // Without a thread they stay as they are, which the metric shows.
        let _ = thread::Builder::new().name("rules".to_owned()).spawn(compile);
    }

    pub(crate) fn in_force(&self) -> RulesInForce {
        let state = self.state.lock();
        let version = state.latest.version;
        let of = |source, version, rules: &RuleSet| RulesInForce {
            source,
            version,
            count: rules.len(),
            text: rules.text().clone(),
        };
        match (&state.put, &state.own) {
            (Some((version, rules)), _) => of(RulesSource::Cluster, *version, rules),
            (None, Some(rules)) if rules.has_builtin_text() => of(RulesSource::Builtin, version, rules),
            (None, Some(rules)) => of(RulesSource::Own, version, rules),
            (None, None) => of(RulesSource::Application, version, &RuleSet::default()),
        }
    }
}

fn read(text: &str, hooks: Option<&dyn Hooks>) -> Result<RuleSet, Vec<Problem>> {
    let rules = RuleSet::parse(text)?;
    let hooks = hooks.map(Hooks::names).unwrap_or_default();
    let unknown = rules.unknown_hooks(&hooks.iter().map(String::as_str).collect::<Vec<_>>());
    if unknown.is_empty() { Ok(rules) } else { Err(unknown) }
}

/// Tells all shards which rules are in force now. Held meanwhile, so that they are told in one order.
fn publish(mailboxes: &Mailboxes, state: &State) {
    let rules = state.put.as_ref().map(|(_, rules)| rules).or(state.own.as_ref());
    for shard in mailboxes.shards() {
        mailboxes.push(shard, ShardMessage::Rules(rules.cloned()));
    }
}

impl RulesHolder for SharedRules {
    fn latest(&self) -> VersionedRules {
        self.state.lock().latest.clone()
    }

    fn take(&self, rules: VersionedRules) {
        self.state.lock().latest = rules.clone();
        self.compile(rules);
    }
}
