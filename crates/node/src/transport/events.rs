//! What a connection tells whoever serves it.

use std::{rc::Rc, sync::Arc, task::Context};

use signalbox_engineio::CloseReason;
use signalbox_websocket::{Frame, Message};

use super::Conn;

/// Something that is waited for.
pub(crate) trait Wait {
    fn is_over(&self) -> bool;
}

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
    /// A message has not arrived whole in its time; [`ConnectionEvents::closing`] follows.
    fn message_overdue(&self);
    /// Whether a queue is crowded into which this thread puts something: who fills it is to have short turns.
    fn is_crowded(&self) -> bool;
    /// A connection has its turn.
    fn begin_turn(&self);
    /// The turn is over, [`ConnectionEvents::flush`] done. If it filled a queue that is crowded, the connection is not read on before
    /// this says so; it is woken then.
    fn wait_after_turn(&self, cx: &Context<'_>) -> Option<Arc<dyn Wait>>;
    /// The socket takes more of what waits, and it is more than one turn.
    fn list_for_writing(&self, conn: &Rc<Conn>);
    /// Deliveries to clients so far, on this thread; tells how many a message has caused.
    fn deliveries(&self) -> u64;
    /// Does everything that follows from the messages that have arrived.
    fn flush(&self);
}
