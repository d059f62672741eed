//! What a connection and those who answer its requests tell each other.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use actix_http::StatusCode;
use actix_web::HttpRequest;

use super::requests::Passed;

/// The requests of one connection, which are answered one after the other.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// How many the dispatcher was given,
    given: Cell<u64>,
    /// and how many of them are answered.
    answered: Cell<u64>,
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

    /// The request is answered.
    pub(crate) fn answered(&self) {
        self.answered.set(self.answered.get() + 1);
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
