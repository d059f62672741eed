//! Connections that do nothing.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::hold::Hold;
use super::setup::Setup;
use super::traffic::{Pace, Route, Script, Traffic};
use crate::measure::Hearers;
use crate::net::Net;
use crate::protocol::{Dialect, Stamp};
use crate::run::{Load, Seconds, Worker};

/// Options of `idle`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// Connections to hold.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub(crate) clients: usize,

    /// How long to hold them. Servers ping every 25 s: less shows what memory they take, but not what they cost.
    #[arg(long, default_value = "30", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// PeerServer clients instead of Socket.IO.
    #[arg(long, conflicts_with_all = ["room", "message"])]
    pub(crate) peerserver: bool,

    /// All clients of a process are in one room. The gateway tells each member of each joiner: mind the square.
    #[arg(long)]
    pub(crate) room: bool,

    /// Then each gets one message of this many bytes through the room, and memory is read again.
    #[arg(long, value_name = "BYTES", requires = "room")]
    pub(crate) message: Option<usize>,

    /// How long after that message.
    #[arg(long, value_name = "SECONDS", default_value = "3")]
    pub(crate) settle: Seconds,

    /// Then all clients leave at once, and memory is read again after this time.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) after: Option<Seconds>,
}

impl Body for Idle {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(
            self.clients >= 2 * load.processes || self.message.is_none(),
            "each process needs two --clients to send a message"
        );
        let range = worker.share().of(self.clients);
        let clients = range.len();
        let room = format!("idle-{}", range.start);
        let mut net = Net::new(clients, load.sources())?;
        let mut setup = if self.peerserver {
            let target = |client: usize| &load.targets[client % load.targets.len()];
            Setup::new(clients, load, move |client| {
                target(client).peerserver(&format!("idle-{}", range.start + client))
            })
        } else if self.room {
            Setup::socketio(clients, load).in_rooms(|_| room.clone())
        } else {
            Setup::socketio(clients, load)
        };
        worker.phase("connect", &mut net, &mut setup)?;
        let peers = if self.peerserver { clients } else { 0 };
        worker.phase("idle", &mut net, &mut Hold::new(self.seconds).with_heartbeats(peers))?;

        if let Some(bytes) = self.message {
            ensure!(bytes >= Stamp::MINIMUM, "--message must be at least {} bytes", Stamp::MINIMUM);
            let script = Once {
                room: &room,
                members: clients,
                dialect: load.dialect,
                packet: Vec::with_capacity(bytes + 64),
            };
            let pace =
                Pace { payload: bytes, ..Pace::new(load, 1.0, Seconds::new(1.0), worker.run_number()) };
            worker.phase("message", &mut net, &mut Traffic::new(script, pace))?;
            worker.phase("after the message", &mut net, &mut Hold::new(self.settle))?;
        }
        if let Some(after) = self.after {
            for client in 0..clients {
                net.close(client);
            }
            worker.phase("after all left", &mut net, &mut Hold::new(after))?;
        }
        Ok(())
    }
}

/// One message, from the first client to all others.
struct Once<'a> {
    room: &'a str,
    members: usize,
    dialect: Dialect,
    packet: Vec<u8>,
}

impl Script for Once<'_> {
    fn route(&self, _: u64) -> Route {
        let hearers = Hearers { first: 0, members: self.members, except: Some(0) };
        Route { sender: 0, hearers, acknowledged: false }
    }

    fn send(&mut self, net: &mut Net, _: u64, _: u32, data: &str) {
        self.dialect.message(self.room, data, &mut self.packet);
        net.send_text(0, &self.packet);
    }
}
