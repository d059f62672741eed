//! Many nodes and their clients on one seeded clock: the real machines, the model as the store, and a network that delays, cuts
//! and loses. Nodes are killed and paused; the store goes away, comes back empty, loses everything. What clients are told is
//! checked at every step; when the faults are over and everything has come to rest, the replicas, the store and the clients are
//! compared.
//!
//! - `world`: the clock, the store, the faults.
//! - `node`: one node: its machine, its connections, and a shard as far as the cluster sees one; `clients`: what its clients do.
//!
//! `SIGNALBOX_SEED=n` replays one seed with a trace, `SIGNALBOX_SEEDS=n` runs as many, `SIGNALBOX_SEEDS=from..to` those.

mod clients;
mod node;
mod world;

use signalbox_test_support::seeds;
use world::World;

fn run(otherwise: u64, scenario: fn(World)) {
    seeds::simulate(otherwise, |seed, trace| scenario(World::new(seed, trace)));
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
