//! A provider's TURN servers behind our endpoint. The provider is a small server of the test's own that answers in its documented shape.

mod harness;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{Service, coturn::metric, http, token, until};
use serde_json::{Value, json};

/// A request, as the provider saw it.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    authorization: String,
    body: String,
}

/// The provider. It answers until the test ends.
struct Provider {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Provider {
    /// `answer` gives back the head behind `HTTP/1.1 ` and the body for the request of this number, or nothing: then there is silence.
    fn start(answer: impl Fn(usize) -> Option<(String, String)> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let told = seen.clone();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                        break;
                    }
                    head.push(line.trim_end().to_owned());
                }
                let header = |name: &str| {
                    let value = head.iter().filter_map(|line| line.split_once(": "));
                    let mut value = value.filter(|(found, _)| found.eq_ignore_ascii_case(name));
                    value.next().map(|(_, value)| value.to_owned()).unwrap_or_default()
                };
                let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
                let _ = reader.read_exact(&mut body);
                let number = {
                    let mut seen = told.lock().unwrap();
                    seen.push(Seen {
                        line: head.first().cloned().unwrap_or_default(),
                        authorization: header("authorization"),
                        body: String::from_utf8_lossy(&body).into_owned(),
                    });
                    seen.len()
                };
                match answer(number) {
                    Some((head, body)) => {
                        let text = format!(
                            "HTTP/1.1 {head}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                            body.len()
                        );
                        let _ = reader.get_mut().write_all(text.as_bytes());
                    }
                    None => silent.push(reader),
                }
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn created(body: Value) -> Option<(String, String)> {
    Some(("201 Created".to_owned(), body.to_string()))
}

fn cloudflare(number: usize) -> Value {
    json!({"iceServers": [
        {"urls": ["stun:stun.cloudflare.com:3478", "stun:stun.cloudflare.com:53"]},
        {"urls": [
            "turn:turn.cloudflare.com:3478?transport=udp",
            "turn:turn.cloudflare.com:53?transport=udp",
            "turn:turn.cloudflare.com:3478?transport=tcp",
            "turn:turn.cloudflare.com:80?transport=tcp",
            "turns:turn.cloudflare.com:5349?transport=tcp",
            "turns:turn.cloudflare.com:443?transport=tcp",
        ], "username": format!("user {number}"), "credential": format!("password {number}")},
    ]})
}

fn twilio(number: usize) -> Value {
    let (username, credential) = (format!("user {number}"), format!("password {number}"));
    let relay = |url: &str| json!({"url": url, "urls": url, "username": username, "credential": credential});
    json!({
        "username": username, "password": credential, "ttl": "3600", "account_sid": "AC0",
        "date_created": "Fri, 01 May 2020 01:42:57 +0000", "date_updated": "Fri, 01 May 2020 01:42:57 +0000",
        "ice_servers": [
            {"url": "stun:global.stun.twilio.com:3478", "urls": "stun:global.stun.twilio.com:3478"},
            relay("turn:global.turn.twilio.com:3478?transport=udp"),
            relay("turn:global.turn.twilio.com:3478?transport=tcp"),
            relay("turn:global.turn.twilio.com:443?transport=tcp"),
        ],
    })
}

fn start(provider: &Provider, name: &str, flags: &[&str]) -> Service {
    let common = ["--upstream", name, "--upstream-id", "AC0", "--upstream-key", "secret-key"];
    Service::start(&[&common, &["--upstream-url", &*provider.url][..], flags].concat())
}

fn asked(service: &Service, outcome: &str) -> f64 {
    let line = format!(r#"signalbox_turn_upstream_requests_total{{outcome="{outcome}"}}"#);
    metric(&service.management, &line).unwrap_or(0.0)
}

#[test]
fn cloudflare_is_asked_with_our_key_once_for_each_subject_and_answers_in_our_shapes() {
    let provider = Provider::start(|number| created(cloudflare(number)));
    let service = start(&provider, "cloudflare", &[]);
    let (alice, bob) = (token("alice", true), token("bob", true));
    let relays = [
        "turn:turn.cloudflare.com:3478?transport=udp",
        "turn:turn.cloudflare.com:3478?transport=tcp",
        "turn:turn.cloudflare.com:80?transport=tcp",
    ];
    let answer = service.ice_servers("/v1/ice-servers", &alice);
    assert_eq!(
        answer["iceServers"],
        json!([
            {"urls": ["stun:stun.cloudflare.com:3478"]},
            {"urls": relays, "username": "user 1", "credential": "password 1"},
        ])
    );
    assert!((3590..=3600).contains(&answer["ttl"].as_u64().unwrap()), "{answer}");
    let rest: Value = serde_json::from_str(&service.get("/?service=turn", &alice).body).unwrap();
    assert_eq!((&rest["username"], &rest["password"]), (&json!("user 1"), &json!("password 1")));
    let tls = service.ice_servers("/v1/ice-servers?transport=tls&policy=relay", &alice);
    assert_eq!(
        tls["iceServers"][0]["urls"],
        json!([
            "turns:turn.cloudflare.com:5349?transport=tcp",
            "turns:turn.cloudflare.com:443?transport=tcp"
        ])
    );
    assert_eq!(provider.seen().len(), 1, "what is kept is used");
    assert_eq!(service.ice_servers("/v1/ice-servers", &bob)["iceServers"][1]["username"], "user 2");
    let seen = provider.seen();
    assert_eq!(seen[0].line, "POST /v1/turn/keys/AC0/credentials/generate-ice-servers HTTP/1.1");
    assert_eq!((&*seen[0].authorization, &*seen[0].body), ("Bearer secret-key", r#"{"ttl":3600}"#));
    assert_eq!(asked(&service, "answered"), 2.0);
    // Who may have credentials is for us to say, whoever relays.
    assert_eq!(service.get("/v1/ice-servers", &token("carol", false)).status, 403);
    assert_eq!(http::get(&service.public, "/v1/ice-servers").status, 401);
    assert_eq!(provider.seen().len(), 2);
}

#[test]
fn twilio_is_asked_with_our_key_and_answers_in_our_shapes() {
    let provider = Provider::start(|number| created(twilio(number)));
    let service = start(&provider, "twilio", &[]);
    let answer = service.ice_servers("/v1/ice-servers?policy=relay&ttl=600", &token("alice", true));
    assert_eq!(
        answer["iceServers"],
        json!([{"urls": [
            "turn:global.turn.twilio.com:3478?transport=udp",
            "turn:global.turn.twilio.com:3478?transport=tcp",
            "turn:global.turn.twilio.com:443?transport=tcp",
        ], "username": "user 1", "credential": "password 1"}])
    );
    let seen = provider.seen();
    assert_eq!(seen[0].line, "POST /2010-04-01/Accounts/AC0/Tokens.json HTTP/1.1");
    let basic = format!("Basic {}", STANDARD.encode("AC0:secret-key"));
    assert_eq!((&seen[0].authorization, &*seen[0].body), (&basic, "Ttl=600"));
}

#[test]
fn credentials_that_are_half_over_are_fetched_anew() {
    let provider = Provider::start(|number| created(cloudflare(number)));
    let service = start(&provider, "cloudflare", &["--ttl", "4000", "--subject-limit", "0"]);
    let alice = token("alice", true);
    let name = || {
        service.ice_servers("/v1/ice-servers", &alice)["iceServers"][1]["username"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(name(), "user 1");
    until(|| (name() != "user 1").then_some(())).expect("new credentials");
    assert!(service.ice_servers("/v1/ice-servers", &alice)["ttl"].as_u64().unwrap() >= 1);
}

#[test]
fn the_key_goes_to_the_configured_address_alone() {
    let elsewhere = Provider::start(|number| created(cloudflare(number)));
    let location = format!("307 Temporary Redirect\r\nLocation: {}/v1", elsewhere.url);
    let provider = Provider::start(move |_| Some((location.clone(), String::new())));
    let service = start(&provider, "cloudflare", &[]);
    let refused = service.get("/v1/ice-servers", &token("alice", true));
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("5")), "{}", refused.body);
    assert!(refused.body.contains("upstream-unavailable") && !refused.body.contains("secret-key"));
    assert_eq!((provider.seen().len(), elsewhere.seen().len()), (1, 0));
    assert_eq!(asked(&service, "status"), 1.0);
}

#[test]
fn a_provider_that_fails_hangs_nobody_and_what_is_kept_is_used() {
    let provider = Provider::start(|number| match number {
        1 => created(cloudflare(1)),
        2 => None,
        3 => Some(("401 Unauthorized".to_owned(), String::new())),
        4 => Some(("200 OK".to_owned(), "x".repeat(100_000))),
        _ => Some(("200 OK".to_owned(), "{}".to_owned())),
    });
    let service = start(&provider, "cloudflare", &["--ttl", "36000", "--subject-limit", "0"]);
    assert_eq!(service.get("/v1/ice-servers", &token("alice", true)).status, 200);
    let begin = Instant::now();
    let bob = token("bob", true);
    assert_eq!(service.get("/v1/ice-servers", &bob).status, 503);
    assert!(begin.elapsed().as_secs() < 15, "{:?}", begin.elapsed());
    // Asked again and again, it is left alone for a second after each failure.
    for outcome in ["forbidden", "unreadable"] {
        let failed = || {
            assert_eq!(service.get("/v1/ice-servers", &bob).status, 503);
            (asked(&service, outcome) > 0.0).then_some(())
        };
        until(failed).unwrap_or_else(|| panic!("{outcome}: {:?}", provider.seen().len()));
    }
    assert_eq!(asked(&service, "timeout"), 1.0);
    let kept = service.ice_servers("/v1/ice-servers", &token("alice", true));
    assert_eq!(kept["iceServers"][1]["username"], "user 1");
}
