//! Where the program listens, and what it serves where.

use std::{io::Read as _, process::Command, time::Duration};

use crate::harness::{
    Server,
    http::{answer, connect, get, request, send},
    websocket::WebSocket,
};

const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];

#[test]
fn all_addresses_are_those_of_both_families() {
    let server = Server::bare(&["--host", "::"]);
    let port = server.public().rsplit(':').next().expect("a port");
    for host in ["127.0.0.1", "[::1]"] {
        let response = get(&format!("http://{host}:{port}"), "/");
        assert_eq!(response.status, 200, "{host}");
    }
}

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
fn the_program_asks_one_that_runs_how_it_is() {
    let mut server = Server::bare(&["--admin-host", "0.0.0.0"]);
    let port = server.management().rsplit(':').next().expect("a port").to_owned();
    let health = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"));
        let output = command.arg("health").args(arguments).env("SIGNALBOX_ADMIN_PORT", &port).output();
        let output = output.expect("it runs");
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    assert_eq!(health(&["--admin-host", "0.0.0.0"]), (Some(0), String::new()));
    assert_eq!(health(&["--ready"]), (Some(0), String::new()));
    let (code, error) = health(&["--no-such-setting"]);
    assert_eq!((code, error.lines().count()), (Some(2), 1), "{error}");
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(30)), Some(0));
    let (code, error) = health(&[]);
    assert_eq!((code, error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.contains(&format!("http://127.0.0.1:{port}/livez")), "{error}");
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
fn a_management_connection_that_ends_says_so() {
    let server = Server::bare(&[]);
    // As proxies send it that ask for upgrades with everything, behind requests that do not.
    for last in [("Connection", "upgrade"), ("Connection", "close")] {
        let mut connection = connect(server.management());
        for (header, says) in [(("Connection", "keep-alive"), None), (last, Some("close"))] {
            send(&mut connection, server.management(), "GET", "/livez", &[header], "");
            let response = answer(&mut connection).expect("an answer");
            assert_eq!((response.status, response.header("Connection")), (200, says));
        }
        assert_eq!(connection.read(&mut [0]).expect("the end"), 0);
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

#[test]
fn both_protocols_are_served_over_ipv6() {
    let server = Server::bare(&["--host", "::1", "--admin-host", "::1", "--metrics-port", "0"]);
    for (base, path) in
        [(server.management(), "/readyz"), (server.metrics(), "/metrics"), (server.public(), "/peerjs/id")]
    {
        assert!(base.starts_with("http://[::1]:"), "{base}");
        assert_eq!(get(base, path).status, 200, "{base}{path}");
    }

    let handshake = get(server.public(), "/socket.io/?EIO=4&transport=polling");
    let sid = handshake.body.split('"').nth(3).expect("a sid");
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    for packet in ["40", r#"420["join","room"]"#] {
        assert_eq!(request(server.public(), "POST", &target, &[], packet).body, "ok");
        assert_eq!(get(server.public(), &target).status, 200);
    }
    let mut speaker = WebSocket::socketio(server.public());
    for (event, ack) in [(r#"420["join","room"]"#, "430["), (r#"421["message","room","hello"]"#, "431[")] {
        speaker.send(event);
        assert!(speaker.text().starts_with(ack), "{event}");
    }
    let heard = get(server.public(), &target).body;
    assert!(heard.contains(r#"42["message","hello""#), "{heard}");

    let mut one = WebSocket::peer(server.public(), "one");
    let mut other = WebSocket::peer(server.public(), "other");
    one.send(r#"{"type":"OFFER","dst":"other","payload":1}"#);
    let offer = other.text();
    assert!(offer.contains("OFFER") && offer.contains(r#""src":"one""#), "{offer}");
}

#[test]
fn any_address_means_both_kinds() {
    let server = Server::bare(&["--host", "::"]);
    let port = server.public().rsplit(':').next().expect("a port");
    for host in ["[::1]", "127.0.0.1"] {
        assert_eq!(get(&format!("http://{host}:{port}"), "/peerjs/id").status, 200, "{host}");
    }
}
