//! TURN servers that stop relaying are gone from the answers within five seconds, and back when they are back.

mod harness;

use std::time::Instant;

use harness::{
    SECRET, Service,
    coturn::{Coturn, DENY_ALL, metric},
    free_port, token, until,
};

/// Three times what is promised, for a busy machine.
const SOON: f64 = 15.0;

fn hosts(service: &Service) -> Option<String> {
    let response = service.get("/v1/ice-servers", &token("alice", true));
    (response.status == 200).then_some(response.body)
}

#[test]
fn a_server_that_is_killed_is_left_out_until_it_is_back() {
    let coturns = [Coturn::start(&[]), Coturn::start(&[])];
    let ports = [coturns[0].port, coturns[1].port];
    let [first, second] = coturns;
    let uri = |port: u16, transport: &str| {
        format!("turn:127.0.0.1:{port}?transport={transport};server=turn-{port}")
    };
    let uris: Vec<String> = ports.iter().flat_map(|port| [uri(*port, "udp"), uri(*port, "tcp")]).collect();
    let mut flags = vec!["--secret", SECRET, "--subject-limit", "0", "--address-limit", "0"];
    for uri in &uris {
        flags.extend(["--uri", uri]);
    }
    let service = Service::start(&flags);
    let relayed = |port: u16, transport: &str| {
        let line = format!(
            r#"signalbox_turn_probes_total{{outcome="relayed",server="turn-{port}",transport="{transport}"}}"#
        );
        metric(&service.management, &line).filter(|count| *count > 0.0)
    };
    for (port, transport) in [(ports[0], "udp"), (ports[0], "tcp"), (ports[1], "udp"), (ports[1], "tcp")] {
        until(|| relayed(port, transport))
            .unwrap_or_else(|| panic!("{transport} of {port} relays to the probe"));
    }
    let names = |port: u16| hosts(&service).map(|body| body.contains(&format!(":{port}?")));
    let is_up = |port: u16| {
        metric(
            &service.management,
            &format!(r#"signalbox_turn_server_up{{server="turn-{port}",transport="udp"}}"#),
        )
    };
    assert_eq!(is_up(ports[0]), Some(1.0));

    drop(first);
    let killed = Instant::now();
    until(|| (names(ports[0]) == Some(false)).then_some(())).expect("it is gone from the answers");
    assert!(killed.elapsed().as_secs_f64() < SOON, "{:?}", killed.elapsed());
    assert_eq!(names(ports[1]), Some(true));

    let again = Coturn::start_with_secret_at(ports[0], &[]);
    until(|| (names(ports[0]) == Some(true)).then_some(())).expect("it is back");
    drop((again, second));
    until(|| hosts(&service).is_none().then_some(())).expect("with no server there is no answer");
    assert_eq!(service.get("/v1/ice-servers", &token("alice", true)).status, 503);
}

#[test]
fn a_server_that_answers_and_does_not_relay_is_left_out_too() {
    // It answers STUN and makes allocations, but reaches nobody.
    let coturn = Coturn::start_with_secret_at(free_port(), DENY_ALL);
    let uri = coturn.uri("udp");
    let flags = ["--secret", SECRET, "--uri", &uri, "--subject-limit", "0", "--address-limit", "0"];
    let service = Service::start(&flags);
    until(|| hosts(&service).is_none().then_some(())).expect("it is left out");
    let shallow = Service::start(&[&flags[..], &["--probe", "allocate"]].concat());
    let line = r#"signalbox_turn_probes_total{outcome="relayed",server="127.0.0.1",transport="udp"}"#;
    until(|| metric(&shallow.management, line).filter(|count| *count > 1.0))
        .expect("an allocation is enough here");
    assert!(hosts(&shallow).is_some());
}

#[test]
fn turn_over_tls_is_tried_with_its_certificate() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("probe-tls");
    std::fs::create_dir_all(&directory).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = file("cert.pem", made.cert.pem());
    let key = file("key.pem", made.signing_key.serialize_pem());
    let tls_port = free_port();
    let coturn = Coturn::start_with_tls(free_port(), tls_port, &certificate, &key);
    let uri = format!("turns:localhost:{tls_port}?transport=tcp");
    let service = Service::start(&["--secret", SECRET, "--uri", &uri, "--probe-ca", &certificate]);
    let line = r#"signalbox_turn_probes_total{outcome="relayed",server="localhost",transport="tls"}"#;
    until(|| metric(&service.management, line).filter(|count| *count > 0.0)).expect("it relays over TLS");
    // By the authorities of the system it is nobody's.
    let unlimited = ["--subject-limit", "0", "--address-limit", "0"];
    let stranger = Service::start(&[&["--secret", SECRET, "--uri", &uri][..], &unlimited].concat());
    until(|| hosts(&stranger).is_none().then_some(())).expect("a certificate of nobody is refused");
    drop(coturn);
}

#[test]
fn tries_give_back_what_they_allocate() {
    // So many allocations for each user, as the shipped configuration has 24. coturn ends one a second or two after it was given back.
    let coturn = Coturn::start(&["--user-quota=10"]);
    let uri = coturn.uri("udp");
    let mut service = Service::start(&["--secret", SECRET, "--uri", &uri, "--probe-interval", "300"]);
    let count = |outcome: &str| {
        let labels = format!(r#"{{outcome="{outcome}",server="127.0.0.1",transport="udp"}}"#);
        metric(&service.management, &format!("signalbox_turn_probes_total{labels}")).unwrap_or(0.0)
    };
    until(|| (count("relayed") >= 14.0).then_some(())).expect("it goes on relaying");
    assert_eq!(count("allocation-refused"), 0.0);
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
    let log = service.log();
    assert!(!log.iter().any(|line| line.contains("turn_client")), "a try is no news: {log:#?}");
}
