//! Faults at random, by seed.

use std::collections::BTreeMap;

use signalbox_telemetry::Metrics;
use signalbox_test_support::seeds;

use super::{check::Closure, scenario::run_at_random};

thread_local! {
    /// A registry is dear, and its counters are not looked at.
    static METRICS: Metrics = Metrics::new();
}

#[expect(clippy::print_stderr, reason = "how sessions were closed is part of the result")]
fn run(otherwise: u64) {
    let simulate = |seed, trace| METRICS.with(|metrics| run_at_random(seed, trace, metrics));
    let mut closures: BTreeMap<Option<Closure>, usize> = BTreeMap::new();
    for closure in seeds::simulate(otherwise, simulate) {
        *closures.entry(closure).or_default() += 1;
    }
    eprintln!("{closures:?}");
}

/// Seeds that found something: sessions that moved and ended while Redis was away, and one whose link broke when it had just ended.
const FOUND: [u64; 10] = [1093, 1432, 1483, 2261, 2860, 4736, 5516, 6274, 8559, 9571];

#[test]
fn random_faults_that_found_something() {
    for seed in FOUND {
        METRICS.with(|metrics| run_at_random(seed, false, metrics));
    }
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
