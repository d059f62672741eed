//! Answers to polls that their clients have yet to read.
//!
//! A session that was answered has nothing waiting any more, so its outbox does not bound what its client may leave unread: with
//! a new connection for each poll it could leave any number of answers in the node's memory.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use signalbox_telemetry::Metrics;

use crate::{budget::MemoryBudget, shared::NodeShared};

/// Smaller answers fit into the buffers of their connection, which holds no second one before the first is read.
pub(super) const COUNTED_FROM: usize = 16 * 1024;
/// How much the connection takes over at a time.
const CHUNK: usize = 32 * 1024;

/// A body that counts until the connection has taken all of it over, or is gone.
pub(super) struct CountedBody {
    budget: Arc<MemoryBudget>,
    metrics: Metrics,
    size: usize,
    rest: Bytes,
}

impl CountedBody {
    /// Counts the body. `None` if with it more would wait than the node's memory budget allows.
    pub(super) fn new(node: &NodeShared, body: Bytes) -> Option<Self> {
        let size = body.len();
        let fits = node.budget.count_unread(size);
        node.metrics.outbox_bytes.add(size as i64);
        let (budget, metrics) = (node.budget.clone(), node.metrics.clone());
        // A body that is refused is no longer counted when it is dropped here.
        let counted = Self { budget, metrics, size, rest: body };
        fits.then_some(counted)
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
        self.budget.release_unread(self.size);
        self.metrics.outbox_bytes.sub(self.size as i64);
    }
}
