//! What a connection tells whoever serves it.

use std::rc::Rc;

use signalbox_engineio::CloseReason;
use signalbox_websocket::{Frame, Message};

use super::Conn;

/// Serves connections: told of everything that happens on them, on their thread.
pub(crate) trait ConnectionEvents {
    /// A message has arrived. [`ConnectionEvents::flush`] follows once there is no more to read for now.
    fn message(&self, conn: &Rc<Conn>, message: Message<'_>);
    /// The connection itself has a ping to answer.
    fn push_pong(&self, conn: &Rc<Conn>, pong: &Frame);
    /// The connection is to be closed with this frame: the client closes it, or broke its rules.
    fn closing(&self, conn: &Rc<Conn>, reason: CloseReason, frame: &Frame);
    /// The connection is lost.
    fn lost(&self, conn: &Rc<Conn>, reason: CloseReason);
    /// The connection's task has come to its end.
    fn ended(&self, conn: &Rc<Conn>);
    /// So many bytes were read.
    fn received_bytes(&self, count: usize);
    /// Deliveries to clients so far, on this thread; tells how many a message has caused.
    fn deliveries(&self) -> u64;
    /// Does everything that follows from the messages that have arrived.
    fn flush(&self);
}
