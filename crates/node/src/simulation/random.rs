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

#[test]
fn random_faults() {
    run(100);
}

#[test]
#[ignore = "takes minutes"]
fn soak_random_faults() {
    run(10_000);
}
