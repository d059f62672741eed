//! All connections drop at once, and come back the way socket.io-client does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::Body;
use super::hold::Hold;
use super::setup::Setup;
use crate::measure::{Latency, Tally};
use crate::net::{Endpoint, Event, Handler, Net};
use crate::run::{Load, Phase, Seconds, Worker};

/// Defaults of socket.io-client 4: the first wait, its growth, the longest, and how much of it is left to chance.
const FIRST_WAIT: f64 = 1.0;
const FACTOR: f64 = 2.0;
const LONGEST_WAIT: f64 = 5.0;
const JITTER: f64 = 0.5;

/// Options of `storm`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// Clients.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub(crate) clients: usize,

    /// Clients of a room; 0: no rooms.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) members: usize,

    /// How often all drop and come back.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) storms: usize,

    /// How long the server rests after each storm, and after all clients have left for good.
    #[arg(long, default_value = "5", value_name = "SECONDS")]
    pub(crate) rest: Seconds,
}

impl Body for Storm {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.clients >= load.processes, "fewer --clients than --processes");
        let range = worker.share().of(self.clients);
        let clients = range.len();
        let mut net = Net::new(clients, load.sources())?;
        let room = |client: usize| {
            (self.members > 0).then(|| format!("storm-{}-{}", range.start, client / self.members))
        };
        let mut setup = Setup::socketio(clients, load);
        if self.members > 0 {
            setup = setup.in_rooms(|client| room(client).unwrap_or_default());
        }
        worker.phase("connect", &mut net, &mut setup)?;
        worker.phase("rest", &mut net, &mut Hold::new(self.rest))?;
        for number in 1..=self.storms {
            let mut comeback = Comeback::new(clients, load, &room, &wait);
            worker.phase(&format!("storm {number}"), &mut net, &mut comeback)?;
            worker.phase(&format!("rest {number}"), &mut net, &mut Hold::new(self.rest))?;
        }
        for client in 0..clients {
            net.close(client);
        }
        worker.phase("after all left", &mut net, &mut Hold::new(self.rest))
    }
}

const CHECK: usize = usize::MAX;

/// All connections are dropped, and each client comes back after a wait.
pub(super) struct Comeback<'a> {
    endpoints: Vec<Endpoint>,
    load: &'a Load,
    room: &'a dyn Fn(usize) -> Option<String>,
    /// The wait before an attempt, by its number and by chance, which is between 0 and 1.
    wait: &'a dyn Fn(u32, f64) -> Duration,
    attempts: Vec<u32>,
    is_back: Vec<bool>,
    began: Instant,
    /// When a client last came back.
    last: Instant,
    tally: Tally,
}

impl<'a> Comeback<'a> {
    pub(super) fn new(
        clients: usize,
        load: &'a Load,
        room: &'a dyn Fn(usize) -> Option<String>,
        wait: &'a dyn Fn(u32, f64) -> Duration,
    ) -> Self {
        Self {
            endpoints: load.targets.iter().map(|target| target.socketio()).collect(),
            load,
            room,
            wait,
            attempts: vec![0; clients],
            is_back: vec![false; clients],
            began: Instant::now(),
            last: Instant::now(),
            tally: Tally { latency: Latency::over(Duration::from_secs(10)), ..Tally::default() },
        }
    }

    fn try_later(&mut self, net: &mut Net, client: usize) {
        let wait = (self.wait)(self.attempts[client], rand::rng().random());
        self.attempts[client] += 1;
        net.at(Instant::now() + wait, client);
    }

    fn back(&mut self, net: &mut Net, client: usize) {
        if std::mem::replace(&mut self.is_back[client], true) {
            return;
        }
        self.last = Instant::now();
        let elapsed = self.last - self.began;
        self.tally.connects += 1;
        self.tally.delivered += 1;
        self.tally.latency.record(elapsed, elapsed);
        if self.tally.is_complete() {
            net.stop();
        }
    }
}

/// The wait before an attempt; `chance` is between 0 and 1.
fn wait(attempt: u32, chance: f64) -> Duration {
    let wait = FIRST_WAIT * FACTOR.powf(f64::from(attempt));
    let jittered = wait * (1.0 + JITTER * (2.0 * chance - 1.0));
    Duration::from_secs_f64(jittered.min(LONGEST_WAIT))
}

impl Phase for Comeback<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        self.began = now;
        self.last = now;
        self.tally.expected = self.attempts.len() as u64;
        for client in 0..self.attempts.len() {
            net.close(client);
            self.try_later(net, client);
        }
        net.at(now + Duration::from_secs(1), CHECK);
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Comeback<'_> {
    fn event(&mut self, net: &mut Net, client: usize, event: Event<'_>) -> Result<()> {
        match event {
            Event::Open { .. } => {
                let Some(room) = (self.room)(client) else {
                    self.back(net, client);
                    return Ok(());
                };
                let mut packet = Vec::new();
                self.load.dialect.join(&room, &mut packet);
                net.send_text(client, &packet);
            }
            Event::Text(packet) if self.load.dialect.is_joined(packet) => self.back(net, client),
            Event::Closed { .. } => {
                self.tally.closed += 1;
                self.try_later(net, client);
            }
            Event::Text(_) | Event::Response { .. } => {}
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, key: usize, due: Instant) -> Result<()> {
        if key != CHECK {
            let endpoint = self.endpoints[key % self.endpoints.len()].clone();
            self.tally.messages += 1;
            return net.connect(key, &endpoint);
        }
        let longest = LONGEST_WAIT + self.load.patience.get();
        if self.last.elapsed().as_secs_f64() > longest {
            net.stop();
        }
        net.at(due + Duration::from_secs(1), CHECK);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit_and_are_spread() {
        let seconds = |attempt, chance| wait(attempt, chance).as_secs_f64();
        assert_eq!((seconds(0, 0.0), seconds(0, 0.5), seconds(0, 1.0)), (0.5, 1.0, 1.5));
        assert_eq!((seconds(2, 0.0), seconds(2, 1.0)), (2.0, 5.0));
        assert_eq!(seconds(30, 0.0), 5.0);
    }
}
