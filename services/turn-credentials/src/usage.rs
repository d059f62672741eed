//! Who uses the TURN servers, from what coturn says in Redis. One instance at a time listens, and writes it down for all.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use redis::{AsyncCommands as _, Client, Script};
use signalbox_telemetry::TurnMetrics;
use signalbox_turn::{
    UserPart,
    stats::{self, AllocationEvent, Traffic, What},
};

use crate::{
    issue::now,
    problem::Problem,
    shared::Shared,
    store::{Store, StoreDown},
};

/// Seconds in an hour.
const HOUR: u64 = 3600;
/// Seconds in a day.
const DAY: u64 = 24 * HOUR;
/// Seconds for which hours are kept.
const KEEP_HOURS: u64 = 31 * DAY;
/// Seconds for which the sums of a day are kept.
const KEEP_DAYS: u64 = 2 * DAY;
/// How long one instance is the one that listens, unless it says so again.
const TERM: Duration = Duration::from_secs(4);
/// How often it says so, and others ask.
const EVERY: Duration = Duration::from_secs(1);
/// Seconds after its lifetime that an allocation still counts.
const GRACE: u64 = 30;
/// The most allocations in an answer.
pub const MOST_LISTED: usize = 1000;
/// The users that metrics name.
const TOP: usize = 10;

/// What one user may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quotas {
    /// Bytes relayed in a day (UTC); 0 is any number.
    pub bytes: u64,
    /// Allocations at a time; 0 is any number.
    pub allocations: usize,
}

/// What coturn's statistics are collected with.
pub struct Usage {
    shared: Arc<Shared>,
    /// Where coturn publishes.
    client: Option<Client>,
    realm: String,
    record: Script,
    /// What this instance is called in the election.
    name: String,
}

/// What one user has used.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct UserUsage {
    /// Bytes between the client and the relay, both ways, since then.
    pub bytes: u64,
    /// The beginning of the first hour that counts, in seconds since 1970.
    pub since: u64,
    /// Allocations that are open now.
    pub allocations: u64,
}

/// An allocation that is open.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct OpenAllocation {
    /// Whose it is.
    pub user: String,
    /// The user name and the server's number for it.
    pub id: String,
    /// When it ends unless it is refreshed, in seconds since 1970.
    #[serde(rename = "expiresAt")]
    pub expires_at: u64,
}

impl Usage {
    /// `client`: where coturn publishes; `None`: nothing is collected.
    pub fn new(shared: Arc<Shared>, client: Option<Client>, realm: &str) -> Self {
        Self {
            shared,
            client,
            realm: realm.to_owned(),
            record: Script::new(include_str!("scripts/usage.lua")),
            name: format!("{:032x}", rand::random::<u128>()),
        }
    }

    fn require(&self) -> Result<&Store, Problem> {
        match (&self.client, self.shared.require()) {
            (None, _) => {
                Err(Problem::not_implemented("this needs --coturn-stats-url, or --coturn-redis-url"))
            }
            (_, store) => store,
        }
    }

    /// What a user has used since then, in seconds since 1970.
    ///
    /// # Errors
    /// 501 where nothing is collected, 503 while the store is gone.
    pub async fn of(&self, user: &UserPart, since: Option<u64>) -> Result<UserUsage, Problem> {
        let store = self.require()?;
        let now = now();
        let first = since.unwrap_or(0).max(now.saturating_sub(KEEP_HOURS)).min(now) / HOUR;
        let user = user.as_str();
        let (hours, allocations) = store
            .with(async |connection| {
                let mut pipeline = redis::pipe();
                for hour in first..=now / HOUR {
                    pipeline.hget(store.key(format_args!("used:hour:{hour}")), user);
                }
                let hours: Vec<Option<u64>> = pipeline.query_async(connection).await?;
                let allocations: u64 =
                    connection.zcount(store.key(format_args!("open:{user}")), now, "+inf").await?;
                Ok((hours, allocations))
            })
            .await?;
        Ok(UserUsage { bytes: hours.into_iter().flatten().sum(), since: first * HOUR, allocations })
    }

