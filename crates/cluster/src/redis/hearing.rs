//! What is heard on the bus, and to whom it goes.

use std::time::Instant;

use bytes::Bytes;

use super::{
    calls::Context,
    keys::Channel,
    wire::{self, Heard},
};
use crate::Cluster;

/// Something came through a channel.
pub(super) fn heard(context: &Context, cluster: &Cluster, channel: Channel, payload: &Bytes) {
    let now = Instant::now();
    match channel {
        Channel::Room(room) => match wire::read_heard(Some(&room), payload) {
            Some(Heard::Change(delta)) => cluster.room_changed(now, delta),
            Some(Heard::Said(from, payload)) => cluster.said(from, Some(room), payload),
            None => {}
        },
        Channel::Everywhere => {
            if let Some(Heard::Said(from, payload)) = wire::read_heard(None, payload) {
                cluster.said(from, None, payload);
            }
        }
        Channel::Node => {
            if let Some((from, message)) = wire::read_told(&context.realms, payload) {
                cluster.told(now, from, message);
            }
        }
    }
}
