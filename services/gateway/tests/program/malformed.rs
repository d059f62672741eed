//! Requests that cannot be read: counted, not logged.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use crate::{
    harness::{Server, http::connect},
    metrics::sample,
};

const REQUESTS: usize = 300;

#[test]
fn malformed_requests_are_counted_and_leave_no_line_in_the_log() {
    let mut server = Server::bare(&["--log", "info"]);
    let heads = [
        "GARBAGE\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n: bad\r\n\r\n",
    ];
    for number in 0..REQUESTS {
        let mut stream = connect(server.public());
        stream.write_all(heads[number % heads.len()].as_bytes()).expect("the request is sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    let counted = sample(&server, "signalbox_http_errors_total");
    assert!(counted >= REQUESTS as f64, "{counted}");
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(20)), Some(0));
    let log = server.log();
    assert!(log.len() < 10, "{log:?}");
    assert!(log.iter().all(|line| !line.contains("ERROR")), "{log:?}");
}
