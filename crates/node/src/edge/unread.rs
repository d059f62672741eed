//! Answers to polls that their clients have yet to read.
//!
//! A session that was answered has nothing waiting any more, so its outbox does not bound what its client may leave unread: with
//! a new connection for each poll it could leave any number of answers in the node's memory.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::node::NodeShared;

/// Smaller answers fit into the buffers of their connection, which holds no second one before the first is read.
pub(super) const COUNTED_FROM: usize = 16 * 1024;
/// How much the connection takes over at a time.
const CHUNK: usize = 32 * 1024;

/// A body that counts until the connection has taken all of it over, or is gone.
pub(super) struct CountedBody {
    node: Arc<NodeShared>,
    size: usize,
    rest: Bytes,
}

impl CountedBody {
    /// Counts the body. `None` if with it more would wait than the node's memory budget allows.
    pub(super) fn new(node: &Arc<NodeShared>, body: Bytes) -> Option<Self> {
        let size = body.len();
        let others = node.unread.fetch_add(size, Ordering::AcqRel);
        node.metrics.outbox_bytes.add(size as i64);
        let unread = Self { node: node.clone(), size, rest: body };
        // One that is refused is no longer counted when it is dropped here. One alone is within its session's own limit.
        (others == 0 || others + size <= node.config.memory_budget).then_some(unread)
    }
}

impl MessageBody for CountedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let end = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(self.rest.split_to(end))))
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.node.unread.fetch_sub(self.size, Ordering::AcqRel);
        self.node.metrics.outbox_bytes.sub(self.size as i64);
    }
}
