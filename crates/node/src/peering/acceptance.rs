//! Acceptances: an owner confirms at once that it has received a request whose answer takes a while.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use ahash::AHashMap;
use tokio::sync::oneshot;

type Expected = Arc<Mutex<AHashMap<u64, oneshot::Sender<()>>>>;

/// The requests whose acceptance is expected, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Acceptances(Expected);

impl Acceptances {
    /// Resolves when the request is accepted, and never when it is not.
    pub(super) fn expect(&self, number: u64) -> Acceptance {
        let (sender, sign) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        Acceptance { number, sign: Some(sign), expected: self.0.clone() }
    }

    /// The owner has accepted a request.
    pub(super) fn accepted(&self, number: u64) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        if let Some(sender) = sender {
            let _ = sender.send(());
        }
    }
}

/// An acceptance that is expected.
pub(super) struct Acceptance {
    number: u64,
    sign: Option<oneshot::Receiver<()>>,
    expected: Expected,
}

impl Future for Acceptance {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.sign.as_mut().map(|sign| Pin::new(sign).poll(cx)) {
            Some(Poll::Ready(Ok(()))) => {
                self.sign = None;
                Poll::Ready(())
            }
            // Another request took the number: this one is forgotten.
            Some(Poll::Ready(Err(_))) => {
                self.sign = None;
                Poll::Pending
            }
            _ => Poll::Pending,
        }
    }
}

impl Drop for Acceptance {
    fn drop(&mut self) {
        if self.sign.is_some() {
            self.expected.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        }
    }
}
