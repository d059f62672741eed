//! Messages on a fixed schedule, and who hears them.
//!
//! A message is due at a time that does not depend on how the server does (an *open loop*), and its latency counts from
//! that time: a server that stalls is not spared the messages that would have been sent meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::measure::{Heard, Hearers, Latency, Ledger, Tally};
use crate::net::{Event, Handler, Net};
use crate::protocol::Stamp;
use crate::run::{Load, Phase, Seconds};

const SEND: usize = 0;
const DRAIN: usize = 1;
const TICK: usize = 2;

/// Who sends a message, and who is to hear it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) sender: usize,
    pub(crate) hearers: Hearers,
    /// Whether the server acknowledges it to the sender.
    pub(crate) acknowledged: bool,
}

/// What a scenario decides about its messages.
pub(crate) trait Script {
    /// Who takes part in the message of this number.
    fn route(&self, message: u64) -> Route;

    /// Sends it; `data` is the stamp, of the size that was asked for, and `number` is for its ack.
    fn send(&mut self, net: &mut Net, message: u64, number: u32, data: &str);

    /// Something happened to a connection. What the clients get is told to `heard`; the answer is whether a client lost
    /// its session.
    fn event(
        &mut self,
        net: &mut Net,
        connection: usize,
        event: Event<'_>,
        heard: &mut impl FnMut(&mut Net, usize, &str),
    ) -> Result<bool> {
        match event {
            Event::Text(packet) => heard(net, connection, packet),
            Event::Closed { .. } => return Ok(true),
            Event::Open { .. } | Event::Response { .. } => {}
        }
        Ok(false)
    }

    /// Something else happens now and then; [`Script::every`] says how often.
    fn tick(&mut self, _: &mut Net) {}

    /// How often [`Script::tick`] is called.
    fn every(&self) -> Option<Duration> {
        None
    }
}

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Messages a second.
    pub(crate) rate: f64,
    pub(crate) length: Seconds,
    pub(crate) payload: usize,
    pub(crate) patience: Seconds,
    /// From [`crate::run::Worker::run_number`].
    pub(crate) run: u32,
}

impl Pace {
    pub(crate) fn new(load: &Load, rate: f64, length: Seconds, run: u32) -> Self {
        Self { rate, length, payload: load.payload, patience: load.patience, run }
    }

    fn messages(&self) -> u64 {
        (self.rate * self.length.get()).round() as u64
    }

    /// When a message is due, from the beginning of the phase.
    fn due(&self, message: u64) -> Duration {
        Duration::from_secs_f64(message as f64 / self.rate)
    }
}

/// A phase in which messages are sent.
pub(crate) struct Traffic<S> {
    pub(crate) script: S,
    next: u64,
    counts: Counts,
    data: Vec<u8>,
}

/// What was sent and heard.
struct Counts {
    pace: Pace,
    began: Instant,
    /// The last message was sent.
    all_sent: bool,
    /// When something was last heard: what has not come long after that, will not.
    last_heard: Instant,
    ledger: Ledger,
    acks: Ledger,
    tally: Tally,
}

impl Counts {
    /// A client got this packet. Those of other phases and other meanings are passed over.
    fn heard(&mut self, net: &mut Net, client: usize, packet: &str) {
        let now = Instant::now();
        if let Some(stamp) = Stamp::find(packet).filter(|stamp| stamp.run == self.pace.run) {
            let heard = self.ledger.hear(stamp.message, client);
            if self.tally.count(heard) {
                let due = Duration::from_nanos(stamp.due);
                let latency = (now - self.began).saturating_sub(due);
                self.tally.latency.record(due, latency);
            }
        } else if let Some(message) = acknowledged(packet) {
            self.tally.answers += u64::from(self.acks.hear(message, client) == Heard::First);
        } else {
            return;
        }
        self.last_heard = now;
        if self.all_sent && self.tally.is_complete() {
            net.stop();
        }
    }

    fn given_up(&self) -> Instant {
        self.last_heard + self.pace.patience.duration()
    }
}

impl<S: Script> Traffic<S> {
    pub(crate) fn new(script: S, pace: Pace) -> Self {
        let now = Instant::now();
        let counts = Counts {
            pace,
            began: now,
            all_sent: false,
            last_heard: now,
            ledger: Ledger::default(),
            acks: Ledger::default(),
            tally: Tally { latency: Latency::over(pace.length.duration()), ..Tally::default() },
        };
        Self { script, next: 0, counts, data: Vec::with_capacity(pace.payload) }
    }

    /// The clients have this many sessions, which are more than connections.
    pub(crate) fn with_sessions(mut self, sessions: u64) -> Self {
        self.counts.tally.connections = sessions;
        self
    }

    /// Sends one message.
    fn send(&mut self, net: &mut Net, message: u64, due: Duration) {
        let route = self.script.route(message);
        let Counts { ledger, acks, tally, pace, .. } = &mut self.counts;
        let number = ledger.enter(route.hearers);
        tally.messages += 1;
        tally.expected += route.hearers.count();
        if route.acknowledged {
            acks.enter(Hearers::one(route.sender));
            tally.answers_expected += 1;
        }
        self.data.clear();
        let stamp = Stamp { run: pace.run, message: number, due: due.as_nanos() as u64 };
        stamp.write(pace.payload, &mut self.data);
        if let Ok(data) = std::str::from_utf8(&self.data) {
            self.script.send(net, message, number, data);
        }
    }

    fn send_what_is_due(&mut self, net: &mut Net) {
        let total = self.counts.pace.messages();
        while self.next < total {
            let due = self.counts.pace.due(self.next);
            let elapsed = self.counts.began.elapsed();
            if due > elapsed {
                net.at(self.counts.began + due, SEND);
                return;
            }
            self.counts.tally.lag = self.counts.tally.lag.max((elapsed - due).as_micros() as u64);
            // Before the last one is sent: its echo may be the next thing that happens.
            self.next += 1;
            self.counts.all_sent = self.next == total;
            self.send(net, self.next - 1, due);
        }
        self.counts.last_heard = Instant::now();
        net.at(self.counts.given_up(), DRAIN);
    }
}

impl<S: Script> Phase for Traffic<S> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        self.counts.began = now;
        if let Some(every) = self.script.every() {
            net.at(now + every, TICK);
        }
        if self.counts.pace.messages() == 0 {
            net.stop();
        } else {
            net.at(now, SEND);
        }
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.counts.tally
    }
}

impl<S: Script> Handler for Traffic<S> {
    fn event(&mut self, net: &mut Net, connection: usize, event: Event<'_>) -> Result<()> {
        let Self { script, counts, .. } = self;
        let lost = script.event(net, connection, event, &mut |net, client, packet| {
            counts.heard(net, client, packet);
        })?;
        counts.tally.closed += u64::from(lost);
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, key: usize, due: Instant) -> Result<()> {
        match key {
            SEND => self.send_what_is_due(net),
            DRAIN if self.counts.given_up() <= Instant::now() => net.stop(),
            DRAIN => net.at(self.counts.given_up(), DRAIN),
            _ => {
                self.script.tick(net);
                if let Some(every) = self.script.every() {
                    net.at(due + every, TICK);
                }
            }
        }
        Ok(())
    }
}

/// The number in `43<number>[...]`.
fn acknowledged(packet: &str) -> Option<u32> {
    packet.strip_prefix("43")?.split_once('[')?.0.parse().ok()
}
