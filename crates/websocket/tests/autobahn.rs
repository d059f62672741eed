//! The parser and the frames against Autobahn's cases, as `kosoku` (PyPI) drives them: a server that echoes every message
//! answers as RFC 6455 wants it, case by case. What it reports is in `target/tmp/autobahn`.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha1::{Digest as _, Sha1};
use signalbox_websocket::{Frame, Message, Parser};

/// The largest message of the suite.
const LIMIT: usize = 16 * 1024 * 1024;
/// Compression, which the parser has none of.
const COMPRESSION: [&str; 2] = ["12.*", "13.*"];
/// So many cases are left.
const CASES: usize = 301;

#[test]
fn autobahn_cases_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that hangs up in the middle of something is part of the cases.
            thread::spawn(move || echo(stream));
        }
    });
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join("target/venv/bin/kosoku"));
    command.arg(format!("ws://{address}")).args(["--parallelism", "8", "--outdir"]);
    let reports = Path::new(env!("CARGO_TARGET_TMPDIR")).join("autobahn");
    command.arg(&reports);
    command.args(COMPRESSION.iter().flat_map(|case| ["--exclude", case]));
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (cargo xtask prepare)"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains(&format!("{CASES} cases passed")), "{said}");
    // What passes too: wrong text that is refused only when it is complete.
    let index = std::fs::read_to_string(reports.join("index.json")).expect("a report");
    assert!(!index.contains("NON-STRICT"), "{index}");
}

/// Serves one connection to its end; `None` where the client hung up.
fn echo(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut received = Vec::new();
    let end = loop {
        let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        match end {
            Some(end) => break end + 4,
            None => read(&mut stream, &mut received)?,
        }
    };
    stream.write_all(accept(&String::from_utf8_lossy(&received[..end])).as_bytes()).ok()?;
    received.drain(..end);

    let mut parser = Parser::new(LIMIT);
    loop {
        let mut input = &mut received[..];
        let closes_with = loop {
            match parser.next(&mut input) {
                Ok(Some(Message::Text(text))) => stream.write_all(Frame::text(text).bytes()).ok()?,
                Ok(Some(Message::Binary(bytes))) => stream.write_all(Frame::binary(bytes).bytes()).ok()?,
                Ok(Some(Message::Ping(payload))) => stream.write_all(Frame::pong(payload).bytes()).ok()?,
                Ok(Some(Message::Pong(_))) => {}
                Ok(Some(Message::Close(code))) => break Some(code),
                Ok(None) => break None,
                Err(error) => break Some(Some(error.close_code())),
            }
        };
        if let Some(code) = closes_with {
            return stream.write_all(Frame::close(code).bytes()).ok();
        }
        received.clear();
        read(&mut stream, &mut received)?;
    }
}

fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 65_536];
    let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
    into.extend_from_slice(&buffer[..length]);
    Some(())
}

/// The answer to an upgrade request (RFC 6455 §4.2.2).
fn accept(request: &str) -> String {
    let key = request
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim()))
        .unwrap_or_default();
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        BASE64.encode(digest)
    )
}
