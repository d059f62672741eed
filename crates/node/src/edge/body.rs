//! The bodies of POSTs: what is read of them, and when.
//!
//! Bodies that arrive together must not outrun the budget, so a large one is charged whole before more of it than its beginning is read; where
//! there is no room for that yet, it stays in the kernel. Small ones never wait.

use std::{
    future::pending,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::{StatusCode, header},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use super::{
    client,
    http1::{Exchange, SMALL_BODY},
};
use crate::{
    ledger::{Charge, EvictAt, Hangup, Lane, MOVE, OVERHEAD, charged},
    shared::NodeShared,
};

/// A body that does not say how long it is gets room for so much first, and for twice as much each time.
const FIRST_PART: usize = 64 * 1024;
/// What a connection costs beside its body while a large one is on its way: measured are 35 KiB before there is room for it and 55 KiB
/// afterwards, for the dispatcher and its buffers. Bodies that wait would be many, and cost the node next to nothing, without it.
const DISPATCHER: usize = 32 * 1024;
/// How often the first of those who wait looks whether somebody has to go, while somebody does; and otherwise.
const LOOK: Duration = Duration::from_millis(5);
const IDLE_LOOK: Duration = Duration::from_millis(25);
/// Who has waited so long need not wait until those that hold room move on,
const PATIENCE: Duration = Duration::from_secs(1);
/// unless others before it had their turn this shortly before.
const STANDSTILL: Duration = Duration::from_millis(50);

/// Reads a body, but not more of it than is allowed.
///
/// # Errors
/// The status to refuse it with; the connection has to be closed then.
pub(super) async fn read(
    node: &NodeShared,
    request: &HttpRequest,
    mut payload: web::Payload,
) -> Result<Bytes, StatusCode> {
    let limit = node.config.engine.max_payload;
    let declared =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|declared: usize| declared > limit) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    // From the first byte on: many that never end are the cheapest way to fill a node's memory.
    node.ledger.observe(Instant::now());
    let charge = client::charge(node, request);
    let exchange = request.conn_data::<Rc<Exchange>>();
    let hangup = hangup(&charge);
    let (mut body, mut has_room_for, mut unmoved) = (BytesMut::new(), SMALL_BODY as usize, 0);
    loop {
        let is_held_back = async {
            match exchange {
                Some(exchange) => exchange.held_back().await,
                // In a server of somebody else's nothing holds it back but that it is not taken.
                None if declared.unwrap_or(0).max(body.len()) > has_room_for => {}
                None => pending().await,
            }
        };
        let chunk = tokio::select! {
            biased;
            () = cut_off(hangup.as_deref()) => return Err(StatusCode::SERVICE_UNAVAILABLE),
            () = is_held_back => None,
            chunk = payload.next() => Some(chunk),
        };
        match chunk {
            None => {
                let room = match declared {
                    Some(length) => length,
                    None => (2 * has_room_for).clamp(FIRST_PART, limit.max(FIRST_PART)),
                };
                charge.set(body.capacity().max(charged_for(has_room_for)) + DISPATCHER, 0);
                wait_for_room(node, request, &charge, room + DISPATCHER).await?;
                has_room_for = room;
                body.reserve(room.saturating_sub(body.len()));
                if let Some(exchange) = exchange {
                    // What chunks take beside their content is not limited otherwise than by the content.
                    let is_all = declared.is_some() || room >= limit;
                    exchange.allow((!is_all).then_some(room as u64));
                }
            }
            Some(None) => break,
            Some(Some(chunk)) => {
                let chunk = chunk.map_err(|_| StatusCode::BAD_REQUEST)?;
                if body.len() + chunk.len() > limit {
                    return Err(StatusCode::PAYLOAD_TOO_LARGE);
                }
                body.extend_from_slice(&chunk);
                unmoved += chunk.len();
                if unmoved >= MOVE {
                    unmoved = 0;
                    charge.account().moves(Instant::now());
                }
                let reserved = charged_for(has_room_for);
                let beside = if reserved > 0 { DISPATCHER } else { OVERHEAD };
                charge.set(body.capacity().max(reserved) + beside, 0);
                node.evict_for_budget(Instant::now());
            }
        }
    }
    charge.set(body.capacity() + OVERHEAD, 0);
    Ok(charged(body.freeze(), charge))
}

