//! What a connection and those who answer its requests tell each other.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use actix_http::{ConnectionType, StatusCode};
use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};

use super::requests::Passed;
use crate::shared::NodeShared;

/// The requests of one connection, which are answered one after the other.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// How many the dispatcher was given,
    given: Cell<u64>,
    /// and how many of them are answered.
    answered: Cell<u64>,
    /// The one that is refused, with its status; it is the connection's last.
    refused: Cell<Option<(u64, StatusCode)>>,
    waker: RefCell<Option<Waker>>,
}

impl Exchange {
    pub(super) fn head_passed(&self, passed: Passed) {
        self.given.set(self.given.get() + 1);
        if let Passed::Refused(status) = passed {
            self.refused.set(Some((self.given.get(), status)));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the request that is being answered is one to refuse.
    fn refusal(&self) -> Option<StatusCode> {
        let present = self.answered.get() + 1;
        self.refused.get().filter(|(number, _)| *number == present).map(|(_, status)| status)
    }

    fn answered(&self) {
        self.answered.set(self.answered.get() + 1);
    }

    /// Waits until there is a request behind the one that is being answered.
    pub(crate) async fn next_arrived(request: &HttpRequest) {
        let Some(exchange) = request.conn_data::<Rc<Self>>() else { return std::future::pending().await };
        poll_fn(|cx| {
            if exchange.given.get() > exchange.answered.get() + 1 {
                return Poll::Ready(());
            }
            *exchange.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The outermost middleware: answers heads that were refused, and announces the end of connections that are about to end.
pub(crate) async fn middleware<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let exchange = request.conn_data::<Rc<Exchange>>().cloned();
    if let Some(status) = exchange.as_ref().and_then(|exchange| exchange.refusal()) {
        let response = HttpResponse::build(status).force_close().finish();
        return Ok(request.into_response(response).map_into_right_body());
    }
    let response = next.call(request).await;
    if let Some(exchange) = exchange {
        exchange.answered();
    }
    let mut response = response?.map_into_left_body();
    let node = response.request().app_data::<web::Data<NodeShared>>();
    if node.is_some_and(|node| node.lifecycle.is_stopping()) {
        // A proxy that keeps its connections would send the next request to nobody.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}
