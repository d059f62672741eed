//! What a node wants of the bus.

use signalbox_cluster::record::RoomName;

/// A room whose channel the node wants, or does not want any more.
#[derive(Debug)]
pub(super) enum SubscriptionChange {
    Subscribe(RoomName),
    Unsubscribe(RoomName),
}
