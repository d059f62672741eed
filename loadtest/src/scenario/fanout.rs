//! Rooms in which somebody speaks and all others hear it.

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

/// Options of `fanout`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Fanout {
    /// Rooms; each is held by one client process.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) rooms: usize,

    /// What the rooms are called, before a hyphen and a number. Generators that work at the same time need different names.
    #[arg(long, default_value = "fanout", value_name = "NAME")]
    pub(crate) name: String,

    /// Clients in a room.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) members: usize,

    /// Clients of a room that speak, in turns.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) senders: usize,

    /// Clients of a room that stop reading once the measurement begins; nothing is expected of them.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) stalled: usize,

    /// Deliveries a second: a message to a room of 100 is 99 of them.
    #[arg(long, default_value_t = 14_000.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// How long to send before that.
    #[arg(long, default_value = "2", value_name = "SECONDS")]
    pub(crate) warm_up: Seconds,
}

impl Body for Fanout {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        let listeners = self.members.saturating_sub(self.stalled);
        ensure!(
            self.senders >= 1 && self.senders < listeners,
            "a room needs a sender and somebody who hears it"
        );
        ensure!(
            self.rooms >= load.processes,
            "fewer --rooms than --processes: a room is held by one process"
        );
        let rooms = worker.share().of(self.rooms);
        let clients = rooms.len() * self.members;
        let mut net = Net::new(clients, load.sources())?;
        let name = |client: usize| format!("{}-{}", self.name, rooms.start + client / self.members);
        let mut setup = Setup::socketio(clients, load).in_rooms(name);
        worker.phase("connect", &mut net, &mut setup)?;

        let rate = worker.share().rate(self.rate, self.rooms) / (listeners - 1) as f64;
        let script = |members| Rooms {
            members: self.members,
            hearing: members,
            senders: self.senders,
            names: rooms.clone().map(|room| format!("{}-{room}", self.name)).collect(),
            dialect: load.dialect,
            packet: Vec::new(),
        };
        if self.warm_up.get() > 0.0 {
            let pace = Pace::new(load, rate, self.warm_up, worker.run_number());
            worker.phase("warm-up", &mut net, &mut Traffic::new(script(self.members), pace))?;
        }
        for stalled in (0..clients).filter(|client| client % self.members >= listeners) {
            net.stall(stalled);
        }
        let pace = Pace::new(load, rate, self.seconds, worker.run_number());
        worker.phase("measure", &mut net, &mut Traffic::new(script(listeners), pace))
    }
}

/// Messages to the rooms in turns, by their senders in turns.
struct Rooms {
    members: usize,
    /// The first so many of each room are expected to hear.
    hearing: usize,
    senders: usize,
    names: Vec<String>,
    dialect: Dialect,
    packet: Vec<u8>,
}

impl Script for Rooms {
    fn route(&self, message: u64) -> Route {
        let room = message as usize % self.names.len();
        let first = room * self.members;
        let sender = first + message as usize / self.names.len() % self.senders;
        let hearers = Hearers { first, members: self.hearing, except: Some(sender) };
        Route { sender, hearers, acknowledged: false }
    }

    fn send(&mut self, net: &mut Net, message: u64, _: u32, data: &str) {
        let sender = self.route(message).sender;
        self.packet.clear();
        self.dialect.message(&self.names[message as usize % self.names.len()], data, &mut self.packet);
        net.send_text(sender, &self.packet);
    }
}
