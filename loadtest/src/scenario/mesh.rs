//! Rooms as an application uses them: the members join one after the other, each newcomer exchanges session descriptions
//! with everybody who is there, and when all are connected, all leave.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Body;
use super::setup::Setup;
use crate::measure::{Hearers, Latency, Ledger, Tally};
use crate::net::{Event, Handler, Net};
use crate::protocol::Stamp;
use crate::run::{Load, Phase, Seconds, Worker, rate};

/// Bytes of a session description; `--payload` is for the other scenarios.
const DESCRIPTION: usize = 1_500;

/// Options of `mesh`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Mesh {
    /// Groups of clients, each in one room at a time.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) groups: usize,

    /// Clients in a group.
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub(crate) members: usize,

    /// Meetings a second, of all groups together.
    #[arg(long, default_value_t = 20.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// How long meetings begin.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,
}

impl Body for Mesh {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        ensure!(self.groups >= load.processes, "fewer --groups than --processes");
        ensure!(self.members >= 2, "a mesh of one is no mesh");
        let groups = worker.share().of(self.groups);
        let clients = groups.len() * self.members;
        let mut net = Net::new(clients, load.sources())?;
        let mut setup = Setup::socketio(clients, load);
        worker.phase("connect", &mut net, &mut setup)?;
        let rate = worker.share().rate(self.rate, self.groups);
        let now = Instant::now();
        let mut meetings = Meetings {
            members: self.members,
            load,
            ids: setup.into_ids(),
            run: worker.run_number(),
            first_group: groups.start,
            rate,
            total: (rate * self.seconds.get()).round() as u64,
            begun: 0,
            groups: vec![Group::default(); groups.len()],
            ledger: Ledger::default(),
            descriptions: Vec::new(),
            tally: Tally { latency: Latency::over(self.seconds.duration()), ..Tally::default() },
            began: now,
            last: now,
            packet: Vec::new(),
            data: Vec::new(),
        };
        worker.phase("measure", &mut net, &mut meetings)
    }
}

const BEGIN: usize = 0;
const CHECK: usize = 1;

/// A group in its present meeting.
#[derive(Debug, Clone, Default)]
struct Group {
    /// The number of the meeting, which names the room; `None` between two.
    meeting: Option<u64>,
    joined: usize,
    /// Descriptions that have been heard.
    heard: usize,
    left: usize,
    /// A meeting that is due, while the one before has not ended.
    waiting: Option<(u64, Duration)>,
}

struct Meetings<'a> {
    members: usize,
    load: &'a Load,
    ids: Vec<String>,
    run: u32,
    first_group: usize,
    rate: f64,
    total: u64,
    begun: u64,
    groups: Vec<Group>,
    ledger: Ledger,
    /// Of each message, who sent it and whether it is an offer.
    descriptions: Vec<(usize, bool)>,
    tally: Tally,
    began: Instant,
    last: Instant,
    packet: Vec<u8>,
    data: Vec<u8>,
}

