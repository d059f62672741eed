//! What a connection and those who answer its requests tell each other.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_http::StatusCode;
use actix_web::HttpRequest;

use super::requests::Passed;

/// So much of a body is read before anybody has asked for it, and always of one that somebody holds back.
pub(crate) const SMALL_BODY: u64 = 8 * 1024;

/// The requests of one connection, which are answered one after the other.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// How many the dispatcher was given,
    given: Cell<u64>,
    /// how many of them somebody has begun to answer,
    begun: Cell<u64>,
    /// and how many are answered.
    answered: Cell<u64>,
    /// How much may be read of the body of the one that is being answered, if whoever answers it says so.
    allowed: Cell<Option<u64>>,
    /// So much of it was read, and it goes on.
    is_held_back: Cell<bool>,
    /// Whoever answers it waits for room,
    waits_for_room: Cell<bool>,
    /// or has since more was read.
    has_waited: Cell<bool>,
    /// Is woken when more may be read.
    reader: RefCell<Option<Waker>>,
    /// The one that is refused, with its status; it is the connection's last.
    refused: Cell<Option<(u64, StatusCode)>>,
    /// The body of the last request that was given has had its time.
    is_overdue: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The connection is encrypted.
    is_secure: bool,
}

impl Exchange {
    pub(super) fn new(is_secure: bool) -> Self {
        Self { is_secure, ..Self::default() }
    }

    /// Whether the request came over TLS to this node.
    pub(crate) fn is_secure(request: &HttpRequest) -> bool {
        request.conn_data::<Rc<Self>>().is_some_and(|exchange| exchange.is_secure)
    }

    pub(super) fn head_passed(&self, passed: Passed) {
        self.given.set(self.given.get() + 1);
        if let Passed::Refused(status) = passed {
            self.refused.set(Some((self.given.get(), status)));
        }
        self.wake();
    }

    pub(super) fn body_overdue(&self) {
        self.is_overdue.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the request that is being answered is one to refuse.
    pub(crate) fn refusal(&self) -> Option<StatusCode> {
        let present = self.answered.get() + 1;
        self.refused.get().filter(|(number, _)| *number == present).map(|(_, status)| status)
    }

    /// The next request's turn has come: somebody begins to answer it.
    pub(crate) fn begun(&self) {
        self.begun.set(self.answered.get() + 1);
        self.allow(None);
    }

    /// The request is answered.
    pub(crate) fn answered(&self) {
        self.answered.set(self.answered.get() + 1);
        self.allow(None);
    }

    /// Has no more read of the request's body for now than is little, see [`Self::allow`].
    pub(crate) fn hold_back(request: &HttpRequest) {
        if let Some(exchange) = request.conn_data::<Rc<Self>>() {
            exchange.allow(Some(SMALL_BODY));
        }
    }

    /// How much may be read of the body that is held back, `None`: all of it.
    pub(crate) fn allow(&self, bytes: Option<u64>) {
        self.allowed.set(bytes);
        self.is_held_back.set(false);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Waits until there is more of the body than may be read.
    pub(crate) async fn held_back(&self) {
        self.wait(|exchange| exchange.is_held_back.get()).await;
    }

    /// Until the result is dropped it is the node's doing that the body does not go on.
    pub(crate) fn wait_for_room(self: &Rc<Self>) -> WaitsForRoom {
        self.waits_for_room.set(true);
        self.has_waited.set(true);
        WaitsForRoom(self.clone())
    }

    pub(super) fn waits_for_room(&self) -> bool {
        self.waits_for_room.get()
    }

    /// Whether anybody has waited for room since this was asked last.
    pub(super) fn take_has_waited(&self) -> bool {
        self.has_waited.take()
    }

    /// How many more bytes may be read of the body of the last request that was given, of which so many were; else the task is woken then.
    pub(super) fn poll_allowed(&self, read: u64, cx: &Context<'_>) -> Poll<u64> {
        let (given, begun) = (self.given.get(), self.begun.get());
        let allowed = match self.allowed.get() {
            // It waits behind another one, whose answer may be long in coming.
            _ if begun < given => SMALL_BODY,
            // Nobody reads it any more: the dispatcher looks for its end.
            _ if self.answered.get() >= given => u64::MAX,
            allowed => allowed.unwrap_or(u64::MAX),
        };
        if allowed > read {
            return Poll::Ready(allowed - read);
        }
        *self.reader.borrow_mut() = Some(cx.waker().clone());
        if begun >= given && !self.is_held_back.replace(true) {
            self.wake();
        }
        Poll::Pending
    }

    /// Waits until there is a request behind the one that is being answered.
    pub(crate) async fn next_arrived(request: &HttpRequest) {
        let Some(exchange) = request.conn_data::<Rc<Self>>() else { return std::future::pending().await };
        exchange.wait(|exchange| exchange.given.get() > exchange.answered.get() + 1).await;
    }

    /// Waits until the body of the request has had its time: in a server of somebody else's, which does not look how fast it comes, this
    /// long.
    pub(crate) async fn overdue(request: &HttpRequest, elsewhere: Duration) {
        let Some(exchange) = request.conn_data::<Rc<Self>>() else {
            return tokio::time::sleep(elsewhere).await;
        };
        exchange.wait(|exchange| exchange.is_overdue.get()).await;
    }

    async fn wait(&self, is_so: impl Fn(&Self) -> bool) {
        poll_fn(|cx| {
            if is_so(self) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Somebody waits for room, see [`Exchange::wait_for_room`].
pub(crate) struct WaitsForRoom(Rc<Exchange>);

impl Drop for WaitsForRoom {
    fn drop(&mut self) {
        self.0.waits_for_room.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: Poll<u64> = Poll::Ready(SMALL_BODY);

    #[test]
    fn of_a_body_no_more_is_read_than_whoever_answers_allows() {
        let exchange = Rc::new(Exchange::new(false));
        let allowed = |read| exchange.poll_allowed(read, &Context::from_waker(Waker::noop()));
        exchange.head_passed(Passed::Head);
        // Nobody knows yet who will read it.
        assert_eq!((allowed(0), allowed(SMALL_BODY)), (LITTLE, Poll::Pending));
        assert!(!exchange.is_held_back.get(), "there is nobody to be told");
        exchange.begun();
        assert_eq!(allowed(SMALL_BODY), Poll::Ready(u64::MAX - SMALL_BODY), "whoever reads it bounds it");
        exchange.allow(Some(SMALL_BODY));
        assert_eq!((allowed(SMALL_BODY - 1), allowed(SMALL_BODY)), (Poll::Ready(1), Poll::Pending));
        assert!(exchange.is_held_back.get());
        let waits = exchange.wait_for_room();
        assert!(exchange.waits_for_room());
        drop(waits);
        assert!(!exchange.waits_for_room() && exchange.take_has_waited() && !exchange.take_has_waited());
        exchange.allow(None);
        assert!(!exchange.is_held_back.get() && allowed(SMALL_BODY).is_ready());

        // The next one's comes while this one is answered.
        exchange.head_passed(Passed::Head);
        assert_eq!((allowed(0), allowed(SMALL_BODY)), (LITTLE, Poll::Pending));
        exchange.answered();
        assert_eq!(allowed(SMALL_BODY), Poll::Pending);
        exchange.begun();
        exchange.allow(Some(SMALL_BODY));
        // It is answered before its end, which nobody reads any more.
        exchange.answered();
        assert!(allowed(10 * SMALL_BODY).is_ready());
    }
}
