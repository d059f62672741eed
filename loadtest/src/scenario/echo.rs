//! Clients that speak to themselves: the shortest way through a server.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::setup::Setup;
use super::traffic::{Pace, Route, Script, Traffic};
use crate::measure::Hearers;
use crate::net::Net;
use crate::protocol::Dialect;
use crate::run::{Load, Seconds, Worker, rate};

/// Options of `echo`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Echo {
    /// Clients, which speak in turns.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) clients: usize,

    /// Round trips a second.
    #[arg(long, default_value_t = 5_000.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// How long to send before that.
    #[arg(long, default_value = "2", value_name = "SECONDS")]
    pub(crate) warm_up: Seconds,
}

impl Body for Echo {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.clients >= load.processes, "fewer --clients than --processes");
        let clients = worker.share().of(self.clients).len();
        let mut net = Net::new(clients, load.sources())?;
        let mut setup = Setup::socketio(clients, load);
        worker.phase("connect", &mut net, &mut setup)?;

        let mut script = Myself { ids: setup.into_ids(), dialect: load.dialect, packet: Vec::new() };
        let rate = worker.share().rate(self.rate, self.clients);
        for (name, length) in [("warm-up", self.warm_up), ("measure", self.seconds)] {
            if length.get() > 0.0 {
                let pace = Pace::new(load, rate, length, worker.run_number());
                let mut traffic = Traffic::new(script, pace);
                worker.phase(name, &mut net, &mut traffic)?;
                script = traffic.script;
            }
        }
        Ok(())
    }
}

struct Myself {
    ids: Vec<String>,
    dialect: Dialect,
    packet: Vec<u8>,
}

impl Script for Myself {
    fn route(&self, message: u64) -> Route {
        let client = message as usize % self.ids.len();
        Route { sender: client, hearers: Hearers::one(client), acknowledged: false }
    }

    fn send(&mut self, net: &mut Net, message: u64, _: u32, data: &str) {
        let client = self.route(message).sender;
        self.packet.clear();
        self.dialect.echo(&self.ids[client], data, &mut self.packet);
        net.send_text(client, &self.packet);
    }
}
