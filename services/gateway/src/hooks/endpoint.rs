//! One server of the application's own: how many requests at once, for how long, and whether it is to be left alone.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use signalbox_hooks::{Breaker, Failure, HookClient, Request};
use signalbox_node::{Metrics, rules::MAX_ANSWER};
use tokio::sync::Semaphore;

use crate::config::hooks::HookSettings;

/// How long a server that has failed five times in a row is left alone; then one request tries it.
const PAUSE: Duration = Duration::from_secs(5);
/// For each request that is under way: how many wait for their turn.
const WAITING: usize = 4;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Too many are waiting already.
    Busy,
    /// It has failed too often, a moment ago.
    LeftAlone,
    /// It has not answered, not in time, or not with success.
    Failed,
}

/// A server.
pub(super) struct Endpoint {
    name: String,
    client: Arc<HookClient>,
    timeout: Duration,
    turns: Arc<Semaphore>,
    /// Requests that are under way, or wait for it; and the most that there may be.
    requests: AtomicUsize,
    most: usize,
    health: Mutex<Health>,
    metrics: Metrics,
}

#[derive(Default)]
struct Health {
    breaker: Breaker,
    /// When it was asked last while it counted as broken.
    tried: Option<Instant>,
}

impl Health {
    /// Whether it may be asked now.
    fn allows(&mut self, now: Instant) -> bool {
        if !self.breaker.is_open() {
            return true;
        }
        let is_due = self.tried.is_none_or(|tried| now.saturating_duration_since(tried) >= PAUSE);
        if is_due {
            self.tried = Some(now);
        }
        is_due
    }

    /// It has failed; whether that makes it count as broken.
    fn failed(&mut self, now: Instant) -> bool {
        let was_open = self.breaker.is_open();
        self.breaker.failed(now, 0.0, None);
        self.tried = Some(now);
        !was_open && self.breaker.is_open()
    }

    /// It has answered; whether it counted as broken before.
    fn succeeded(&mut self) -> bool {
        let was_open = self.breaker.is_open();
        self.breaker.succeeded();
        was_open
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A request is over, whatever came of it.
struct Ends<'e>(&'e AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    pub(super) fn new(name: &str, client: HookClient, settings: &HookSettings, metrics: Metrics) -> Self {
        let at_once = settings.hook_concurrency;
        Self {
            name: name.to_owned(),
            client: Arc::new(client),
            timeout: settings.hook_timeout,
            turns: Arc::new(Semaphore::new(at_once)),
            requests: AtomicUsize::new(0),
            most: at_once * (1 + WAITING),
            health: Mutex::default(),
            metrics,
        }
    }

    /// Asks it, with this JSON.
    pub(super) async fn ask(&self, body: String) -> Result<String, NoAnswer> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let _ends = Ends(&self.requests);
        if requests >= self.most {
            self.count("busy");
            return Err(NoAnswer::Busy);
        }
        let began = Instant::now();
        if !self.health.lock().allows(began) {
            self.count("left_alone");
            return Err(NoAnswer::LeftAlone);
        }
        let answered = tokio::time::timeout(self.timeout, self.send(body)).await;
        self.metrics.hook_seconds.observe(began.elapsed().as_secs_f64());
        match answered.unwrap_or(Err(Failure::TimedOut)) {
            Ok(answer) => {
                if self.health.lock().succeeded() {
                    tracing::info!(hook = self.name, "the hook answers again");
                }
                match String::from_utf8(answer) {
                    Ok(answer) => Ok(answer),
                    Err(error) => {
                        self.bad_answer(&error);
                        Err(NoAnswer::Failed)
                    }
                }
            }
            Err(failure) => {
                self.count(failure.name());
                tracing::warn!(hook = self.name, %failure, "the hook has failed");
                if self.health.lock().failed(Instant::now()) {
                    tracing::error!(
                        hook = self.name,
                        "the hook has failed five times in a row: it is asked every {} s only, until it answers",
                        PAUSE.as_secs()
                    );
                }
                Err(NoAnswer::Failed)
            }
        }
    }

    async fn send(&self, body: String) -> Result<Vec<u8>, Failure> {
        let unreachable = |_| Failure::Unreachable("the node stops".to_owned());
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| unreachable(()))?;
        let client = self.client.clone();
        // It blocks; there are threads for that. Its turn lasts until the thread is free, also where nobody waits for it any more.
        let sent = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let id = format!("call_{}", uuid::Uuid::new_v4().simple());
            client.send(&Request { id: &id, body: body.as_bytes(), max_answer: MAX_ANSWER as u64 })
        });
        sent.await.unwrap_or_else(|_| Err(Failure::Unreachable("the request broke off".to_owned())))
    }

    /// Reads an answer.
    pub(super) fn read<T, E: fmt::Display>(
        &self,
        answer: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(answer) {
            Ok(read) => {
                self.count("answered");
                Some(read)
            }
            Err(problem) => {
                self.bad_answer(&problem);
                None
            }
        }
    }

    fn bad_answer(&self, problem: &dyn fmt::Display) {
        self.count("bad_answer");
        tracing::warn!(hook = self.name, %problem, "the hook's answer cannot be used");
    }

    fn count(&self, outcome: &str) {
        self.metrics.hook_requests.with_label_values(&[outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_is_left_alone_and_tried_once_in_a_while() {
        let mut health = Health::default();
        let now = Instant::now();
        for failure in 1..=5 {
            assert!(health.allows(now));
            assert_eq!(health.failed(now), failure == 5);
        }
        assert!(!health.allows(now + PAUSE / 2));
        assert!(health.allows(now + PAUSE));
        assert!(!health.allows(now + PAUSE), "one tries it");
        assert!(!health.failed(now + PAUSE));
        assert!(health.allows(now + PAUSE * 2));
        assert!(health.succeeded());
        assert!(health.allows(now) && health.allows(now));
    }
}