    /// The allocations that are open, those first that end first, and how many there are.
    ///
    /// # Errors
    /// 501 where nothing is collected, 503 while the store is gone.
    pub async fn open(&self) -> Result<(Vec<OpenAllocation>, u64), Problem> {
        let store = self.require()?;
        let now = now();
        let (listed, count): (Vec<(String, u64)>, u64) = store
            .with(async |connection| {
                let key = store.key(format_args!("open"));
                redis::pipe()
                    .cmd("ZRANGE")
                    .arg(&key)
                    .arg(now)
                    .arg("+inf")
                    .arg("BYSCORE")
                    .arg("LIMIT")
                    .arg(0)
                    .arg(MOST_LISTED)
                    .arg("WITHSCORES")
                    .zcount(&key, now, "+inf")
                    .query_async(connection)
                    .await
            })
            .await?;
        let open = listed.into_iter().map(|(id, expires)| OpenAllocation {
            user: id.split(['/', ':']).nth(1).unwrap_or_default().to_owned(),
            id,
            expires_at: expires.saturating_sub(GRACE),
        });
        Ok((open.collect(), count))
    }

    /// Whether a user may have more. Nobody knows while the store is gone; then nobody is kept from anything.
    ///
    /// # Errors
    /// 429: not before the day ends, or an allocation.
    pub async fn check(&self, user: &UserPart, quotas: Quotas) -> Result<(), Problem> {
        if quotas.bytes == 0 && quotas.allocations == 0 {
            return Ok(());
        }
        let Ok(store) = self.require() else { return Ok(()) };
        let (now, user) = (now(), user.as_str());
        let used = store
            .with(async |connection| {
                redis::pipe()
                    .hget(store.key(format_args!("used:day:{}", now / DAY)), user)
                    .zcount(store.key(format_args!("open:{user}")), now, "+inf")
                    .query_async::<(Option<u64>, usize)>(connection)
                    .await
            })
            .await;
        match used {
            Ok((Some(bytes), _)) if quotas.bytes > 0 && bytes >= quotas.bytes => {
                let midnight = Duration::from_secs(DAY - now % DAY);
                Err(Problem::too_many(
                    "bytes-quota",
                    "the quota of relayed bytes is used up for today",
                    midnight,
                ))
            }
            Ok((_, open)) if quotas.allocations > 0 && open >= quotas.allocations => {
                let soon = Duration::from_secs(GRACE);
                Err(Problem::too_many("allocations-quota", "there are too many allocations open", soon))
            }
            _ => Ok(()),
        }
    }

