//! Tokens end: their holders are warned, may show another, and have to go.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use signalbox_auth::ExpiryEvent;
use signalbox_cluster::{Address, ShardId};
use signalbox_socketio::Message;
use signalbox_telemetry::CLIENT_EVENTS;

use super::{
    effects::Effect,
    mailbox::ShardMessage,
    socket_commands::disconnect,
    step::Step,
    tables::{Peer, Peers, Rooms, Sessions, Timer, Timers},
};
use crate::{
    limits::RateLimits,
    policy::{Expiry, Principal},
    session::{Session, TokenExpiry},
};

/// The event by which a client shows a new token.
pub(super) const REFRESH: &str = "auth:refresh";
/// The event by which it is warned.
const EXPIRING: &str = "auth:expiring";
/// Timers fire this much later than a second begins, so that none is too early by the other clock.
const MARGIN: Duration = Duration::from_millis(5);

/// When a token ends: at once if it was revoked since it was judged, which whoever has just arrived was not told.
fn end_of(step: &Step, principal: &Principal) -> Option<Expiry> {
    let policy = &step.context.policy;
    if policy.is_revoked(principal) { Some(Expiry::over()) } else { policy.expiry(principal) }
}

/// What is said of clients whose token was revoked.
pub(super) const REVOKED: &str = "token revoked";

/// What is said of clients whose token has expired.
const EXPIRED: &str = "token expired";

/// Why whoever shows a token has to go.
fn reason(step: &Step, principal: Option<&Arc<Principal>>) -> &'static str {
    let is_revoked = principal.is_some_and(|principal| step.context.policy.is_revoked(principal));
    if is_revoked { REVOKED } else { EXPIRED }
}

/// Takes a client out of a namespace, since its token has ended.
pub(super) fn disconnect_socket(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    (key, slot): (u32, usize),
    reason: &str,
) {
    step.context.metrics.tokens_ended.with_label_values(&["socketio", reason]).inc();
    step.tell(&sessions[key], "taken out of a namespace", reason);
    let address = sessions[key].address().map(tracing::field::display);
    tracing::debug!(target: CLIENT_EVENTS, address, protocol = "socketio", reason, "client disconnected");
    disconnect(step, sessions, rooms, (key, slot), Some(reason));
}

/// A socket has a token from now on, or another one.
pub(super) fn begin_expiry(step: &mut Step, key: u32, session: &mut Session, socket: Address) {
    let number = session.local.number;
    let Some(joined) = session.slot_of(socket).and_then(|slot| session.connection.socket_mut(slot)) else {
        return;
    };
    let socket = &mut joined.socket;
    let new = socket.principal.as_deref().and_then(|principal| end_of(step, principal));
    let timer = Timer::Expiry { key, number, socket: socket.id };
    replace(&mut socket.expiry, new, step.now, timer, &mut step.timers);
}

/// Something may be due for a socket's token; whether it was.
pub(super) fn expiry_is_due(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    due: Instant,
    (key, number, socket): (u32, u64, Address),
) -> bool {
    let Some(session) = sessions.checked(key, number) else { return false };
    let Some(slot) = session.slot_of(socket) else { return false };
    let Some(joined) = session.connection.socket_mut(slot) else { return false };
    let namespace = joined.namespace.clone();
    let timer = Timer::Expiry { key, number, socket };
    match poll(&mut joined.socket.expiry, step.now, due, timer, &mut step.timers) {
        Some(ExpiryEvent::Disconnect) => {
            let reason = reason(step, joined.socket.principal.as_ref());
            disconnect_socket(step, sessions, rooms, (key, slot), reason);
        }
        Some(ExpiryEvent::Warn { expires_in }) => {
            let args = ["{\"in\":", &expires_in.to_string(), "}"];
            step.send(sessions, key, &Message::event(&namespace, None, EXPIRING, &args, &[]));
        }
        None => return false,
    }
    true
}

/// The client goes on with a new token, here and as a PeerServer client of any node.
pub(super) fn refreshed(
    step: &mut Step,
    key: u32,
    session: &mut Session,
    socket: Address,
    principal: &Arc<Principal>,
) {
    let slot = session.slot_of(socket);
    let Some(joined) = slot.and_then(|slot| session.connection.socket_mut(slot)) else { return };
    // Showing the same token again changes nothing.
    if joined.socket.principal.as_ref() == Some(principal) {
        return;
    }
    joined.socket.principal = Some(principal.clone());
    session.update_rates(&step.context.config.limits);
    begin_expiry(step, key, session, socket);
    if step.context.cluster.is_shared() {
        step.effects.push(Effect::Refreshed(principal.clone()));
    }
    for shard in 0..step.context.shards {
        step.effects.send(shard as ShardId, ShardMessage::Refreshed(principal.clone()));
    }
}

