//! What a client has begun it has to finish: in time, and not too slowly.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{
        Server,
        http::{DEADLINE, answer, connect, get, request, send},
        until,
        websocket::{Frame, WebSocket},
    },
    metrics::sample,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
/// Short times, so that the test is short.
const SHORT: &[&str] = &["--header-timeout", "400", "--body-timeout", "400", "--min-body-rate", "2000"];

fn dropped(server: &Server, reason: &str) -> f64 {
    sample(server, &format!("signalbox_connections_dropped_total{{reason=\"{reason}\"}}"))
}

/// The status of the answer, behind which the connection ends.
fn last_status(stream: &mut TcpStream) -> Option<u16> {
    let status = answer(stream).map(|answer| answer.status);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "something follows");
    status
}

fn open(server: &Server) -> String {
    let handshake = get(server.public(), POLLING);
    format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"))
}

#[test]
fn every_head_of_a_connection_has_its_time() {
    let server = Server::bare(SHORT);
    let mut stream = connect(server.public());
    send(&mut stream, server.public(), "GET", POLLING, &[("Connection", "keep-alive")], "");
    assert_eq!(answer(&mut stream).expect("an answer").status, 200);
    // Between two requests it may be idle for longer.
    thread_sleep(600);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").expect("a head begins");
    let began = Instant::now();
    assert_eq!(last_status(&mut stream), Some(408));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // The first one, before anything of it has come.
    assert_eq!(last_status(&mut connect(server.public())), Some(408));

    // One byte at a time does not help.
    let mut stream = connect(server.public());
    let closed = (0..100).any(|_| {
        thread_sleep(20);
        stream.write_all(b"X").is_err()
    });
    assert!(closed, "it goes on for ever");
    until(DEADLINE, || (dropped(&server, "header_timeout") == 3.0).then_some(())).expect("all are counted");
}

#[test]
fn heads_have_a_size_and_proper_lines() {
    let server = Server::bare(&[]);
    let large = "x".repeat(17_000);
    let answered = |head: &str| {
        let mut stream = connect(server.public());
        stream.write_all(head.as_bytes()).expect("a head");
        answer(&mut stream).map(|answer| answer.status)
    };
    let handshake = |lines: &str| answered(&format!("GET {POLLING} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
    assert_eq!(handshake(""), Some(200));
    assert_eq!(handshake(&format!("Cookie: {}\r\n", &large[..16_000])), Some(200));
    assert_eq!(handshake("Cookie: x\n"), Some(400));
    assert_eq!(answered(&format!("GET {POLLING} HTTP/1.1\nHost: x\n\n")), Some(400));
    assert_eq!(handshake(&format!("Cookie: {large}\r\n")), Some(431));
    assert_eq!(answered(&large), Some(431));
    assert_eq!(dropped(&server, "header_size"), 2.0);

    let server = Server::bare(&["--max-header-size", "20000"]);
    assert_eq!(request(server.public(), "GET", POLLING, &[("Cookie", &large)], "").status, 200);
}

#[test]
fn bodies_have_a_time_and_a_least_rate() {
    let server = Server::bare(SHORT);
    let begin = |length: usize| {
        let mut stream = connect(server.public());
        let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n", open(&server));
        stream.write_all(head.as_bytes()).expect("a head");
        stream
    };
    let mut stalls = begin(1_000);
    stalls.write_all(b"4").expect("a body begins");
    assert_eq!(last_status(&mut stalls), Some(408));
    assert_eq!(dropped(&server, "body_timeout"), 1.0);

    // However much has come before.
    let mut late = begin(100_000);
    late.write_all(&vec![b'4'; 99_000]).expect("most of a body");
    let since = Instant::now();
    assert_eq!(last_status(&mut late), Some(408));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(dropped(&server, "body_timeout"), 2.0);

    // 5,000 bytes a second, for longer than the timeout.
    let mut steady = begin(8 * 1_000);
    for _ in 0..8 {
        steady.write_all("4".repeat(1_000).as_bytes()).expect("it goes on");
        thread_sleep(200);
    }
    assert_ne!(answer(&mut steady).expect("an answer").status, 408);
    assert_eq!(dropped(&server, "body_timeout"), 2.0);
}

#[test]
fn messages_and_events_that_do_not_arrive_whole_have_their_time() {
    let server = Server::bare(SHORT);
    let mut message = WebSocket::socketio(server.public());
    message.begin(r#"42["message"#, 50);
    let mut event = WebSocket::socketio(server.public());
    event.send(r#"451-["message",{"_placeholder":true,"num":0}]"#);
    let mut idle = WebSocket::socketio(server.public());
    let mut peer = WebSocket::peer(server.public(), "half");
    peer.begin("{", 10);

    assert_eq!(message.rest(), [Frame::Close(Some(1008))]);
    assert_eq!(peer.rest(), [Frame::Close(Some(1008))]);
    assert!(matches!(event.rest()[..], [Frame::Close(_)]));
    assert_eq!(dropped(&server, "message_timeout"), 3.0);
    idle.send(r#"420["join","room"]"#);
    assert!(idle.text().starts_with("430["));
}

#[test]
fn who_does_not_read_an_answer_is_closed() {
    let server = Server::bare(&[
        "--body-timeout",
        "400",
        "--max-payload",
        "20000000",
        "--min-body-rate",
        "1000000000",
    ]);
    let target = open(&server);
    for packet in ["40", r#"420["join","room"]"#] {
        assert_eq!(request(server.public(), "POST", &target, &[], packet).status, 200);
        assert_eq!(get(server.public(), &target).status, 200);
    }
    let mut speaker = WebSocket::socketio(server.public());
    speaker.send(r#"420["join","room"]"#);
    assert!(speaker.text().starts_with("430["));
    // That it has joined comes first.
    assert_eq!(get(server.public(), &target).status, 200);
    let mut deaf = connect(server.public());
    send(&mut deaf, server.public(), "GET", &target, &[], "");
    speaker.send(&format!(r#"421["message","room","{}"]"#, "x".repeat(15_000_000)));
    assert_eq!(speaker.text(), r#"431[{"ok":true}]"#);
    until(DEADLINE, || (dropped(&server, "answer_timeout") == 1.0).then_some(())).expect("it is closed");
    until(DEADLINE, || (sample(&server, "signalbox_held_bytes") == 0.0).then_some(()))
        .expect("nothing is held");
}

#[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
fn thread_sleep(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}
