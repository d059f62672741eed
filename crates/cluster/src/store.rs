//! The calls the machine makes: each is one atomic step on shared state.

use std::sync::Arc;

use crate::{
    address::Address,
    command::{Change, Letter, PeerAt, RealmId},
    record::{Record, RoomName},
};

/// One atomic step.
#[derive(Debug)]
pub(crate) enum Call {
    /// Claim an id, or take it over from a holder with the same token.
    Claim { at: PeerAt, realm: RealmId, id: Arc<str>, token: Arc<str> },
    /// End a claim of this generation.
    Release { realm: RealmId, id: Arc<str>, generation: u64 },
    /// Say who holds the addressee's id; when nobody does, queue the letter if its kind is queued.
    DeliverOrQueue(Letter),
    /// End a wait; say whether its sender is to be told, and where the sender is now.
    Expire { realm: RealmId, src: Arc<str>, dst: Arc<str>, number: u64 },
    /// The ids of a realm.
    Peers { realm: RealmId },
    /// Put a membership record. `known` is the version the machine's replica has; when that is not the one before, the reply
    /// carries all records.
    Put { room: RoomName, record: Arc<Record>, known: Option<u64> },
    /// Remove a membership record.
    Remove { room: RoomName, socket: Address },
    /// The records of a room.
    Records { room: RoomName },
    /// Add a user.
    AddUser { namespace: Arc<str>, socket: Address },
    /// Replace a user's profile.
    SetProfile { namespace: Arc<str>, socket: Address, profile: Arc<str> },
    /// Remove a user.
    RemoveUser { namespace: Arc<str>, socket: Address },
    /// A page of users.
    Users { namespace: Arc<str>, after: Option<Address> },
}

/// What a call returns.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing to say.
    Done,
    /// The id is granted.
    Granted { generation: u64, superseded: Option<PeerAt>, waiting: Vec<signalbox_websocket::Frame> },
    /// The id is held with another token.
    Taken,
    /// Too many ids are held.
    LimitReached,
    /// The addressee is here.
    Holder(PeerAt, Letter),
    /// The letter waits; with a number when it opened its sender's wait.
    Queued { letter: Letter, opened: Option<u64>, kept: bool },
    /// The letter was dropped: its kind does not wait, or too much waits already.
    Dropped { overflow: bool },
    /// The wait was open; the sender is there now, if anywhere.
    Expired { sender: Option<PeerAt> },
    /// Ids.
    Peers(Vec<Arc<str>>),
    /// The record was put.
    Put { version: u64, records: Option<Vec<Arc<Record>>> },
    /// Records.
    Records { records: Vec<Arc<Record>> },
    /// Users, and whether there are more.
    Users(Vec<(Address, Arc<str>)>, bool),
}

/// A message on the bus: what every node with members of the room hears.
#[derive(Debug)]
pub(crate) struct RoomDelta {
    /// The room.
    pub(crate) room: RoomName,
    /// Its version after the change.
    pub(crate) version: u64,
    /// The change.
    pub(crate) change: Change,
}
