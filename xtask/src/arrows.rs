//! The dependency arrows: which crate of the workspace may use which, and what must stay out of reach.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Result, bail};

use crate::step::Outcome;
use crate::workspace::{Graph, Workspace};

/// What holds for one crate.
struct Rule {
    name: &'static str,
    /// The crates of the workspace it may name in its Cargo.toml, for tests too.
    may_use: &'static [&'static str],
    /// How the names begin of the packages it must not reach over any number of arrows, tests aside.
    must_not_reach: &'static [&'static str],
}

/// No sockets, no async, no store: protocols, and the logic of the cluster.
const PROTOCOL: &[&str] = &["actix", "tokio", "redis"];
/// Drivers of a store may need a runtime, but no web server.
const NO_WEB: &[&str] = &["actix"];
/// The link between nodes works without the store.
const NO_STORE: &[&str] = &["actix", "redis"];
/// No runtime and no web server between the program and the kernel.
const NO_RUNTIME: &[&str] = &["actix", "tokio"];
const ANYTHING: &[&str] = &[];

/// The rooms and floors of the house. A service is in nobody's `may_use`.
const RULES: &[Rule] = &[
    Rule { name: "signalbox-websocket", may_use: &[], must_not_reach: PROTOCOL },
    Rule { name: "signalbox-engineio", may_use: FRAMES, must_not_reach: PROTOCOL },
    Rule {
        name: "signalbox-socketio",
        may_use: &["signalbox-websocket", "signalbox-engineio"],
        must_not_reach: PROTOCOL,
    },
    // It knows packets only by the names that events cannot have.
    Rule { name: "signalbox-rules", may_use: &["signalbox-socketio"], must_not_reach: PROTOCOL },
    Rule { name: "signalbox-peerserver", may_use: FRAMES, must_not_reach: PROTOCOL },
    // Its one fetcher has a thread of its own.
    Rule { name: "signalbox-auth", may_use: &[], must_not_reach: PROTOCOL },
    Rule { name: "signalbox-turn", may_use: &[], must_not_reach: PROTOCOL },
    // What the admin API says: nodes, the server and the command line share it.
    Rule { name: "signalbox-admin", may_use: &[], must_not_reach: PROTOCOL },
    // The settings of tokens are the same in all programs.
    Rule { name: "signalbox-config", may_use: &["signalbox-auth"], must_not_reach: PROTOCOL },
    Rule { name: "signalbox-tls", may_use: &[], must_not_reach: NO_WEB },
    Rule { name: "signalbox-telemetry", may_use: &["signalbox-tls"], must_not_reach: NO_WEB },
    // It asks servers of the application, and blocks meanwhile.
    Rule { name: "signalbox-hooks", may_use: &["signalbox-tls"], must_not_reach: NO_WEB },
    Rule { name: "signalbox-cluster", may_use: PEERS, must_not_reach: PROTOCOL },
    // For tests only. It is in the `may_use` of those whose tests need it, also of the cluster, which it stands upon.
    Rule { name: "signalbox-test-support", may_use: &["signalbox-cluster"], must_not_reach: PROTOCOL },
    Rule { name: "signalbox-node-link", may_use: &["signalbox-cluster"], must_not_reach: NO_STORE },
    Rule { name: "signalbox-cluster-redis", may_use: CLUSTER_CRATES, must_not_reach: NO_WEB },
    Rule { name: "signalbox-node", may_use: LOWER_CRATES, must_not_reach: ANYTHING },
    Rule { name: "signalbox-gateway", may_use: ALL_CRATES, must_not_reach: ANYTHING },
    Rule { name: "signalbox-turn-credentials", may_use: TURN_CRATES, must_not_reach: ANYTHING },
    // It measures the node from outside, as others would.
    Rule { name: "signalbox-loadtest", may_use: FRAMES, must_not_reach: NO_WEB },
    Rule { name: "signalbox-benches", may_use: PROTOCOL_CRATES, must_not_reach: PROTOCOL },
    // A yardstick with something of ours in it would measure us with ourselves.
    Rule { name: "loadtest-peer-floor", may_use: &[], must_not_reach: NO_RUNTIME },
    Rule { name: "xtask", may_use: &[], must_not_reach: PROTOCOL },
];

