//! Two nodes on one Redis.
//!
//! - `server`, `node`: what the tests start.
//! - `sharing`: what nodes share; `outages`: what they do without Redis, and without each other.
//! - `revocations`: what is revoked, whatever Redis forgets.
//! - `cluster`: the same on a Redis Cluster. `crowd`: many at once; `storms`: after an outage.
//! - `model`: any calls, made in Redis and in the model.

mod cluster;
mod crowd;
mod hooks;
mod model;
mod node;
mod operations;
mod outages;
mod revocations;
mod rules;
mod server;
mod sharing;
mod storms;

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::Bytes;
use signalbox_cluster::{
    Address, EventArgs, MemberEvent, Owner, PeerAt, Record, RoomName, Scope, Status,
    command::{Change, Command, Delivery},
};

use signalbox_telemetry::Metrics;
use signalbox_test_support::free_port;

use self::{
    node::{Node, room},
    outages::reaping,
    server::{Server, until},
    sharing::{ids_and_peer_messages, peer_messages_wait, rooms_and_users},
};
use super::*;
