//! Programs of others at the admin API: what its description is held against, and an assistant's host.

use std::time::Duration;

use super::Cluster;
use crate::harness::{DEADLINE, Server, admin_token};

/// Runs a file of `tests/js/python` against a cluster, whose first node it asks.
fn run(nodes: usize, limit: Duration, file: &str, seconds: u64) {
    let (token, hash) = admin_token();
    let cluster = Cluster::start(nodes, &["--admin-token-hash", &hash, "--memory-limit", "100000000000"]);
    let urls: Vec<&str> = cluster.nodes.iter().map(Server::public).collect();
    let environment = [
        ("GATEWAY_URLS", urls.join(" ")),
        ("ADMIN_TOKEN", token),
        ("ADMIN_URL", cluster.nodes[0].management().to_owned()),
        ("SECONDS", seconds.to_string()),
    ];
    cluster.nodes[0].run_python_within(limit, file, &environment);
}

#[test]
fn cluster_admin_api_does_what_its_description_says() {
    run(4, DEADLINE + Duration::from_secs(120), "check_description.py", 15);
}

#[test]
#[ignore = "takes five minutes: cargo xtask soak"]
fn soak_admin_api_does_what_its_description_says() {
    run(4, Duration::from_secs(900), "check_description.py", 300);
}

#[test]
fn cluster_assistants_look_and_act_with_the_model_context_protocol() {
    run(2, DEADLINE, "test_mcp.py", 0);
}
