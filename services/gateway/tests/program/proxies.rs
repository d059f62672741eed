//! Whose `X-Forwarded-For` counts. The log says which address a handshake is taken to come from.

use std::time::Duration;

use crate::harness::{
    Server,
    http::request,
    websocket::{SOCKETIO, WebSocket},
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const PEER: &str = "/peerjs?key=peerjs&id=one&token=t";

/// The address that the node takes a handshake with this header to come from, whichever way it is made.
fn address(flags: &[&str], forwarded: &str) -> String {
    let mut server = Server::bare(&[flags, &["--log", "signalbox_node::edge=debug"]].concat());
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
fn with_proxied_alone_every_peer_is_believed() {
    assert_eq!(address(&["--proxied"], "198.51.100.9, 192.0.2.7"), "198.51.100.9");
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
