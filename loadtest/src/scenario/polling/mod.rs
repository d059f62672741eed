//! Rooms of clients that poll, and upgrade to WebSockets while messages flow.

mod session;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::traffic::{Pace, Route, Script, Traffic};
use crate::measure::{Hearers, Tally};
use crate::net::{Event, Handler, Net};
use crate::run::{Load, Phase, Seconds, Worker, rate};
use session::{CONNECTIONS, News, Session};

/// Options of `polling`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Polling {
    /// Rooms; each is held by one client process.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) rooms: usize,

    /// Clients in a room.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) members: usize,

    /// Deliveries a second.
    #[arg(long, default_value_t = 1_000.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// The clients upgrade to WebSockets, one after the other during the first half of the measurement.
    #[arg(long)]
    pub(crate) upgrade: bool,
}

impl Body for Polling {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(
            self.rooms >= load.processes,
            "fewer --rooms than --processes: a room is held by one process"
        );
        ensure!(self.members >= 2, "a room needs a sender and somebody who hears it");
        let rooms = worker.share().of(self.rooms);
        let clients = rooms.len() * self.members;
        let mut net = Net::new(clients * CONNECTIONS, load.sources())?;
        let target = |client: usize| load.targets[client % load.targets.len()].clone();
        let room = |client: usize| format!("polling-{}", rooms.start + client / self.members);
        let sessions: Vec<_> = (0..clients)
            .map(|client| Session::new(client, target(client), room(client), load.dialect))
            .collect();
        let mut opening = Opening {
            sessions,
            window: load.window,
            next: 0,
            patience: load.patience,
            seen: 0,
            tally: Tally::default(),
        };
        worker.phase("connect", &mut net, &mut opening)?;

        let rate = worker.share().rate(self.rate, self.rooms) / (self.members - 1) as f64;
        let script = Pollers {
            sessions: opening.sessions,
            members: self.members,
            upgrades: self.upgrade.then(|| Upgrades {
                next: 0,
                began: Instant::now(),
                over: self.seconds.duration() / 2,
            }),
        };
        let pace = Pace::new(load, rate, self.seconds, worker.run_number());
        let mut traffic = Traffic::new(script, pace).with_sessions(clients as u64);
        worker.phase("measure", &mut net, &mut traffic)?;
        let upgraded = traffic.script.sessions.iter().filter(|session| session.is_upgraded()).count();
        ensure!(
            !self.upgrade || upgraded == clients,
            "only {upgraded} of {clients} clients could upgrade to a WebSocket"
        );
        Ok(())
    }
}

/// All clients open their sessions and join their rooms.
struct Opening {
    sessions: Vec<Session>,
    window: usize,
    next: usize,
    patience: Seconds,
    seen: u64,
    tally: Tally,
}

impl Opening {
    fn open_next(&mut self, net: &mut Net) -> Result<()> {
        if let Some(session) = self.sessions.get_mut(self.next) {
            self.next += 1;
            session.open(net)?;
        }
        Ok(())
    }
}

impl Phase for Opening {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        for _ in 0..self.window {
            self.open_next(net)?;
        }
        net.at(now + self.patience.duration(), 0);
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Opening {
    fn event(&mut self, net: &mut Net, connection: usize, event: Event<'_>) -> Result<()> {
        match self.sessions[connection / CONNECTIONS].event(net, connection, event, &mut |_, _, _| {})? {
            News::None => {}
            News::Ready => {
                self.tally.connects += 1;
                self.tally.connections += 1;
                self.open_next(net)?;
                if self.tally.connects == self.sessions.len() as u64 {
                    net.stop();
                }
            }
            News::Lost(why) => bail!("a polling session was not opened: {why} (is --dialect the server's?)"),
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, _: usize, due: Instant) -> Result<()> {
        if self.tally.connects == self.seen {
            let clients = self.sessions.len();
            bail!("{} of {clients} clients were ready when nothing more happened", self.seen);
        }
        self.seen = self.tally.connects;
        net.at(due + self.patience.duration(), 0);
        Ok(())
    }
}

/// When clients upgrade: one after the other over this time.
struct Upgrades {
    next: usize,
    began: Instant,
    over: Duration,
}

/// Messages to the rooms in turns, by their members in turns.
struct Pollers {
    sessions: Vec<Session>,
    members: usize,
    upgrades: Option<Upgrades>,
}

impl Script for Pollers {
    fn route(&self, message: u64) -> Route {
        let rooms = self.sessions.len() / self.members;
        let first = message as usize % rooms * self.members;
        let sender = first + message as usize / rooms % self.members;
        Route {
            sender,
            hearers: Hearers { first, members: self.members, except: Some(sender) },
            acknowledged: false,
        }
    }

    fn send(&mut self, net: &mut Net, message: u64, _: u32, data: &str) {
        let sender = self.route(message).sender;
        self.sessions[sender].say(net, data);
    }

    fn event(
        &mut self,
        net: &mut Net,
        connection: usize,
        event: Event<'_>,
        heard: &mut impl FnMut(&mut Net, usize, &str),
    ) -> Result<bool> {
        let news = self.sessions[connection / CONNECTIONS].event(net, connection, event, heard)?;
        Ok(matches!(news, News::Lost(_)))
    }

    fn every(&self) -> Option<Duration> {
        self.upgrades.is_some().then_some(Duration::from_millis(10))
    }

    fn tick(&mut self, net: &mut Net) {
        let Some(upgrades) = &mut self.upgrades else { return };
        let share = upgrades.began.elapsed().as_secs_f64() / upgrades.over.as_secs_f64();
        let due = (share * self.sessions.len() as f64) as usize;
        for session in self.sessions.iter_mut().take(due).skip(upgrades.next) {
            // One that cannot connect is found missing at the end.
            let _ = session.upgrade(net);
        }
        upgrades.next = upgrades.next.max(due);
    }
}
