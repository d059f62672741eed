//! The dashboard of the service: with credentials that are issued, refused and used, every expression returns data.

mod harness;

use std::{collections::BTreeSet, path::Path};

use harness::{
    SECRET, Service,
    coturn::Coturn,
    free_port,
    http::get,
    prometheus::{Prometheus, check_metrics, expressions},
    redis::Redis,
    token, until,
};

#[test]
fn every_expression_of_the_dashboard_returns_data() {
    let redis = Redis::start();
    let stats = format!("--redis-statsdb=ip=127.0.0.1 port={} dbname=0 connect_timeout=5", redis.port());
    let coturn = Coturn::start_with_secret_at(free_port(), &[&stats]);
    let url = redis.url();
    let service = Service::start(&[
        "--secret",
        SECRET,
        "--uri",
        &coturn.uri("udp"),
        "--uri",
        &coturn.uri("tcp"),
        "--redis-url",
        &url,
        "--coturn-stats-url",
        &url,
    ]);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("turn-prometheus");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    let prometheus = Prometheus::start(&directory, &[&service.management]);
    until(|| (prometheus.series("signalbox_turn_build_info") == 1).then_some(())).expect("it scrapes");

    let (username, password) = service.credential("alice");
    check_metrics(&get(&service.management, "/metrics").body);
    assert!(coturn.relays((&username, &password), &["-t"]));
    assert_eq!(service.get("/v1/ice-servers", &token("bob", false)).status, 403);
    let expressions = expressions(|file| file == "turn.json");
    assert!(expressions.len() > 15);
    let mut missing: BTreeSet<&(String, String)> = expressions.iter().collect();
    until(|| {
        missing.retain(|(_, expression)| prometheus.series(expression) == 0);
        missing.is_empty().then_some(())
    });
    assert!(missing.is_empty(), "these returned nothing:\n{missing:#?}");
}
