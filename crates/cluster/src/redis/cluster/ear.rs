//! The connection to one master that hears channels. It is probed; a silent one is dead.
//!
//! Whether a channel is heard shows in what the server pushes, by name; what it answers says only what it refuses. For a server may
//! end a subscription by itself when a slot leaves it, and that looks like one answer more.

use std::sync::Arc;

use bytes::Bytes;
use redis::{
    Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::MissedTickBehavior,
};

use super::{super::PROBE, masters::Masters, url::Address};

/// Channels in one pipeline.
const BATCH: usize = 500;

/// What an ear is asked for.
pub(super) enum Ask {
    Hear(Bytes),
    Unhear(Bytes),
}

/// What comes of it.
pub(super) enum Event {
    /// The channel is heard from now on.
    Heard(Vec<u8>),
    /// It is not (any more).
    Unheard(Vec<u8>),
    /// The server does not let it be heard.
    Refused(Bytes),
    /// Something was said in it.
    Message(Vec<u8>, Vec<u8>),
    /// The connection is dead.
    Dead,
}

/// An ear, by a number that no other has.
pub(super) struct Ear {
    pub(super) number: u32,
    pub(super) address: Address,
    asks: UnboundedSender<Ask>,
}

impl Ear {
    /// Connects in the background; what it is asked meanwhile waits. It ends when it is dropped.
    pub(super) fn open(
        number: u32,
        masters: Arc<Masters>,
        address: Address,
        events: UnboundedSender<(u32, Event)>,
    ) -> Self {
        let (asks, asked) = unbounded_channel();
        let at = address.clone();
        tokio::spawn(async move {
            let pushed = events.clone();
            let heard = move |info: PushInfo| {
                if let Some(event) = event(info) {
                    let _ = pushed.send((number, event));
                }
            };
            match masters.ear(&at, heard).await {
                Ok(connection) => listen(connection, asked, |event| drop(events.send((number, event)))).await,
                Err(error) => tracing::debug!(%error, master = %at, "it cannot be heard"),
            }
            let _ = events.send((number, Event::Dead));
        });
        Self { number, address, asks }
    }

    pub(super) fn ask(&self, ask: Ask) {
        // An ear that has died has said so.
        let _ = self.asks.send(ask);
    }
}

/// What a server says by itself.
fn event(info: PushInfo) -> Option<Event> {
    let mut parts = info.data.into_iter().map(|part| match part {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    });
    match info.kind {
        PushKind::SMessage => Some(Event::Message(parts.next()?, parts.next()?)),
        PushKind::SSubscribe => Some(Event::Heard(parts.next()?)),
        PushKind::SUnsubscribe => Some(Event::Unheard(parts.next()?)),
        PushKind::Disconnection => Some(Event::Dead),
        _ => None,
    }
}

/// Does what it is asked until the connection is dead, or nobody is there to ask.
async fn listen(
    mut connection: MultiplexedConnection,
    mut asked: UnboundedReceiver<Ask>,
    tell: impl Fn(Event),
) {
    let mut probes = tokio::time::interval(PROBE);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let alive = tokio::select! {
            count = asked.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                change(&mut connection, &mut batch, &tell).await
            }
            _ = probes.tick() => connection.req_packed_command(&redis::cmd("PING")).await.map(|_| ()),
        };
        if alive.is_err() {
            return;
        }
    }
}

/// One command for each channel: a server takes several at once only of the same slot.
async fn change(
    connection: &mut MultiplexedConnection,
    batch: &mut Vec<Ask>,
    tell: &impl Fn(Event),
) -> RedisResult<()> {
    let mut pipeline = Pipeline::with_capacity(batch.len());
    for ask in batch.iter() {
        pipeline.add_command(ask.command());
    }
    let answers = connection.req_packed_commands(&pipeline, 0, batch.len()).await?;
    for (ask, answer) in batch.drain(..).zip(answers) {
        if let (Ask::Hear(channel), Value::ServerError(error)) = (ask, answer) {
            tracing::debug!(?error, "a channel is not to be heard here");
            tell(Event::Refused(channel));
        }
    }
    Ok(())
}

impl Ask {
    fn command(&self) -> Cmd {
        let (name, channel) = match self {
            Self::Hear(channel) => ("SSUBSCRIBE", channel),
            Self::Unhear(channel) => ("SUNSUBSCRIBE", channel),
        };
        let mut command = redis::cmd(name);
        command.arg(&channel[..]);
        command
    }
}
