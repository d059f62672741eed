//! Pairs of PeerServer clients that negotiate: an OFFER, then CANDIDATEs.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::setup::Setup;
use super::traffic::{Pace, Route, Script, Traffic};
use crate::measure::Hearers;
use crate::net::Net;
use crate::run::{Load, Seconds, Worker, rate};

/// A PeerServer drops a client that it does not hear of for a minute; peerjs says this every 5 s.
pub(super) const HEARTBEAT: &[u8] = br#"{"type":"HEARTBEAT"}"#;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Options of `relay`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Relay {
    /// Pairs of clients; the two speak in turns.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) pairs: usize,

    /// Messages a second.
    #[arg(long, default_value_t = 5_000.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// CANDIDATEs that follow an OFFER.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) candidates: u64,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// How long to send before that.
    #[arg(long, default_value = "2", value_name = "SECONDS")]
    pub(crate) warm_up: Seconds,
}

impl Body for Relay {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.pairs >= load.processes, "fewer --pairs than --processes");
        let pairs = worker.share().of(self.pairs);
        let clients = pairs.len() * 2;
        let id = |client: usize| format!("relay-{}", pairs.start * 2 + client);
        let mut net = Net::new(clients, load.sources())?;
        let mut setup = Setup::new(clients, load, |client| {
            load.targets[client % load.targets.len()].peerserver(&id(client))
        });
        worker.phase("connect", &mut net, &mut setup)?;

        let mut script = Negotiations {
            ids: (0..clients).map(id).collect(),
            period: self.candidates + 1,
            packet: Vec::new(),
        };
        let rate = worker.share().rate(self.rate, self.pairs);
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

struct Negotiations {
    ids: Vec<String>,
    period: u64,
    packet: Vec<u8>,
}

impl Script for Negotiations {
    fn route(&self, message: u64) -> Route {
        let sender = message as usize % self.ids.len();
        Route { sender, hearers: Hearers::one(sender ^ 1), acknowledged: false }
    }

    fn send(&mut self, net: &mut Net, message: u64, _: u32, data: &str) {
        let Route { sender, hearers, .. } = self.route(message);
        let to = &self.ids[hearers.first];
        // Of each client's messages the first is an OFFER.
        let is_offer = (message / self.ids.len() as u64).is_multiple_of(self.period);
        let (kind, field) = if is_offer { ("OFFER", "sdp") } else { ("CANDIDATE", "candidate") };
        self.packet.clear();
        let _ = write!(
            self.packet,
            r#"{{"type":"{kind}","payload":{{"{field}":"{data}","connectionId":"dc_1"}},"dst":"{to}"}}"#
        );
        net.send_text(sender, &self.packet);
    }

    fn every(&self) -> Option<Duration> {
        Some(HEARTBEAT_INTERVAL)
    }

    fn tick(&mut self, net: &mut Net) {
        for client in 0..self.ids.len() {
            net.send_text(client, HEARTBEAT);
        }
    }
}
