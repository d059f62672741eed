//! Pairs of clients: the one speaks to the socket of the other.

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

/// Options of `signal`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Signal {
    /// Pairs of clients; the two speak in turns.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) pairs: usize,

    /// Signals a second.
    #[arg(long, default_value_t = 5_000.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// Do not ask the server to acknowledge.
    #[arg(long)]
    pub(crate) no_ack: bool,
}

impl Body for Signal {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.pairs >= load.processes, "fewer --pairs than --processes");
        let clients = worker.share().of(self.pairs).len() * 2;
        let mut net = Net::new(clients, load.sources())?;
        let mut setup = Setup::socketio(clients, load);
        worker.phase("connect", &mut net, &mut setup)?;

        let script = Pairs {
            ids: setup.into_ids(),
            dialect: load.dialect,
            acknowledged: load.dialect.acknowledges() && !self.no_ack,
            packet: Vec::new(),
        };
        let rate = worker.share().rate(self.rate, self.pairs);
        let pace = Pace::new(load, rate, self.seconds, worker.run_number());
        worker.phase("measure", &mut net, &mut Traffic::new(script, pace))
    }
}

struct Pairs {
    ids: Vec<String>,
    dialect: Dialect,
    acknowledged: bool,
    packet: Vec<u8>,
}

impl Script for Pairs {
    fn route(&self, message: u64) -> Route {
        let sender = message as usize % self.ids.len();
        // The other of the pair: clients 0 and 1, 2 and 3, ...
        Route { sender, hearers: Hearers::one(sender ^ 1), acknowledged: self.acknowledged }
    }

    fn send(&mut self, net: &mut Net, message: u64, number: u32, data: &str) {
        let Route { sender, hearers, .. } = self.route(message);
        self.packet.clear();
        let ack = self.acknowledged.then_some(number);
        self.dialect.signal(&self.ids[hearers.first], data, ack, &mut self.packet);
        net.send_text(sender, &self.packet);
    }
}
