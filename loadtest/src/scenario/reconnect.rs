//! All clients of a room lose their connections at once, as when a node dies, and all are back within a second.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::hold::Hold;
use super::setup::Setup;
use super::storm::Comeback;
use crate::net::Net;
use crate::run::{Load, Seconds, Worker};

/// Options of `reconnect`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Reconnect {
    /// Clients, all of one room.
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub(crate) clients: usize,

    /// Within what time all of them connect again.
    #[arg(long, default_value = "1", value_name = "SECONDS")]
    pub(crate) within: Seconds,

    /// How long the server rests before and afterwards.
    #[arg(long, default_value = "3", value_name = "SECONDS")]
    pub(crate) rest: Seconds,
}

impl Body for Reconnect {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.clients >= load.processes, "fewer --clients than --processes");
        let clients = worker.share().of(self.clients).len();
        let mut net = Net::new(clients, load.sources())?;
        let mut setup = Setup::socketio(clients, load).in_rooms(|_| ROOM.to_owned());
        worker.phase("connect", &mut net, &mut setup)?;
        worker.phase("rest", &mut net, &mut Hold::new(self.rest))?;
        let wait = |_: u32, chance: f64| -> Duration { self.within.duration().mul_f64(chance) };
        let room = |_: usize| Some(ROOM.to_owned());
        worker.phase("reconnect", &mut net, &mut Comeback::new(clients, load, &room, &wait))?;
        worker.phase("after all are back", &mut net, &mut Hold::new(self.rest))
    }
}

const ROOM: &str = "reconnect";
