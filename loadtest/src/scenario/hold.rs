//! A time in which clients do nothing but answer.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::relay::HEARTBEAT;
use crate::measure::Tally;
use crate::net::{Event, Handler, Net};
use crate::run::{Phase, Seconds};

const END: usize = 0;
const BEAT: usize = 1;
/// How often some of the PeerServer clients say that they are there: each does every 5 s, not all at once.
const BEATS: Duration = Duration::from_millis(50);
const BEATS_PER_INTERVAL: usize = 100;

/// Waits, and counts whom the server drops.
pub(crate) struct Hold {
    length: Seconds,
    /// How many clients are PeerServer's, and which one is next to say that it is there.
    peers: usize,
    next: usize,
    tally: Tally,
}

impl Hold {
    pub(crate) fn new(length: Seconds) -> Self {
        Self { length, peers: 0, next: 0, tally: Tally::default() }
    }

    /// The clients are those of a PeerServer.
    pub(crate) fn with_heartbeats(self, peers: usize) -> Self {
        Self { peers, ..self }
    }
}

impl Phase for Hold {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        net.at(now + self.length.duration(), END);
        if self.peers > 0 {
            net.at(now + BEATS, BEAT);
        }
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Hold {
    fn event(&mut self, _: &mut Net, _: usize, event: Event<'_>) -> Result<()> {
        if let Event::Closed { .. } = event {
            self.tally.closed += 1;
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, key: usize, due: Instant) -> Result<()> {
        if key == END {
            net.stop();
            return Ok(());
        }
        for _ in 0..self.peers.div_ceil(BEATS_PER_INTERVAL) {
            net.send_text(self.next, HEARTBEAT);
            self.next = (self.next + 1) % self.peers;
        }
        net.at(due + BEATS, BEAT);
        Ok(())
    }
}
