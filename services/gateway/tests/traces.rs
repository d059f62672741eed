//! Traces at a real OTLP receiver (rotel): one message's way over two nodes and Redis; a receiver that is away; nothing of a client's.

mod harness;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use harness::{
    DEADLINE, Server, admin_token,
    http::{get, request},
    planted::say_everywhere,
    redis::Redis,
    until,
    websocket::{SOCKETIO, WebSocket},
};
use signalbox_auth::{HmacSecret, Mint, Now};

/// A receiver; ended with the test.
struct Rotel {
    child: Child,
    grpc: String,
    http: String,
    said: Arc<Mutex<String>>,
}

/// One span, as the receiver wrote it down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Received {
    name: String,
    trace: String,
    id: String,
    parent: String,
    whole: String,
}

fn free() -> String {
    format!("127.0.0.1:{}", signalbox_test_support::free_port())
}

impl Rotel {
    fn start() -> Self {
        let (grpc, http) = (free(), free());
        let python = std::fs::read_dir(harness::target().join("venv/lib")).into_iter().flatten().flatten();
        let program = python
            .map(|version| version.path().join("site-packages/rotel/rotel-agent"))
            .find(|program| program.exists())
            .expect("rotel is there (cargo xtask prepare)");
        let mut child = Command::new(&program)
            .args(["start", "--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http])
            .args(["--debug-log", "traces", "--debug-log", "metrics", "--debug-log-verbosity", "detailed"])
            .args(["--exporter", "blackhole"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let said: Arc<Mutex<String>> = Arc::default();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut said = said.lock().expect("nobody panicked");
                    said.push_str(&line);
                    said.push('\n');
                }
            });
        }
        for address in [&grpc, &http] {
            until(DEADLINE, || std::net::TcpStream::connect(address).ok()).expect("it listens");
        }
        Self { child, grpc, http, said }
    }

    fn said(&self) -> String {
        self.said.lock().expect("nobody panicked").clone()
    }

    fn spans(&self) -> Vec<Received> {
        let said = self.said();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.trim().starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let parts = said.split("\nSpan #").skip(1);
        parts
            .map(|part| Received {
                name: field(part, "Name"),
                trace: field(part, "Trace ID"),
                id: field(part, "ID"),
                parent: field(part, "Parent ID"),
                whole: part.to_owned(),
            })
            .collect()
    }

    fn find(&self, fits: impl Fn(&Received) -> bool) -> Received {
        until(DEADLINE, || self.spans().into_iter().find(|span| fits(span)))
            .unwrap_or_else(|| panic!("no such span in:\n{}", self.said()))
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(redis: &Redis, variables: &[(&str, &str)]) -> Server {
    let url = redis.url();
    // Thousands of messages one after the other, and no ping of the server between them.
    let unlimited = ["--events-per-second", "off", "--ping-interval", "600000", "--expire_timeout", "1000"];
    let flags = [&["--redis-url", &*url, "--drain-delay", "0"], &unlimited[..]].concat();
    let server = Server::with_environment(&flags, variables);
    until(DEADLINE, || (get(server.management(), "/readyz").status == 200).then_some(())).expect("it joins");
    server
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// A client that says in which trace it is; and its socket's id.
fn traced(server: &Server) -> (WebSocket, String) {
    let mut client =
        WebSocket::connect(server.public(), "/socket.io/?EIO=4&transport=websocket", &[]).expect("101");
    assert!(client.text().starts_with("0{"));
    client.send(&format!(r#"40{{"traceparent":"00-{TRACE}-{CLIENT}-01","token":"swordfish"}}"#));
    let id = client.text().split('"').nth(3).expect("an id").to_owned();
    (client, id)
}

#[test]
fn one_trace_shows_a_message_from_the_senders_frame_to_the_receivers_over_two_nodes() {
    let (redis, rotel) = (Redis::start(), Rotel::start());
    let (grpc, http) = (format!("http://{}", rotel.grpc), format!("http://{}", rotel.http));
    let soon = ("OTEL_BSP_SCHEDULE_DELAY", "100");
    let one = node(
        &redis,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &grpc), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), soon],
    );
    let other = node(&redis, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &http), ("OTEL_SERVICE_NAME", "other"), soon]);