/// A PeerServer client has a token from now on, or another one.
pub(super) fn begin_peer_expiry(step: &mut Step, key: u32, peer: &mut Peer) {
    let is_over = peer.opened_with.as_deref().is_some_and(|opened| step.context.policy.is_revoked(opened));
    let new = match is_over {
        true => Some(Expiry::over()),
        false => peer.principal.as_deref().and_then(|principal| end_of(step, principal)),
    };
    let timer = Timer::PeerExpiry { key, number: peer.number };
    replace(&mut peer.expiry, new, step.now, timer, &mut step.timers);
}

/// Something may be due for the token of a PeerServer client, who cannot be warned; why it has to go, if so.
pub(super) fn peer_has_to_go(
    step: &mut Step,
    peers: &mut Peers,
    due: Instant,
    key: u32,
    number: u64,
) -> Option<&'static str> {
    let peer = peers.checked(key, number)?;
    let timer = Timer::PeerExpiry { key, number };
    let event = poll(&mut peer.expiry, step.now, due, timer, &mut step.timers);
    let tokens = [peer.opened_with.as_ref(), peer.principal.as_ref()];
    let is_revoked = || tokens.into_iter().flatten().any(|token| step.context.policy.is_revoked(token));
    (event == Some(ExpiryEvent::Disconnect)).then(|| if is_revoked() { REVOKED } else { EXPIRED })
}

/// Somebody has shown a new token; it counts for those of their PeerServer clients whose own ends earlier, and whose id it grants. It is
/// their holder's: a client of the same person with another `session` is another's business. What such a client was opened with counts
/// further: whoever revokes that token means the client, whatever its holder has shown since.
pub(super) fn peers_refreshed(step: &mut Step, peers: &mut Peers, principal: &Arc<Principal>) {
    let context = step.context.clone();
    for key in peers.of_holder(principal) {
        let Some(peer) = peers.get_mut(key) else { continue };
        let is_longer =
            |held: &Arc<Principal>| held.is_same_holder(principal) && held.expires_at < principal.expires_at;
        let realm = context.config.peer.keys.get(usize::from(peer.realm)).map_or("", String::as_str);
        if !peer.principal.as_ref().is_some_and(is_longer)
            || !context.policy.may_hold(principal, realm, &peer.id)
        {
            continue;
        }
        let held = peer.principal.replace(principal.clone());
        peer.opened_with = peer.opened_with.take().or(held);
        peer.rates.set(RateLimits::of(&context.config.limits, std::iter::once(&**principal)));
        begin_peer_expiry(step, key, peer);
    }
}

/// Tokens end by the clock of the world, and not by that of the shard.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A token takes the place of another one. An earlier timer that is queued will do, so that tokens shown in quick succession queue no
/// timers.
fn replace(
    held: &mut Option<TokenExpiry>,
    new: Option<Expiry>,
    now: Instant,
    timer: Timer,
    timers: &mut Timers,
) {
    let timer_at = held.and_then(|held| held.timer_at);
    *held = new.map(|expiry| TokenExpiry { expiry, timer_at });
    arm(held, now, timer, timers);
}

fn arm(held: &mut Option<TokenExpiry>, now: Instant, timer: Timer, timers: &mut Timers) {
    let Some(held) = held else { return };
    let left = Duration::from_secs(held.expiry.next_wakeup()).saturating_sub(unix_time());
    // Beyond the clock's range nothing is due.
    let Some(at) = now.checked_add(left + MARGIN) else { return };
    if held.timer_at.is_none_or(|queued| at < queued) {
        held.timer_at = Some(at);
        timers.add(at, timer);
    }
}

/// What is due for a token whose timer has fired.
fn poll(
    held: &mut Option<TokenExpiry>,
    now: Instant,
    due: Instant,
    timer: Timer,
    timers: &mut Timers,
) -> Option<ExpiryEvent> {
    let known = held.as_mut().filter(|held| held.timer_at == Some(due))?;
    known.timer_at = None;
    let event = known.expiry.poll(unix_time().as_secs());
    if event != Some(ExpiryEvent::Disconnect) {
        arm(held, now, timer, timers);
    }
    event
}
