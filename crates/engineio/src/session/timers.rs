//! What a session does when time passes: heartbeats, and the ends of waits.

use std::time::{Duration, Instant};

use signalbox_websocket::Frame;

use super::{CloseReason, Config, Session, State};
use crate::packet;

/// A heartbeat that leaves later than this after it was due counts from when it left: then this process was late, not its client.
const MAX_LATENESS: Duration = Duration::from_millis(100);

/// As good as never; no timer is set further ahead.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// `now + duration`, for a duration that may be as long as its type allows.
pub(super) fn later(now: Instant, duration: Duration) -> Instant {
    now + duration.min(FAR)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// The next ping is due.
    Ping { at: Instant },
    /// A pong is due. Other traffic postpones it once.
    Pong { by: Instant, extended: bool },
}

/// What the caller of [`Session::tick`] has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TickOutput {
    /// The frame to write to the WebSocket, if any.
    pub write: Option<Frame>,
    /// The upgrade took too long: close the WebSocket that probes; the session stays.
    pub abandon_upgrade: bool,
}

impl Session {
    /// Something other than a pong has arrived.
    pub(super) fn postpone_pong(&mut self, now: Instant, config: &Config) {
        if let Heartbeat::Pong { by, extended } = &mut self.heartbeat
            && !*extended
        {
            *by = later(now, config.ping_timeout);
            *extended = true;
        }
    }

    /// When the ping was sent that the client has yet to answer; `None` also where something else of the client has come since, since
    /// what comes next is then no measure of its round trip.
    pub fn pinged(&self, config: &Config) -> Option<Instant> {
        match self.heartbeat {
            Heartbeat::Pong { by, extended: false } => by.checked_sub(config.ping_timeout),
            _ => None,
        }
    }

    /// When [`Session::tick`] is next due; `None` when the session is over. What arrives may move it ahead, but never to less than
    /// [`Config::ping_interval`] from then: whoever calls it at least that often misses nothing.
    pub fn deadline(&self) -> Option<Instant> {
        let heartbeat = match self.heartbeat {
            Heartbeat::Ping { at } => at,
            Heartbeat::Pong { by, .. } => by,
        };
        let own = match self.state {
            State::Closed(_) => return None,
            State::Closing { by } => by,
            State::Open => heartbeat,
        };
        Some(self.upgrade.as_ref().map_or(own, |upgrade| own.min(upgrade.deadline())))
    }

    /// Ends the session if its client has let a deadline pass. Call it before a request is served: the timer may be a moment late.
    pub fn expire(&mut self, now: Instant) {
        match (self.state, self.heartbeat) {
            (State::Closing { by }, _) if by <= now => self.close_now(CloseReason::ForcedClose),
            (State::Open, Heartbeat::Pong { by, .. }) if by <= now => {
                self.close_now(CloseReason::PingTimeout);
            }
            _ => {}
        }
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Instant, config: &Config) -> TickOutput {
        let mut output = TickOutput::default();
        self.expire(now);
        if self.closed().is_some() {
            return output;
        }
        if let (State::Open, Heartbeat::Ping { at }) = (self.state, self.heartbeat)
            && at <= now
        {
            let is_late = now - at > MAX_LATENESS;
            let by = later(if is_late { now } else { at }, config.ping_timeout);
            self.heartbeat = Heartbeat::Pong { by, extended: false };
            output.write = self.send(packet::ping_frame());
        }
        output.abandon_upgrade = self.tick_upgrade(now);
        output
    }
}