    /// Listens whenever no other instance does, for as long as the program runs.
    pub async fn keep(&self, metrics: &TurnMetrics) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (Some(client), Ok(store)) = (&self.client, self.require()) else { return };
            self.show(store, metrics).await;
            if self.is_elected(store).await != Ok(true) {
                continue;
            }
            if let Err(error) = self.listen(client, store, metrics).await {
                tracing::warn!(%error, "coturn's statistics are not collected for a moment");
            }
        }
    }

    /// Whether this instance is the one that listens. It remains that if it asks again in time.
    async fn is_elected(&self, store: &Store) -> Result<bool, StoreDown> {
        let key = store.key(format_args!("collector"));
        store
            .with(async |connection| {
                let set: Option<String> = redis::cmd("SET")
                    .arg(&key)
                    .arg(&self.name)
                    .arg("NX")
                    .arg("PX")
                    .arg(TERM.as_millis() as u64)
                    .query_async(connection)
                    .await?;
                if set.is_some() {
                    return Ok(true);
                }
                let holder: Option<String> = connection.get(&key).await?;
                if holder.as_ref() != Some(&self.name) {
                    return Ok(false);
                }
                connection.pexpire(&key, TERM.as_millis() as i64).await
            })
            .await
    }

    async fn listen(&self, client: &Client, store: &Store, metrics: &TurnMetrics) -> anyhow::Result<()> {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.psubscribe(stats::pattern(&self.realm)).await?;
        self.catch_up(client, store, metrics).await?;
        let mut ticks = tokio::time::interval(EVERY);
        let mut messages = subscription.on_message();
        loop {
            tokio::select! {
                message = messages.next() => {
                    let message = message.context("the subscription ended")?;
                    let text: String = message.get_payload().unwrap_or_default();
                    if let Some(event) = stats::read(&self.realm, message.get_channel_name(), &text) {
                        self.write(store, &event, metrics).await?;
                    }
                }
                _ = ticks.tick() => {
                    self.show(store, metrics).await;
                    if !self.is_elected(store).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The allocations that are there already. Not often, so all names may be looked through.
    async fn catch_up(&self, client: &Client, store: &Store, metrics: &TurnMetrics) -> anyhow::Result<()> {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut cursor = 0_u64;
        loop {
            let pattern = format!("{}/status", stats::pattern(&self.realm));
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(pattern)
                .arg("COUNT")
                .arg(500)
                .query_async(&mut connection)
                .await?;
            for key in keys {
                let text: Option<String> = connection.get(&key).await?;
                if let Some(event) = text.and_then(|text| stats::read(&self.realm, &key, &text)) {
                    self.write(store, &event, metrics).await?;
                }
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn write(
        &self,
        store: &Store,
        event: &AllocationEvent,
        metrics: &TurnMetrics,
    ) -> Result<(), StoreDown> {
        let (now, user, id) = (now(), event.user.as_str(), &event.allocation);
        let (open, own) = (store.key(format_args!("open")), store.key(format_args!("open:{user}")));
        match event.what {
            What::Open { lifetime } => {
                let end = now + lifetime + GRACE;
                store
                    .with(async |connection| {
                        redis::pipe()
                            .zadd(&open, id, end)
                            .ignore()
                            .zadd(&own, id, end)
                            .ignore()
                            .expire(&own, (lifetime + GRACE) as i64)
                            .ignore()
                            .zrembyscore(&open, "-inf", now)
                            .ignore()
                            .query_async(connection)
                            .await
                    })
                    .await
            }
            What::Deleted => {
                store
                    .with(async |connection| {
                        redis::pipe()
                            .zrem(&open, id)
                            .ignore()
                            .zrem(&own, id)
                            .ignore()
                            .query_async(connection)
                            .await
                    })
                    .await
            }
            What::Traffic(traffic) => self.count(store, event, traffic, false, metrics).await,
            What::Total(traffic) => self.count(store, event, traffic, true, metrics).await,
        }
    }

    async fn count(
        &self,
        store: &Store,
        event: &AllocationEvent,
        traffic: Traffic,
        is_total: bool,
        metrics: &TurnMetrics,
    ) -> Result<(), StoreDown> {
        let now = now();
        if !is_total {
            metrics.relayed_bytes.with_label_values(&["from_client"]).inc_by(traffic.received);
            metrics.relayed_bytes.with_label_values(&["to_client"]).inc_by(traffic.sent);
        }
        let mut call = self.record.prepare_invoke();
        call.key(store.key(format_args!("relayed:{}", event.allocation)))
            .key(store.key(format_args!("used:hour:{}", now / HOUR)))
            .key(store.key(format_args!("used:day:{}", now / DAY)))
            .key(store.key(format_args!("used:total")))
            .arg(event.user.as_str())
            .arg(traffic.received + traffic.sent)
            .arg(u8::from(is_total))
            .arg(KEEP_HOURS)
            .arg(KEEP_DAYS);
        store.with(async |connection| call.invoke_async::<i64>(connection).await).await.map(|_| ())
    }

    /// Brings the metrics up to date that are the same in all instances.
    async fn show(&self, store: &Store, metrics: &TurnMetrics) {
        let now = now();
        let shown: Result<(u64, Vec<(String, i64)>), StoreDown> = store
            .with(async |connection| {
                redis::pipe()
                    .zcount(store.key(format_args!("open")), now, "+inf")
                    .hgetall(store.key(format_args!("used:day:{}", now / DAY)))
                    .query_async(connection)
                    .await
            })
            .await;
        let Ok((open, mut users)) = shown else { return };
        metrics.allocations.set(i64::try_from(open).unwrap_or(i64::MAX));
        users.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        metrics.top_users.reset();
        for (user, bytes) in users.into_iter().take(TOP) {
            metrics.top_users.with_label_values(&[&*user]).set(bytes);
        }
    }
}
