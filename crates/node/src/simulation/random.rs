//! Faults at random, by seed.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use signalbox_telemetry::Metrics;

use super::{check::Closure, scenario::run_at_random, tests::failure};

/// Seeds are independent, and simulated side by side; other tests want a core too.
const MAX_THREADS: usize = 2;

/// The seeds that are asked for, or so many.
fn seeds(otherwise: u64) -> Range<u64> {
    let Ok(asked) = std::env::var("SIGNALBOX_SEEDS") else { return 0..otherwise };
    let (from, to) = asked.split_once("..").unwrap_or(("0", &asked));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) => from..to,
        _ => panic!("SIGNALBOX_SEEDS is a number or from..to, not {asked}"),
    }
}

#[expect(clippy::print_stderr, reason = "how sessions were closed is part of the result")]
fn run(otherwise: u64) {
    if let Ok(seed) = std::env::var("SIGNALBOX_SEED") {
        let closure = run_at_random(seed.parse().expect("SIGNALBOX_SEED is a number"), true, &Metrics::new());
        eprintln!("closed: {closure:?}");
        return;
    }
    let seeds = seeds(otherwise);
    let next = AtomicU64::new(seeds.start);
    let work = || {
        // A registry is dear, and its counters are not looked at.
        let metrics = Metrics::new();
        let taken = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end);
        let result = |seed| (seed, failure(|| run_at_random(seed, false, &metrics)));
        std::iter::from_fn(taken).map(result).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("its panics are caught")).collect()
    });
    let mut closures: BTreeMap<Option<Closure>, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    for (seed, result) in results {
        match result {
            Ok(closure) => *closures.entry(closure).or_default() += 1,
            Err(what) => failed.push((seed, what)),
        }
    }
    eprintln!("{closures:?}");
    failed.sort_unstable();
    let listed: Vec<_> = failed.iter().map(|(seed, what)| format!("seed {seed}: {what}\n")).collect();
    assert!(failed.is_empty(), "replay one with SIGNALBOX_SEED=n\n{}", listed.concat());
}

#[test]
fn random_faults() {
    run(100);
}

#[test]
#[ignore = "takes minutes"]
fn soak_random_faults() {
    run(10_000);
}
