//! The stream over a WebSocket: few and trusted connections, and nothing that they send matters. Pings carry the position.

use std::{cell::Cell, pin::Pin, rc::Rc, time::Duration};

use actix_web::{
    FromRequest as _, HttpRequest, HttpResponse,
    error::PayloadError,
    http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL},
    rt::time::{Instant, timeout},
    web::Payload,
};
use actix_ws::{CloseCode, CloseReason, Closed, Message, MessageStream, Session};
use futures_util::{Stream, StreamExt as _};
use signalbox_admin::events::{EventKind, ToldEvent};
use signalbox_node::admin::{FellBehind, Told};

use super::{Audience, Refused};
use crate::admin::access;

/// Most bytes of a frame of the client, which has nothing to say but pongs. They are read before the frame is looked at.
const MAX_FRAME: usize = 4_096;
/// How long a client may take to read a message, or to answer a ping.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn serve(
    request: &HttpRequest,
    payload: Payload,
    audience: Audience,
) -> Result<HttpResponse, Refused> {
    let wrong = |_| Refused::malformed("this is no handshake of a WebSocket");
    let unread = Rc::new(Cell::new(0));
    let payload = bounded(request, payload, unread.clone()).map_err(wrong)?;
    let (mut response, session, messages) = actix_ws::handle(request, payload).map_err(wrong)?;
    if access::protocols(request.headers()).any(|protocol| protocol == access::EVENTS_PROTOCOL) {
        let protocol = HeaderValue::from_static(access::EVENTS_PROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    actix_web::rt::spawn(async move {
        // A connection that is gone needs no close frame.
        let _ = run(audience, session, messages.max_frame_size(MAX_FRAME), &unread).await;
    });
    Ok(response)
}

/// What the client sends, as far as it may: a frame is buffered whole before its length is judged.
fn bounded(
    request: &HttpRequest,
    payload: Payload,
    unread: Rc<Cell<usize>>,
) -> Result<Payload, actix_web::Error> {
    let bounded = payload.map(move |chunk| {
        let chunk = chunk?;
        unread.set(unread.get() + chunk.len());
        if unread.get() > MAX_FRAME { Err(PayloadError::Overflow) } else { Ok(chunk) }
    });
    let payload: Pin<Box<dyn Stream<Item = _>>> = Box::pin(bounded);
    let mut payload = actix_web::dev::Payload::Stream { payload };
    Payload::from_request(request, &mut payload).into_inner()
}

async fn run(
    mut audience: Audience,
    mut session: Session,
    mut messages: MessageStream,
    unread: &Cell<usize>,
) -> Result<(), Closed> {
    let mut heard = Instant::now();
    // Where to go on from, for whoever is cut off before anything has happened.
    session.ping(audience.listener.position().as_bytes()).await?;
    loop {
        let told = tokio::select! {
            told = audience.listener.next() => told,
            message = messages.next() => {
                unread.set(0);
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Ping(bytes))) => session.pong(&bytes).await?,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                }
                continue;
            }
        };
        audience.watch.taken();
        if !audience.allowed.still() {
            return close(session, CloseCode::Policy, "the token has ended").await;
        }
        match told {
            Ok(Told { events, position }) if events.is_empty() => {
                if heard.elapsed() > PATIENCE {
                    break;
                }
                session.ping(position.as_bytes()).await?;
            }
            Ok(Told { events, .. }) => {
                for told in &events {
                    let Ok(sent) = timeout(PATIENCE, session.text(written(told))).await else {
                        audience.watch.hang_up();
                        return Err(Closed);
                    };
                    sent?;
                    audience.watch.taken();
                }
            }
            Err(FellBehind { missed }) => {
                let marker = audience.listener.marker(EventKind::Dropped, missed, "slow-listener");
                session.text(written(&marker)).await?;
                return close(session, CloseCode::Again, "too slow").await;
            }
        }
    }
    session.close(None).await
}

async fn close(session: Session, code: CloseCode, why: &str) -> Result<(), Closed> {
    session.close(Some(CloseReason { code, description: Some(why.to_owned()) })).await
}

fn written(told: &ToldEvent) -> String {
    serde_json::to_string(told).unwrap_or_default()
}
