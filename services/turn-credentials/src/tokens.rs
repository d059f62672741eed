//! Who judges tokens while the service runs: key sets are fetched, and files read again.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use parking_lot::RwLock;
use signalbox_auth::{
    Authenticator, Identity, Now, Refusal, Revocations,
    jwks::{FetchSettings, Fetcher, Intervals, SharedJwks},
};
use signalbox_config::{
    auth::{AuthMode, TokenSettings},
    keys,
};

/// Judges tokens.
pub struct Tokens {
    settings: TokenSettings,
    fetched: Option<SharedJwks>,
    /// `None` where there is no key that a token could be checked with: servers alone may ask.
    authenticator: RwLock<Option<Arc<Authenticator>>>,
    /// Fetches for as long as it is here.
    _fetcher: Option<Fetcher>,
}

impl Tokens {
    /// Starts to fetch keys where there is a URL of them.
    ///
    /// # Errors
    /// A setting that cannot be used any more, or no thread to fetch with.
    pub fn start(settings: &TokenSettings) -> Result<Self> {
        let url = keys::jwks_url(settings)?;
        let fetched = url.as_ref().map(|_| SharedJwks::new(Intervals::default(), Instant::now()));
        let authenticator = Self::read(settings, fetched.as_ref())?;
        let mut fetcher = None;
        if let (Some(url), Some(set)) = (url, &fetched) {
            let shared = set.clone();
            let on_update = move || {
                if let Some(error) = shared.with(|cache| cache.status().last_error) {
                    tracing::warn!(%error, "the key set could not be fetched; the last good one stays in use");
                }
            };
            let started = Fetcher::start(url, set.clone(), &FetchSettings::default(), on_update);
            fetcher = Some(started.context("--jwks")?);
        }
        Ok(Self {
            settings: settings.clone(),
            fetched,
            authenticator: RwLock::new(authenticator),
            _fetcher: fetcher,
        })
    }

    fn read(
        settings: &TokenSettings,
        fetched: Option<&SharedJwks>,
    ) -> Result<Option<Arc<Authenticator>>, keys::KeyError> {
        let has_keys = settings.jwks.is_some()
            || !settings.jwt_secret.is_empty()
            || !settings.jwt_secret_file.is_empty()
            || !settings.jwt_public_key.is_empty();
        if settings.auth == AuthMode::Required && !has_keys {
            return Ok(None);
        }
        keys::authenticator(settings, fetched).map(|authenticator| Some(Arc::new(authenticator)))
    }

    /// Who it is.
    ///
    /// # Errors
    /// Why the token is no good, or that there is none.
    pub fn judge(&self, token: Option<&str>) -> Result<Identity, Refusal> {
        let authenticator = self.authenticator.read().clone();
        match authenticator {
            Some(authenticator) => {
                authenticator.authenticate(token, &Revocations::default(), Now::read()).now()
            }
            None if token.is_none() => Err(Refusal::TokenMissing),
            None => Err(Refusal::KeysUnavailable),
        }
    }

    /// Reads all files again. If one cannot be used, everything stays as it was.
    pub fn reload(&self) {
        match Self::read(&self.settings, self.fetched.as_ref()) {
            Ok(authenticator) => *self.authenticator.write() = authenticator,
            Err(error) => {
                tracing::error!(%error, "keys and grants cannot be read again; those in use stay");
            }
        }
    }
}
