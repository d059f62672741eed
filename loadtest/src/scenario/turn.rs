//! Clients that ask the TURN credentials service for credentials, on connections that they keep.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use crate::measure::{Latency, Tally};
use crate::net::{Event, Handler, Net};
use crate::run::{Load, Phase, Seconds, Worker, rate};

/// Options of `turn`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// Connections, each with one request at a time. What is due while all are busy waits, and its wait counts.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) connections: usize,

    /// Credentials a second.
    #[arg(long, default_value_t = 20_000.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// Token or API key to ask with; the service must have no limits for it (--subject-limit 0 --address-limit 0).
    #[arg(long, value_name = "TOKEN")]
    pub(crate) bearer: String,

    /// Subjects to ask for in turns; only with an API key. 0: for nobody in particular.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) subjects: usize,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// How long to ask before that.
    #[arg(long, default_value = "2", value_name = "SECONDS")]
    pub(crate) warm_up: Seconds,
}

impl Body for Turn {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.connections >= load.processes, "fewer --connections than --processes");
        let connections = worker.share().of(self.connections).len();
        let mut net = Net::new(connections, load.sources())?;
        let requests = self.requests(load);
        let mut opening =
            Opening { load, requests: &requests, connections, tally: Tally::default(), seen: 0 };
        worker.phase("connect", &mut net, &mut opening)?;

        let rate = worker.share().rate(self.rate, self.connections);
        for (name, length) in [("warm-up", self.warm_up), ("measure", self.seconds)] {
            if length.get() > 0.0 {
                let mut asking = Asking::new(&requests, load, rate, length, connections);
                worker.phase(name, &mut net, &mut asking)?;
            }
        }
        Ok(())
    }
}

impl Turn {
    /// One for each subject.
    fn requests(&self, load: &Load) -> Vec<Vec<u8>> {
        let authorization = format!("Authorization: Bearer {}\r\n", self.bearer);
        let path = |subject: usize| match self.subjects {
            0 => "/v1/ice-servers".to_owned(),
            _ => format!("/v1/ice-servers?subject=load-{subject}"),
        };
        (0..self.subjects.max(1)).map(|at| load.targets[0].request(&path(at), &authorization)).collect()
    }
}

const CHECK: usize = 0;
const ASK: usize = 1;
const DRAIN: usize = 2;

/// Opens the connections; each is answered once.
struct Opening<'a> {
    load: &'a Load,
    requests: &'a [Vec<u8>],
    connections: usize,
    tally: Tally,
    seen: u64,
}

impl Phase for Opening<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        for connection in 0..self.connections {
            let target = &self.load.targets[connection % self.load.targets.len()];
            net.connect(connection, &target.http(&self.requests[0]))?;
        }
        net.at(now + self.load.patience.duration(), CHECK);
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Opening<'_> {
    fn event(&mut self, net: &mut Net, _: usize, event: Event<'_>) -> Result<()> {
        match event {
            Event::Response { status: 200, body } if has_credential(body) => {}
            Event::Response { status, body } => {
                bail!(
                    "the service answered with {status}: {body} (is --bearer right, and are its limits off?)"
                )
            }
            Event::Closed { reason } => bail!("a connection failed: {reason} (is the service up?)"),
            Event::Open { .. } | Event::Text(_) => return Ok(()),
        }
        self.tally.connects += 1;
        if self.tally.connects == self.connections as u64 {
            net.stop();
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, _: usize, due: Instant) -> Result<()> {
        let answered = self.tally.connects;
        ensure!(answered > self.seen, "{answered} of {} connections were answered", self.connections);
        self.seen = answered;
        net.at(due + self.load.patience.duration(), CHECK);
        Ok(())
    }
}

/// Asks at a steady rate.
struct Asking<'a> {
    requests: &'a [Vec<u8>],
    load: &'a Load,
    rate: f64,
    total: u64,
    next: u64,
    began: Instant,
    free: Vec<usize>,
    /// What is due and has no connection yet, by when it was.
    waiting: VecDeque<Duration>,
    /// When the request on this connection was due, until it is answered.
    due: Vec<Option<Duration>>,
    asked: usize,
    last: Instant,
    tally: Tally,
}

impl<'a> Asking<'a> {
    fn new(requests: &'a [Vec<u8>], load: &'a Load, rate: f64, length: Seconds, connections: usize) -> Self {
        let now = Instant::now();
        Self {
            requests,
            load,
            rate,
            total: (rate * length.get()).round() as u64,
            next: 0,
            began: now,
            free: (0..connections).rev().collect(),
            waiting: VecDeque::new(),
            due: vec![None; connections],
            asked: 0,
            last: now,
            tally: Tally { latency: Latency::over(length.duration()), ..Tally::default() },
        }
    }

    fn ask_what_is_due(&mut self, net: &mut Net) {
        while self.next < self.total {
            let due = Duration::from_secs_f64(self.next as f64 / self.rate);
            let elapsed = self.began.elapsed();
            if due > elapsed {
                net.at(self.began + due, ASK);
                return;
            }
            self.tally.lag = self.tally.lag.max((elapsed - due).as_micros() as u64);
            self.tally.messages += 1;
            self.tally.expected += 1;
            self.next += 1;
            self.waiting.push_back(due);
            self.ask(net);
        }
        self.last = Instant::now();
        net.at(self.given_up(), DRAIN);
    }

    /// Gives what waits to connections that are free.
    fn ask(&mut self, net: &mut Net) {
        while !self.waiting.is_empty() {
            let Some(connection) = self.free.pop() else { return };
            self.due[connection] = self.waiting.pop_front();
            net.send_bytes(connection, &self.requests[self.asked % self.requests.len()]);
            self.asked += 1;
        }
    }

    fn given_up(&self) -> Instant {
        self.last + self.load.patience.duration()
    }
}

impl Phase for Asking<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        self.began = now;
        match self.total {
            0 => net.stop(),
            _ => net.at(now, ASK),
        }
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Asking<'_> {
    fn event(&mut self, net: &mut Net, connection: usize, event: Event<'_>) -> Result<()> {
        match event {
            Event::Response { status, body } => {
                let now = Instant::now();
                if let Some(due) = self.due[connection].take() {
                    // A refusal is none: it counts as lost.
                    if status == 200 && has_credential(body) {
                        self.tally.delivered += 1;
                        self.tally.latency.record(due, (now - self.began).saturating_sub(due));
                    }
                    self.free.push(connection);
                }
                self.last = now;
                self.ask(net);
            }
            Event::Closed { .. } => {
                self.tally.closed += 1;
                self.due[connection] = None;
            }
            Event::Open { .. } | Event::Text(_) => {}
        }
        if self.next == self.total && self.tally.is_complete() {
            net.stop();
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, key: usize, _: Instant) -> Result<()> {
        match key {
            ASK => self.ask_what_is_due(net),
            _ if self.given_up() <= Instant::now() => net.stop(),
            _ => net.at(self.given_up(), DRAIN),
        }
        Ok(())
    }
}

fn has_credential(body: &str) -> bool {
    body.contains("\"credential\":\"")
}
