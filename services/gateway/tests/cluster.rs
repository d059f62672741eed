//! Several gateways on one Redis, and real clients spread over them. What each file shows is said at its head.

mod harness;

use std::path::Path;

use harness::{Server, redis::Redis};

/// Nodes of a cluster, on a Redis of their own.
struct Cluster {
    nodes: Vec<Server>,
    _redis: Redis,
}

impl Cluster {
    fn start(nodes: usize, flags: &[&str]) -> Self {
        let redis = Redis::start();
        let url = redis.url();
        let flags = [&["--redis-url", &url], flags].concat();
        let nodes = (0..nodes).map(|_| Server::gateway(&flags)).collect();
        let cluster = Self { nodes, _redis: redis };
        for node in &cluster.nodes {
            harness::until(harness::DEADLINE, || {
                (harness::http::get(node.management(), "/readyz").status == 200).then_some(())
            })
            .expect("the node joins its cluster");
        }
        cluster
    }

    /// Runs a file of `tests/js`, whose clients go to the nodes in turns.
    fn run_js(&self, file: &str, environment: &[(&str, &str)]) {
        let urls: Vec<&str> = self.nodes.iter().map(Server::public).collect();
        let urls = urls.join(" ");
        let mut all = vec![("GATEWAY_URLS", Path::new(&urls))];
        all.extend(environment.iter().map(|(name, value)| (*name, Path::new(*value))));
        self.nodes[0].run_js_with(file, &all);
    }
}

#[test]
fn cluster_is_one_whatever_happens() {
    Server::run_js_alone("cluster.test.mjs");
}

#[test]
fn cluster_outlives_a_cut_between_one_node_and_redis() {
    Server::run_js_alone("cuts.test.mjs");
}

#[test]
fn cluster_is_one_on_a_redis_cluster() {
    Server::run_js_alone("redis-cluster.test.mjs");
}

#[test]
fn cluster_outlives_failovers_of_a_redis_cluster() {
    Server::run_js_alone("failovers.test.mjs");
}

#[test]
fn cluster_outlives_failovers_of_sentinel() {
    Server::run_js_alone("sentinel.test.mjs");
}

#[test]
fn cluster_loses_what_is_said_without_redis_and_no_more() {
    Server::run_js_alone("outage.test.mjs");
}

#[test]
fn cluster_a_node_dies_while_sessions_move() {
    Server::run_js_alone("moving.test.mjs");
}

#[test]
fn cluster_peerserver_behaves_as_one_node() {
    Cluster::start(3, &[]).run_js("peer.test.mjs", &[]);
}

#[test]
fn cluster_a_crowd_shares_a_room() {
    Cluster::start(3, &[]).run_js("crowd.test.mjs", &[("CROWD", "300")]);
}

#[test]
fn cluster_chromium_demo_works_across_nodes() {
    Cluster::start(2, &["--allow_discovery"]).run_js("demo.test.mjs", &[]);
}
