//! A node that is full.

use crate::{
    harness::{
        Server,
        http::{DEADLINE, connect, get, request},
        until,
        websocket::{SOCKETIO, WebSocket},
    },
    metrics::sample,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const PEER: &str = "/peerjs?key=peerjs&id=one&token=t";
/// Above what the program takes without clients, below what the test has it hold.
const LIMIT: usize = 200_000_000;
/// What one message holds for one reader.
const MESSAGE: usize = 9_000_000;

#[test]
fn a_full_node_refuses_new_clients_and_serves_those_it_has() {
    let limit = LIMIT.to_string();
    let server = Server::bare(&[
        "--memory-limit",
        &limit,
        "--memory-budget",
        "400000000",
        "--max-payload",
        "10000000",
        "--bytes-per-second",
        "off",
    ]);
    assert_eq!(sample(&server, "signalbox_memory_limit_bytes"), LIMIT as f64);
    let readiness = || get(server.management(), "/readyz");
    assert_eq!(readiness().status, 200);
    let mut speaker = WebSocket::socketio(server.public());
    let mut members = Vec::new();
    for number in 0..6 {
        // Each in a room of its own: what many share counts once.
        let handshake = get(server.public(), POLLING);
        let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
        let join = format!(r#"420["join","room {number}"]"#);
        for packet in ["40", &join] {
            assert_eq!(request(server.public(), "POST", &target, &[], packet).status, 200);
            assert_eq!(get(server.public(), &target).status, 200);
        }
        speaker.send(&format!(r#"420["join","room {number}"]"#));
        assert!(speaker.text().starts_with("430["));
        members.push(target);
    }
    for number in 0..6 {
        for _ in 0..4 {
            speaker.send(&format!(r#"421["message","room {number}","{}"]"#, "x".repeat(MESSAGE)));
            while speaker.text() != r#"431[{"ok":true}]"# {}
        }
    }
    until(DEADLINE, || (readiness().status == 503).then_some(())).expect("it is full");
    assert_eq!(readiness().body, r#"{"status":"full"}"#);
    assert_eq!(sample(&server, "signalbox_full"), 1.0);
    let refused = get(server.public(), POLLING);
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("5")));
    for target in [SOCKETIO, PEER] {
        let refused = WebSocket::connect(server.public(), target, &[]).err().expect("no room");
        assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("5")));
    }
    assert!(sample(&server, r#"signalbox_handshakes_total{outcome="full",protocol="peerserver"}"#) >= 1.0);
    // Whoever is there goes on.
    speaker.send(r#"422["leave","room 0"]"#);
    while !speaker.text().starts_with("432[") {}
    assert_eq!(get(server.management(), "/livez").status, 200);

    for target in &members {
        assert_eq!(request(server.public(), "POST", target, &[], "1").status, 200);
    }
    until(DEADLINE, || (readiness().status == 200).then_some(())).expect("there is room again");
    assert_eq!(get(server.public(), POLLING).status, 200);
}

#[test]
fn a_node_with_hardly_a_connection_left_is_full_until_some_are_gone() {
    let server = Server::bare(&["--max-connections", "10"]);
    let readiness = || get(server.management(), "/readyz").status;
    let mut connections: Vec<_> = (0..8).map(|_| connect(server.public())).collect();
    assert_eq!(readiness(), 200);
    connections.push(connect(server.public()));
    until(DEADLINE, || (readiness() == 503).then_some(())).expect("it is full");
    connections.truncate(5);
    until(DEADLINE, || (readiness() == 200).then_some(())).expect("there is room again");
}
