//! Messages that come through subscribed channels, handed to the cluster.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    calls::Context,
    clock::micros_since_1970,
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
            Some(ChannelMessage::Broadcast { from, payload, sent_at }) => {
                let published = observe_lag(context, now, sent_at);
                cluster.received_broadcast(from, Some(room), published, payload);
            }
            None => cluster.received_unreadable(wire::is_format_in_channel_unknown(payload)),
        },
        Channel::Everywhere => match wire::decode_channel_message(None, payload) {
            Some(ChannelMessage::Broadcast { from, payload, sent_at }) => {
                let published = observe_lag(context, now, sent_at);
                cluster.received_broadcast(from, None, published, payload);
            }
            _ => cluster.received_unreadable(wire::is_format_in_channel_unknown(payload)),
        },
        Channel::Node => match wire::decode_direct(&context.realms, payload) {
            Some((from, message)) => cluster.received_direct(now, from, message),
            None => cluster.received_unreadable(wire::is_format_unknown(payload)),
        },
    }
}

/// Observes how long a message was on its way, and gives back when it was sent, on this node's clock. Where the sender's clock is ahead of
/// this one, a message seems to arrive before it was sent: that counts as no lag.
fn observe_lag(context: &Context, now: Instant, sent_at: Option<u64>) -> Option<Instant> {
    let lag = Duration::from_micros(micros_since_1970().saturating_sub(sent_at?));
    context.metrics.bus_lag_seconds.observe(lag.as_secs_f64());
    now.checked_sub(lag)
}
