//! Who receives a broadcast, and how one broadcast is told from another.

use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, RoomName};
use signalbox_socketio::Message;

use super::Location;

/// Who receives a broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Audience {
    pub(crate) namespace: Arc<str>,
    /// Members of any of these; empty: everybody in the namespace.
    pub(crate) rooms: Vec<Arc<str>>,
    /// But not these sockets.
    pub(crate) except: Vec<Address>,
    /// And not the members of these rooms.
    pub(crate) except_rooms: Vec<Arc<str>>,
}

impl Audience {
    /// The room on whose channel other nodes receive it; `None`: on the channel of all. Messages on one channel keep their order,
    /// messages on two do not.
    pub(crate) fn channel(&self) -> Option<RoomName> {
        let [room] = &self.rooms[..] else { return None };
        Some(RoomName { namespace: self.namespace.clone(), name: room.clone() })
    }
}

/// The shard on which a broadcast began.
pub(crate) type Origin = Location;

/// A broadcast to the members of rooms, or to a whole namespace.
#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    pub(crate) to: Arc<Audience>,
    pub(crate) message: Message,
    pub(crate) volatile: bool,
    /// Where it began, and how many broadcasts began there before: this tells a session that moves what it has received already.
    pub(crate) origin: Origin,
    pub(crate) sequence: u64,
    /// When another node published it, on this node's clock; `None` where it began here.
    pub(crate) published: Option<Instant>,
    /// The `traceparent` of what its sender's node did for it, where traces are kept.
    pub(crate) trace: Option<Arc<str>>,
}
