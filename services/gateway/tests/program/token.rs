//! `signalbox-gateway token`, as people use it, and a server that judges what it made.

use std::process::{Command, Output};

use crate::harness::{
    Server,
    http::request,
    websocket::{SOCKETIO, WebSocket},
};

const SECRET: &str = "a secret of the tests, of more than 32 bytes";

fn token(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"))
        .arg("token")
        .args(arguments)
        .env("SIGNALBOX_JWT_SECRET", SECRET)
        .output()
        .expect("it runs")
}

fn made(arguments: &[&str]) -> String {
    let output = token(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn it_makes_tokens_that_the_server_takes() {
    let server = Server::bare(&["--auth", "required", "--jwt-secret", SECRET, "--allow_discovery"]);
    let shown = made(&["--sub", "alice", "--room", "team-*", "--discover", "--ttl", "2m"]);
    let list =
        |token: &str| request(server.public(), "GET", &format!("/peerjs/peers?token={token}"), &[], "");
    assert_eq!(list(&shown).status, 200);
    assert_eq!(list(&made(&["--sub", "alice", "--room", "team-*"])).status, 401);
    let connected = WebSocket::connect(server.public(), SOCKETIO, &[]);
    assert!(connected.is_ok(), "a handshake needs no token");
}

#[test]
fn it_explains_what_a_token_allows_and_why_not() {
    let shown = made(&["--sub", "alice", "--room", "team-*", "--peer-id", "{sub}", "--generated"]);
    let explained = |arguments: &[&str]| {
        let output = token(&[&["explain", &shown], arguments].concat());
        let text = String::from_utf8(output.stdout).expect("text");
        let (first, rest) = text.split_once('\n').expect("a line");
        assert!(first.starts_with("good: subject \"alice\", expires in 3"), "{first}");
        (rest.to_owned(), output.status.code())
    };
    let allowed = "join team-1: allowed: rooms.join has the pattern \"team-*\", which matches\n";
    assert_eq!(explained(&["--join", "team-1"]), (allowed.to_owned(), Some(0)));
    assert_eq!(
        explained(&["--join", "lobby", "--claim", "alice", "--claim-generated", "--users"]),
        (
            "join lobby: refused: none of the 1 patterns of rooms.join matches (join-forbidden)\n\
             claim alice: allowed: peer.ids has the pattern \"{sub}\", which matches\n\
             claim an id of the server: allowed: peer.generated is granted\n\
             users: refused: users is not granted (users-forbidden)\n"
                .to_owned(),
            Some(1)
        )
    );
    let (grants, _) = explained(&[]);
    assert!(
        grants.starts_with("grants: {\"namespaces\":[\"/\"],\"rooms\":{\"join\":[\"team-*\"]"),
        "{grants}"
    );

    let other = token(&["explain", &shown, "--jwt-secret", &"x".repeat(32)]);
    assert_eq!(
        (String::from_utf8_lossy(&other.stdout).as_ref(), other.status.code()),
        ("refused: the token's signature is wrong (signature-invalid)\n", Some(1))
    );
}

#[test]
fn its_mistakes_are_one_line() {
    for (arguments, expected) in [
        (vec!["--sub", "a", "--room", ""], "rooms.join[0]: the pattern is empty, so it can never match"),
        (vec!["--sub", "a", "--ttl", "soon"], "--ttl: \"soon\" is not a number with s, m, h or d"),
        (vec!["--sub", "a", "--rom", "x"], "--rom: unknown flag"),
        (vec!["--room", "x"], "--sub <SUBJECT>: is missing (see --help)"),
    ] {
        let output = token(&arguments);
        let line = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.starts_with(&format!("signalbox-gateway: {expected}")), "{line}");
    }
}
