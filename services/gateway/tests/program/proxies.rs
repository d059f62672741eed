//! Whose `X-Forwarded-For` counts. The log says which address a handshake is taken to come from.

use std::time::Duration;

use super::refusals::line;
use crate::harness::{
    Server,
    http::{DEADLINE, request},
    refused, until,
    websocket::{SOCKETIO, WebSocket},
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const PEER: &str = "/peerjs?key=peerjs&id=one&token=t";

/// The address that the node takes a handshake with this header to come from, whichever way it is made.
fn address(flags: &[&str], forwarded: &str) -> String {
    let mut server = Server::bare(&[flags, &["--log", "signalbox_node::client=debug"]].concat());
    let headers = [("X-Forwarded-For", forwarded)];
    assert_eq!(request(server.public(), "GET", POLLING, &headers, "").status, 200);
    for target in [SOCKETIO, PEER] {
        WebSocket::connect(server.public(), target, &headers).expect("101");
    }
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(30)), Some(0));
    let log = server.log();
    let mut addresses: Vec<&str> = log
        .iter()
        .filter(|line| line.contains("handshake"))
        .filter_map(|line| line.split_once("address=").map(|(_, address)| address))
        .collect();
    assert_eq!(addresses.len(), 3, "{log:#?}");
    addresses.dedup();
    assert_eq!(addresses.len(), 1, "all ways are alike: {addresses:?}");
    addresses[0].to_owned()
}

#[test]
fn without_proxied_nobody_is_believed() {
    assert_eq!(address(&[], "192.0.2.7"), "127.0.0.1");
}

#[test]
fn a_list_of_all_believes_every_peer() {
    let flags = ["--proxied", "--trusted-proxies", "0.0.0.0/0"];
    assert_eq!(address(&flags, "198.51.100.9, 192.0.2.7"), "198.51.100.9");
}

#[test]
fn with_proxied_alone_it_does_not_start() {
    let line = line(&refused(&["--proxied"]), 2);
    assert_eq!(line, "--proxied: needs --trusted-proxies too (set --trusted-proxies 10.0.0.0/8 too)");
}

#[test]
fn with_a_list_only_its_proxies_are_believed() {
    let flags = ["--proxied", "--trusted-proxies", "127.0.0.0/8,10.0.0.0/8"];
    assert_eq!(address(&flags, "198.51.100.9, 192.0.2.7, 10.0.0.1"), "192.0.2.7");
    assert_eq!(address(&flags, "192.0.2.7, no address"), "127.0.0.1");
}

#[test]
fn a_peer_that_is_not_on_the_list_is_not_believed() {
    assert_eq!(address(&["--proxied", "--trusted-proxies", "10.0.0.0/8"], "192.0.2.7"), "127.0.0.1");
}

#[test]
fn a_proxy_may_have_an_ipv6_address() {
    let flags = ["--host", "::1", "--proxied", "--trusted-proxies", "::1/128,2001:db8::/32"];
    assert_eq!(address(&flags, "192.0.2.7, 2001:db8::5"), "192.0.2.7");
    assert_eq!(address(&["--host", "::1"], "192.0.2.7"), "::1");
}

#[test]
fn the_log_names_the_client_that_is_refused_disconnected_or_cut_off() {
    let flags = ["--proxied", "--trusted-proxies", "127.0.0.1", "--log", "signalbox_node=debug"];
    let mut server = Server::bare(&[&flags[..], &["--outbox-limit", "2000000", "--workers", "1"]].concat());
    let base = server.public().to_owned();
    let from = |last: u8| format!("192.0.2.{last}");
    // One for each line, so that none can stand for another.
    let open = |last: u8, target: &str| {
        let mut socket = WebSocket::connect(&base, target, &[("X-Forwarded-For", &from(last))]).expect("101");
        let _ = socket.text();
        socket
    };
    let refused =
        request(&base, "GET", "/socket.io/?EIO=3&transport=polling", &[("X-Forwarded-For", &from(1))], "");
    assert_eq!(refused.status, 400);
    let target = "/socket.io/?EIO=3&transport=websocket";
    assert!(WebSocket::connect(&base, target, &[("X-Forwarded-For", &from(2))]).is_err());
    drop(open(3, SOCKETIO));
    drop(open(4, PEER));
    drop(open(5, "/peerjs?key=wrong&id=one&token=t"));
    let mut deaf = open(6, SOCKETIO);
    let mut speaker = open(7, SOCKETIO);
    for member in [&mut deaf, &mut speaker] {
        member.send("40");
        member.send(r#"420["join","room"]"#);
        while !member.text().starts_with("430[") {}
    }
    let evicted =
        || crate::metrics::sample(&server, r#"signalbox_evictions_total{reason="slow_reader"}"#) > 0.0;
    until(DEADLINE, || {
        speaker.send(&format!(r#"42["message","room","{}"]"#, "x".repeat(900_000)));
        evicted().then_some(())
    })
    .expect("the deaf one is cut off");

    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE), Some(0));
    let log = server.log();
    for (last, what) in [
        (1, "request refused"),
        (2, "upgrade refused"),
        (3, "client disconnected"),
        (4, "client disconnected"),
        (5, "client turned away"),
        (6, "client cut off"),
        (6, "client disconnected"),
    ] {
        let named =
            log.iter().any(|line| line.contains(what) && line.contains(&format!("address={}", from(last))));
        assert!(named, "{what} of {}: {log:#?}", from(last));
    }
}
