//! The way back for an answer.

use tokio::sync::oneshot;

/// Takes one answer to whoever asked. Dropping it says that there will be none.
pub(crate) struct Reply<T>(Box<dyn FnOnce(T) -> bool + Send>);

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

impl<T: 'static> Reply<T> {
    /// `answer` returns whether anybody still waited.
    pub(crate) fn new(answer: impl FnOnce(T) -> bool + Send + 'static) -> Self {
        Self(Box::new(answer))
    }

    /// Answers; `false` when nobody waits any more.
    pub(crate) fn send(self, value: T) -> bool {
        self.0(value)
    }

    /// A reply, and a future that waits for it.
    pub(crate) fn channel() -> (Self, oneshot::Receiver<T>)
    where
        T: Send,
    {
        let (sender, receiver) = oneshot::channel();
        (Self::new(move |value| sender.send(value).is_ok()), receiver)
    }
}