impl Meetings<'_> {
    fn room(&self, group: usize, meeting: u64) -> String {
        format!("mesh-{}-{meeting}", self.first_group + group)
    }

    fn begin_what_is_due(&mut self, net: &mut Net) {
        while self.begun < self.total {
            let due = Duration::from_secs_f64(self.begun as f64 / self.rate);
            if due > self.began.elapsed() {
                net.at(self.began + due, BEGIN);
                return;
            }
            let group = self.begun as usize % self.groups.len();
            let pairs = (self.members * (self.members - 1) / 2) as u64;
            self.tally.expected += 2 * pairs;
            if self.load.dialect.announces() {
                // Each pair hears of one joining and of one leaving.
                self.tally.answers_expected += 2 * pairs;
            }
            if self.groups[group].meeting.is_some() {
                self.groups[group].waiting = Some((self.begun, due));
            } else {
                self.meet(net, group, self.begun, due);
            }
            self.begun += 1;
        }
    }

    fn meet(&mut self, net: &mut Net, group: usize, meeting: u64, due: Duration) {
        let late = self.began.elapsed().saturating_sub(due);
        self.tally.lag = self.tally.lag.max(late.as_micros() as u64);
        self.groups[group] = Group { meeting: Some(meeting), ..Group::default() };
        self.join_next(net, group, meeting);
    }

    fn join_next(&mut self, net: &mut Net, group: usize, meeting: u64) {
        let client = group * self.members + self.groups[group].joined;
        self.packet.clear();
        self.load.dialect.join(&self.room(group, meeting), &mut self.packet);
        net.send_text(client, &self.packet);
    }

    /// A client is in: it makes an offer to everybody before it, and the next one comes.
    fn joined(&mut self, net: &mut Net, client: usize) {
        let group = client / self.members;
        let Some(meeting) = self.groups[group].meeting else { return };
        for other in group * self.members..client {
            self.describe(net, client, other, true);
        }
        self.groups[group].joined += 1;
        if self.groups[group].joined < self.members {
            self.join_next(net, group, meeting);
        }
    }

    fn describe(&mut self, net: &mut Net, from: usize, to: usize, is_offer: bool) {
        let message = self.ledger.enter(Hearers::one(to));
        self.descriptions.push((from, is_offer));
        self.tally.messages += 1;
        let due = self.began.elapsed().as_nanos() as u64;
        self.data.clear();
        Stamp { run: self.run, message, due }.write(DESCRIPTION, &mut self.data);
        self.packet.clear();
        if let Ok(data) = std::str::from_utf8(&self.data) {
            self.load.dialect.signal(&self.ids[to], data, None, &mut self.packet);
        }
        net.send_text(from, &self.packet);
    }

    fn heard(&mut self, net: &mut Net, client: usize, stamp: Stamp) {
        let heard = self.ledger.hear(stamp.message, client);
        if !self.tally.count(heard) {
            return;
        }
        let due = Duration::from_nanos(stamp.due);
        self.tally.latency.record(due, self.began.elapsed().saturating_sub(due));
        let (from, is_offer) = self.descriptions[stamp.message as usize];
        if is_offer {
            self.describe(net, client, from, false);
        }
        let group = client / self.members;
        self.groups[group].heard += 1;
        if self.groups[group].heard == self.members * (self.members - 1) {
            self.part(net, group);
        }
    }

    /// All are connected: they leave, where that is announced each as soon as it hears that the one before has, so
    /// that it is known who is told of whom.
    fn part(&mut self, net: &mut Net, group: usize) {
        self.leave_next(net, group);
        while !self.load.dialect.announces() && self.groups[group].meeting.is_some() {
            self.leave_next(net, group);
        }
    }

    fn leave_next(&mut self, net: &mut Net, group: usize) {
        let Some(meeting) = self.groups[group].meeting else { return };
        let client = group * self.members + self.groups[group].left;
        self.packet.clear();
        self.load.dialect.leave(&self.room(group, meeting), &mut self.packet);
        net.send_text(client, &self.packet);
        self.groups[group].left += 1;
        if self.groups[group].left == self.members {
            self.groups[group].meeting = None;
            if let Some((next, due)) = self.groups[group].waiting.take() {
                self.meet(net, group, next, due);
            }
        }
    }

    /// A client hears that somebody joined or left.
    fn announced(&mut self, net: &mut Net, client: usize, packet: &str) {
        self.tally.answers += 1;
        let (group, index) = (client / self.members, client % self.members);
        let is_next = index > 0 && self.groups[group].left == index;
        if is_next && packet.starts_with("42[\"left\"") && packet.contains(&self.ids[client - 1]) {
            self.leave_next(net, group);
        }
    }
}

impl Phase for Meetings<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        (self.began, self.last) = (now, now);
        net.at(now, BEGIN);
        net.at(now + self.load.patience.duration(), CHECK);
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Meetings<'_> {
    fn event(&mut self, net: &mut Net, client: usize, event: Event<'_>) -> Result<()> {
        self.last = Instant::now();
        match event {
            Event::Text(packet) => {
                if let Some(stamp) = Stamp::find(packet).filter(|stamp| stamp.run == self.run) {
                    self.heard(net, client, stamp);
                } else if self.load.dialect.is_joined(packet) {
                    self.joined(net, client);
                } else if packet.starts_with("42[\"joined\"") || packet.starts_with("42[\"left\"") {
                    self.announced(net, client, packet);
                } else if packet.starts_with("42[\"error\"") || packet.starts_with("430[{\"ok\":false") {
                    bail!("the server refused: {packet}");
                }
            }
            Event::Closed { .. } => self.tally.closed += 1,
            Event::Open { .. } | Event::Response { .. } => {}
        }
        if self.begun == self.total && self.tally.is_complete() {
            net.stop();
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, key: usize, _: Instant) -> Result<()> {
        if key == BEGIN {
            self.begin_what_is_due(net);
            return Ok(());
        }
        let given_up = self.last + self.load.patience.duration();
        if self.begun == self.total && given_up <= Instant::now() {
            net.stop();
        }
        net.at(given_up.max(Instant::now() + Duration::from_millis(50)), CHECK);
        Ok(())
    }
}
