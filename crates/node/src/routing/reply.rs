//! The way back for an answer.

use tokio::sync::oneshot;

/// Takes one answer to whoever asked. Dropping it says that there will be none.
pub(crate) struct Reply<T>(Box<dyn Way<T>>);

/// Where an answer goes.
trait Way<T>: Send {
    /// Whether anybody waits still, as far as is known.
    fn is_open(&self) -> bool;
    /// Answers; `false` when nobody waits any more.
    fn send(self: Box<Self>, value: T) -> bool;
}

struct Through<F>(F);

impl<T, F: FnOnce(T) -> bool + Send> Way<T> for Through<F> {
    fn is_open(&self) -> bool {
        true
    }

    fn send(self: Box<Self>, value: T) -> bool {
        (self.0)(value)
    }
}

impl<T: Send> Way<T> for oneshot::Sender<T> {
    fn is_open(&self) -> bool {
        !self.is_closed()
    }

    fn send(self: Box<Self>, value: T) -> bool {
        Self::send(*self, value).is_ok()
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

impl<T: 'static> Reply<T> {
    /// `answer` returns whether anybody still waited.
    pub(crate) fn new(answer: impl FnOnce(T) -> bool + Send + 'static) -> Self {
        Self(Box::new(Through(answer)))
    }

    /// Whether anybody waits still, as far as is known: what costs much need not be done otherwise.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_open()
    }

    /// Answers; `false` when nobody waits any more.
    pub(crate) fn send(self, value: T) -> bool {
        self.0.send(value)
    }

    /// A reply, and a future that waits for it.
    pub(crate) fn channel() -> (Self, oneshot::Receiver<T>)
    where
        T: Send,
    {
        let (sender, receiver) = oneshot::channel();
        (Self(Box::new(sender)), receiver)
    }
}
