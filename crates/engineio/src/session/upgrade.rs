//! The upgrade: a WebSocket probes while polling continues, and becomes the transport at the client's `5`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use signalbox_websocket::Frame;

use super::{Config, Session, State, timers::later};
use crate::{handshake::Transport, packet};

/// Between the probe and the client's `5`, a GET is released this often, so that the client can pause its polling.
const RELEASE_POLLS_EVERY: Duration = Duration::from_millis(100);

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    by: Instant,
    /// When the next pending GET is released; set by the probe.
    release_at: Option<Instant>,
}

impl Upgrade {
    pub(super) fn deadline(&self) -> Instant {
        self.release_at.map_or(self.by, |at| at.min(self.by))
    }
}

impl Session {
    /// A WebSocket opens for an upgrade. `false` if the session cannot be upgraded: close the WebSocket; the session stays as it is.
    pub fn begin_upgrade(&mut self, now: Instant, config: &Config) -> bool {
        let possible = self.state == State::Open
            && self.transport == Transport::Polling
            && self.upgrade.is_none()
            && !self.upgraded;
        if possible {
            self.upgrade = Some(Upgrade { by: later(now, config.upgrade_timeout), release_at: None });
        }
        possible
    }

    /// The WebSocket received `2probe` (and answers `3probe` itself).
    pub fn probe_received(&mut self, now: Instant) {
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.release_at = Some(now + RELEASE_POLLS_EVERY);
        }
    }

    /// Whether a WebSocket is probing.
    pub fn is_upgrading(&self) -> bool {
        self.upgrade.is_some()
    }

    /// The probing WebSocket closed, or sent something other than a probe: polling continues.
    pub fn abandon_upgrade(&mut self) {
        self.upgrade = None;
    }

    /// The WebSocket received `5`: it is the transport now. Gives back what waited for a poll, to be written to it, or
    /// `None` when no upgrade was under way. A GET that is still pending is to be answered with the noop of
    /// [`Session::release_poll`] before.
    pub fn complete_upgrade(&mut self) -> Option<VecDeque<Frame>> {
        self.upgrade.take()?;
        self.upgraded = true;
        self.transport = Transport::WebSocket;
        Some(self.take_buffer())
    }

    /// Answers a pending GET with a noop, so that nothing else can be lost with it.
    pub fn release_poll(&mut self) -> Option<String> {
        let pending = std::mem::take(&mut self.poll);
        pending.then(|| packet::NOOP.to_owned())
    }

    /// Does what the upgrade has due; `true` when it took too long.
    pub(super) fn tick_upgrade(&mut self, now: Instant) -> bool {
        let Some(upgrade) = &mut self.upgrade else { return false };
        if upgrade.by <= now {
            self.upgrade = None;
            return true;
        }
        if upgrade.release_at.is_some_and(|at| at <= now) {
            upgrade.release_at = Some(now + RELEASE_POLLS_EVERY);
            if self.poll && self.buffer.is_empty() {
                self.keep(Frame::text(packet::NOOP));
            }
        }
        false
    }
}
