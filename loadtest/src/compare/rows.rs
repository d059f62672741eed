//! What of the measurements stands in the table, and the targets.

use super::Run;
use super::measurements::Measurement;
use super::servers::Contestant;
use crate::measure::PhaseReport;

/// What ours may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    AtMost(f64),
    TimesFloor(f64),
    /// Times the best of the servers that people use.
    TimesBest(f64),
    /// Times what one of them has.
    Times(f64, Contestant),
    /// Times our own median in another measurement.
    TimesOwn(f64, Measurement),
    Exactly(f64),
}

/// A row of the table.
pub(super) struct Definition {
    /// `{idle}` and `{idle-many}` stand for how many connections those measurements hold.
    pub(super) title: &'static str,
    pub(super) measurement: Measurement,
    pub(super) value: fn(&Run) -> Option<f64>,
    pub(super) target: Target,
}

/// All rows in their order.
pub(super) const ROWS: &[Definition] = &[
    Definition {
        title: "RSS per idle connection in one room, {idle} (KiB)",
        measurement: Measurement::Idle,
        value: |run| phase(run, "idle")?.memory_per_connection,
        target: Target::AtMost(3.0),
    },
    Definition {
        title: "the same after each received one 4 KiB message",
        measurement: Measurement::Idle,
        value: |run| phase(run, "after the message")?.memory_per_connection,
        target: Target::AtMost(3.0),
    },
    Definition {
        title: "RSS per idle connection in one room, {idle-many} (KiB)",
        measurement: Measurement::IdleMany,
        value: |run| phase(run, "idle")?.memory_per_connection,
        target: Target::AtMost(3.0),
    },
    Definition {
        title: "the same after each received one 4 KiB message",
        measurement: Measurement::IdleMany,
        value: |run| phase(run, "after the message")?.memory_per_connection,
        target: Target::AtMost(3.0),
    },
    Definition {
        title: "CPU of {idle} idle connections (% of a core)",
        measurement: Measurement::Idle,
        value: |run| Some(phase(run, "idle")?.load? * 100.0),
        target: Target::AtMost(1.0),
    },
    Definition {
        title: "user CPU per delivery, room of 100 (µs)",
        measurement: Measurement::Fanout100,
        value: |run| Some(phase(run, "measure")?.cost_per_delivery?.user),
        target: Target::AtMost(1.2),
    },
    Definition {
        title: "total CPU per delivery, room of 100 (µs)",
        measurement: Measurement::Fanout100,
        value: delivery,
        target: Target::TimesFloor(1.2),
    },
    Definition {
        title: "the same, two workers",
        measurement: Measurement::TwoWorkers,
        value: delivery,
        target: Target::TimesOwn(1.1, Measurement::Fanout100),
    },
    Definition {
        title: "two servers on one Redis, rooms of 91: total CPU of all three per delivery (µs)",
        measurement: Measurement::Cluster,
        value: delivery,
        target: Target::TimesFloor(1.4),
    },
    Definition {
        title: "the same, held against 0.4 of Node's",
        measurement: Measurement::Cluster,
        value: delivery,
        target: Target::Times(0.4, Contestant::SocketIo),
    },
    Definition {
        title: "the same, p99 latency (ms)",
        measurement: Measurement::Cluster,
        value: p99,
        target: Target::Times(0.5, Contestant::SocketIo),
    },
    Definition {
        title: "total CPU per delivery, room of 1,000 (µs)",
        measurement: Measurement::Fanout1000,
        value: delivery,
        target: Target::TimesFloor(1.2),
    },
    Definition {
        title: "echo, total CPU per round trip (µs)",
        measurement: Measurement::Echo,
        value: delivery,
        target: Target::TimesFloor(1.4),
    },
    Definition {
        title: "connect + namespace join, server CPU (µs)",
        measurement: Measurement::Connect,
        value: |run| Some(phase(run, "measure")?.cost_per_connect?.total),
        target: Target::Times(1.0, Contestant::Socketioxide),
    },
    Definition {
        title: "PeerServer relay, total CPU per message (µs)",
        measurement: Measurement::Relay,
        value: delivery,
        target: Target::Times(1.0 / 3.0, Contestant::Peer),
    },
    Definition {
        title: "p99 latency, room of 100 (ms)",
        measurement: Measurement::Fanout100,
        value: p99,
        target: Target::TimesBest(1.2),
    },
    Definition {
        title: "RSS after a storm and when all have left, times that at the start",
        measurement: Measurement::Storm,
        value: |run| {
            let after = phase(run, "after all left")?.usage?.rss;
            Some(after as f64 / run.report.rss_before? as f64)
        },
        target: Target::AtMost(1.2),
    },
    Definition {
        title: "{crowd} clients of two servers on one Redis join one room at once: total CPU of all three per join (ms)",
        measurement: Measurement::Crowd,
        value: |run| with_rest(run, "join", "after all joined"),
        target: Target::Times(1.0, Contestant::SocketIo),
    },
    Definition {
        title: "the same, until all have joined (s)",
        measurement: Measurement::Crowd,
        value: |run| Some(phase(run, "join")?.seconds),
        target: Target::Times(1.0, Contestant::SocketIo),
    },
    Definition {
        title: "{reconnect} clients of such a room drop, and are back within a second: total CPU per client (ms)",
        measurement: Measurement::Reconnect,
        value: |run| with_rest(run, "reconnect", "after all are back"),
        target: Target::Times(1.0, Contestant::SocketIo),
    },
    Definition {
        title: "the same, until all are back (s)",
        measurement: Measurement::Reconnect,
        value: |run| Some(phase(run, "reconnect")?.seconds),
        target: Target::Times(1.0, Contestant::SocketIo),
    },
    Definition {
        title: "p99 latency, room of 20, 16 KiB messages (ms)",
        measurement: Measurement::Readers,
        value: p99,
        target: Target::AtMost(f64::INFINITY),
    },
    Definition {
        title: "the same while a member does not read",
        measurement: Measurement::SlowReader,
        value: p99,
        target: Target::TimesOwn(1.2, Measurement::Readers),
    },
    Definition {
        title: "most memory that member cost (MiB)",
        measurement: Measurement::SlowReader,
        value: |run| {
            let before = phase(run, "warm-up")?.usage?.rss;
            Some(phase(run, "measure")?.usage?.peak.saturating_sub(before) as f64 / 1024.0)
        },
        // The outbox limit of 4 MB.
        target: Target::AtMost(4.0),
    },
    Definition {
        title: "members evicted",
        measurement: Measurement::SlowReader,
        value: |run| run.evictions.map(|evictions| evictions as f64),
        target: Target::Exactly(1.0),
    },
];

fn phase<'a>(run: &'a Run, name: &str) -> Option<&'a PhaseReport> {
    run.report.phase(name)
}

/// Processor time in milliseconds for each client of a phase, with what is left to do in the one after it.
fn with_rest(run: &Run, name: &str, rest: &str) -> Option<f64> {
    let busy = |name: &str| phase(run, name)?.usage.map(|usage| (usage.user + usage.system) as f64);
    let clients = phase(run, name)?.delivered;
    (clients > 0).then_some((busy(name)? + busy(rest)?) / clients as f64)
}

fn delivery(run: &Run) -> Option<f64> {
    Some(phase(run, "measure")?.cost_per_delivery?.total)
}

fn p99(run: &Run) -> Option<f64> {
    Some(phase(run, "measure")?.latency?.p99 as f64 / 1_000.0)
}
