//! The stream as server-sent events.

use std::convert::Infallible;

use actix_web::{HttpResponse, http::header, web::Bytes};
use futures_util::stream;
use signalbox_admin::events::{EventKind, ToldEvent};
use signalbox_node::admin::{FellBehind, Told};

use super::Audience;

/// When a client comes back that was cut off, in milliseconds.
const RETRY: u32 = 2_000;

pub(super) fn serve(audience: Audience) -> HttpResponse {
    let hello = format!("retry: {RETRY}\n: listening\nid: {}\n\n", audience.listener.position());
    let body = stream::unfold(State::New(Box::new(audience), hello), async |state| {
        let (audience, text) = match state {
            State::New(audience, hello) => (audience, hello),
            State::Listening(mut audience) => {
                let (text, goes_on) = next(&mut audience).await?;
                if !goes_on {
                    return Some((Ok::<_, Infallible>(Bytes::from(text)), State::Over));
                }
                (audience, text)
            }
            State::Over => return None,
        };
        audience.watch.taken();
        Some((Ok(Bytes::from(text)), State::Listening(audience)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies that would wait for more.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(body))
}

enum State {
    New(Box<Audience>, String),
    Listening(Box<Audience>),
    Over,
}

/// What is to be written next, and whether that is not the last; `None` for nothing.
async fn next(audience: &mut Audience) -> Option<(String, bool)> {
    audience.watch.taken();
    if !audience.allowed.still() {
        return None;
    }
    Some(match audience.listener.next().await {
        Ok(Told { events, position }) if events.is_empty() => {
            // The id counts also without data.
            (format!(": still here\nid: {position}\n\n"), true)
        }
        Ok(Told { events, .. }) => (events.iter().map(written).collect(), true),
        Err(FellBehind { missed }) => {
            let marker = audience.listener.marker(EventKind::Dropped, missed, "slow-listener");
            (written(&marker), false)
        }
    })
}

fn written(told: &ToldEvent) -> String {
    // JSON on one line.
    let data = serde_json::to_string(told).unwrap_or_default();
    format!("id: {}\ndata: {data}\n\n", told.position)
}