/// A protocol makes frames: encoded once, shared by all their receivers.
const FRAMES: &[&str] = &["signalbox-websocket"];

/// What crosses the cluster for a peer: frames and kinds of messages.
const PEERS: &[&str] = &["signalbox-websocket", "signalbox-peerserver", "signalbox-test-support"];

/// What a driver of the cluster is made of.
const CLUSTER_CRATES: &[&str] = &[
    "signalbox-websocket",
    "signalbox-peerserver",
    "signalbox-telemetry",
    "signalbox-cluster",
    "signalbox-node-link",
    "signalbox-test-support",
];

const PROTOCOL_CRATES: &[&str] =
    &["signalbox-websocket", "signalbox-engineio", "signalbox-socketio", "signalbox-peerserver"];

/// What is below the node.
const LOWER_CRATES: &[&str] = &[
    "signalbox-websocket",
    "signalbox-engineio",
    "signalbox-socketio",
    "signalbox-peerserver",
    "signalbox-auth",
    "signalbox-admin",
    "signalbox-rules",
    "signalbox-telemetry",
    "signalbox-cluster",
    "signalbox-cluster-redis",
    "signalbox-node-link",
    "signalbox-test-support",
];

/// What is below the services.
const ALL_CRATES: &[&str] = &[
    "signalbox-websocket",
    "signalbox-engineio",
    "signalbox-socketio",
    "signalbox-peerserver",
    "signalbox-auth",
    "signalbox-admin",
    "signalbox-telemetry",
    "signalbox-cluster",
    "signalbox-cluster-redis",
    "signalbox-node-link",
    "signalbox-config",
    "signalbox-tls",
    "signalbox-hooks",
    "signalbox-node",
    "signalbox-test-support",
];

/// What the TURN service is made of: it holds no session, so it is no node.
const TURN_CRATES: &[&str] = &[
    "signalbox-auth",
    "signalbox-config",
    "signalbox-telemetry",
    "signalbox-tls",
    "signalbox-turn",
    "signalbox-test-support",
];

/// Checks the workspace as it is.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let violations = violations(&workspace.graph()?);
    if !violations.is_empty() {
        bail!("{}", violations.join("\n"));
    }
    Ok(Outcome::Done)
}

/// One sentence for each arrow that must not be.
fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (id, package) in graph.packages.iter().filter(|(_, package)| package.is_member) {
        let name = &package.name;
        let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
            found.push(format!("{name} has no rule in xtask/src/arrows.rs"));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(used) = graph.packages.get(&dependency.id) else { continue };
            if used.is_member && used.name != *name && !rule.may_use.contains(&used.name.as_str()) {
                found.push(format!("{name} must not use {}", used.name));
            }
        }
        for (family, chain) in forbidden_reach(graph, id, rule.must_not_reach) {
            found.push(format!("{name} must not reach {family}: {}", chain.join(" -> ")));
        }
    }
    found
}

/// For each forbidden family that is within reach, the shortest chain of packages that leads to it.
fn forbidden_reach(graph: &Graph, from: &str, families: &[&'static str]) -> Vec<(&'static str, Vec<String>)> {
    let came_from = reachable(graph, from);
    let mut found = Vec::new();
    for family in families {
        let is_family = |id: &&&str| graph.packages.get(**id).is_some_and(|p| p.name.starts_with(family));
        let chains = came_from.keys().filter(is_family).map(|id| chain(graph, &came_from, id));
        if let Some(shortest) = chains.min_by_key(Vec::len) {
            found.push((*family, shortest));
        }
    }
    found
}

/// Everything within reach over arrows that are not for tests alone, with the package each was first reached from.
fn reachable<'a>(graph: &'a Graph, from: &'a str) -> BTreeMap<&'a str, &'a str> {
    let mut came_from = BTreeMap::new();
    let mut seen = BTreeSet::from([from]);
    let mut waiting = VecDeque::from([from]);
    while let Some(id) = waiting.pop_front() {
        let Some(package) = graph.packages.get(id) else { continue };
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.is_dev_only) {
            if seen.insert(&dependency.id) {
                came_from.insert(dependency.id.as_str(), id);
                waiting.push_back(&dependency.id);
            }
        }
    }
    came_from
}

