//! Which scenario is run against whom.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::servers::{Contestant, Group};

/// One scenario with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Measurement {
    /// Connections in one room that do nothing, then get a message each.
    Idle,
    /// The same with as many as a process can hold.
    IdleMany,
    /// A room of 100.
    Fanout100,
    /// A room of 1,000.
    Fanout1000,
    /// Round trips.
    Echo,
    /// Connections up to the namespace.
    Connect,
    /// PeerServer messages.
    Relay,
    /// A room of 100 spread over two workers.
    TwoWorkers,
    /// Rooms of 91, spread over two servers that share a Redis; all three on one processor.
    Cluster,
    /// All drop and come back, then all leave.
    Storm,
    /// All join one room of two servers at the same moment, and are told of each other.
    Crowd,
    /// All clients of such a room drop, and are back within a second.
    Reconnect,
    /// A room with large messages.
    Readers,
    /// The same with a member that stops reading.
    SlowReader,
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// How large and how long.
pub(super) struct Sizes {
    idle: usize,
    idle_many: usize,
    /// Beyond the 25 s after which servers ping.
    hold: usize,
    seconds: usize,
    warm_up: usize,
    storm: usize,
    connects: usize,
    crowd: usize,
    reconnect: usize,
}

impl Sizes {
    pub(super) fn full(idle: usize, idle_many: usize) -> Self {
        Self {
            idle,
            idle_many,
            hold: 30,
            seconds: 10,
            warm_up: 2,
            storm: 5_000,
            connects: 800,
            crowd: 1_000,
            reconnect: 500,
        }
    }

    pub(super) fn quick() -> Self {
        Self {
            idle: 500,
            idle_many: 1_000,
            hold: 1,
            seconds: 1,
            warm_up: 1,
            storm: 200,
            connects: 200,
            crowd: 100,
            reconnect: 50,
        }
    }
}

impl Sizes {
    /// Puts the numbers into the title of a row.
    pub(super) fn fill(&self, title: &str) -> String {
        let numbers = [
            ("{idle}", self.idle),
            ("{idle-many}", self.idle_many),
            ("{crowd}", self.crowd),
            ("{reconnect}", self.reconnect),
        ];
        numbers
            .iter()
            .fold(title.to_owned(), |title, (name, number)| title.replace(name, &number.to_string()))
    }
}

impl Measurement {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    pub(super) fn contestants(self) -> &'static [Contestant] {
        use Contestant::{Floor, Gateway, Handlers, Peer, SocketIo, Socketioxide};
        match self {
            // The gateway tells each member of a room of each joiner, which is not what is to be measured here.
            Self::Idle => &[SocketIo, Socketioxide, Peer, Floor, Handlers],
            // Whether ours costs the same; the others' figures stand beside the smaller number.
            Self::IdleMany => &[Floor, Handlers],
            Self::Fanout100 | Self::Fanout1000 => &[SocketIo, Socketioxide, Floor, Gateway],
            Self::Echo => &[SocketIo, Socketioxide, Floor, Handlers],
            Self::Connect => &[SocketIo, Socketioxide, Peer, Floor, Gateway],
            Self::Relay => &[Peer, Gateway],
            Self::Crowd | Self::Reconnect => &[SocketIo, Gateway],
            // What a delivery costs at least, without a second server and without Redis.
            Self::Cluster => &[SocketIo, Floor, Gateway],
            Self::TwoWorkers | Self::Storm | Self::Readers | Self::SlowReader => &[Gateway],
        }
    }

    pub(super) fn workers(self) -> usize {
        if self == Self::TwoWorkers { 2 } else { 1 }
    }

    /// How many servers share a Redis; one alone has none.
    pub(super) fn servers(self, contestant: Contestant) -> usize {
        match self {
            Self::Cluster if contestant == Contestant::Floor => 1,
            Self::Cluster | Self::Crowd | Self::Reconnect => 2,
            _ => 1,
        }
    }

    /// Whether the members of a room are told of each other, which is the gateway's own; others have to be asked for it.
    pub(super) fn announces(self) -> bool {
        matches!(self, Self::Crowd | Self::Reconnect)
    }

    /// The command line of the scenario.
    pub(super) fn arguments(self, contestant: Contestant, sizes: &Sizes, servers: &Group) -> Vec<String> {
        let peerserver = contestant == Contestant::Peer;
        let Sizes { idle, idle_many, hold, seconds, warm_up, storm, connects, crowd, reconnect } = sizes;
        let window = format!("--seconds {seconds} --warm-up {warm_up}");
        // A room in which each member gets 1.6 MB a second: what one of them does not read adds up in seconds.
        let readers = "fanout --members 20 --payload 16384 --rate 1900 --seconds 10 --warm-up 1".to_owned();
        let mut text = match self {
            Self::Idle if peerserver => format!("idle --clients {idle} --seconds {hold} --peerserver"),
            Self::Idle => format!("idle --clients {idle} --seconds {hold} --room --message 4096 --after 5"),
            Self::IdleMany if peerserver => format!("idle --clients {idle_many} --seconds 3 --peerserver"),
            Self::IdleMany => format!("idle --clients {idle_many} --seconds 3 --room --message 4096"),
            Self::Fanout100 | Self::TwoWorkers => format!("fanout --members 100 --rate 14000 {window}"),
            Self::Fanout1000 => format!("fanout --members 1000 --rate 14000 {window}"),
            Self::Cluster => format!("fanout --rooms 2 --members 91 --rate 14000 {window}"),
            Self::Echo => format!("echo --clients 100 --rate 14000 {window}"),
            Self::Connect => {
                let who = if peerserver { "--peerserver" } else { "" };
                format!("connect --rate {connects} --seconds {seconds} --stay 60 {who}")
            }
            Self::Relay => format!("relay --pairs 50 --rate 14000 {window}"),
            Self::Storm => format!("storm --clients {storm} --members 10 --rest 5"),
            Self::Crowd => format!("crowd --clients {crowd} --rest 5 --patience 30"),
            Self::Reconnect => format!("reconnect --clients {reconnect} --rest 5 --patience 30"),
            Self::Readers => readers,
            Self::SlowReader => format!("{readers} --stalled 1"),
        };
        text.push_str(&format!(" --dialect {}", contestant.dialect()));
        for target in servers.targets() {
            text.push_str(&format!(" --target {target}"));
        }
        for pid in servers.pids() {
            text.push_str(&format!(" --pid {pid}"));
        }
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }
}
