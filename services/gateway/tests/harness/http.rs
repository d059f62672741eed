//! HTTP/1.1 by hand, one request a connection: what is tested is what stands on the wire.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// How long an answer may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// A header's value, if it came exactly once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came twice: {:?}", self.headers);
        value
    }
}

/// GET, without further headers.
pub(crate) fn get(base: &str, target: &str) -> Response {
    request(base, "GET", target, &[], "")
}

/// Any request.
pub(crate) fn request(
    base: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut stream = connect(base);
    send(&mut stream, base, method, target, headers, body);
    answer(&mut stream).expect("an answer")
}

/// A connection to a base url.
pub(crate) fn connect(base: &str) -> TcpStream {
    let stream = TcpStream::connect(authority(base)).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
    stream
}

/// Writes a request, which is the connection's last unless a header says otherwise.
pub(crate) fn send(
    stream: &mut TcpStream,
    base: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", authority(base));
    if !headers.iter().any(|(name, _)| *name == "Connection") {
        text.push_str("Connection: close\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes()).expect("a request");
}

/// Reads an answer; `None` when the connection ends before it is complete.
pub(crate) fn answer(stream: &mut TcpStream) -> Option<Response> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(read_byte(stream)?);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let mut lines = head.trim_end().lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').expect("a header"))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: String::new() };
    assert_eq!(response.header("Transfer-Encoding"), None, "this client knows no transfer encodings");
    let length = match status {
        101 | 204 | 304 => 0,
        _ => response.header("Content-Length").map_or(0, |length| length.parse().expect("a length")),
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    response.body = String::from_utf8(body).expect("a body is text");
    Some(response)
}

fn read_byte(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => None,
        Ok(_) => Some(byte[0]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("no answer within {DEADLINE:?}")
        }
        Err(_) => None,
    }
}

fn authority(base: &str) -> &str {
    base.split_once("://").map_or(base, |(_, authority)| authority).trim_end_matches('/')
}
