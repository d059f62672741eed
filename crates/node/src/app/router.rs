//! The seam between handlers and the node.

use signalbox_cluster::Address;
use signalbox_socketio::Message;

use crate::routing::{Audience, SocketCommand};

/// The way from handlers to sockets, wherever these are.
pub(crate) trait SocketRouter: Send + Sync {
    /// Sends a command to the shard or node of its socket. A command that cannot get there is dropped, with the reply it carries.
    fn send(&self, command: SocketCommand);
    /// Whether an address names a node that the cluster knows: then it may be a socket's, else it is just a name.
    fn is_known(&self, address: Address) -> bool;
    /// Begins a broadcast.
    fn broadcast(&self, to: Audience, message: Message, volatile: bool);
}
