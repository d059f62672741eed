//! Where the program listens, and what it serves where.

use std::{io::Read as _, time::Duration};

use crate::harness::{
    Server,
    http::{connect, get, send},
};

const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];

#[test]
fn one_line_tells_the_addresses_and_they_work() {
    let mut server = Server::bare(&["--metrics-port", "0"]);
    let expected = format!(
        "signalbox-gateway listening public={} management={} metrics={}",
        server.public(),
        server.management(),
        server.metrics()
    );
    assert_eq!(get(server.public(), "/peerjs/id").status, 200);
    assert_eq!(get(server.management(), "/livez").status, 200);
    assert_eq!(get(server.metrics(), "/livez").status, 200);
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(30)), Some(0));
    let log = server.log();
    let lines: Vec<&String> = log.iter().filter(|line| line.contains("listening")).collect();
    assert_eq!(lines, [&expected], "{log:#?}");
}

#[test]
fn health_and_metrics_stay_off_the_public_listener() {
    let server = Server::bare(&[]);
    for path in HEALTH {
        assert_eq!(get(server.management(), path).status, 200, "{path}");
        assert_eq!(get(server.public(), path).status, 404, "{path}");
    }
}

#[test]
fn the_management_listener_serves_no_clients() {
    let server = Server::bare(&[]);
    for path in ["/socket.io/?EIO=4&transport=polling", "/peerjs/id", "/demo/", "/"] {
        assert_eq!(get(server.management(), path).status, 404, "{path}");
    }
}

#[test]
fn the_listener_for_metrics_serves_nothing_else() {
    let server = Server::bare(&["--metrics-port", "0"]);
    for path in HEALTH {
        assert_eq!(get(server.metrics(), path).status, 200, "{path}");
    }
    for path in ["/", "/demo/", "/peerjs/id", "/socket.io/?EIO=4&transport=polling", "/admin/", "/admin/v1"] {
        assert_eq!(get(server.metrics(), path).status, 404, "{path}");
    }
}

#[test]
fn a_node_that_just_started_is_alive_and_ready() {
    let server = Server::bare(&[]);
    assert_eq!(get(server.management(), "/livez").body, r#"{"status":"alive"}"#);
    assert_eq!(get(server.management(), "/readyz").body, r#"{"status":"ready"}"#);
}

#[test]
fn health_may_be_asked_for_with_head() {
    let server = Server::bare(&[]);
    for target in ["/livez", "/readyz", "/metrics"] {
        let mut stream = connect(server.management());
        send(&mut stream, server.management(), "HEAD", target, &[], "");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{target}: {answer}");
    }
}
