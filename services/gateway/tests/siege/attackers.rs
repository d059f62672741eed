//! What attackers do, one row after the other, until their time is over. What the server does to them is not looked at: only that it
//! costs nobody else anything.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What an attacker does for a while, against one node.
type Row = fn(&Target, Instant) -> io::Result<()>;

/// What everybody knows to be harmful.
pub(crate) const ROWS: [(&str, Row); 13] = [
    ("pings whose pongs are never read", unread_pongs),
    ("POSTs that stop at 99 %", unfinished_posts),
    ("HTTP/2 that nobody agreed on", http2),
    ("handshakes with large heads, abandoned", abandoned_handshakes),
    ("letters of 1 MB for absent peers", letters),
    ("messages of 1 MB for members that do not read", slow_room),
    ("tiny messages as fast as they go", flood),
    ("signals to forged sockets", forged_signals),
    ("silent connections to the node link", silent_links),
    ("a second head that never ends", second_heads),
    ("connections that say nothing", silent_connections),
    ("messages that never arrive whole", unfinished_messages),
    ("joins and users without end", joins),
];

/// How long an attacker waits for the server to take or give something.
const PATIENCE: Duration = Duration::from_millis(500);
const LARGE: usize = 990_000;

/// A node.
#[derive(Clone)]
pub(crate) struct Target {
    /// Host and port of its public listener.
    pub(crate) public: String,
    /// Those of its node link.
    pub(crate) link: String,
}

/// Does the rows in turns from this one on, each for a while, until it is over.
pub(crate) fn attack(target: &Target, first: usize, each: Duration, until: Instant) {
    stand_behind();
    for row in first.. {
        let end = (Instant::now() + each).min(until);
        while Instant::now() < end {
            // It was cut off, or refused: it comes again.
            if ROWS[row % ROWS.len()].1(target, end).is_err() {
                pause(Duration::from_millis(50));
            }
        }
        if end == until {
            return;
        }
    }
}

/// Attackers have machines of their own elsewhere: here this thread gets what the nodes leave of the processors, and not a moment more, as
/// one that is only nicer would.
fn stand_behind() {
    let thread = std::fs::read_link("/proc/thread-self").expect("a thread");
    let thread = thread.file_name().expect("its id").to_owned();
    let status = Command::new("chrt").args(["--idle", "-p", "0"]).arg(thread).stdout(Stdio::null()).status();
    assert!(status.expect("chrt is there").success());
}

/// Attackers need not wait for anything.
#[expect(clippy::disallowed_methods, reason = "an attacker waits for nothing but the time")]
fn pause(length: Duration) {
    std::thread::sleep(length);
}

