//! Authentication while the program runs: key sets are fetched, and files read again.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use signalbox_auth::jwks::{FetchSettings, Fetcher, Intervals, SharedJwks};
use signalbox_node::{
    Metrics,
    policy::{TokenPolicy, WithoutRedis},
};

use signalbox_config::{auth::AuthMode, keys};

use crate::config::{self, auth::AuthSettings};

/// The policy that judges tokens, and what keeps its keys fresh.
#[derive(Debug)]
pub struct Auth {
    settings: AuthSettings,
    fetched: Option<SharedJwks>,
    policy: TokenPolicy,
    /// Fetches for as long as it is here.
    _fetcher: Option<Fetcher>,
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Auth {
    /// Starts to fetch keys where there is a URL of them; `None` with `--auth off`.
    ///
    /// # Errors
    /// A setting that cannot be used any more, or no thread to fetch with.
    pub fn start(settings: &AuthSettings, metrics: &Metrics) -> Result<Option<Self>> {
        if settings.tokens.auth == AuthMode::Off {
            return Ok(None);
        }
        let url = keys::jwks_url(&settings.tokens)?;
        let fetched = url.as_ref().map(|_| SharedJwks::new(Intervals::default(), Instant::now()));
        let authenticator = keys::authenticator(&settings.tokens, fetched.as_ref())?;
        let without_redis = match settings.auth_without_redis {
            config::auth::WithoutRedis::Allow => WithoutRedis::Allow,
            config::auth::WithoutRedis::Refuse => WithoutRedis::Refuse,
        };
        let policy = TokenPolicy::new(authenticator, settings.jwt_cookie.clone(), without_redis);
        let mut fetcher = None;
        if let (Some(url), Some(set)) = (url, &fetched) {
            let (policy, shared, fetched) = (policy.clone(), set.clone(), metrics.key_set_fetched.clone());
            fetched.set(now());
            let on_update = move || {
                match shared.with(|cache| cache.status().last_error) {
                    Some(error) => {
                        tracing::warn!(%error, "the key set could not be fetched; the last good one stays in use");
                    }
                    None => fetched.set(now()),
                }
                policy.keys_fetched();
            };
            let started = Fetcher::start(url, set.clone(), &FetchSettings::default(), on_update);
            fetcher = Some(started.context("--jwks")?);
        }
        Ok(Some(Self { settings: settings.clone(), fetched, policy, _fetcher: fetcher }))
    }

    /// The policy.
    pub fn policy(&self) -> &TokenPolicy {
        &self.policy
    }

    /// Reads all files again. If one cannot be used, everything stays as it was.
    pub fn reload(&self) {
        match keys::authenticator(&self.settings.tokens, self.fetched.as_ref()) {
            Ok(authenticator) => {
                self.policy.replace(authenticator);
                tracing::info!("keys and grants were read again");
            }
            Err(error) => {
                tracing::error!(%error, "keys and grants cannot be read again; those in use stay");
            }
        }
    }
}
