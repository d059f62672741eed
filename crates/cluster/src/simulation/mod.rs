//! Many nodes and their clients on one seeded clock: the real machines, the model as the store, and a network that delays, cuts
//! and loses. Nodes are killed and paused; the store goes away, comes back empty, loses everything. What clients are told is
//! checked at every step; when the faults are over and everything has come to rest, the replicas, the store and the clients are
//! compared.
//!
//! - `world`: the clock, the store, the faults.
//! - `node`: one node: its machine, its connections, and a shard as far as the cluster sees one.
//!
//! `SIGNALBOX_SEED=n` replays one seed with a trace, `SIGNALBOX_SEEDS=n` runs as many, `SIGNALBOX_SEEDS=from..to` those.

mod node;
mod world;

use std::{
    ops::Range,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use world::World;

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

/// What goes wrong with a seed.
fn failure(seed: u64, scenario: fn(World)) -> Option<String> {
    let world = AssertUnwindSafe(|| scenario(World::new(seed, false)));
    let panic = std::panic::catch_unwind(world).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

fn run(otherwise: u64, scenario: fn(World)) {
    if let Ok(seed) = std::env::var("SIGNALBOX_SEED") {
        scenario(World::new(seed.parse().expect("SIGNALBOX_SEED is a number"), true));
        return;
    }
    let seeds = seeds(otherwise);
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let taken = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end);
        std::iter::from_fn(taken)
            .filter_map(|seed| Some((seed, failure(seed, scenario)?)))
            .collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
    let mut failed: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("its panics are caught")).collect()
    });
    failed.sort_unstable();
    let listed: Vec<_> = failed.iter().map(|(seed, what)| format!("seed {seed}: {what}\n")).collect();
    assert!(failed.is_empty(), "replay one with SIGNALBOX_SEED=n\n{}", listed.concat());
}

#[test]
fn any_order_of_faults_keeps_the_promises() {
    run(300, World::run);
}

#[test]
#[ignore = "takes minutes"]
fn soak_any_order_of_faults_keeps_the_promises() {
    run(10_000, World::run);
}

#[test]
fn of_parallel_claims_with_one_token_one_stays() {
    run(300, World::run_parallel_claims);
}