fn hold(end: Instant) {
    pause(end.saturating_duration_since(Instant::now()));
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends the head of a request.
fn head(stream: &mut TcpStream, method: &str, path: &str, more: &str) -> io::Result<()> {
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n").as_bytes())
}

/// Reads what comes within a moment.
fn some(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = vec![0; 65_536];
    let count = stream.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn upgrade(target: &Target, path: &str, more: &str) -> io::Result<TcpStream> {
    let mut stream = connect(&target.public)?;
    let key = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    head(&mut stream, "GET", path, &format!("{key}{more}"))?;
    if some(&mut stream)?.starts_with("HTTP/1.1 101") {
        Ok(stream)
    } else {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// A Socket.IO client; its id is the second value.
fn client(target: &Target) -> io::Result<(TcpStream, String)> {
    let mut stream = upgrade(target, "/socket.io/?EIO=4&transport=websocket", "")?;
    send(&mut stream, 0x1, b"40")?;
    let mut said = String::new();
    while !said.contains("40{\"sid\":\"") {
        said.push_str(&some(&mut stream)?);
    }
    let id = said.split("40{\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    Ok((stream, id.to_owned()))
}

/// The bytes of a frame; its mask is zero, so the payload stands as it is.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn send(stream: &mut TcpStream, opcode: u8, payload: &[u8]) -> io::Result<()> {
    stream.write_all(&frame(opcode, payload))
}

fn unread_pongs(target: &Target, end: Instant) -> io::Result<()> {
    let (mut stream, _) = client(target)?;
    let pings = frame(0x9, b"").repeat(10_000);
    while Instant::now() < end {
        stream.write_all(&pings)?;
    }
    Ok(())
}

fn unfinished_posts(target: &Target, end: Instant) -> io::Result<()> {
    let path = "/socket.io/?EIO=4&transport=polling";
    let mut held = Vec::new();
    while Instant::now() < end && held.len() < 100 {
        let mut stream = connect(&target.public)?;
        head(&mut stream, "GET", path, "")?;
        let said = some(&mut stream)?;
        let sid = said.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let Some(sid) = sid else { return Err(io::ErrorKind::ConnectionRefused.into()) };
        let length = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", LARGE + 9_000);
        head(&mut stream, "POST", &format!("{path}&sid={sid}"), &length)?;
        stream.write_all(&vec![b'4'; LARGE])?;
        held.push(stream);
    }
    hold(end);
    Ok(())
}

fn http2(target: &Target, end: Instant) -> io::Result<()> {
    while Instant::now() < end {
        let mut stream = connect(&target.public)?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        // Empty settings, then as many streams as go.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(1_000))?;
        some(&mut stream)?;
    }
    Ok(())
}

fn abandoned_handshakes(target: &Target, end: Instant) -> io::Result<()> {
    let more = format!("X-Large: {}\r\n", "x".repeat(15_000));
    while Instant::now() < end {
        drop(upgrade(target, "/socket.io/?EIO=4&transport=websocket", &more)?);
    }
    Ok(())
}

fn letters(target: &Target, end: Instant) -> io::Result<()> {
    let id = format!("attacker-{:?}", Instant::now()).replace(|it: char| !it.is_ascii_alphanumeric(), "");
    let mut stream = upgrade(target, &format!("/peerjs?key=peerjs&id={id}&token=t"), "")?;
    let payload = "x".repeat(LARGE);
    for letter in 0.. {
        if Instant::now() >= end {
            break;
        }
        let text = format!(r#"{{"type":"OFFER","dst":"absent-{letter}","payload":"{payload}"}}"#);
        send(&mut stream, 0x1, text.as_bytes())?;
    }
    Ok(())
}

fn slow_room(target: &Target, end: Instant) -> io::Result<()> {
    let mut members = Vec::new();
    for _ in 0..50 {
        let (mut stream, _) = client(target)?;
        send(&mut stream, 0x1, b"42[\"join\",\"slow\"]")?;
        members.push(stream);
    }
    let (mut sender, _) = client(target)?;
    send(&mut sender, 0x1, b"42[\"join\",\"slow\"]")?;
    let text = format!("42[\"message\",\"slow\",\"{}\"]", "x".repeat(LARGE));
    while Instant::now() < end {
        send(&mut sender, 0x1, text.as_bytes())?;
        pause(Duration::from_millis(50));
    }
    Ok(())
}

fn flood(target: &Target, end: Instant) -> io::Result<()> {
    let (mut stream, _) = client(target)?;
    send(&mut stream, 0x1, b"42[\"join\",\"flood\"]")?;
    let messages = frame(0x1, b"42[\"message\",\"flood\",1]").repeat(1_000);
    while Instant::now() < end {
        stream.write_all(&messages)?;
    }
    Ok(())
}

fn forged_signals(target: &Target, end: Instant) -> io::Result<()> {
    let (mut stream, id) = client(target)?;
    // Sockets of the same node and shard that were never there.
    let signals: Vec<u8> = (0..1_000)
        .flat_map(|number| {
            let forged = format!("{}{number:06}", &id[..id.len() - 6]);
            frame(0x1, format!("42[\"signal\",\"{forged}\",{{\"x\":1}}]").as_bytes())
        })
        .collect();
    while Instant::now() < end {
        stream.write_all(&signals)?;
    }
    Ok(())
}

fn silent_links(target: &Target, end: Instant) -> io::Result<()> {
    let held: Vec<TcpStream> = (0..16).map(|_| connect(&target.link)).collect::<io::Result<_>>()?;
    pause(Duration::from_secs(1).min(end.saturating_duration_since(Instant::now())));
    drop(held);
    Ok(())
}

fn second_heads(target: &Target, end: Instant) -> io::Result<()> {
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut stream = connect(&target.public)?;
        head(&mut stream, "GET", "/peerjs/id", "")?;
        some(&mut stream)?;
        stream.write_all(b"GET /peerjs/id HTTP/1.1\r\nHost: a\r\nX-Never: ")?;
        held.push(stream);
    }
    hold(end);
    Ok(())
}

fn silent_connections(target: &Target, end: Instant) -> io::Result<()> {
    let held: Vec<TcpStream> = (0..200).map(|_| connect(&target.public)).collect::<io::Result<_>>()?;
    hold(end);
    drop(held);
    Ok(())
}

fn unfinished_messages(target: &Target, end: Instant) -> io::Result<()> {
    let mut held = Vec::new();
    while Instant::now() < end && held.len() < 100 {
        let (mut stream, _) = client(target)?;
        let whole = frame(0x1, &vec![b'4'; LARGE]);
        stream.write_all(&whole[..whole.len() - 1_000])?;
        held.push(stream);
    }
    hold(end);
    Ok(())
}

fn joins(target: &Target, end: Instant) -> io::Result<()> {
    let (mut stream, _) = client(target)?;
    let profile = "x".repeat(1_000);
    for number in 0_u64.. {
        if Instant::now() >= end {
            break;
        }
        let join = format!("421[\"join\",\"attacked {}\",{{\"name\":\"{profile}\"}}]", number % 100);
        let mut packets = frame(0x1, join.as_bytes());
        packets.extend(frame(0x1, b"422[\"users\"]"));
        stream.write_all(&packets)?;
        // What is answered is read now and then, as by a client that is merely impolite.
        if number % 50 == 0 {
            some(&mut stream)?;
        }
    }
    Ok(())
}
