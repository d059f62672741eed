//! Which seeds a simulation runs with, and how a failure is shown.
//!
//! `SIGNALBOX_SEED=n` replays one seed with a trace, `SIGNALBOX_SEEDS=n` runs as many, `SIGNALBOX_SEEDS=from..to` those.

use std::{
    ops::Range,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

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

/// The result of a run, or with what message it panicked.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// Simulates with the seeds that are asked for, or with `otherwise` many, and gives back the results. `simulate` is given a seed, and
/// whether to trace what it does.
///
/// # Panics
///
/// When a simulation has panicked: with the seeds of all that have.
pub fn simulate<T: Send>(otherwise: u64, simulate: impl Fn(u64, bool) -> T + Sync) -> Vec<T> {
    if let Ok(seed) = std::env::var("SIGNALBOX_SEED") {
        return vec![simulate(seed.parse().expect("SIGNALBOX_SEED is a number"), true)];
    }
    let seeds = seeds(otherwise);
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let taken = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end);
        let result = |seed| (seed, caught(|| simulate(seed, false)));
        std::iter::from_fn(taken).map(result).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
    let mut results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("its panics are caught")).collect()
    });
    results.sort_unstable_by_key(|(seed, _)| *seed);
    let failed = results.iter().filter_map(|(seed, result)| Some((seed, result.as_ref().err()?)));
    let listed: Vec<_> = failed.map(|(seed, what)| format!("seed {seed}: {what}\n")).collect();
    assert!(listed.is_empty(), "replay one with SIGNALBOX_SEED=n\n{}", listed.concat());
    results.into_iter().filter_map(|(_, result)| result.ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_simulated_once() {
        assert_eq!(simulate(20, |seed, _| seed), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_names_its_seed() {
        let failure = caught(|| simulate(5, |seed, _| assert!(seed != 3, "three")));
        let text = failure.unwrap_err();
        assert!(text.contains("seed 3: three") && !text.contains("seed 2"), "{text}");
    }
}
