//! Credentials of a provider that relays for us: its API is asked with our key, and what it answers is kept until it is half over.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use signalbox_telemetry::TurnMetrics;
use signalbox_tls::client::{self, ClientSettings};
use signalbox_turn::{
    UserPart,
    upstream::{Account, MAX_ANSWER, UpstreamAnswer},
};
use tokio::sync::Semaphore;
use ureq::Agent;

use crate::{config::settings::UpstreamSettings, problem::Problem};

/// How long the provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Requests to the provider at a time; others wait for one to end, for as long as it may take.
const AT_A_TIME: usize = 16;
/// After a failure the provider is left alone for this long.
const REST: Duration = Duration::from_secs(1);
/// The same after it said that it was asked too often.
const LONG_REST: Duration = Duration::from_secs(10);
/// The most answers that are kept, about 1 KiB each.
const MOST_KEPT: usize = 10_000;
/// While the provider does not answer, what is kept is handed out for as long as it is good for this many seconds.
const LEAST: u64 = 30;

/// For whom, and for how many seconds.
type Key = (UserPart, u64);

/// The provider, and what it answered.
pub struct Upstream {
    agent: Agent,
    url: String,
    account: Account,
    turns: Semaphore,
    kept: Mutex<HashMap<Key, Arc<UpstreamAnswer>>>,
    rests_until: Mutex<Option<Instant>>,
    metrics: TurnMetrics,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// It took too long.
    Timeout,
    /// It cannot be reached, or is not who it should be.
    Unreachable,
    /// It does not take our key.
    Forbidden,
    /// It was asked too often.
    TooMany,
    /// Another status, a redirect among them: the key is for the configured address alone.
    Status(u16),
    /// The answer is none that we can use.
    Unreadable,
}

impl Failure {
    /// As metrics call it.
    fn code(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
            Self::TooMany => "too-many",
            Self::Status(_) => "status",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Upstream {
    /// With these settings, which were checked; `None` where there is no provider.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn new(settings: &UpstreamSettings, metrics: &TurnMetrics) -> Result<Option<Self>> {
        let (Some(provider), Some(id)) = (settings.upstream, &settings.upstream_id) else { return Ok(None) };
        let key = settings.key().context("--upstream-key-file: it cannot be read")?;
        let authority = settings.upstream_ca.as_deref();
        let url = settings.upstream_url.clone().unwrap_or_else(|| provider.url().to_owned());
        // It is outside, and so may be the proxy to it, which sees nothing of TLS; what is on this machine needs none.
        let uses_proxy = url.starts_with("https://");
        let agent = client::agent(&ClientSettings { timeout: PATIENCE, authority, uses_proxy })
            .context("--upstream-ca")?;
        Ok(Some(Self {
            agent,
            url,
            account: Account { provider, id: id.clone(), key },
            turns: Semaphore::new(AT_A_TIME),
            kept: Mutex::default(),
            rests_until: Mutex::default(),
            metrics: metrics.clone(),
        }))
    }

    /// Credentials for a user: those that are kept while they are good for half their time, or new ones.
    ///
    /// # Errors
    /// 503: the provider does not answer, and nothing that is kept is good for long enough.
    pub async fn get(&self, user: &UserPart, ttl: u64, now: u64) -> Result<Arc<UpstreamAnswer>, Problem> {
        let key = (user.clone(), ttl);
        let kept = self.kept.lock().get(&key).cloned();
        let remaining = |answer: &UpstreamAnswer| answer.credential.expires_at.saturating_sub(now);
        if let Some(answer) = kept.clone().filter(|answer| remaining(answer) > answer.ttl / 2) {
            return Ok(answer);
        }
        match self.ask(ttl, now).await {
            Some(answer) => {
                let answer = Arc::new(answer);
                self.keep(key, answer.clone(), now);
                Ok(answer)
            }
            None => kept.filter(|answer| remaining(answer) >= LEAST).ok_or_else(|| {
                let detail = "the provider of the TURN servers does not answer";
                Problem::unavailable("upstream-unavailable", detail, Duration::from_secs(5))
            }),
        }
    }

    fn keep(&self, key: Key, answer: Arc<UpstreamAnswer>, now: u64) {
        let mut kept = self.kept.lock();
        if kept.len() >= MOST_KEPT && !kept.contains_key(&key) {
            kept.retain(|_, answer| answer.credential.expires_at > now);
            if kept.len() >= MOST_KEPT
                && let Some(other) = kept.keys().next().cloned()
            {
                kept.remove(&other);
            }
        }
        kept.insert(key, answer);
    }

    async fn ask(&self, ttl: u64, now: u64) -> Option<UpstreamAnswer> {
        if self.rests_until.lock().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let _turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await.ok()?.ok()?;
        let (agent, account, url) = (self.agent.clone(), self.account.clone(), self.url.clone());
        // It blocks; there are threads for that.
        let asked = tokio::task::spawn_blocking(move || ask(&agent, &url, &account, ttl, now)).await;
        let outcome = asked.unwrap_or(Err(Failure::Unreachable));
        let code = outcome.as_ref().map_or_else(|failure| failure.code(), |_| "answered");
        self.metrics.upstream_requests.with_label_values(&[code]).inc();
        match outcome {
            Ok(answer) => Some(answer),
            Err(failure) => {
                let provider = self.account.provider.name();
                match failure {
                    Failure::Forbidden => {
                        tracing::error!(provider, "the provider does not take --upstream-key")
                    }
                    _ => {
                        tracing::warn!(provider, ?failure, "the provider of the TURN servers does not answer")
                    }
                }
                let rest = if failure == Failure::TooMany { LONG_REST } else { REST };
                *self.rests_until.lock() = Some(Instant::now() + rest);
                None
            }
        }
    }
}

fn ask(agent: &Agent, url: &str, account: &Account, ttl: u64, now: u64) -> Result<UpstreamAnswer, Failure> {
    let request = account.request(ttl);
    let failure = |error: ureq::Error| match error {
        ureq::Error::Timeout(_) => Failure::Timeout,
        ureq::Error::BodyExceedsLimit(_) => Failure::Unreadable,
        _ => Failure::Unreachable,
    };
    let mut response = agent
        .post(format!("{url}{}", request.path))
        .header("Authorization", &request.authorization)
        .header("Content-Type", request.content_type)
        .header("Accept", "application/json")
        .send(request.body)
        .map_err(failure)?;
    match response.status().as_u16() {
        200 | 201 => {}
        401 | 403 => return Err(Failure::Forbidden),
        429 => return Err(Failure::TooMany),
        status => return Err(Failure::Status(status)),
    }
    let body = response.body_mut().with_config().limit(MAX_ANSWER as u64).read_to_vec().map_err(failure)?;
    account.provider.read(&body, ttl, now).map_err(|_| Failure::Unreadable)
}
