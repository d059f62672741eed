//! Many clients that are connected already join one room at the same moment.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::hold::Hold;
use super::setup::Setup;
use crate::measure::{Latency, Tally};
use crate::net::{Event, Handler, Net};
use crate::run::{Load, Phase, Seconds, Worker};

/// Options of `crowd`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Crowd {
    /// Clients, all of one room.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    pub(crate) clients: usize,

    /// How long the server rests before they join, and afterwards.
    #[arg(long, default_value = "3", value_name = "SECONDS")]
    pub(crate) rest: Seconds,
}

impl Body for Crowd {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.clients >= load.processes, "fewer --clients than --processes");
        let clients = worker.share().of(self.clients).len();
        let mut net = Net::new(clients, load.sources())?;
        worker.phase("connect", &mut net, &mut Setup::socketio(clients, load))?;
        worker.phase("rest", &mut net, &mut Hold::new(self.rest))?;
        worker.phase("join", &mut net, &mut MassJoin::new(clients, load))?;
        worker.phase("after all joined", &mut net, &mut Hold::new(self.rest))
    }
}

const CHECK: usize = 0;

/// All ask to join at once; the phase ends when all have been answered, or nothing more happens.
struct MassJoin<'a> {
    load: &'a Load,
    clients: usize,
    began: Instant,
    /// How many had joined at the last look.
    seen: u64,
    tally: Tally,
}

impl<'a> MassJoin<'a> {
    fn new(clients: usize, load: &'a Load) -> Self {
        let latency = Latency::over(load.patience.duration());
        let tally = Tally { latency, expected: clients as u64, ..Tally::default() };
        Self { load, clients, began: Instant::now(), seen: 0, tally }
    }
}

impl Phase for MassJoin<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        self.began = now;
        let mut packet = Vec::new();
        self.load.dialect.join("crowd", &mut packet);
        for client in 0..self.clients {
            net.send_text(client, &packet);
            self.tally.messages += 1;
        }
        net.at(now + self.load.patience.duration(), CHECK);
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for MassJoin<'_> {
    fn event(&mut self, net: &mut Net, _: usize, event: Event<'_>) -> Result<()> {
        match event {
            Event::Text(packet) if self.load.dialect.is_joined(packet) => {
                let elapsed = self.began.elapsed();
                self.tally.delivered += 1;
                self.tally.latency.record(elapsed, elapsed);
                if self.tally.is_complete() {
                    net.stop();
                }
            }
            Event::Closed { .. } => self.tally.closed += 1,
            // What members hear of each other is what makes a crowd expensive; it is read, and not counted.
            Event::Text(_) | Event::Open { .. } | Event::Response { .. } => {}
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, _: usize, due: Instant) -> Result<()> {
        if self.tally.delivered == self.seen {
            net.stop();
        }
        self.seen = self.tally.delivered;
        net.at(due + self.load.patience.duration(), CHECK);
        Ok(())
    }
}
