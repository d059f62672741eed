//! What the cluster asks of its driver, put into a queue for the driver's thread.

use bytes::Bytes;
use signalbox_cluster::{
    Owner, RoomName,
    driver::{CallToken, Driver, DriverEnded},
    store::Call,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    backlog::Queued,
    clock::micros_since_1970,
    heartbeats::{Heartbeat, Heartbeats},
};

/// What the cluster asks for.
#[derive(Debug)]
pub(super) enum DriverCommand {
    /// Make this call.
    Call(Box<(Call, CallToken)>),
    /// Subscribe a room's channel.
    Subscribe(RoomName),
    /// Unsubscribe it.
    Unsubscribe(RoomName),
    /// Publish a broadcast.
    Publish(Publication),
    /// End, once everything before this is done.
    End(DriverEnded),
}

/// A broadcast to a room, or to all nodes.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) from: Owner,
    pub(super) room: Option<RoomName>,
    pub(super) payload: Bytes,
    /// When it was asked for, in microseconds since 1970: what it waits for Redis is a part of its way.
    pub(super) sent_at: u64,
}

/// What a script costs, where a broadcast costs 1.
const SCRIPT: usize = 4;
/// So many bytes of a message cost as much as a broadcast. A batch is copied into one buffer, which nobody is charged for.
const BYTES: usize = 4096;

impl Queued for DriverCommand {
    fn room(&self) -> Option<&RoomName> {
        match self {
            Self::Call(call) => match &call.0 {
                Call::Put { room, .. } | Call::Remove { room, .. } | Call::Rehome { room, .. } => Some(room),
                _ => None,
            },
            Self::Publish(broadcast) => broadcast.room.as_ref(),
            Self::Subscribe(_) | Self::Unsubscribe(_) | Self::End(_) => None,
        }
    }

    fn is_broadcast(&self) -> bool {
        matches!(self, Self::Publish(_))
    }

    fn cost(&self) -> usize {
        match self {
            Self::Call(call) => {
                let own = match call.0 {
                    Call::SendDirect { .. } | Call::Flush => 1,
                    _ => SCRIPT,
                };
                own + call.0.message_len() / BYTES
            }
            Self::Publish(broadcast) => 1 + broadcast.payload.len() / BYTES,
            _ => 1,
        }
    }
}

/// The cluster's end of the queues. They have no bound: what is in them results from commands that shards were allowed to submit, and
/// there is one heartbeat at a time.
pub(super) struct RedisDriver {
    commands: UnboundedSender<DriverCommand>,
    heartbeats: Heartbeats,
}

impl RedisDriver {
    /// With the other ends of its queues: commands, and heartbeats, which wait behind nothing.
    pub(super) fn new() -> (Self, UnboundedReceiver<DriverCommand>, UnboundedReceiver<Heartbeat>) {
        let (commands, of_pipeline) = unbounded_channel();
        let (heartbeats, due) = unbounded_channel();
        (Self { commands, heartbeats }, of_pipeline, due)
    }

    fn command(&self, command: DriverCommand) {
        // The thread has ended only when the node stops.
        let _ = self.commands.send(command);
    }
}

impl Driver for RedisDriver {
    fn call(&self, call: Call, token: CallToken) -> Result<(), Box<CallToken>> {
        if let Call::Heartbeat { .. } = call {
            return self.heartbeats.send((call, token)).map_err(|refused| Box::new(refused.0.1));
        }
        match self.commands.send(DriverCommand::Call(Box::new((call, token)))) {
            Err(refused) => match refused.0 {
                DriverCommand::Call(call) => Err(Box::new(call.1)),
                _ => Ok(()),
            },
            Ok(()) => Ok(()),
        }
    }

    fn subscribe(&self, room: RoomName) {
        self.command(DriverCommand::Subscribe(room));
    }

    fn unsubscribe(&self, room: RoomName) {
        self.command(DriverCommand::Unsubscribe(room));
    }

    fn publish(&self, from: Owner, room: Option<RoomName>, payload: Bytes) {
        let sent_at = micros_since_1970();
        self.command(DriverCommand::Publish(Publication { from, room, payload, sent_at }));
    }

    fn end(&self, ended: DriverEnded) {
        self.command(DriverCommand::End(ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_cluster::{NodeTag, Owner};

    #[test]
    fn large_messages_cost_what_small_ones_of_their_size_do() {
        let from = Owner { tag: NodeTag(1), epoch: 1 };
        let cost = |len: usize| {
            let payload = Bytes::from(vec![0; len]);
            DriverCommand::Publish(Publication { from, room: None, payload, sent_at: 0 }).cost()
        };
        assert_eq!([cost(0), cost(BYTES - 1), cost(BYTES), cost(1 << 20)], [1, 1, 2, 257]);
    }
}
