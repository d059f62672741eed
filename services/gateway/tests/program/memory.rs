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
/// Four of them fill most of what may wait for a client, and are more than the kernel takes over for one that does not read.
const HUGE: usize = 9_000_000;

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
    let server = Server::bare(&["--max-payload", "10000000", "--memory-budget", "40000000"]);
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
