//! What the instances share, in Redis. Every call may fail, and is over soon: a service without its store goes on with what it has.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use deadpool_redis::{Connection, Manager, Pool, Runtime};
use parking_lot::Mutex;
use redis::{
    AsyncCommands as _, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisResult, Script,
    TlsCertificates,
};

use crate::problem::Problem;

/// How long a call may take, connecting included.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a failure the store is not asked for this long, so that requests do not wait for it one after the other.
const REST: Duration = Duration::from_millis(300);
/// Connections of one instance.
const CONNECTIONS: usize = 8;
/// When a client should ask again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store does not answer")]
pub struct StoreDown;

impl From<StoreDown> for Problem {
    fn from(_: StoreDown) -> Self {
        Self::unavailable("store-unavailable", "what this needs is not available now", RETRY_AFTER)
    }
}

/// One Redis.
pub struct Store {
    pool: Pool,
    prefix: String,
    /// Until when it is left alone.
    rests_until: Mutex<Option<Instant>>,
    count: Script,
    tend: Script,
}

/// A secret that coturn takes from Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSecret {
    /// Grows by one with each rotation: which secret is the newest depends on no clock.
    pub number: u64,
    /// The secret.
    pub secret: String,
    /// How many are in.
    pub count: u64,
    /// Whether this very call rotated.
    pub has_rotated: bool,
}

/// When secrets come and go.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// Between two rotations; `None`: by command alone.
    pub every: Option<Duration>,
    /// How long an old secret stays.
    pub keep: Duration,
}

/// A client of this Redis. `authorities`, in PEM, are the only ones that count for TLS; `None`: those that browsers trust.
///
/// # Errors
/// The URL cannot be used.
pub fn client(url: &str, authorities: Option<&[u8]>) -> RedisResult<Client> {
    let info = url.into_connection_info()?;
    match (authorities, info.addr()) {
        (Some(authorities), ConnectionAddr::TcpTls { .. }) => {
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(authorities.to_vec()) };
            Client::build_with_tls(info, certificates)
        }
        _ => Client::open(info),
    }
}

/// Connections to it.
fn pool(url: &str, authorities: Option<&[u8]>) -> Option<Pool> {
    let info: ConnectionInfo = client(url, authorities).ok()?.get_connection_info().clone();
    Pool::builder(Manager::new(info).ok()?)
        .max_size(CONNECTIONS)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .recycle_timeout(Some(PATIENCE))
        .runtime(Runtime::Tokio1)
        .build()
        .ok()
}

impl Store {
    /// Connects when it is needed. `authorities` as for [`client`].
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(url: &str, authorities: Option<&[u8]>, prefix: &str) -> Result<Self> {
        // What the reason says may show the URL, with its password.
        let pool = pool(url, authorities).context("a URL of Redis cannot be used")?;
        Ok(Self {
            pool,
            prefix: prefix.to_owned(),
            rests_until: Mutex::new(None),
            count: Script::new(include_str!("scripts/count.lua")),
            tend: Script::new(include_str!("scripts/tend.lua")),
        })
    }

    /// The full name of a key of ours.
    pub fn key(&self, name: fmt::Arguments<'_>) -> String {
        format!("{}:turn:{name}", self.prefix)
    }

    async fn connection(&self) -> Result<Connection, StoreDown> {
        if self.rests_until.lock().is_some_and(|until| Instant::now() < until) {
            return Err(StoreDown);
        }
        self.pool.get().await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn fmt::Display) -> StoreDown {
        tracing::debug!(%error, "Redis");
        *self.rests_until.lock() = Some(Instant::now() + REST);
        StoreDown
    }

    /// Waits for an answer, but not for long.
    async fn answer<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, StoreDown> {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(value)) => {
                *self.rests_until.lock() = None;
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.failed(&"no answer in time")),
        }
    }

    /// Does something with a connection.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreDown> {
        let mut connection = self.connection().await?;
        self.answer(work(&mut connection)).await
    }

    /// Counts one more for each name in this window. Gives back the first that is full.
    ///
    /// # Errors
    /// The store does not answer; nothing is known to be counted then.
    pub async fn count(
        &self,
        window: u64,
        length: Duration,
        names: &[(String, usize)],
    ) -> Result<Option<usize>, StoreDown> {
        let mut connection = self.connection().await?;
        let mut call = self.count.prepare_invoke();
        call.arg(length.as_millis() as u64 * 2);
        for (name, limit) in names {
            call.key(self.key(format_args!("limit:{window}:{name}"))).arg(*limit);
        }
        let full: usize = self.answer(call.invoke_async(&mut connection)).await?;
        Ok(full.checked_sub(1))
    }

    /// Looks after the secrets of a realm, and gives back the newest.
    ///
    /// # Errors
    /// The store does not answer. The step may have been done; doing it again does no harm.
    pub async fn tend(
        &self,
        realm: &str,
        candidate: &str,
        rotation: Rotation,
        is_forced: bool,
    ) -> Result<SharedSecret, StoreDown> {
        let mut connection = self.connection().await?;
        let mut call = self.tend.prepare_invoke();
        call.key(self.key(format_args!("secrets:{realm}")))
            .key(format!("turn/realm/{realm}/secret"))
            .arg(candidate)
            .arg(rotation.every.map_or(0, |every| every.as_millis() as u64))
            .arg(rotation.keep.as_millis() as u64)
            .arg(u8::from(is_forced));
        let (number, secret, count, rotated): (u64, String, u64, u8) =
            self.answer(call.invoke_async(&mut connection)).await?;
        Ok(SharedSecret { number, secret, count, has_rotated: rotated == 1 })
    }

    /// Values that coturn reads from Redis for a realm, such as `user-quota`.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn set_quotas(&self, realm: &str, quotas: &[(&str, usize)]) -> Result<(), StoreDown> {
        let mut connection = self.connection().await?;
        let mut pipeline = redis::pipe();
        for (name, value) in quotas {
            pipeline.set(format!("turn/realm/{realm}/{name}"), *value).ignore();
        }
        self.answer(pipeline.query_async(&mut connection)).await
    }

    /// Ends credentials for a user, from now on.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn revoke(&self, user: &str, now: u64) -> Result<(), StoreDown> {
        let mut connection = self.connection().await?;
        let key = self.key(format_args!("revoked"));
        self.answer(connection.hset(key, user, now)).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn restore(&self, user: &str) -> Result<(), StoreDown> {
        let mut connection = self.connection().await?;
        let key = self.key(format_args!("revoked"));
        self.answer(connection.hdel(key, user)).await
    }

    /// Who gets no credentials, and since when.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn revoked(&self) -> Result<HashMap<String, u64>, StoreDown> {
        let mut connection = self.connection().await?;
        let key = self.key(format_args!("revoked"));
        self.answer(connection.hgetall(key)).await
    }
}
