//! Messages that come through subscribed channels, handed to the cluster.

use std::time::Instant;

use bytes::Bytes;

use super::{
    calls::Context,
    keys::Channel,
    wire::{self, ChannelMessage},
};
use signalbox_cluster::Cluster;

/// Hands a message that came through a channel to the cluster. What cannot be read is dropped, and reported.
pub(super) fn dispatch(context: &Context, cluster: &Cluster, channel: Channel, payload: &Bytes) {
    let now = Instant::now();
    match channel {
        Channel::Room(room) => match wire::decode_channel_message(Some(&room), payload) {
            Some(ChannelMessage::Change(delta)) => cluster.room_changed(now, delta),
            Some(ChannelMessage::Broadcast(from, payload)) => {
                cluster.received_broadcast(from, Some(room), payload);
            }
            None => cluster.received_unreadable(wire::is_format_in_channel_unknown(payload)),
        },
        Channel::Everywhere => match wire::decode_channel_message(None, payload) {
            Some(ChannelMessage::Broadcast(from, payload)) => {
                cluster.received_broadcast(from, None, payload);
            }
            _ => cluster.received_unreadable(wire::is_format_in_channel_unknown(payload)),
        },
        Channel::Node => match wire::decode_direct(&context.realms, payload) {
            Some((from, message)) => cluster.received_direct(now, from, message),
            None => cluster.received_unreadable(wire::is_format_unknown(payload)),
        },
    }
}
