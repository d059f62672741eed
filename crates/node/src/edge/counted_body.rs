//! Answers to polls that their clients have yet to read.
//!
//! A session that was answered has nothing waiting any more, so its outbox does not bound what its client may leave unread: with
//! a new connection for each poll it could leave any number of answers in the node's memory.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::ledger::{Charge, OVERHEAD};

/// How much the connection takes over at a time.
const CHUNK: usize = 32 * 1024;

/// A body that is charged to its client until the connection has taken all of it over, or is gone.
pub(super) struct CountedBody {
    rest: Bytes,
    size: usize,
    charge: Charge,
    /// What is to be done if the connection goes before it has taken everything over.
    on_lost: Option<Box<dyn FnOnce()>>,
}

impl CountedBody {
    pub(super) fn new(charge: Charge, body: Bytes, on_lost: Option<Box<dyn FnOnce()>>) -> Self {
        charge.set(body.len() + OVERHEAD, 0);
        Self { size: body.len(), rest: body, charge, on_lost }
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        if let Some(on_lost) = self.on_lost.take().filter(|_| !self.rest.is_empty()) {
            on_lost();
        }
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
        // The whole of it is in memory until its end.
        self.charge.account().moves(Instant::now());
        let end = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(self.rest.split_to(end))))
    }
}