fn chain(graph: &Graph, came_from: &BTreeMap<&str, &str>, to: &str) -> Vec<String> {
    let name =
        |id: &str| graph.packages.get(id).map_or_else(|| id.to_owned(), |package| package.name.clone());
    let mut chain = vec![name(to)];
    let mut id = to;
    while let Some(previous) = came_from.get(id) {
        chain.push(name(previous));
        id = previous;
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Package};

    /// A graph of `package: dependency, ...` lines. Members are those with a rule; `~` marks what only tests need.
    fn graph(lines: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for line in lines {
            let (name, dependencies) = line.split_once(": ").unwrap_or((line, ""));
            let dependency = |text: &str| Dependency {
                id: text.trim_start_matches('~').to_owned(),
                is_dev_only: text.starts_with('~'),
            };
            let dependencies: Vec<_> =
                dependencies.split(", ").filter(|text| !text.is_empty()).map(dependency).collect();
            for dependency in &dependencies {
                let outside = Package { name: dependency.id.clone(), ..Package::default() };
                graph.packages.entry(dependency.id.clone()).or_insert(outside);
            }
            let is_member = name.starts_with("signalbox-");
            let package = Package { name: name.to_owned(), is_member, dependencies };
            graph.packages.insert(name.to_owned(), package);
        }
        graph
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
        let graph = graph(&[
            "signalbox-gateway: signalbox-node, actix-web",
            "signalbox-node: signalbox-socketio, signalbox-cluster, signalbox-cluster-redis, tokio",
            "signalbox-cluster-redis: signalbox-cluster, signalbox-node-link, tokio, redis",
            "signalbox-node-link: signalbox-cluster, tokio",
            "signalbox-cluster: signalbox-peerserver, ~tokio",
            "signalbox-socketio: signalbox-engineio, bytes",
            "signalbox-engineio: signalbox-websocket",
            "signalbox-websocket: bytes, ~tokio",
        ]);
        assert_eq!(violations(&graph), Vec::<String>::new());
    }

    #[test]
    fn a_protocol_crate_that_reaches_a_runtime_is_found_with_the_way_it_does() {
        let graph = graph(&["signalbox-engineio: helper", "helper: tokio-util", "tokio-util: tokio"]);
        let expected = "signalbox-engineio must not reach tokio: signalbox-engineio -> helper -> tokio-util";
        assert_eq!(violations(&graph), [expected]);
    }

    #[test]
    fn a_driver_of_the_cluster_may_have_a_runtime_and_a_store_but_the_cluster_itself_has_neither() {
        let graph = graph(&[
            "signalbox-cluster-redis: tokio, redis, actix-rt",
            "signalbox-cluster: tokio, redis",
            "signalbox-node-link: tokio, redis",
        ]);
        let expected = [
            "signalbox-cluster must not reach tokio: signalbox-cluster -> tokio",
            "signalbox-cluster must not reach redis: signalbox-cluster -> redis",
            "signalbox-cluster-redis must not reach actix: signalbox-cluster-redis -> actix-rt",
            "signalbox-node-link must not reach redis: signalbox-node-link -> redis",
        ];
        assert_eq!(violations(&graph), expected);
    }

    #[test]
    fn an_arrow_that_points_up_or_into_a_service_is_found_in_tests_too() {
        let graph = graph(&[
            "signalbox-engineio: signalbox-socketio",
            "signalbox-socketio: ~signalbox-node",
            "signalbox-node: signalbox-gateway",
            "signalbox-gateway",
        ]);
        let expected = [
            "signalbox-engineio must not use signalbox-socketio",
            "signalbox-node must not use signalbox-gateway",
            "signalbox-socketio must not use signalbox-node",
        ];
        assert_eq!(violations(&graph), expected);
    }

    #[test]
    fn a_crate_without_a_rule_is_found() {
        let graph = graph(&["signalbox-new"]);
        assert_eq!(violations(&graph), ["signalbox-new has no rule in xtask/src/arrows.rs"]);
    }
}
