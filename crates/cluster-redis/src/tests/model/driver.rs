//! Redis' side of the comparison: the driver's own commands, one after the other.

use futures_util::StreamExt as _;
use proptest::prelude::*;
use redis::{Cmd, Value, aio::PubSub, cmd};
use signalbox_cluster::{
    envelope::Format,
    store::{Call, Reply, RoomDelta},
};

use super::{super::*, Checked, config, names};
use crate::{
    commands::{Commands, all},
    reads, wire,
};

/// Published behind everything that is asked for.
const MARK: &str = "mark";
/// Sets back what Redis remembers of the time.
const AGE: &str = "for _, key in ipairs(redis.call('KEYS', '*}:d:*')) do \
        local left = redis.call('PTTL', key) - ARGV[1] \
        if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end end \
    for _, key in ipairs(KEYS) do \
    if string.sub(key, -2) == ':a' then \
        local since = redis.call('GET', key) \
        if since then redis.call('SET', key, string.format('%.0f', since - ARGV[1])) end \
    elseif redis.call('TYPE', key).ok == 'string' then \
        local left = redis.call('PTTL', key) - ARGV[1] \
        if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end \
    else for _, owner in ipairs(redis.call('ZRANGE', key, 0, -1)) do \
        redis.call('ZINCRBY', key, -ARGV[1], owner) end end end";

/// The driver, but for its pipeline.
pub(super) struct Redis {
    pub(super) format: Format,
    context: Arc<Context>,
    commands: Commands,
    published: PubSub,
}

/// What Redis made of some calls: when it was asked (in ms), and what it answered.
pub(super) type Answers = Vec<(u64, Reply)>;

impl Redis {
    pub(super) async fn connect(server: &Server) -> Self {
        let backend = Backend::new(&server.url(), None).unwrap();
        let Backend::Single(single_server) = &backend else { panic!("a server by itself") };
        let context = Arc::new(Context {
            keys: Keys::new("test"),
            scripts: Scripts::new(),
            realms: config().realms,
            expire_timeout_ms: names::PATIENCE.as_millis(),
            publish: "PUBLISH",
            metrics: Metrics::new(),
        });
        let mut published = single_server.client().await.unwrap().get_async_pubsub().await.unwrap();
        published.subscribe(MARK).await.unwrap();
        for room in names::rooms() {
            published.subscribe(&context.keys.room_channel(&room)[..]).await.unwrap();
        }
        let commands = Commands::new(&backend, context.clone(), RESPONSE);
        Self { format: Format::V1, commands, context, published }
    }

    pub(super) async fn send(&mut self, commands: Vec<Cmd>) -> Checked<Vec<Value>> {
        let values = self.commands.send(commands).await;
        let values = all(values).map_err(|lost| TestCaseError::fail(format!("{lost:?}")))?;
        let refused = values.iter().find(|value| matches!(value, Value::ServerError(_)));
        prop_assert!(refused.is_none(), "{refused:?}");
        Ok(values)
    }

    fn age(&self, passed: u64) -> Cmd {
        let mut age = cmd("EVAL");
        age.arg(AGE).arg(5);
        for what in ["l", "b", "o", "w", "a"] {
            age.arg(&self.context.keys.nodes(what)[..]);
        }
        age.arg(passed);
        age
    }

    /// Makes calls some time later.
    pub(super) async fn ask(&mut self, passed: u64, calls: Vec<Call>) -> Checked<Answers> {
        let mut commands = vec![self.age(passed)];
        let mut counts = Vec::new();
        for call in &calls {
            let made = self.context.commands(call, self.format);
            counts.push(made.len());
            commands.push(cmd("TIME"));
            commands.extend(made);
        }
        let mut values = self.send(commands).await?.into_iter().skip(1);
        let mut answers = Vec::new();
        for (call, count) in calls.into_iter().zip(counts) {
            let time = values.next().and_then(|time| millis(&time)).unwrap_or_default();
            let values: Vec<Value> = values.by_ref().take(count).collect();
            answers.push((time, self.reply(call, values).await?));
        }
        Ok(answers)
    }

    async fn reply(&mut self, call: Call, values: Vec<Value>) -> Checked<Reply> {
        match &call {
            Call::Users { namespace, after } => {
                let page = reads::users(&mut self.commands, &self.context, namespace, *after).await;
                let (users, more) = page.map_err(|lost| TestCaseError::fail(format!("{lost:?}")))?;
                return Ok(Reply::Users(users, more));
            }
            Call::Reap { .. } => {
                let mut left = values.clone();
                while replies::reaped(&left).1 > 0 {
                    left = self.send(self.context.commands(&call, self.format)).await?;
                }
            }
            _ => {}
        }
        Ok(self.context.reply(call, values))
    }

    /// What was published since this was last asked for.
    pub(super) async fn published(&mut self) -> Checked<Vec<RoomDelta>> {
        let mark = self.context.publish(MARK.as_bytes(), b"");
        self.send(vec![mark]).await?;
        let mut deltas = Vec::new();
        let mut messages = self.published.on_message();
        while let Some(message) = messages.next().await {
            if message.get_channel_name() == MARK {
                return Ok(deltas);
            }
            let Some(keys::Channel::Room(room)) =
                self.context.keys.read_channel(message.get_channel_name().as_bytes())
            else {
                return Err(TestCaseError::fail("a channel that is no room's"));
            };
            match wire::decode_channel_message(
                Some(&room),
                &Bytes::copy_from_slice(message.get_payload_bytes()),
            ) {
                Some(wire::ChannelMessage::Change(delta)) => deltas.push(delta),
                other => return Err(TestCaseError::fail(format!("{other:?} was published"))),
            }
        }
        Err(TestCaseError::fail("the subscription has ended"))
    }
}

/// What TIME answers.
pub(super) fn millis(time: &Value) -> Option<u64> {
    let (seconds, micros): (u64, u64) = redis::from_redis_value(time.clone()).ok()?;
    Some(seconds * 1_000 + micros / 1_000)
}
