//! Connections: how many there may be.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::{
    harness::{
        Server,
        http::{DEADLINE, answer, connect, get, send},
        until,
        websocket::WebSocket,
    },
    metrics::sample,
};

const HELLO: &str = "/socket.io/?EIO=4&transport=polling";

/// Whether the server has closed a connection on which nothing was sent.
fn is_closed(connection: &mut TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a mode");
    let read = connection.read(&mut [0]);
    !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// The status of a handshake; `None` if the connection was refused before it.
fn answer_to_hello(server: &Server) -> Option<u16> {
    let mut stream = connect(server.public());
    let head = format!("GET {HELLO} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    answer(&mut stream).map(|answer| answer.status)
}

fn refused(server: &Server) -> f64 {
    sample(server, r#"signalbox_connections_dropped_total{reason="max_connections"}"#)
}

#[test]
fn connections_beyond_the_maximum_are_refused_and_those_that_are_there_go_on() {
    let server = Server::bare(&["--max-connections", "6"]);
    let websocket = WebSocket::socketio(server.public());
    let admitted = || {
        let mut connection = connect(server.public());
        send(&mut connection, server.public(), "GET", "/", &[("Connection", "keep-alive")], "");
        assert_eq!(answer(&mut connection).expect("an answer").status, 200);
        connection
    };
    let mut first: Vec<_> = (0..5).map(|_| admitted()).collect();
    for _ in 0..4 {
        let refused = answer(&mut connect(server.public())).expect("an answer");
        assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")));
    }
    assert_eq!(refused(&server), 4.0);
    assert_eq!(get(server.management(), "/livez").status, 200);
    assert!(!first.iter_mut().any(is_closed));
    let mut member = websocket;
    member.send(r#"420["join","room"]"#);
    assert!(member.text().starts_with("430["));
    first.clear();
    until(DEADLINE, || {
        let answer = answer_to_hello(&server)?;
        (answer == 200).then_some(())
    })
    .expect("there is room again");
}

#[test]
fn without_a_maximum_open_files_are_left_for_everything_else() {
    let server = Server::with_files(256, &[]);
    // 128 of them may be clients.
    let connections: Vec<_> = (0..400).map(|_| connect(server.public())).collect();
    for _ in 0..10 {
        assert_eq!(get(server.management(), "/livez").status, 200);
    }
    until(DEADLINE, || (refused(&server) >= 200.0).then_some(())).expect("the others are refused");
    assert!(sample(&server, "process_open_fds") < 200.0);
    drop(connections);
    until(DEADLINE, || (sample(&server, "process_open_fds") < 100.0).then_some(())).expect("all are closed");
    assert_eq!(get(server.public(), HELLO).status, 200);
}
