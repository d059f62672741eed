//! `--proxy-protocol`: a proxy says in front of each connection whose it is. The log says which address a handshake is taken to come from.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::harness::{Server, http::request};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const LOG: [&str; 2] = ["--log", "signalbox_node::client=debug"];
/// As a proxy of 127.0.0.0/8 would send it for 192.0.2.7.
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 56324 9000\r\n";

fn v2(command: u8, rest: &[u8]) -> Vec<u8> {
    let family = if rest.is_empty() { 0 } else { 0x11 };
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, 0, rest.len() as u8][..], rest].concat()
}

fn trusting(more: &[&str]) -> Server {
    let flags = ["--proxy-protocol", "--trusted-proxies", "127.0.0.0/8"];
    Server::bare(&[&flags[..], &LOG, more].concat())
}

/// What is answered to these bytes.
fn answer(server: &Server, bytes: &[u8]) -> String {
    let address = server.public().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // Whoever is refused may be gone before everything is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn handshake(header: &[u8]) -> Vec<u8> {
    let request = format!("GET {POLLING} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    [header, request.as_bytes()].concat()
}

/// The addresses that handshakes are taken to come from, in their order.
fn addresses(mut server: Server) -> Vec<String> {
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(30)), Some(0));
    let lines = server.log();
    let handshakes = lines.iter().filter(|line| line.contains("handshake"));
    handshakes.filter_map(|line| line.split_once("address=").map(|(_, address)| address.to_owned())).collect()
}

#[test]
fn a_trusted_proxy_says_whose_a_connection_is() {
    let server = trusting(&[]);
    let of_version_2 = v2(0x21, &[192, 0, 2, 8, 127, 0, 0, 1, 0, 1, 0, 2]);
    let ipv6 = b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n";
    for header in [V1, &of_version_2, ipv6, &v2(0x20, &[]), b"PROXY UNKNOWN\r\n"] {
        assert!(answer(&server, &handshake(header)).contains("0{\"sid\":\""));
    }
    // In version 2 the proxy may speak for itself; in version 1 it may not know.
    assert_eq!(addresses(server), ["192.0.2.7", "192.0.2.8", "2001:db8::7", "127.0.0.1", "127.0.0.1"]);
}

#[test]
fn a_proxy_that_does_not_say_it_is_refused_before_its_request_is_read() {
    let server = trusting(&["--header-timeout", "300"]);
    let began = Instant::now();
    for bytes in [
        &handshake(b"")[..],
        &handshake(b"PROXY TCP4 nobody 127.0.0.1 1 2\r\n"),
        &handshake(&v2(0x11, &[])),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00",
        // These wait for what does not come, but not for long.
        b"PROXY TCP4 192.0.2.7",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff",
        b"",
    ] {
        assert_eq!(answer(&server, bytes), "");
    }
    assert!(began.elapsed() < Duration::from_secs(15));
    let dropped =
        crate::metrics::sample(&server, r#"signalbox_connections_dropped_total{reason="proxy_header"}"#);
    assert!(dropped >= 7.0, "{dropped}");
    assert!(answer(&server, &handshake(V1)).contains("0{\"sid\":\""));
    assert_eq!(addresses(server), ["192.0.2.7"]);
}

#[test]
fn nobody_else_says_who_they_are() {
    // From addresses that are not trusted, and without the setting from any.
    let elsewhere = ["--proxy-protocol", "--trusted-proxies", "10.0.0.0/8"];
    for flags in [&elsewhere[..], &["--proxied", "--trusted-proxies", "127.0.0.1"], &[]] {
        let server = Server::bare(&[flags, &LOG].concat());
        for header in [V1, &v2(0x21, &[192, 0, 2, 8, 127, 0, 0, 1, 0, 1, 0, 2])] {
            assert!(answer(&server, &handshake(header)).starts_with("HTTP/1.1 400 "));
        }
        assert_eq!(request(server.public(), "GET", POLLING, &[], "").status, 200);
        assert_eq!(addresses(server), ["127.0.0.1"]);
    }
}

#[test]
fn x_forwarded_for_counts_only_with_its_own_setting() {
    let forged = "X-Forwarded-For: 198.51.100.9\r\n\r\n";
    // The client that is announced is itself in a trusted range.
    let header = b"PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n";
    let request = String::from_utf8(handshake(header)).unwrap().replace("\r\n\r\n", &format!("\r\n{forged}"));
    for (more, expected) in [(&[][..], "127.0.0.9"), (&["--proxied"], "198.51.100.9")] {
        let server = trusting(more);
        assert!(answer(&server, request.as_bytes()).contains("0{\"sid\":\""));
        assert_eq!(addresses(server), [expected]);
    }
}

#[test]
fn limits_of_an_address_count_clients_and_not_their_proxy() {
    let server = trusting(&["--connections-per-address", "1"]);
    let held: Vec<_> = (1..=3)
        .map(|last| {
            let mut stream = TcpStream::connect(server.public().trim_start_matches("http://")).unwrap();
            stream.write_all(format!("PROXY TCP4 192.0.2.{last} 127.0.0.1 1 2\r\n").as_bytes()).unwrap();
            stream
        })
        .collect();
    assert!(answer(&server, &handshake(b"PROXY TCP4 192.0.2.4 127.0.0.1 1 2\r\n")).contains("0{\"sid\":\""));
    assert!(
        answer(&server, &handshake(b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n")).starts_with("HTTP/1.1 429 ")
    );
    drop(held);
}
