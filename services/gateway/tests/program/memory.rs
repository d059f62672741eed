//! Clients that would fill the node's memory.

use crate::{
    harness::{
        Server,
        http::{DEADLINE, connect, get, request, send},
        until,
        websocket::WebSocket,
    },
    metrics::sample,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
/// Less than a message may have by default; four of them fill most of what may wait for a client.
const LARGE: usize = 900_000;
/// The same with ten times as much of everything: more than the kernel takes over for a client that does not read.
const HUGE: usize = 10 * LARGE;

/// A polling client in the room `room`: the target of its requests.
fn member(base: &str) -> String {
    let handshake = get(base, POLLING);
    let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
    for packet in ["40", r#"420["join","room"]"#] {
        assert_eq!(request(base, "POST", &target, &[], packet).status, 200);
        assert_eq!(get(base, &target).status, 200);
    }
    target
}

#[test]
fn answers_that_nobody_reads_are_bounded_by_the_memory_budget() {
    let server = Server::bare(&["--max-payload", "10000000", "--memory-budget", "60000000"]);
    let waiting = || sample(&server, "signalbox_outbox_bytes");
    let member = member(server.public());
    let mut speaker = WebSocket::socketio(server.public());
    speaker.send(r#"420["join","room"]"#);
    assert!(speaker.text().starts_with("430["));
    let mut speak = |then_wait: usize| {
        for _ in 0..4 {
            speaker.send(&format!(r#"421["message","room","{}"]"#, "x".repeat(HUGE)));
            assert_eq!(speaker.text(), r#"431[{"ok":true}]"#);
        }
        until(DEADLINE, || (waiting() >= then_wait as f64).then_some(())).expect("the messages wait");
    };

    speak(4 * HUGE);
    let mut deaf = connect(server.public());
    send(&mut deaf, server.public(), "GET", &member, &[], "");
    // The answer that is on its way counts as well as what comes after it.
    speak(8 * HUGE);
    assert_eq!(get(server.public(), &member).status, 503, "two of them are too much");
    assert_eq!(get(server.public(), &member).status, 400, "the session is over");
    assert_eq!(sample(&server, r#"signalbox_evictions_total{reason="memory_budget"}"#), 1.0);

    drop(deaf);
    until(DEADLINE, || (waiting() == 0.0).then_some(())).expect("nothing waits for who is gone");
}

#[test]
fn events_that_never_arrive_whole_are_bounded_by_the_memory_budget() {
    let server = Server::bare(&["--memory-budget", "4000000"]);
    let waiting = || sample(&server, "signalbox_outbox_bytes");
    let evicted = || sample(&server, r#"signalbox_evictions_total{reason="memory_budget"}"#);
    let placeholders: Vec<_> = (0..10).map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#)).collect();
    let begin = || {
        let mut client = WebSocket::socketio(server.public());
        client.send(&format!(r#"4510-["message","room",{}]"#, placeholders.join(",")));
        for _ in 0..4 {
            // Base64 of three quarters of it.
            client.send(&format!("b{}", "A".repeat(LARGE)));
        }
        client
    };

    let _one = begin();
    until(DEADLINE, || (waiting() >= (3 * LARGE) as f64).then_some(())).expect("what has arrived counts");
    assert_eq!(evicted(), 0.0);
    let _other = begin();
    until(DEADLINE, || (evicted() == 1.0 && waiting() <= 4e6).then_some(()))
        .expect("two of them are too much");
}

#[test]
fn messages_that_never_arrive_whole_are_bounded_by_the_memory_budget() {
    let server = Server::bare(&["--memory-budget", "4000000"]);
    let waiting = || sample(&server, "signalbox_outbox_bytes");
    let evicted = || sample(&server, r#"signalbox_evictions_total{reason="memory_budget"}"#);
    let begin = |number: usize| {
        let mut client = WebSocket::peer(server.public(), &format!("peer-{number}"));
        client.begin(&"x".repeat(LARGE), 1_000);
        client
    };

    let few: Vec<WebSocket> = (0..3).map(begin).collect();
    until(DEADLINE, || (waiting() >= (3 * LARGE) as f64).then_some(())).expect("what has arrived counts");
    assert_eq!(evicted(), 0.0);
    let more: Vec<WebSocket> = (3..8).map(begin).collect();
    until(DEADLINE, || (evicted() >= 1.0 && waiting() <= 4e6).then_some(())).expect("eight are too much");
    drop((few, more));
    until(DEADLINE, || (waiting() == 0.0).then_some(())).expect("nothing is held for who is gone");
}
