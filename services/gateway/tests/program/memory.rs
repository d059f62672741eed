//! Clients that would fill the node's memory.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    harness::{
        Server,
        http::{DEADLINE, connect, get, request, send},
        until,
        websocket::{SOCKETIO, WebSocket},
    },
    metrics::sample,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
/// Less than a message may have by default; four of them fill most of what may wait for a client.
const LARGE: usize = 900_000;
/// The same with ten times as much of everything: more than the kernel takes over for a client that does not read.
const HUGE: usize = 10 * LARGE;

/// A polling client in the room `room`: the target of its requests.
fn member(base: &str) -> String {
    let handshake = get(base, POLLING);
    let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
    for packet in ["40", r#"420["join","room"]"#] {
        assert_eq!(request(base, "POST", &target, &[], packet).status, 200);
        assert_eq!(get(base, &target).status, 200);
    }
    target
}

/// Bytes that the node holds for its clients.
fn held(server: &Server) -> f64 {
    sample(server, "signalbox_held_bytes")
}

fn evicted(server: &Server, reason: &str) -> f64 {
    sample(server, &format!("signalbox_evictions_total{{reason=\"{reason}\"}}"))
}

#[test]
fn answers_that_nobody_reads_are_bounded_by_the_memory_budget() {
    let server = Server::bare(&["--max-payload", "10000000", "--memory-budget", "90000000"]);
    let member = member(server.public());
    let mut speaker = WebSocket::socketio(server.public());
    speaker.send(r#"420["join","room"]"#);
    assert!(speaker.text().starts_with("430["));
    let mut speak = |then_held: usize| {
        for _ in 0..3 {
            speaker.send(&format!(r#"421["message","room","{}"]"#, "x".repeat(HUGE)));
            // It may hear that the member has gone.
            while speaker.text() != r#"431[{"ok":true}]"# {}
        }
        until(DEADLINE, || (held(&server) >= then_held as f64).then_some(())).expect("the messages wait");
    };

    speak(3 * HUGE);
    let mut deaf = connect(server.public());
    send(&mut deaf, server.public(), "GET", &member, &[], "");
    // The answer that is on its way counts as well as what comes after it.
    speak(6 * HUGE);
    assert_eq!(evicted(&server, "memory_budget"), 0.0);
    let mut second = connect(server.public());
    send(&mut second, server.public(), "GET", &member, &[], "");
    // By then it is those who read nothing that weigh most, and not who speaks.
    #[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
    std::thread::sleep(Duration::from_millis(1_500));
    speak(0);
    until(DEADLINE, || (evicted(&server, "memory_budget") >= 1.0 && held(&server) < 90e6).then_some(()))
        .expect("three of them are too much");

    drop((deaf, second));
    until(DEADLINE, || (held(&server) == 0.0).then_some(())).expect("nothing is held for who is gone");
}

#[test]
fn bodies_that_never_end_are_bounded_by_the_memory_budget() {
    let server = Server::bare(&["--memory-budget", "20000000"]);
    let target = || {
        let handshake = get(server.public(), POLLING);
        format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"))
    };
    let begin = || {
        let mut stream = connect(server.public());
        let head =
            format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", target(), LARGE + 1_000);
        stream.write_all(head.as_bytes()).expect("a head");
        let _ = stream.write_all(&vec![b'x'; LARGE]);
        stream
    };

    let few: Vec<_> = (0..10).map(|_| begin()).collect();
    until(DEADLINE, || (held(&server) >= (10 * LARGE) as f64).then_some(()))
        .expect("what has arrived counts");
    assert_eq!(evicted(&server, "memory_budget"), 0.0);
    let more: Vec<_> = (0..50).map(|_| begin()).collect();
    until(DEADLINE, || (evicted(&server, "memory_budget") >= 25.0 && held(&server) <= 20e6).then_some(()))
        .expect("sixty are too much");
    // A neighbour is served all the same.
    let neighbour = target();
    assert_eq!(request(server.public(), "POST", &neighbour, &[], "40").status, 200);
    assert_eq!(get(server.public(), &neighbour).status, 200);
    drop((few, more));
    until(DEADLINE, || (held(&server) == 0.0).then_some(())).expect("nothing is held for who is gone");
}

#[test]
fn bodies_that_stop_are_cut_off_and_others_go_on_meanwhile() {
    const HONEST: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.1")];
    let flags = ["--memory-budget", "22000000", "--proxied", "--trusted-proxies", "127.0.0.1"];
    let server = Server::bare(&flags);
    let target = |headers: &[(&str, &str)]| {
        let handshake = request(server.public(), "GET", POLLING, headers, "");
        assert_eq!(handshake.status, 200, "the node is not full");
        format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"))
    };
    let post = |target: &str, headers: &[(&str, &str)], body: &str| {
        request(server.public(), "POST", target, headers, body).status
    };
    let (near, far) = (target(&[]), target(HONEST));
    assert_eq!((post(&near, &[], "40"), post(&far, HONEST, "40")), (200, 200));
    let chunked = "Transfer-Encoding: chunked\r\n\r\nF4240\r\n";
    let declared = format!("Content-Length: {}\r\n\r\n", LARGE + 1_000);
    let stopped: Vec<_> = (0..60)
        .map(|number| {
            let mut stream = connect(server.public());
            let rest = if number % 4 == 0 { chunked } else { &declared };
            let head = format!("POST {} HTTP/1.1\r\nHost: x\r\n{rest}", target(&[]));
            stream.write_all(head.as_bytes()).expect("a head");
            let _ = stream.write_all(&vec![b'x'; LARGE]);
            stream
        })
        .collect();
    until(DEADLINE, || (held(&server) >= 15.5e6).then_some(())).expect("there is hardly room for another");

    let large = format!(r#"42["leave","{}"]"#, "x".repeat(300_000));
    let small = r#"42["leave","nowhere"]"#;
    for _ in 0..5 {
        let since = Instant::now();
        assert_eq!((post(&far, HONEST, &large), post(&far, HONEST, small)), (200, 200));
        assert!(since.elapsed() < Duration::from_secs(3), "who holds little waited {:?}", since.elapsed());
    }
    // One of the same address has its turn after those before it, and small ones always.
    let since = Instant::now();
    assert_eq!(post(&near, &[], small), 200);
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(post(&near, &[], &large), 200);
    // All of them have their room one after the other, without which they would wait for their deadlines.
    until(DEADLINE, || (evicted(&server, "memory_budget") >= 35.0).then_some(())).expect("they give way");
    assert!(held(&server) <= 22e6 + 1e6);
    let dropped =
        |reason| sample(&server, &format!("signalbox_connections_dropped_total{{reason=\"{reason}\"}}"));
    assert_eq!((dropped("no_room"), dropped("full")), (0.0, 0.0));
    drop(stopped);
    until(DEADLINE, || (held(&server) < 1e6).then_some(())).expect("nothing is held for who is gone");
}

#[test]
fn an_address_that_fills_the_budget_and_trickles_costs_those_who_stall_nothing() {
    /// What the bodies of clients that stall have, and how long these do.
    const HALF: usize = 150_000;
    const STALL: Duration = Duration::from_millis(2_500);
    let flags = ["--memory-budget", "22000000", "--proxied", "--trusted-proxies", "127.0.0.1"];
    let server = Server::bare(&flags);
    let begin = |client: &str, length: usize, beginning: &str| {
        let from = [("X-Forwarded-For", client)];
        let handshake = request(server.public(), "GET", POLLING, &from, "");
        let sid = handshake.body.split('"').nth(3).expect("a sid").to_owned();
        let mut stream = connect(server.public());
        let head = format!(
            "POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a head");
        // One that was cut off comes to light later.
        let _ = stream.write_all(beginning.as_bytes());
        stream
    };
    let (packet, rest) = (r#"40/other,{"x":""#, "x".repeat(HALF));
    let half = format!("{packet}{rest}");
    let mut stalled: Vec<_> =
        (1..=4).map(|number| begin(&format!("192.0.2.{number}"), half.len() + HALF + 2, &half)).collect();
    until(DEADLINE, || (held(&server) >= (8 * HALF) as f64).then_some(())).expect("they have their room");

    // More than there is room for: the last ones wait.
    let mut greedy: Vec<_> = (0..40).map(|_| begin("192.0.2.66", LARGE, &"x".repeat(16 * 1024))).collect();
    let since = Instant::now();
    while since.elapsed() < STALL {
        for stream in &mut greedy {
            let _ = stream.write_all(&[b'x'; 4 * 1024]);
        }
        #[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(held(&server) > 14.5e6, "{} bytes are held", held(&server));
    assert!(evicted(&server, "memory_budget") >= 3.0, "it makes room for itself");
    for stream in &mut stalled {
        stream.write_all(format!("{rest}\"}}").as_bytes()).expect("the rest");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    drop(greedy);
}

#[test]
fn what_waits_for_a_verdict_is_bounded_by_the_memory_budget() {
    // Keys are fetched from here, and never come.
    let keys = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/jwks", keys.local_addr().expect("an address"));
    let args = ["--auth", "required", "--jwks", &url, "--memory-budget", "20000000"];
    let server = Server::bare(&[&args[..], &["--outbox-limit", "4000000"]].concat());
    // {"alg":"ES256","kid":"unknown"} and {"sub":"a"}
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6InVua25vd24ifQ.eyJzdWIiOiJhIn0.AA";
    let connect_packet = format!("40{{\"token\":\"{token}\",\"more\":\"{}\"}}", "x".repeat(LARGE));
    let post = || {
        let handshake = get(server.public(), POLLING);
        let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
        let mut stream = connect(server.public());
        send(&mut stream, server.public(), "POST", &target, &[], &connect_packet);
        stream
    };
    let posts: Vec<_> = (0..50).map(|_| post()).collect();
    until(DEADLINE, || (evicted(&server, "memory_budget") >= 20.0 && held(&server) <= 20e6).then_some(()))
        .expect("whoever is cut off holds nothing more");
    let sockets: Vec<_> = (0..40)
        .map(|_| {
            let mut client = WebSocket::connect(server.public(), SOCKETIO, &[]).expect("a WebSocket");
            client.send(&connect_packet);
            client
        })
        .collect();
    until(DEADLINE, || (evicted(&server, "memory_budget") >= 60.0 && held(&server) <= 20e6).then_some(()))
        .expect("what they have said counts while it waits");
    assert_eq!(get(server.public(), POLLING).status, 200);
    drop((posts, sockets, keys));
}

#[test]
fn a_message_to_many_slow_members_is_held_once_and_evicts_nobody() {
    let server = Server::bare(&["--memory-budget", "6000000"]);
    let join = |client: &mut WebSocket| {
        client.send(r#"420["join","room"]"#);
        while !client.text().starts_with("430[") {}
    };
    let members: Vec<_> = (0..16)
        .map(|_| {
            let mut member = WebSocket::socketio(server.public());
            join(&mut member);
            member
        })
        .collect();
    let mut speaker = WebSocket::socketio(server.public());
    join(&mut speaker);
    let waiting = || sample(&server, "signalbox_outbox_bytes");
    // The kernel's buffers come first.
    let mut sent = 0;
    while waiting() < 3.0 * 6e6 {
        speaker.send(&format!(r#"421["message","room","{}"]"#, "x".repeat(LARGE)));
        assert_eq!(speaker.text(), r#"431[{"ok":true}]"#);
        sent += 1;
        assert!(sent < 20, "the members read");
    }
    assert!(held(&server) < 6e6, "{} bytes are held", held(&server));
    assert_eq!((evicted(&server, "memory_budget"), evicted(&server, "slow_reader")), (0.0, 0.0));
    for mut member in members {
        for _ in 0..sent {
            while !member.text().starts_with(r#"42["message","xxx"#) {}
        }
    }
    until(DEADLINE, || (held(&server) == 0.0).then_some(())).expect("everybody has read everything");
}

#[test]
fn of_a_handshake_only_what_is_asked_for_is_kept() {
    let server = Server::bare(&[]);
    let cookie = "x".repeat(8_000);
    for _ in 0..20 {
        let handshake = request(server.public(), "GET", POLLING, &[("Cookie", &cookie)], "");
        assert_eq!(handshake.status, 200);
    }
    assert!(held(&server) < 20.0 * 200.0, "{} bytes are held", held(&server));
}

#[test]
fn events_that_never_arrive_whole_are_bounded_by_the_memory_budget() {
    // While a text is made binary both are held, so one client has up to 3.6 MB; three quarters of the budget are 4.5.
    let server = Server::bare(&["--memory-budget", "6000000"]);
    let waiting = || held(&server);
    let evicted = || evicted(&server, "memory_budget");
    let placeholders: Vec<_> = (0..10).map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#)).collect();
    let begin = || {
        let mut client = WebSocket::socketio(server.public());
        client.send(&format!(r#"4510-["message","room",{}]"#, placeholders.join(",")));
        for _ in 0..4 {
            // Base64 of three quarters of it.
            client.send(&format!("b{}", "A".repeat(LARGE)));
        }
        client
    };

    let _one = begin();
    until(DEADLINE, || (waiting() >= (3 * LARGE) as f64).then_some(())).expect("what has arrived counts");
    assert_eq!(evicted(), 0.0);
    let _other = begin();
    until(DEADLINE, || (evicted() == 1.0 && waiting() <= 4.5e6).then_some(()))
        .expect("two of them are too much");
}

#[test]
fn messages_that_never_arrive_whole_are_bounded_by_the_memory_budget() {
    let server = Server::bare(&["--memory-budget", "5000000"]);
    let waiting = || held(&server);
    let evicted = || evicted(&server, "memory_budget");
    let begin = |number: usize| {
        let mut client = WebSocket::peer(server.public(), &format!("peer-{number}"));
        client.begin(&"x".repeat(LARGE), 1_000);
        client
    };

    let few: Vec<WebSocket> = (0..3).map(begin).collect();
    until(DEADLINE, || (waiting() >= (3 * LARGE) as f64).then_some(())).expect("what has arrived counts");
    assert_eq!(evicted(), 0.0);
    let more: Vec<WebSocket> = (3..8).map(begin).collect();
    until(DEADLINE, || (evicted() >= 1.0 && waiting() <= 3.75e6).then_some(())).expect("eight are too much");
    drop((few, more));
    until(DEADLINE, || (waiting() == 0.0).then_some(())).expect("nothing is held for who is gone");
}

#[test]
fn messages_that_arrive_together_do_not_outrun_the_memory_budget() {
    const BUDGET: f64 = 20e6;
    let flags = ["--memory-budget", "20000000", "--proxied", "--trusted-proxies", "127.0.0.1"];
    let server = Server::bare(&flags);
    let mut clients: Vec<_> = (0..100).map(|_| WebSocket::socketio(server.public())).collect();
    let mut honest = WebSocket::connect(server.public(), SOCKETIO, &[("X-Forwarded-For", "192.0.2.1")])
        .expect("a WebSocket");
    honest.text();
    honest.send("40");
    honest.text();
    let message = "x".repeat(LARGE);
    let is_over = || evicted(&server, "memory_budget") >= 75.0;
    let most = std::thread::scope(|scope| {
        for clients in clients.chunks_mut(10) {
            scope.spawn(|| clients.iter_mut().for_each(|client| client.try_begin(&message, 1_000)));
        }
        scope.spawn(|| {
            for number in 0..20 {
                honest.send(&format!(r#"42{number}["leave","{}"]"#, "x".repeat(300_000)));
                assert!(honest.text().starts_with(&format!("43{number}[")), "it is served all the same");
            }
        });
        let mut most = 0.0_f64;
        until(DEADLINE, || {
            most = most.max(held(&server));
            is_over().then_some(())
        })
        .expect("so many are too much");
        most
    });
    // One message more for each worker, whose buffer doubles as it grows.
    assert!(most <= BUDGET + 4e6, "{most} bytes are held");
    assert!(held(&server) <= BUDGET);
    drop(clients);
    until(DEADLINE, || (held(&server) < 1e6).then_some(())).expect("nothing is held for who is gone");
}
