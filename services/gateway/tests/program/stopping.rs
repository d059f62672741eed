//! Signals: every client's transport is closed, so that it reconnects elsewhere, and the program ends.

use std::{net::TcpStream, time::Duration};

use super::metrics::sample;
use crate::harness::{
    Server, http, until,
    websocket::{Frame, WebSocket},
};

/// Three times what is promised: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(30);
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// A polling client, connected to the namespace `/`, whose GET is pending.
fn polling(base: &str) -> TcpStream {
    let handshake = http::get(base, POLLING).body;
    let sid = handshake.split('"').nth(3).expect("a sid");
    let target = format!("{POLLING}&sid={sid}");
    assert_eq!(http::request(base, "POST", &target, &[], "40").body, "ok");
    assert!(http::get(base, &target).body.starts_with("40{"));
    let mut stream = http::connect(base);
    http::send(&mut stream, base, "GET", &target, &[], "");
    stream
}

/// A client that never reads, though the server has more for it than the sockets between them hold.
fn deaf(server: &Server) -> WebSocket {
    let mut deaf = WebSocket::socketio(server.public());
    deaf.send(r#"421["join","room"]"#);
    assert!(deaf.text().starts_with("431["));
    let mut speaker = WebSocket::socketio(server.public());
    speaker.send(r#"421["join","room"]"#);
    assert!(speaker.text().starts_with("431["));
    let message = format!(r#"422["message","room","{}"]"#, "x".repeat(500_000));
    let stuck = until(DEADLINE, || {
        speaker.send(&message);
        assert!(speaker.text().starts_with("432["));
        (sample(server, "signalbox_outbox_bytes") > 0.0).then_some(())
    });
    assert!(stuck.is_some(), "the client that does not read is not behind");
    deaf
}

/// A socket that is told to disconnect does not come back by itself.
fn assert_no_disconnect(frames: &[Frame]) {
    let is_disconnect = |frame: &Frame| matches!(frame, Frame::Text(text) if text.starts_with("41"));
    assert!(!frames.iter().any(is_disconnect), "{frames:?}");
}

/// Waits until the program knows that it is to stop.
fn becomes_unready(server: &Server) {
    let unready = until(DEADLINE, || {
        let response = http::get(server.management(), "/readyz");
        (response.status == 503).then_some(response)
    });
    assert_eq!(unready.expect("it is not ready while it stops").body, r#"{"status":"stopping"}"#);
}

#[test]
fn a_node_that_stops_says_so_on_connections_that_are_kept() {
    let server = Server::bare(&["--drain-timeout", "8000"]);
    let mut kept = http::connect(server.public());
    let mut ask = || {
        http::send(&mut kept, server.public(), "GET", POLLING, &[("Connection", "keep-alive")], "");
        http::answer(&mut kept).expect("an answer")
    };
    assert_eq!(ask().header("Connection"), None);
    // It waits for this one.
    let _deaf = deaf(&server);
    server.signal("TERM");
    becomes_unready(&server);
    let last = ask();
    assert_eq!((last.status, last.header("Connection")), (503, Some("close")));
}

fn closes_everybody_and_ends(signal: &str) {
    let mut server = Server::bare(&["--outbox-limit", "67108864"]);
    let base = server.public().to_owned();
    let mut deaf = deaf(&server);
    let mut polling = polling(&base);
    let mut socket = WebSocket::socketio(&base);
    let mut peer = WebSocket::peer(&base, "one");
    server.signal(signal);

    let answer = http::answer(&mut polling).expect("the pending GET is answered");
    assert_eq!((answer.status, answer.body.as_str()), (200, "1"));
    let frames = socket.rest();
    assert_no_disconnect(&frames);
    assert!(matches!(frames.last(), Some(Frame::Close(_))), "{frames:?}");
    assert!(matches!(peer.rest()[..], [Frame::Close(_)]));
    drop((socket, peer));

    assert_eq!(server.wait(DEADLINE), Some(0));
    assert_no_disconnect(&deaf.rest());
}

#[test]
fn sigterm_closes_everybody_and_ends_with_0() {
    closes_everybody_and_ends("TERM");
}

#[test]
fn sigint_closes_everybody_and_ends_with_0() {
    closes_everybody_and_ends("INT");
}

#[test]
fn a_polling_client_between_two_requests_keeps_nobody_waiting() {
    let mut server = Server::bare(&[]);
    let _idle = http::get(server.public(), POLLING);
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE), Some(0));
}

#[test]
fn a_connection_without_a_request_keeps_nobody_waiting() {
    let mut server = Server::bare(&[]);
    let _idle = http::connect(server.public());
    let _half = {
        let mut stream = http::connect(server.public());
        std::io::Write::write_all(&mut stream, b"GET /peerjs/id HT").expect("half a request");
        stream
    };
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE), Some(0));
}

#[test]
fn while_it_stops_it_is_not_ready() {
    let server = Server::bare(&[]);
    // It does not hang up when it is asked to, and so keeps the program from ending at once.
    let _lingers = WebSocket::socketio(server.public());
    server.signal("TERM");
    becomes_unready(&server);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut twice = Server::bare(&["--drain-timeout", "8000"]);
    let mut once = Server::bare(&["--drain-timeout", "8000"]);
    let _linger = (WebSocket::socketio(twice.public()), WebSocket::socketio(once.public()));
    twice.signal("TERM");
    becomes_unready(&twice);
    once.signal("TERM");
    becomes_unready(&once);
    twice.signal("TERM");
    assert_eq!(twice.wait(DEADLINE), Some(0));
    assert_eq!(
        once.wait(Duration::ZERO),
        None,
        "the one that got a single signal still waits for its client"
    );
    assert_eq!(once.wait(DEADLINE), Some(0));
}
