//! Hostile crowds at full size, and a neighbour that talks all the while: what it costs the node, and what the neighbour feels.

use std::{
    io::Write as _,
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    harness::{
        Server,
        http::{DEADLINE, connect, get, request},
        until,
        websocket::{Frame, SOCKETIO, WebSocket},
    },
    metrics::sample,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const MIB: usize = 1 << 20;
/// How often the neighbour says something.
const PACE: Duration = Duration::from_millis(5);
/// How long it is listened to, without a crowd and with each.
const WHILE: Duration = Duration::from_secs(4);
/// The neighbour's 99th percentile counts as unmoved up to three times what it was, and this: what two busy cores add by themselves.
const NOISE: Duration = Duration::from_millis(15);

/// The same of requests on connections of their own, of which a crowd opens 2,000 at once beside them.
const VISIT: Duration = Duration::from_millis(100);

const SECRET: &str = "a secret of the tests, of more than 32 bytes";

/// Bytes of memory that a process takes.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") * 1024
}

/// Its connections, and a few other files.
fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count()
}

/// Shows a figure in the test's own output.
macro_rules! report {
    ($($text:tt)*) => {
        // Whoever looks at the output has it; nobody else misses it.
        let _ = writeln!(std::io::stderr(), $($text)*);
    };
}

fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
    thread::sleep(time);
}

