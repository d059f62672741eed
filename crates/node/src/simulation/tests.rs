//! Every fault at every step of a transfer, and faults at random.

use std::{collections::BTreeMap, time::Duration};

use signalbox_telemetry::Metrics;
use signalbox_test_support::seeds::caught;

use super::{
    check::Closure,
    faults::Fault,
    scenario::{MOVER, Path, run, steps},
};

/// The seeds of the enumerated runs.
const SEED: u64 = 1;

const SECOND: Duration = Duration::from_secs(1);
const THREE: Duration = Duration::from_secs(3);
const EIGHT: Duration = Duration::from_secs(8);
/// The nodes.
const SOURCE: usize = 0;
const DESTINATION: usize = 1;
const THIRD: usize = 2;

/// Every step of a transfer along each path, with each of these faults before it.
#[expect(clippy::print_stderr, reason = "how many runs there were is part of the result")]
fn enumerate(faults: impl Fn(Path) -> Vec<Fault>) {
    let metrics = Metrics::new();
    let mut jobs = Vec::new();
    for path in [Path::SameNode, Path::OtherNode, Path::OtherNodeRelayed] {
        let outcome = run(SEED, path, None, false, &metrics);
        for fault in faults(path) {
            jobs.extend(steps(&outcome, fault).into_iter().map(|step| (path, step, fault)));
        }
    }
    let results = jobs.iter().map(|(path, step, fault)| {
        let closure = caught(|| run(SEED, *path, Some((*step, *fault)), false, &metrics).closure);
        (*path, *step, *fault, closure)
    });
    let mut closures: BTreeMap<String, BTreeMap<Option<Closure>, usize>> = BTreeMap::new();
    let mut failed = Vec::new();
    for (path, step, fault, closure) in results {
        match closure {
            Ok(closure) => {
                let counts = closures.entry(format!("{path:?} {fault:?}")).or_default();
                *counts.entry(closure).or_default() += 1;
            }
            Err(what) => failed.push(format!("{path:?}, {fault:?} before step {step}: {what}\n")),
        }
    }
    for (what, counts) in closures {
        eprintln!("{what}: {counts:?}");
    }
    failed.sort_unstable();
    assert!(failed.is_empty(), "{} of {} runs\n{}", failed.len(), jobs.len(), failed.concat());
}

/// Faults of the session's own node and of the node that it goes to, if that is another.
fn of_both(path: Path, fault: impl Fn(usize) -> Fault) -> Vec<Fault> {
    let nodes = if path == Path::SameNode { &[SOURCE][..] } else { &[SOURCE, DESTINATION] };
    nodes.iter().map(|node| fault(*node)).collect()
}

/// Faults of the link between these two nodes; also of the links over which requests are relayed.
fn of_links(path: Path, fault: impl Fn(usize, usize) -> Fault) -> Vec<Fault> {
    match path {
        Path::SameNode => Vec::new(),
        Path::OtherNode => vec![fault(SOURCE, DESTINATION)],
        Path::OtherNodeRelayed => {
            vec![fault(SOURCE, DESTINATION), fault(SOURCE, THIRD), fault(DESTINATION, THIRD)]
        }
    }
}

mod every_fault_at_every_step_of_a_transfer {
    use super::*;

    #[test]
    fn a_node_is_killed() {
        enumerate(|path| of_both(path, Fault::Kill));
    }

    #[test]
    fn the_source_does_nothing_for_a_while() {
        enumerate(|_| vec![Fault::Pause(SOURCE, THREE), Fault::Pause(SOURCE, EIGHT)]);
    }

    #[test]
    fn the_destination_does_nothing_for_a_while() {
        enumerate(|path| match path {
            Path::SameNode => Vec::new(),
            _ => vec![Fault::Pause(DESTINATION, THREE), Fault::Pause(DESTINATION, EIGHT)],
        });
    }

    #[test]
    fn a_node_that_only_relays_is_killed_or_does_nothing_for_a_while() {
        enumerate(|path| match path {
            Path::OtherNodeRelayed => {
                vec![Fault::Kill(THIRD), Fault::Pause(THIRD, THREE), Fault::Pause(THIRD, EIGHT)]
            }
            _ => Vec::new(),
        });
    }

    #[test]
    fn a_link_breaks() {
        enumerate(|path| of_links(path, Fault::BreakLink));
    }

    #[test]
    fn a_link_to_a_node_breaks_that_cannot_resume() {
        enumerate(|path| of_links(path, Fault::LoseLink));
    }

    #[test]
    fn nothing_passes_a_link_for_a_while() {
        enumerate(|path| {
            let down = |lasts| of_links(path, move |one, other| Fault::LinkDown(one, other, lasts));
            [down(THREE), down(EIGHT)].concat()
        });
    }

    #[test]
    fn a_node_loses_the_bus() {
        enumerate(|path| of_both(path, Fault::LoseBus));
    }

    #[test]
    fn redis_is_away_for_a_second() {
        enumerate(|_| vec![Fault::StoreAway(SECOND, false), Fault::StoreAway(SECOND, true)]);
    }

    #[test]
    fn redis_is_away_for_longer_than_a_lease() {
        enumerate(|_| vec![Fault::StoreAway(EIGHT, false)]);
    }

    #[test]
    fn redis_is_emptied() {
        enumerate(|_| vec![Fault::EmptyStore]);
    }

    #[test]
    fn the_client_goes_away() {
        enumerate(|_| vec![Fault::CloseWebSocket(MOVER), Fault::GiveUpPoll(MOVER)]);
    }
}

/// Replays, if it is asked for, one run of the others with a trace.
#[test]
fn without_a_fault_the_session_moves() {
    let metrics = Metrics::new();
    for path in [Path::SameNode, Path::OtherNode, Path::OtherNodeRelayed] {
        let asked = std::env::var("SIGNALBOX_RUN").ok();
        let asked: Option<Vec<&str>> = asked.as_deref().map(|asked| asked.split(' ').collect());
        let fault = match asked.as_deref() {
            Some([of, name, step]) if *of == format!("{path:?}") => {
                let known =
                    all_faults().into_iter().find(|fault| format!("{fault:?}").replace(' ', "") == *name);
                Some((step.parse().expect("a step"), known.expect("a fault")))
            }
            Some(_) => continue,
            None => None,
        };
        let outcome = run(SEED, path, fault, asked.is_some(), &metrics);
        assert_eq!(outcome.closure, None, "{path:?}");
    }
}

/// All faults that can be replayed.
fn all_faults() -> Vec<Fault> {
    let nodes = [SOURCE, DESTINATION, THIRD];
    let mut faults = vec![
        Fault::StoreAway(SECOND, false),
        Fault::StoreAway(SECOND, true),
        Fault::StoreAway(EIGHT, false),
        Fault::EmptyStore,
        Fault::CloseWebSocket(MOVER),
        Fault::GiveUpPoll(MOVER),
    ];
    for node in nodes {
        faults.extend([
            Fault::Kill(node),
            Fault::LoseBus(node),
            Fault::Pause(node, THREE),
            Fault::Pause(node, EIGHT),
        ]);
        for other in nodes {
            faults.extend([
                Fault::BreakLink(node, other),
                Fault::LoseLink(node, other),
                Fault::LinkDown(node, other, THREE),
                Fault::LinkDown(node, other, EIGHT),
            ]);
        }
    }
    faults
}
