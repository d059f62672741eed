//! Many nodes and their clients on one seeded clock: the real machines, the model as the store, and a network that delays, cuts and
//! loses; nodes are killed and paused, the store goes away, comes back empty, forgets everything. What clients are told is checked
//! at every step, and what is left when the faults are over is compared with the truth.
//!
//! - `world`: the clock, the store, the faults.
//! - `node`: one node: its machine, its connections, and a shard as far as the cluster sees one.
//!
//! `SIGNALBOX_SEED=n` replays one seed with a trace, `SIGNALBOX_SEEDS=n` runs as many.

mod node;
mod world;

use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seeds: u64) {
    if let Some(seed) = number("SIGNALBOX_SEED") {
        World::new(seed, true).run();
        return;
    }
    for seed in 0..number("SIGNALBOX_SEEDS").unwrap_or(seeds) {
        let world = std::panic::AssertUnwindSafe(|| World::new(seed, false).run());
        if let Err(panic) = std::panic::catch_unwind(world) {
            let what = panic.downcast_ref::<String>().map_or("", String::as_str);
            panic!("seed {seed}: {what} (replay it with SIGNALBOX_SEED={seed})");
        }
    }
}

#[test]
fn any_order_of_faults_keeps_the_promises() {
    run(300);
}

#[test]
#[ignore = "takes minutes"]
fn soak_any_order_of_faults_keeps_the_promises() {
    run(10_000);
}
