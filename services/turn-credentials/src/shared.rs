//! What an instance keeps of what all instances share, brought up to date every second.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::RwLock;
use signalbox_turn::{Secret, UserPart};

use crate::{
    config::settings::StoreSettings,
    issue::now,
    problem::Problem,
    store::{Rotation, Store, StoreDown},
};

/// How often it is brought up to date.
const EVERY: Duration = Duration::from_secs(1);
/// After so long without an answer the store counts as gone.
const GONE: Duration = Duration::from_secs(3);

/// The part of the state that instances share.
pub struct Shared {
    /// Where it is; `None`: the instance runs alone.
    store: Option<Store>,
    /// coturn's own database of users; `None`: it has static secrets alone.
    coturn: Option<Store>,
    realm: String,
    rotation: Rotation,
    newest: RwLock<Option<(Secret, Instant)>>,
    revoked: RwLock<Arc<HashMap<String, u64>>>,
}

impl Shared {
    /// With these settings; `authorities`, in PEM, are those of `--redis-ca`, and `max_ttl` is how long a credential can be good.
    ///
    /// # Errors
    /// A URL that cannot be used.
    pub fn new(
        settings: &StoreSettings,
        authorities: Option<&[u8]>,
        max_ttl: Duration,
    ) -> anyhow::Result<Self> {
        let open = |url: &Option<String>| {
            url.as_deref().map(|url| Store::new(url, authorities, &settings.redis_prefix)).transpose()
        };
        Ok(Self {
            store: open(&settings.redis_url)?,
            coturn: open(&settings.coturn_redis_url)?,
            realm: settings.realm.clone(),
            rotation: Rotation { every: settings.rotate_every, keep: max_ttl + settings.rotation_margin },
            newest: RwLock::default(),
            revoked: RwLock::default(),
        })
    }

    /// Where it is, if anywhere.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// The same, for what needs it.
    ///
    /// # Errors
    /// 501: this service runs alone.
    pub fn require(&self) -> Result<&Store, Problem> {
        self.store.as_ref().ok_or_else(|| Problem::not_implemented("this needs --redis-url"))
    }

    /// The secret that coturn takes from Redis, unless that is gone: then nobody knows what coturn takes.
    pub fn secret(&self) -> Option<Secret> {
        let newest = self.newest.read();
        newest.as_ref().filter(|(_, at)| at.elapsed() < GONE).map(|(secret, _)| secret.clone())
    }

    /// Whether the user gets no credentials.
    pub fn is_revoked(&self, user: &UserPart) -> bool {
        self.revoked.read().contains_key(user.as_str())
    }

    /// The user gets no credentials from now on; other instances know within a second.
    ///
    /// # Errors
    /// 501 without a store, 503 while it is gone.
    pub async fn revoke(&self, user: &UserPart) -> Result<(), Problem> {
        let now = now();
        self.require()?.revoke(user.as_str(), now).await?;
        Arc::make_mut(&mut self.revoked.write()).insert(user.as_str().to_owned(), now);
        Ok(())
    }

    /// Takes that back.
    ///
    /// # Errors
    /// As [`Self::revoke`].
    pub async fn restore(&self, user: &UserPart) -> Result<(), Problem> {
        self.require()?.restore(user.as_str()).await?;
        Arc::make_mut(&mut self.revoked.write()).remove(user.as_str());
        Ok(())
    }

    /// Another secret, now.
    ///
    /// # Errors
    /// The store does not answer, or there is none: `None`.
    pub async fn rotate(&self) -> Option<Result<u64, StoreDown>> {
        let coturn = self.coturn.as_ref()?;
        Some(self.tend(coturn, true).await)
    }

    async fn tend(&self, coturn: &Store, is_forced: bool) -> Result<u64, StoreDown> {
        let shared = coturn.tend(&self.realm, &new_secret(), self.rotation, is_forced).await?;
        if shared.has_rotated {
            tracing::info!(
                number = shared.number,
                in_use = shared.count,
                "there is a new secret; it signs from now on"
            );
        }
        match Secret::new(shared.secret) {
            Ok(secret) => *self.newest.write() = Some((secret, Instant::now())),
            Err(error) => tracing::error!(%error, "the secret in Redis is none of ours"),
        }
        Ok(shared.number)
    }

    /// Brings it up to date, once.
    pub async fn refresh(&self) {
        if let Some(coturn) = &self.coturn {
            let _ = self.tend(coturn, false).await;
        }
        if let Some(store) = &self.store
            && let Ok(revoked) = store.revoked().await
        {
            *self.revoked.write() = Arc::new(revoked);
        }
    }

    /// Sets coturn's own quotas, which it reads from Redis: allocations of one user, and of all.
    pub async fn set_quotas(&self, user: Option<usize>, total: Option<usize>) {
        let quotas: Vec<(&str, usize)> = [("user-quota", user), ("total-quota", total)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let Some(coturn) = self.coturn.as_ref().filter(|_| !quotas.is_empty()) else { return };
        if coturn.set_quotas(&self.realm, &quotas).await.is_err() {
            tracing::warn!("coturn's quotas could not be set in Redis");
        }
    }

    /// Keeps it up to date for as long as the program runs.
    pub async fn keep(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.refresh().await;
        }
    }
}

/// 32 random bytes.
fn new_secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
