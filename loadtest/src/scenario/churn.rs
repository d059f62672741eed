//! A crowd that comes and goes: each client asks for the users, joins the room of all, leaves it and joins again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::hold::Hold;
use super::setup::Setup;
use crate::measure::{Latency, Tally};
use crate::net::{Event, Handler, Net};
use crate::protocol::Dialect;
use crate::run::{Load, Phase, Seconds, Worker};

/// Options of `churn`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Churn {
    /// Clients, all of one room.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub(crate) clients: usize,

    /// For how long they come and go. The first time all do so at the same moment.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// How often each of them does.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) every: Seconds,

    /// How long the server rests before and afterwards.
    #[arg(long, default_value = "3", value_name = "SECONDS")]
    pub(crate) rest: Seconds,
}

impl Body for Churn {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.clients >= load.processes, "fewer --clients than --processes");
        ensure!(load.dialect == Dialect::Gateway, "only the gateway lists its users (--dialect gateway)");
        ensure!(self.every.get() > 0.0, "--every must be more than nothing");
        let clients = worker.share().of(self.clients).len();
        let mut net = Net::new(clients, load.sources())?;
        worker.phase("connect", &mut net, &mut Setup::socketio(clients, load))?;
        worker.phase("rest", &mut net, &mut Hold::new(self.rest))?;
        worker.phase("churn", &mut net, &mut ComeAndGo::new(clients, load, self.seconds, self.every))?;
        worker.phase("after all have come and gone", &mut net, &mut Hold::new(self.rest))
    }
}

const ROOM: &str = "churn";

/// What a client does, in this order; each begins when the one before is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Nothing, until its next turn.
    Resting,
    Users,
    Joining,
    Leaving,
    Rejoining,
}

impl Doing {
    /// The beginning of the answer that it waits for: acks have the number of what they answer.
    fn answer(self) -> Option<&'static str> {
        match self {
            Self::Resting => None,
            Self::Users => Some("431["),
            Self::Joining | Self::Rejoining => Some("430["),
            Self::Leaving => Some("432["),
        }
    }
}

struct ComeAndGo<'a> {
    load: &'a Load,
    began: Instant,
    length: Duration,
    every: Duration,
    clients: Vec<(Doing, Instant)>,
    /// Clients that are not resting.
    busy: usize,
    /// How many answers there were at the last look.
    seen: u64,
    tally: Tally,
}

impl<'a> ComeAndGo<'a> {
    fn new(clients: usize, load: &'a Load, length: Seconds, every: Seconds) -> Self {
        let latency = Latency::over(length.duration());
        let now = Instant::now();
        Self {
            load,
            began: now,
            length: length.duration(),
            every: every.duration(),
            clients: vec![(Doing::Resting, now); clients],
            busy: 0,
            seen: 0,
            tally: Tally { latency, ..Tally::default() },
        }
    }

    /// The timer behind those of the clients: looks whether anything happens.
    fn check(&self) -> usize {
        self.clients.len()
    }

    fn go(&mut self, net: &mut Net, client: usize, doing: Doing) {
        let mut packet = Vec::new();
        match doing {
            Doing::Users => packet.extend_from_slice(b"421[\"users\"]"),
            Doing::Leaving => packet.extend_from_slice(format!("422[\"leave\",\"{ROOM}\"]").as_bytes()),
            _ => self.load.dialect.join(ROOM, &mut packet),
        }
        self.clients[client] = (doing, Instant::now());
        self.tally.messages += 1;
        self.tally.answers_expected += 1;
        net.send_text(client, &packet);
    }

    /// What the client does when the answer has come.
    fn answered(&mut self, net: &mut Net, client: usize) {
        let (doing, asked) = self.clients[client];
        self.tally.answers += 1;
        self.tally.latency.record(asked - self.began, asked.elapsed());
        match doing {
            Doing::Users => self.go(net, client, Doing::Joining),
            Doing::Joining => self.go(net, client, Doing::Leaving),
            Doing::Leaving => self.go(net, client, Doing::Rejoining),
            Doing::Rejoining | Doing::Resting => self.rests(net, client),
        }
    }

    /// The client has done everything, or has no connection any more.
    fn rests(&mut self, net: &mut Net, client: usize) {
        self.clients[client].0 = Doing::Resting;
        self.busy -= 1;
        if self.busy == 0 && self.began.elapsed() >= self.length {
            net.stop();
        }
    }
}

impl Phase for ComeAndGo<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        self.began = now;
        for client in 0..self.clients.len() {
            net.at(now, client);
        }
        net.at(now + self.load.patience.duration(), self.check());
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for ComeAndGo<'_> {
    fn event(&mut self, net: &mut Net, client: usize, event: Event<'_>) -> Result<()> {
        match event {
            Event::Text(packet) => {
                if self.clients[client].0.answer().is_some_and(|answer| packet.starts_with(answer)) {
                    // A refusal is an answer, too: an overloaded server may say so.
                    self.tally.refused += u64::from(packet.contains("{\"ok\":false"));
                    self.answered(net, client);
                }
            }
            Event::Closed { .. } => {
                self.tally.closed += 1;
                if self.clients[client].0 != Doing::Resting {
                    self.rests(net, client);
                }
            }
            Event::Open { .. } | Event::Response { .. } => {}
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, key: usize, due: Instant) -> Result<()> {
        if key == self.check() {
            let is_over = self.began.elapsed() >= self.length;
            if is_over && (self.busy == 0 || self.tally.answers == self.seen) {
                net.stop();
            }
            self.seen = self.tally.answers;
            net.at(due + self.load.patience.duration(), key);
            return Ok(());
        }
        if self.began.elapsed() >= self.length {
            if self.busy == 0 {
                net.stop();
            }
        } else {
            // After the first turn, which is everybody's, the others are spread.
            let first = due < self.began + self.every;
            let part = if first { (key + 1) as f64 / self.clients.len() as f64 } else { 1.0 };
            net.at(due + self.every.mul_f64(part.max(0.001)), key);
            // One that is not done yet misses its turn.
            if self.clients[key].0 == Doing::Resting && net.has_connection(key) {
                self.busy += 1;
                self.go(net, key, Doing::Users);
            }
        }
        Ok(())
    }
}