/// What was charged for a body before it came: nothing for a small one.
fn charged_for(room: usize) -> usize {
    if room > SMALL_BODY as usize { room } else { 0 }
}

/// How the client of a body is cut off.
fn hangup(charge: &Charge) -> Option<Arc<Hangup>> {
    match charge.account().evict_at() {
        EvictAt::Connection(hangup) => Some(hangup.clone()),
        EvictAt::Shard(_) => None,
    }
}

/// Waits until it is: a connection that is not read would not notice by itself, and a server of somebody else's never does.
async fn cut_off(hangup: Option<&Hangup>) {
    match hangup {
        Some(hangup) => hangup.due().await,
        None => pending().await,
    }
}

/// Charges a client for `bytes` in all, as soon as there is room for them.
///
/// # Errors
/// There was none in the time that a body has, or the client was cut off meanwhile.
async fn wait_for_room(
    node: &NodeShared,
    request: &HttpRequest,
    charge: &Charge,
    bytes: usize,
) -> Result<(), StatusCode> {
    node.ledger.observe(Instant::now());
    let Err(lane) = node.ledger.take_room(charge, bytes) else { return Ok(()) };
    node.metrics.reads_paused.inc();
    let _waits = request.conn_data::<Rc<Exchange>>().map(Exchange::wait_for_room);
    let hangup = hangup(charge);
    tokio::select! {
        waited = timeout(node.config.body_timeout, turn(node, charge, bytes, lane)) => {
            waited.map_err(|_| {
                node.count_dropped("no_room");
                StatusCode::SERVICE_UNAVAILABLE
            })
        }
        () = cut_off(hangup.as_deref()) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Waits in a lane. The first one there looks for who has to go, so that it does not wait for ever.
async fn turn(node: &NodeShared, charge: &Charge, bytes: usize, lane: Lane) {
    let ledger = &node.ledger;
    let began = Instant::now();
    let waits = ledger.wait(charge.account(), lane);
    let mut turn = waits.turn(charge, bytes).await;
    let mut first_since = Instant::now();
    loop {
        let mut released = pin!(ledger.released());
        released.as_mut().enable();
        let now = Instant::now();
        ledger.observe(now);
        if ledger.take_within_budget(charge, bytes) {
            return;
        }
        match ledger.lane_of(charge, bytes) {
            Lane::Light if ledger.take_reserve(charge, bytes) => return,
            // What it has taken by now is not at the expense of those that still hold little.
            Lane::Heavy if waits.lane() == Lane::Light => {
                waits.change(&mut turn, Lane::Heavy).await;
                first_since = Instant::now();
                continue;
            }
            _ => {}
        }
        let is_standstill = now.duration_since(first_since) >= STANDSTILL;
        if is_standstill && now.duration_since(began) >= PATIENCE && ledger.force_room(charge, bytes) {
            node.evict_for_budget(now);
            return;
        }
        let look = if node.evict_for_room(now, charge, bytes) { LOOK } else { IDLE_LOOK };
        // What is released may be room enough; everything else is looked at again later.
        let until = now + look;
        loop {
            tokio::select! {
                () = &mut released => {}
                () = sleep(until.saturating_duration_since(Instant::now())) => break,
            }
            if ledger.take_within_budget(charge, bytes) {
                return;
            }
            if look == LOOK {
                // Who was cut off is gone, and was not enough.
                break;
            }
            released.set(ledger.released());
            released.as_mut().enable();
        }
    }
}
