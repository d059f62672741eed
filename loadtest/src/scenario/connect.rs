//! Clients that come and go at a steady rate.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use crate::measure::{Latency, Tally};
use crate::net::{Endpoint, Event, Handler, Net};
use crate::run::{Load, Phase, Seconds, Worker, rate};

/// Options of `connect`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Connect {
    /// Connects a second, each with its handshakes up to the namespace or OPEN.
    #[arg(long, default_value_t = 500.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// How long a client stays. Longer than the measurement: the cost of leaving is not in it.
    #[arg(long, default_value = "0", value_name = "SECONDS")]
    pub(crate) stay: Seconds,

    /// PeerServer clients instead of Socket.IO.
    #[arg(long)]
    pub(crate) peerserver: bool,

    /// What the clients of `auth` show.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

impl Body for Connect {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        let range = worker.share().of((self.rate * self.seconds.get()).round() as usize);
        let rate = self.rate / load.processes as f64;
        // Those that stay, and those that the server lets wait.
        let at_once = (rate * (self.stay.get() + load.patience.get())).ceil() as usize + 1;
        let slots = at_once.min(range.len());
        let mut net = Net::new(slots, load.sources())?;
        let mut churn = Churn {
            endpoints: (load.targets.iter())
                .map(|target| match &self.token {
                    Some(token) => target.socketio_as(token),
                    None => target.socketio(),
                })
                .collect(),
            options: self,
            load,
            rate,
            first: range.start,
            total: range.len(),
            next: 0,
            began: Instant::now(),
            free: (0..slots).rev().collect(),
            due: vec![None; slots],
            tally: Tally { latency: Latency::over(self.seconds.duration()), ..Tally::default() },
            last: Instant::now(),
        };
        worker.phase("measure", &mut net, &mut churn)
    }
}

const ARRIVE: usize = usize::MAX;
const DRAIN: usize = usize::MAX - 1;

struct Churn<'a> {
    endpoints: Vec<Endpoint>,
    options: &'a Connect,
    load: &'a Load,
    rate: f64,
    /// The number of our first client among those of all processes.
    first: usize,
    total: usize,
    next: usize,
    began: Instant,
    free: Vec<usize>,
    /// When the client in this slot was due, until it is in.
    due: Vec<Option<Duration>>,
    tally: Tally,
    last: Instant,
}

impl Churn<'_> {
    fn arrive(&mut self, net: &mut Net) -> Result<()> {
        while self.next < self.total {
            let due = Duration::from_secs_f64(self.next as f64 / self.rate);
            let elapsed = self.began.elapsed();
            if due > elapsed {
                net.at(self.began + due, ARRIVE);
                return Ok(());
            }
            self.tally.lag = self.tally.lag.max((elapsed - due).as_micros() as u64);
            self.tally.messages += 1;
            self.tally.expected += 1;
            // Without a free slot the server has let all of them wait; it counts as lost.
            if let Some(slot) = self.free.pop() {
                self.due[slot] = Some(due);
                let endpoint = self.endpoint(self.next);
                net.connect(slot, &endpoint)?;
            }
            self.next += 1;
        }
        self.last = Instant::now();
        net.at(self.last + self.load.patience.duration(), DRAIN);
        Ok(())
    }

    fn endpoint(&self, number: usize) -> Endpoint {
        let target = number % self.endpoints.len();
        if self.options.peerserver {
            let id = format!("connect-{}", self.first + number);
            self.load.targets[target].peerserver_as(&id, self.options.token.as_deref().unwrap_or(&id))
        } else {
            self.endpoints[target].clone()
        }
    }

    fn leave(&mut self, net: &mut Net, slot: usize) {
        net.close(slot);
        self.free.push(slot);
    }
}

impl Phase for Churn<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        self.began = now;
        net.at(now, ARRIVE);
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Churn<'_> {
    fn event(&mut self, net: &mut Net, slot: usize, event: Event<'_>) -> Result<()> {
        match event {
            Event::Open { .. } => {
                let now = Instant::now();
                if let Some(due) = self.due[slot].take() {
                    self.tally.delivered += 1;
                    self.tally.connects += 1;
                    self.tally.latency.record(due, (now - self.began).saturating_sub(due));
                }
                self.last = now;
                if self.options.stay.get() > 0.0 {
                    net.at(now + self.options.stay.duration(), slot);
                } else {
                    self.leave(net, slot);
                }
            }
            Event::Closed { .. } => {
                self.tally.closed += 1;
                self.due[slot] = None;
                self.free.push(slot);
            }
            Event::Text(_) | Event::Response { .. } => {}
        }
        if self.next == self.total && self.tally.is_complete() {
            net.stop();
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, key: usize, _: Instant) -> Result<()> {
        match key {
            ARRIVE => self.arrive(net)?,
            DRAIN => {
                let given_up = self.last + self.load.patience.duration();
                if given_up <= Instant::now() {
                    net.stop();
                } else {
                    net.at(given_up, DRAIN);
                }
            }
            // It may have been dropped meanwhile, and its slot be another's.
            slot if net.has_connection(slot) && self.due[slot].is_none() => self.leave(net, slot),
            _ => {}
        }
        Ok(())
    }
}
