//! Tokens end: their holders are warned, may show another, and have to go.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use signalbox_auth::ExpiryEvent;
use signalbox_cluster::{Address, ShardId};
use signalbox_socketio::Message;
use signalbox_websocket::Frame;

use super::{
    Shard,
    mailbox::{CloseCommand, ShardMessage},
    socketio::{Incoming, REFRESH, Refusal},
    tables::{PendingRequest, Timer, Timers},
    tasks::Task,
};
use crate::{
    policy::{AccessRequest, Decided, Denial, Expiry, Principal},
    session::TokenExpiry,
};

/// The event by which it is warned.
const EXPIRING: &str = "auth:expiring";
/// Timers fire this much later than a second begins, so that none is too early by the other clock.
const MARGIN: Duration = Duration::from_millis(5);

impl Shard {
    /// A socket has a token from now on, or another one.
    pub(super) fn begin_expiry(&mut self, now: Instant, key: u32, socket: Address) {
        let Self { context, sessions, timers, .. } = self;
        let session = &mut sessions[key];
        let number = session.local.number;
        let Some(joined) = session.slot_of(socket).and_then(|slot| session.connection.socket_mut(slot))
        else {
            return;
        };
        let socket = &mut joined.socket;
        let new = socket.principal.as_deref().and_then(|principal| context.policy.expiry(principal));
        let timer = Timer::Expiry { key, number, socket: socket.id };
        replace(&mut socket.expiry, new, now, timer, timers);
    }

    /// Something may be due for a socket's token.
    pub(super) fn expiry_is_due(
        &mut self,
        now: Instant,
        due: Instant,
        (key, number, socket): (u32, u64, Address),
    ) {
        let Self { sessions, timers, .. } = self;
        let Some(session) = sessions.checked(key, number) else { return };
        let Some(slot) = session.slot_of(socket) else { return };
        let Some(joined) = session.connection.socket_mut(slot) else { return };
        let namespace = joined.namespace.clone();
        let timer = Timer::Expiry { key, number, socket };
        match poll(&mut joined.socket.expiry, now, due, timer, timers) {
            Some(ExpiryEvent::Disconnect) => {
                self.context.metrics.disconnects.with_label_values(&["socketio", "token expired"]).inc();
                self.disconnect(key, slot);
            }
            Some(ExpiryEvent::Warn { expires_in }) => {
                let args = ["{\"in\":", &expires_in.to_string(), "}"];
                self.send(key, &Message::event(&namespace, None, EXPIRING, &args, &[]), false);
            }
            None => return,
        }
        self.after_engine(now, key);
    }

    /// A client shows a new token.
    pub(super) fn refresh(&mut self, now: Instant, event: &Incoming<'_>) {
        let token = event.args.first().and_then(|token| serde_json::from_str::<String>(token.get()).ok());
        let token = token.unwrap_or_default();
        let context = self.context.clone();
        let session = &self.sessions[event.key];
        let ask = AccessRequest::Refresh { namespace: &event.namespace, token: &token };
        let to = (event.socket, &*event.namespace, event.id);
        match context.policy.decide(session.principal_of(event.socket), ask).now() {
            Ok(decided) => self.refresh_decided(now, event.key, to, decided),
            Err(verdict) => {
                let (key, number, socket) = (event.key, session.local.number, event.socket);
                let (namespace, id) = (event.namespace.clone(), event.id);
                let pending = PendingRequest::Refresh { key, number, socket, namespace, id };
                let ticket = self.hold(key, pending);
                self.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    pub(super) fn refresh_decided(
        &mut self,
        now: Instant,
        key: u32,
        (socket, namespace, id): (Address, &str, Option<u64>),
        decided: Decided,
    ) {
        let denial = match decided {
            Decided::Deny(denial) if denial.is_failure() => {
                self.end(now, key, CloseCommand::Close);
                return;
            }
            Decided::Allow(Some(principal)) => {
                self.refreshed(now, key, socket, principal);
                if let Some(id) = id {
                    self.answer(key, namespace, id, "{\"ok\":true}");
                }
                return;
            }
            Decided::Allow(None) => Denial::new("unknown-event", "there are no tokens to refresh here"),
            Decided::Deny(denial) => denial,
        };
        self.context.metrics.refusals.with_label_values(&[denial.code]).inc();
        let message = Refusal { namespace, event: REFRESH, id }.message(denial.code, &denial.message);
        self.send(key, &message, false);
    }

    /// The client goes on with a new token, here and as a PeerServer client of this node.
    fn refreshed(&mut self, now: Instant, key: u32, socket: Address, principal: Arc<Principal>) {
        let session = &mut self.sessions[key];
        let slot = session.slot_of(socket);
        let Some(joined) = slot.and_then(|slot| session.connection.socket_mut(slot)) else { return };
        joined.socket.principal = Some(principal.clone());
        self.begin_expiry(now, key, socket);
        for shard in 0..self.context.shards {
            self.effects.send(shard as ShardId, ShardMessage::Refreshed(principal.clone()));
        }
    }

    /// A PeerServer client has a token from now on, or another one.
    pub(super) fn begin_peer_expiry(&mut self, now: Instant, key: u32) {
        let Self { context, peers, timers, .. } = self;
        let Some(peer) = peers.get_mut(key) else { return };
        let new = peer.principal.as_deref().and_then(|principal| context.policy.expiry(principal));
        let timer = Timer::PeerExpiry { key, number: peer.number };
        replace(&mut peer.expiry, new, now, timer, timers);
    }

    /// The same for a PeerServer client, who cannot be warned.
    pub(super) fn peer_expiry_is_due(&mut self, now: Instant, due: Instant, key: u32, number: u64) {
        let Self { peers, timers, .. } = self;
        let Some(peer) = peers.checked(key, number) else { return };
        let timer = Timer::PeerExpiry { key, number };
        if let Some(ExpiryEvent::Disconnect) = poll(&mut peer.expiry, now, due, timer, timers) {
            self.end_peer(key, "token expired", &Frame::close(None));
        }
    }

    /// Somebody has shown a new token; it counts for those of their PeerServer clients whose own ends earlier.
    pub(super) fn peers_refreshed(&mut self, now: Instant, principal: &Arc<Principal>) {
        let is_theirs =
            |held: &Arc<Principal>| held.is_same_subject(principal) && held.expires_at < principal.expires_at;
        let peers = self.peers.iter().filter(|(_, peer)| peer.principal.as_ref().is_some_and(is_theirs));
        let keys: Vec<u32> = peers.map(|(key, _)| key).collect();
        for key in keys {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.principal = Some(principal.clone());
            }
            self.begin_peer_expiry(now, key);
        }
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