    // A signal, of a client that is in a trace already.
    let ((mut alice, _), (mut bob, bob_id)) = (traced(&one), traced(&other));
    alice.send(&format!(r#"421["signal","{bob_id}",{{"sdp":"swordfish"}}]"#));
    assert!(bob.text().contains("swordfish"));
    assert_eq!(alice.text(), r#"431[{"ok":true}]"#);
    let sent = rotel.find(|span| span.name == "signal");
    assert_eq!((&*sent.trace, &*sent.parent), (TRACE, CLIENT));
    let arrived = rotel.find(|span| span.name == "signal deliver");
    assert_eq!((&arrived.trace, &arrived.parent), (&sent.trace, &sent.id));

    // A broadcast.
    for client in [&mut alice, &mut bob] {
        client.send(r#"422["join","swordfish"]"#);
        while !client.text().starts_with("432[") {}
    }
    alice.send(r#"42["message","swordfish",{"text":"swordfish"}]"#);
    while !bob.text().contains("message") {}
    let sent = rotel.find(|span| span.name == "broadcast");
    assert_eq!((&*sent.trace, &*sent.parent), (TRACE, CLIENT));
    let arrived = rotel.find(|span| span.name == "broadcast deliver");
    assert_eq!((&arrived.trace, &arrived.parent), (&sent.trace, &sent.id));

    // An OFFER, in a trace that begins here; and one in a trace of its client's.
    let header = format!("00-{TRACE}-{CLIENT}-01");
    let target = |id: &str| format!("/peerjs?key=peerjs&id={id}&token=swordfish");
    let peer = |server: &Server, id: &str, headers: &[(&str, &str)]| {
        let mut peer = WebSocket::connect(server.public(), &target(id), headers).expect("101");
        assert!(peer.text().contains("OPEN"));
        peer
    };
    let mut caller = peer(&one, "caller-swordfish", &[]);
    let mut traced_caller = peer(&one, "traced-caller", &[("traceparent", &header)]);
    let mut called = peer(&other, "called-swordfish", &[]);
    for from in [&mut caller, &mut traced_caller] {
        from.send(r#"{"type":"OFFER","dst":"called-swordfish","payload":{"sdp":"swordfish"}}"#);
        assert!(called.text().contains("OFFER"));
    }
    let begun = rotel.find(|span| span.name == "OFFER" && span.trace != TRACE);
    assert_eq!(begun.parent.trim_matches('0'), "");
    let arrived = rotel.find(|span| span.name == "OFFER deliver" && span.trace == begun.trace);
    assert_eq!(arrived.parent, begun.id);
    let sent = rotel.find(|span| span.name == "OFFER" && span.trace == TRACE);
    let arrived = rotel.find(|span| span.name == "OFFER deliver" && span.trace == TRACE);
    assert_eq!((&*sent.parent, &arrived.parent), (CLIENT, &sent.id));

    // Nothing that a client said stands in any of them.
    let said = rotel.said();
    assert!(said.contains("signalbox-gateway") && said.contains("other"), "{said}");
    assert!(!said.contains("swordfish"), "{said}");
}

#[test]
fn a_session_that_moves_to_another_node_stays_in_its_trace() {
    let (redis, rotel) = (Redis::start(), Rotel::start());
    let grpc = format!("http://{}", rotel.grpc);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*grpc),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let (one, other) = (node(&redis, &variables), node(&redis, &variables));
    let polling = "/socket.io/?EIO=4&transport=polling";
    let header = format!("00-{TRACE}-{CLIENT}-01");
    let open = request(one.public(), "GET", polling, &[("traceparent", &header)], "").body;
    let sid = open.split('"').nth(3).expect("a sid");
    let session = format!("{polling}&sid={sid}");
    assert_eq!(request(one.public(), "POST", &session, &[], "40").body, "ok");
    assert!(get(one.public(), &session).body.starts_with("40{"));
    let target = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let mut alice = WebSocket::connect(other.public(), &target, &[]).expect("101");
    alice.send("2probe");
    assert_eq!(alice.text(), "3probe");
    alice.send("5");
    alice.send(r#"421["signal","AAAAAAAAAAAAAAAAAAAA",1]"#);
    assert!(alice.text().contains("not-found"));
    // The node of the WebSocket has it now.
    let here = get(other.management(), "/metrics").body;
    assert!(here.contains(r#"signalbox_connections{protocol="socketio",transport="websocket"} 1"#), "{here}");
    let sent = rotel.find(|span| span.name == "signal");
    assert_eq!((&*sent.trace, &*sent.parent), (TRACE, CLIENT));
}

#[test]
fn only_what_failed_or_was_slow_is_kept_of_traces_that_are_not_sampled() {
    let (redis, rotel) = (Redis::start(), Rotel::start());
    let http = format!("http://{}", rotel.http);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*http),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let (one, other) = (node(&redis, &variables), node(&redis, &variables));
    let ((mut alice, _), (mut bob, bob_id)) = (traced(&one), traced(&other));
    for client in [&mut alice, &mut bob] {
        client.send(r#"420["join","room"]"#);
        while !client.text().starts_with("430[") {}
    }
    // By a signal and by a broadcast.
    let speak = |alice: &mut WebSocket, bob: &mut WebSocket, number: u8, meanwhile: &dyn Fn()| {
        alice.send(&format!(r#"42{number}["signal","{bob_id}",1]"#));
        alice.send(r#"42["message","room","hello"]"#);
        meanwhile();
        let heard = [bob.text(), bob.text()].concat();
        assert!(heard.contains("signal") && heard.contains("message"), "{heard}");
        while !alice.text().starts_with(&format!("43{number}[")) {}
    };
    speak(&mut alice, &mut bob, 1, &|| {});
    alice.send(r#"422["signal","AAAAAAAAAAAAAAAAAAAA",1]"#);
    assert!(alice.text().contains("not-found"));
    let failed = rotel.find(|span| span.name == "signal");
    assert!(failed.whole.contains("not-found"), "{}", failed.whole);
    assert_eq!(rotel.spans().len(), 1, "{}", rotel.said());

    // A call that nobody answers.
    let mut caller = WebSocket::peer(one.public(), "caller");
    caller.send(r#"{"type":"OFFER","dst":"nobody","payload":1}"#);
    assert!(caller.text().contains("EXPIRE"));
    let failed = rotel.find(|span| span.name == "OFFER wait");
    assert!(failed.whole.contains("expired"), "{}", failed.whole);
    assert_eq!(rotel.spans().len(), 2, "{}", rotel.said());

    // Redis hangs for a moment between the sender and the receiver: the signal's trace is whole, on both nodes.
    let mut called = WebSocket::peer(other.public(), "called");
    let offer = r#"{"type":"OFFER","dst":"called","payload":1}"#;
    caller.send(offer);
    assert!(called.text().contains("OFFER"));
    let hang = || {
        assert_eq!(until(Duration::from_millis(400), || None::<()>), None);
        redis.signal("CONT");
    };
    redis.signal("STOP");
    caller.send(offer);
    speak(&mut alice, &mut bob, 3, &hang);
    let sent = rotel.find(|span| span.name == "signal" && !span.whole.contains("not-found"));
    assert_eq!((&*sent.trace, &*sent.parent), (TRACE, CLIENT));
    let arrived = rotel.find(|span| span.name == "signal deliver");
    assert_eq!((&arrived.trace, &arrived.parent), (&sent.trace, &sent.id));
    let arrived = rotel.find(|span| span.name == "broadcast deliver");
    assert_eq!(arrived.trace, TRACE);
    assert!(called.text().contains("OFFER"));
    rotel.find(|span| span.name == "OFFER deliver");
    // The next one is fast again.
    speak(&mut alice, &mut bob, 4, &|| {});
    alice.send(r#"425["signal","AAAAAAAAAAAAAAAAAAAA",1]"#);
    assert!(alice.text().contains("not-found"));
    let count = || (rotel.spans().len() >= 7).then_some(());
    until(DEADLINE, count).expect("the last one that failed");
    assert_eq!(rotel.spans().len(), 7, "{}", rotel.said());
}

/// What the program is configured with. Each has this word in it, but for those that cannot: the test looks for them beside it.
const PLANTED: &str = "swordfish";
const JWT_SECRET: &str = "swordfish-that-signs-tokens-32-bytes";
const WEBHOOK_SECRET: &str = "whsec_c3dvcmRmaXNoLXRoYXQtc2lnbnMtd2ViaG9va3M=";

#[test]
fn a_secret_planted_in_every_input_appears_in_no_trace_no_metric_and_no_log() {
    let (redis, rotel) = (Redis::start_with_password("swordfish-of-redis"), Rotel::start());
    let (grpc, away) = (format!("http://{}", rotel.grpc), format!("http://{}", free()));
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*grpc),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=swordfish"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("SIGNALBOX_JWT_SECRET", JWT_SECRET),
        ("SIGNALBOX_TURN_KEY", "sbt_swordfish"),
        ("SIGNALBOX_WEBHOOK_SECRET", WEBHOOK_SECRET),
    ];
    let (admin, admin_setting) = admin_token();
    let (url, minted) = (redis.url(), Mint::new("alice"));
    let token =
        minted.sign(&HmacSecret::new(JWT_SECRET).expect("a secret"), Now::read().unix).expect("a token");
    let flags = [
        ["--redis-url", &url],
        ["--cluster-secret", "swordfish-of-the-cluster"],
        ["--auth", "optional"],
        ["--jwt-cookie", "session"],
        ["--origins", "http://page.example"],
        ["--turn-url", &away],
        ["--webhook-url", &away],
        ["--admin-token-hash", &admin_setting],
        ["--log", "debug"],
        ["--log-client", "127.0.0.1"],
        ["--drain-delay", "0"],
        ["--drain-timeout", "1500"],
    ];
    let mut nodes = [(); 2].map(|()| Server::with_environment(flags.as_flattened(), &variables));
    for node in &nodes {
        until(DEADLINE, || (get(node.management(), "/readyz").status == 200).then_some(()))
            .expect("it joins");
    }

    // Strangers, who say it wherever they can; and two who show a token, in the header, the cookie and the payload.
    nodes.iter().for_each(|node| say_everywhere(node, PLANTED));
    let bearer = format!("Bearer {token}");
    let cookie = format!("session={token}");
    let shown = [("Authorization", &*bearer), ("Cookie", &cookie), ("Origin", "http://page.example")];
    let connected = nodes.each_ref().map(|node| {
        let mut client = WebSocket::connect(node.public(), SOCKETIO, &shown).expect("101");
        assert!(client.text().starts_with("0{"));
        client.send(&format!(r#"40{{"token":"{token}","traceparent":"00-swordfish-{TRACE}"}}"#));
        let id = client.text().split('"').nth(3).expect("an id").to_owned();
        (client, id)
    });
    let [(mut alice, _), (mut bob, bob_id)] = connected;
    alice.send(&format!(r#"421["signal","{bob_id}",{{"sdp":"swordfish"}}]"#));
    assert!(bob.text().contains("swordfish"));
    assert_eq!(alice.text(), r#"431[{"ok":true}]"#);
    alice.send(r#"422["signal","swordfish-AAAAAAAAAA",{"sdp":"swordfish"}]"#);
    while !alice.text().starts_with("432[") {}
    for client in [&mut alice, &mut bob] {
        client.send(r#"423["join","swordfish",{"name":"swordfish"}]"#);
        while !client.text().starts_with("433[") {}
    }
    alice.send(r#"42["message","swordfish",{"text":"swordfish"}]"#);
    while !bob.text().contains("message") {}
    let target = |id: &str| format!("/peerjs?key=peerjs&id={id}&token={token}");
    let mut peers = nodes.each_ref().map(|node| {
        let id = format!("swordfish-{}", node.pid());
        (
            WebSocket::connect(node.public(), &target(&id), &[("traceparent", "00-swordfish")]).expect("101"),
            id,
        )
    });
    assert!(peers.iter_mut().all(|(peer, _)| peer.text().contains("OPEN")));
    let called = peers[1].1.clone();
    peers[0].0.send(&format!(r#"{{"type":"OFFER","dst":"{called}","payload":"swordfish"}}"#));
    assert!(peers[1].0.text().contains("OFFER"));

    // An operator, who mistypes.
    for (bearer, status) in [(format!("Bearer {admin}"), 200), ("Bearer sba_swordfish".to_owned(), 401)] {
        let headers = [("Authorization", &*bearer), ("Accept", "swordfish;q=swordfish")];
        let answer = request(nodes[0].management(), "GET", "/admin/v1/sockets?limit=5", &headers, "");
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(!answer.body.contains("sba_"), "{}", answer.body);
    }

    // All of that was traced, and the metrics went out meanwhile.
    for name in ["signal deliver", "broadcast deliver", "OFFER deliver"] {
        rotel.find(|span| span.name == name);
    }
    let exported = rotel.said().len();
    let is_exported = || rotel.said()[exported..].contains("signalbox_authentications_total").then_some(());
    until(DEADLINE, is_exported).expect("metrics are exported");
    let metrics = nodes.each_ref().map(|node| get(node.management(), "/metrics").body).concat();
    let log = nodes.each_mut().map(|node| {
        node.signal("TERM");
        assert_eq!(node.wait(DEADLINE), Some(0));
        node.log().join("\n")
    });
    let signature = token.rsplit('.').next().expect("a signature");
    for (place, text) in [("traces", rotel.said()), ("metrics", metrics), ("log", log.concat())] {
        assert!(text.len() > 1000, "{place}: {text}");
        for secret in [PLANTED, WEBHOOK_SECRET, signature, &admin] {
            let found = text.lines().find(|line| line.contains(secret));
            assert_eq!(found, None, "a secret stands in the {place}");
        }
    }
}

#[test]
fn a_receiver_that_is_away_costs_no_time_and_no_memory() {
    let redis = Redis::start();
    // Nobody listens there.
    let away = format!("http://{}", free());
    let node = node(
        &redis,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &away),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ],
    );
    let ((mut alice, _), (mut bob, bob_id)) = (traced(&node), traced(&node));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let mut exchange = |count: usize| {
        for number in 0..count {
            alice.send(&format!(r#"42{}["signal","{bob_id}",{number}]"#, number + 1));
            assert!(bob.text().contains("signal"));
            assert!(alice.text().contains("true"));
        }
    };
    exchange(3_000);
    let (before, begin) = (resident(), Instant::now());
    exchange(10_000);
    // Ten thousand spans are more than ten times what may wait.
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[test]
fn metrics_are_exported_where_they_are_asked_for() {
    let (redis, rotel) = (Redis::start(), Rotel::start());
    let (grpc, http) = (format!("http://{}", rotel.grpc), format!("http://{}", rotel.http));
    let often = ("OTEL_METRIC_EXPORT_INTERVAL", "500");
    let one = node(
        &redis,
        &[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &grpc),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=over-grpc"),
            often,
        ],
    );
    let other = node(
        &redis,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &http),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=over-http"),
            often,
        ],
    );
    let (_alice, _bob) = (traced(&one), traced(&other));
    for instance in ["over-grpc", "over-http"] {
        let of_instance = |said: &str| {
            let parts = said.split("\nResourceMetrics #").filter(|part| part.contains(instance));
            parts.last().map(str::to_owned)
        };
        let whole = |said: &str| {
            let part = of_instance(said)?;
            let has = |name: &str| part.contains(name);
            (has("signalbox_handshakes_total")
                && has("signalbox_redis_command_seconds")
                && has("process_open_fds"))
            .then_some(())
        };
        until(DEADLINE, || whole(&rotel.said()))
            .unwrap_or_else(|| panic!("{instance} exports nothing whole:\n{}", rotel.said()));
    }
    assert!(!rotel.said().contains("swordfish"));
    // An endpoint for all signals alone asks for no metrics.
    let silent = node(
        &redis,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &http),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=not-asked"),
            often,
        ],
    );
    let (_carol, before) = (traced(&silent), rotel.said().len());
    // Others have exported twice meanwhile.
    until(DEADLINE, || (rotel.said()[before..].matches("over-http").count() >= 2).then_some(()))
        .expect("the others go on");
    assert!(!rotel.said().contains("not-asked"));
}