/// Two clients of another address than the crowds: one speaks, the other hears it.
struct Neighbour {
    is_over: Arc<AtomicBool>,
    talk: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    fn begin(server: &Server) -> Self {
        let join = || {
            let mut socket =
                WebSocket::connect(server.public(), SOCKETIO, &[("X-Forwarded-For", "192.0.2.1")])
                    .expect("101");
            assert!(socket.text().starts_with("0{"));
            for packet in ["40", r#"420["join","neighbours"]"#] {
                socket.send(packet);
                while !socket.text().starts_with('4') {}
            }
            socket
        };
        let (mut speaker, mut listener) = (join(), join());
        let is_over = Arc::<AtomicBool>::default();
        let over = is_over.clone();
        let talk = thread::spawn(move || {
            let mut latencies = Vec::new();
            for number in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let said = Instant::now();
                speaker.send(&format!(r#"42["message","neighbours",{number}]"#));
                let expected = format!(r#"42["message",{number},"#);
                loop {
                    match listener.text() {
                        heard if heard.starts_with(&expected) => break,
                        heard if heard == "2" => listener.send("3"),
                        other => assert!(!other.starts_with(r#"42["message""#), "{other} for {expected}"),
                    }
                }
                latencies.push(said.elapsed());
                pause(PACE.saturating_sub(said.elapsed()));
            }
            latencies
        });
        Self { is_over, talk }
    }

    /// The 99th percentile of how long what it said took.
    fn end(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        let mut latencies = self.talk.join().expect("the neighbour lost nothing");
        latencies.sort_unstable();
        latencies[latencies.len() * 99 / 100]
    }

    /// The same of what it says for a while.
    fn of(server: &Server) -> Duration {
        let neighbour = Self::begin(server);
        pause(WHILE);
        neighbour.end()
    }
}

/// How long something took, each time.
#[derive(Debug, Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn of<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let result = act();
        self.0.push(since.elapsed());
        result
    }

    /// The 99th percentile, and the most.
    fn summary(&mut self) -> (Duration, Duration) {
        self.0.sort_unstable();
        (self.0[self.0.len() * 99 / 100], *self.0.last().expect("it happened"))
    }
}

/// Somebody of another address than the crowds who comes anew again and again, with polling, and sends a small body and a large one.
#[derive(Debug, Default)]
struct Visitor {
    handshakes: Latencies,
    small: Latencies,
    large: Latencies,
    most_held: f64,
}

impl Visitor {
    fn visit(&mut self, base: &str, text: &str) {
        const FROM: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.2")];
        let handshake = self.handshakes.of(|| request(base, "GET", POLLING, FROM, ""));
        assert_eq!(handshake.status, 200, "the node takes clients");
        let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
        let post = |body: &str| assert_eq!(request(base, "POST", &target, FROM, body).status, 200);
        self.small.of(|| post("40"));
        self.large.of(|| post(&format!(r#"42["leave","{text}"]"#)));
        post("1");
    }

    /// What the three took at the 99th percentile, and at most.
    fn report(&mut self, when: &str) -> [Duration; 3] {
        let kinds = [&mut self.handshakes, &mut self.small, &mut self.large];
        let summaries = kinds.map(Latencies::summary);
        for (kind, (p99, most)) in ["handshake", "small body", "large body"].iter().zip(summaries) {
            report!("a visitor's {kind} {when}: p99 {p99:?}, at most {most:?}");
        }
        summaries.map(|(p99, _)| p99)
    }

    /// Visits until it is over.
    fn begin(server: &Server, is_over: &Arc<AtomicBool>) -> JoinHandle<Self> {
        let (public, management) = (server.public().to_owned(), server.management().to_owned());
        let is_over = is_over.clone();
        thread::spawn(move || {
            let (mut visitor, text) = (Self::default(), "x".repeat(200_000));
            while !is_over.load(Ordering::Relaxed) {
                visitor.visit(&public, &text);
                let held = get(&management, "/metrics").body;
                let held = held.lines().find_map(|line| line.strip_prefix("signalbox_held_bytes "));
                visitor.most_held = visitor.most_held.max(held.expect("a metric").parse().expect("a number"));
                pause(Duration::from_millis(20));
            }
            visitor
        })
    }
}

fn assert_unmoved(what: &str, before: Duration, meanwhile: Duration) {
    report!("{what}: the neighbour's p99 {before:?} before, {meanwhile:?} meanwhile");
    assert!(meanwhile <= 3 * before + NOISE, "{what}: {before:?} before, {meanwhile:?} meanwhile");
}

/// A node of this much memory, in which a crowd does something. A neighbour, of another address, is heard all the while; how long what
/// it says takes is compared once the crowd is there, which comes from this machine's two cores.
fn crowd<T>(flags: &[&str], limit: usize, what: &str, gather: impl FnOnce(&Server) -> T) -> (Server, T) {
    let memory = limit.to_string();
    let own = ["--memory-limit", &memory, "--proxied", "--trusted-proxies", "127.0.0.1"];
    let server = Server::bare(&[&own, flags].concat());
    let empty = resident(server.pid());
    let before = Neighbour::of(&server);
    let witness = Neighbour::begin(&server);
    let is_over = Arc::<AtomicBool>::default();
    let (over, pid) = (is_over.clone(), server.pid());
    let watch = thread::spawn(move || {
        let mut most = 0;
        while !over.load(Ordering::Relaxed) {
            most = most.max(resident(pid));
            pause(Duration::from_millis(20));
        }
        most
    });
    let held = gather(&server);
    let all_the_while = witness.end();
    let meanwhile = Neighbour::of(&server);
    is_over.store(true, Ordering::Relaxed);
    let most = watch.join().expect("it runs");
    report!("{what}: the neighbour's p99 {all_the_while:?} while they came");
    report!("{what}: {} MiB empty, {} MiB at most, of {}", empty / MIB, most / MIB, limit / MIB);
    assert!(most < limit, "{what}: {most} bytes of {limit}");
    assert_unmoved(what, before, meanwhile);
    (server, held)
}

#[test]
#[ignore = "takes a minute: cargo xtask soak"]
fn soak_half_open_handshakes_leave_the_memory_and_the_neighbour_alone() {
    const CROWD: usize = 8_000;
    // They are there for as long as they are looked at.
    let flags = ["--header-timeout", "60000", "--max-connections", "16000"];
    crowd(&flags, 256 * MIB, "8,000 half-open handshakes", |server| {
        let open: Vec<TcpStream> = (0..CROWD)
            .map(|number| {
                let mut stream = connect(server.public());
                let head = format!("GET {SOCKETIO} HTTP/1.1\r\nHost: x\r\nX-Filler: {}", "x".repeat(1_000));
                // Some have not even begun.
                stream
                    .write_all(&head.as_bytes()[..if number % 4 == 0 { 0 } else { head.len() }])
                    .expect("a head");
                stream
            })
            .collect();
        until(DEADLINE, || (open_files(server) >= CROWD).then_some(())).expect("all are there");
        open
    });
}

#[test]
#[ignore = "takes a minute: cargo xtask soak"]
fn soak_bodies_that_stop_at_the_last_percent_leave_the_memory_and_the_neighbour_alone() {
    const CROWD: usize = 2_000;
    const BODY: usize = 1_000_000;
    let flags = ["--memory-budget", "134217728", "--max-connections", "8000", "--body-timeout", "60000"];
    let is_over = Arc::<AtomicBool>::default();
    let (server, (mut before, open, visitor)) =
        crowd(&flags, 512 * MIB, "2,000 bodies that stop at 99 %", |server| {
            let sids: Vec<String> = (0..CROWD)
                .map(|_| get(server.public(), POLLING).body.split('"').nth(3).expect("a sid").to_owned())
                .collect();
            let is_quiet_over = Arc::<AtomicBool>::default();
            let quiet = Visitor::begin(server, &is_quiet_over);
            pause(WHILE);
            is_quiet_over.store(true, Ordering::Relaxed);
            let before = quiet.join().expect("it is served");
            let visitor = Visitor::begin(server, &is_over);
            let part = vec![b'x'; BODY / 100 * 99];
            let since = Instant::now();
            let open: Vec<TcpStream> = sids
                .iter()
                .map(|sid| {
                    let mut stream = connect(server.public());
                    let head = format!(
                        "POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n"
                    );
                    // Some are cut off before they have sent it all.
                    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part));
                    stream
                })
                .collect();
            // What they have sent waits in the kernel until the node reads it: each has its room once, and goes.
            let evicted = || sample(server, "signalbox_evictions_total{reason=\"memory_budget\"}");
            until(3 * DEADLINE, || (evicted() >= 1_800.0).then_some(())).expect("they give way");
            report!("{} of them were cut off for the budget, in {:?}", evicted(), since.elapsed());
            (before, open, visitor)
        });
    is_over.store(true, Ordering::Relaxed);
    let mut visitor = visitor.join().expect("it is served");
    report!("{} MiB were held at most", visitor.most_held as usize / MIB);
    assert!(visitor.most_held < 160.0 * MIB as f64, "{} bytes", visitor.most_held);
    let (before, meanwhile) = (before.report("before"), visitor.report("meanwhile"));
    for (before, meanwhile) in before.into_iter().zip(meanwhile) {
        assert!(meanwhile <= 3 * before + VISIT, "{before:?} before, {meanwhile:?} meanwhile");
    }
    drop((open, server));
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_sessions_that_never_poll_leave_the_memory_and_the_neighbour_alone() {
    const CROWD: usize = 10_000;
    // Nobody is missed for as long as this takes.
    let flags = ["--memory-budget", "67108864", "--ping-interval", "300000", "--max-connections", "8000"];
    crowd(&flags, 384 * MIB, "10,000 sessions that never poll", |server| {
        let mut stream = connect(server.public());
        let mut ask = |method: &str, target: &str, body: &str| {
            crate::harness::http::send(
                &mut stream,
                server.public(),
                method,
                target,
                &[("Connection", "keep-alive")],
                body,
            );
            crate::harness::http::answer(&mut stream).expect("an answer")
        };
        for number in 0..CROWD {
            let sid = ask("GET", POLLING, "").body.split('"').nth(3).expect("a sid").to_owned();
            // In rooms of a hundred; nobody ever asks for what is said there.
            let packets = format!("40\u{1e}420[\"join\",\"room {}\"]", number / 100);
            assert_eq!(ask("POST", &format!("{POLLING}&sid={sid}"), &packets).status, 200);
        }
        // What is said to them there waits for ever. Whoever says it may be cut off for that, and goes on.
        let mut speaker = WebSocket::socketio(server.public());
        let mut cut_off = 0;
        for room in 0..CROWD / 100 {
            let text = "x".repeat(400_000);
            let packets = [
                format!(r#"421["join","room {room}"]"#),
                format!(r#"421["message","room {room}","{text}"]"#),
            ];
            let is_answered = packets.iter().all(|packet| {
                speaker.try_send(packet)
                    && std::iter::from_fn(|| speaker.next())
                        .any(|frame| matches!(&frame, Frame::Text(text) if text.starts_with("431[")))
            });
            if !is_answered {
                cut_off += 1;
                speaker = WebSocket::socketio(server.public());
            }
        }
        report!("who spoke to them was cut off {cut_off} times");
        report!(
            "{} sessions, {} bytes held, {} cut off",
            sample(server, r#"signalbox_connections{protocol="socketio",transport="polling"}"#),
            sample(server, "signalbox_held_bytes"),
            sample(server, "signalbox_evictions_total{reason=\"memory_budget\"}"),
        );
        speaker
    });
}

/// One way to do too much: again and again until it is over. It says what is counted then.
type Attack = (&'static str, &'static str, fn(&str, &str, &AtomicBool));

const HOSTILE: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.66")];

/// A client of the hostile address, as far as it is let in.
fn hostile(base: &str, connect: &str) -> Option<WebSocket> {
    let mut socket = WebSocket::connect(base, SOCKETIO, HOSTILE).ok()?;
    socket.next()?;
    socket.try_send(connect).then_some(())?;
    socket.next()?;
    Some(socket)
}

/// Sends packets so many times a second, whatever comes back, and comes back when it is thrown out.
fn flood(base: &str, per_second: u32, is_over: &AtomicBool, mut packet: impl FnMut(u64) -> String) {
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        let Some(mut socket) = hostile(base, "40") else {
            pause(Duration::from_millis(20));
            continue;
        };
        socket.read_beside();
        while !is_over.load(Ordering::Relaxed) {
            let batch = per_second.div_ceil(100);
            if !(0..batch).all(|_| {
                number += 1;
                socket.try_send(&packet(number))
            }) {
                break;
            }
            pause(Duration::from_millis(10));
        }
    }
}

const ATTACKS: &[Attack] = &[
    ("events", r#"signalbox_refusals_total{code="rate-limited"}"#, |base, _, is_over| {
        flood(base, 5_000, is_over, |number| format!(r#"42{number}["leave","nowhere"]"#));
    }),
    ("bytes", r#"signalbox_connections_dropped_total{reason="rate_limited"}"#, |base, _, is_over| {
        let text = "x".repeat(50_000);
        flood(base, 300, is_over, |number| format!(r#"42{number}["leave","{text}"]"#));
    }),
    ("joins", r#"signalbox_refusals_total{code="rate-limited"}"#, |base, _, is_over| {
        flood(base, 900, is_over, |number| match number % 2 {
            0 => format!(r#"42["join","room {}"]"#, number / 2),
            _ => format!(r#"42["leave","room {}"]"#, number / 2),
        });
    }),
    ("rooms", r#"signalbox_refusals_total{code="too-many-rooms"}"#, |base, _, is_over| {
        flood(base, 200, is_over, |number| format!(r#"42["join","room {number}"]"#));
    }),
    ("members of a room", r#"signalbox_refusals_total{code="room-full"}"#, |base, _, is_over| {
        let sockets: Vec<_> = (0..30).filter_map(|_| hostile(base, "40")).collect();
        let mut sockets = sockets;
        sockets.iter_mut().for_each(WebSocket::read_beside);
        while !is_over.load(Ordering::Relaxed) {
            for socket in &mut sockets {
                socket.try_send(r#"42["join","crowded"]"#);
            }
            pause(Duration::from_millis(100));
        }
    }),
    ("names of rooms", r#"signalbox_refusals_total{code="bad-room"}"#, |base, _, is_over| {
        let name = "x".repeat(5_000);
        flood(base, 500, is_over, |_| format!(r#"42["join","{name}"]"#));
    }),
    ("profiles", r#"signalbox_refusals_total{code="bad-profile"}"#, |base, _, is_over| {
        let name = "x".repeat(9_000);
        flood(base, 90, is_over, |number| format!(r#"42["join","room {number}",{{"name":"{name}"}}]"#));
    }),
    (
        "large messages",
        r#"signalbox_disconnects_total{protocol="socketio",reason="transport error"}"#,
        |base, _, is_over| {
            let text = "x".repeat(1_100_000);
            flood(base, 50, is_over, |_| format!(r#"42["leave","{text}"]"#));
        },
    ),
    (
        "connections of an address",
        r#"signalbox_connections_dropped_total{reason="address_connections"}"#,
        |base, _, is_over| {
            while !is_over.load(Ordering::Relaxed) {
                let open: Vec<_> =
                    (0..120).filter_map(|_| WebSocket::connect(base, SOCKETIO, HOSTILE).ok()).collect();
                assert!(open.len() <= 60, "{}", open.len());
                pause(Duration::from_millis(300));
            }
        },
    ),
    (
        "handshakes of an address",
        r#"signalbox_connections_dropped_total{reason="address_handshakes"}"#,
        |base, _, is_over| {
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let opened = request(base, "GET", POLLING, HOSTILE, "").body;
                    // It goes at once, so that its place is free.
                    if let Some(sid) = opened.split('"').nth(3).filter(|_| opened.starts_with('0')) {
                        request(base, "POST", &format!("{POLLING}&sid={sid}"), HOSTILE, "1");
                    }
                }
                pause(Duration::from_millis(20));
            }
        },
    ),
    (
        "connections of a subject",
        r#"signalbox_refusals_total{code="too-many-connections"}"#,
        |base, token, is_over| {
            let connect = format!(r#"40{{"token":"{token}"}}"#);
            while !is_over.load(Ordering::Relaxed) {
                let open: Vec<_> = (0..30).filter_map(|_| hostile(base, &connect)).collect();
                pause(Duration::from_millis(200));
                drop(open);
            }
        },
    ),
    (
        "heads, a byte a second",
        r#"signalbox_connections_dropped_total{reason="header_timeout"}"#,
        |base, _, is_over| {
            let mut open: Vec<TcpStream> = (0..500).map(|_| self::connect(base)).collect();
            while !is_over.load(Ordering::Relaxed) {
                for stream in &mut open {
                    // Those that were thrown out come again.
                    if stream.write_all(b"G").is_err() {
                        *stream = self::connect(base);
                    }
                }
                pause(Duration::from_millis(500));
            }
        },
    ),
];

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_each_limit_past_its_edge_leaves_a_neighbour_alone() {
    let flags = [
        ["--proxied", "--trusted-proxies", "127.0.0.1", "--auth", "optional"].as_slice(),
        &["--jwt-secret", SECRET, "--connections-per-subject", "5", "--bytes-per-second", "1000000"],
        &["--max-rooms", "50", "--max-room-members", "5", "--connections-per-address", "60"],
        &["--handshakes-per-address", "20", "--header-timeout", "2000"],
    ]
    .concat();
    let server = Server::bare(&flags);
    let token = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"))
        .args(["token", "--sub", "mallory", "--ttl", "1h", "--room", "*", "--jwt-secret", SECRET])
        .output()
        .expect("a token");
    let token = String::from_utf8(token.stdout).expect("text").trim().to_owned();
    assert!(token.starts_with("ey"), "{token}");
    for (what, counter, attack) in ATTACKS {
        let before = Neighbour::of(&server);
        let counted = sample(&server, counter);
        let is_over = Arc::<AtomicBool>::default();
        let over = is_over.clone();
        let (base, token) = (server.public().to_owned(), token.clone());
        let attacker = thread::spawn(move || attack(&base, &token, &over));
        let meanwhile = Neighbour::of(&server);
        // Some limits are reached only after ten seconds' worth.
        until(DEADLINE, || (sample(&server, counter) > counted).then_some(()))
            .unwrap_or_else(|| panic!("{what}: {counter} does not grow"));
        is_over.store(true, Ordering::Relaxed);
        attacker.join().expect("it goes on to the end");
        report!("{what}: {} refused", sample(&server, counter) - counted);
        assert_unmoved(what, before, meanwhile);
        // The next attacker has the same address.
        pause(Duration::from_secs(2));
    }
}
