//! The program as clients and operators meet it.

mod harness;

use std::process::Command;

use harness::{
    JWT_SECRET, KEY, SECRET, Service,
    coturn::metric,
    http::{self, Response},
    token,
};
use serde_json::{Value, json};

const URIS: [&str; 4] = [
    "--uri",
    "turn:a.example:3478?transport=udp",
    "--uri",
    "turns:[2001:db8::1]:443?transport=tcp;server=a.example",
];

fn start(flags: &[&str]) -> Service {
    Service::start(&[&URIS, &["--secret", SECRET, "--probe", "off"][..], flags].concat())
}

fn problem(response: &Response) -> (u16, String) {
    assert_eq!(response.header("Content-Type"), Some("application/problem+json"), "{}", response.body);
    let body: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(body["status"], response.status);
    (response.status, body["code"].as_str().expect("a code").to_owned())
}

#[test]
fn the_program_asks_one_that_runs_how_it_is() {
    let service = start(&[]);
    let port = service.management.rsplit(':').next().expect("a port").to_owned();
    let health = |port: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-turn"));
        command.args(["health", "--ready", "--admin-port", port]).args(["--secret", SECRET]).args(URIS);
        command
            .env("SIGNALBOX_JWT_SECRET", "a secret that is longer than 32 bytes")
            .output()
            .expect("it runs")
    };
    let output = health(&port);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(health("0").status.code(), Some(1));
}

#[test]
fn both_shapes_are_answered_to_the_holder_of_a_token() {
    let service = start(&["--ttl", "60000"]);
    let alice = token("alice", true);

    let rest = service.get("/?service=turn&username=ignored", &alice);
    assert_eq!((rest.status, rest.header("Cache-Control")), (200, Some("no-store")));
    let rest: Value = serde_json::from_str(&rest.body).unwrap();
    assert_eq!(rest["ttl"], 60);
    assert_eq!(
        rest["uris"],
        json!(["turn:a.example:3478?transport=udp", "turns:[2001:db8::1]:443?transport=tcp"])
    );
    let username = rest["username"].as_str().unwrap();
    assert!(!username.contains("alice") && username.contains(':'), "{username}");

    let body = "service=turn";
    let headers = [
        ("Authorization", format!("Bearer {alice}")),
        ("Content-Type", "application/x-www-form-urlencoded".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(http::request(&service.public, "POST", "/", &headers, body).status, 200);

    let ice = service.ice_servers("/v1/ice-servers?transport=tls&policy=relay", &alice);
    assert_eq!(ice["iceServers"][0]["urls"], json!(["turns:[2001:db8::1]:443?transport=tcp"]));
    assert_eq!(ice["iceTransportPolicy"], "relay");
    let again = ice["iceServers"][0]["username"].as_str().unwrap();
    assert_eq!(again.split(':').nth(1), username.split(':').nth(1), "a person keeps the name");
    let by_token_parameter = http::get(&service.public, &format!("/v1/ice-servers?token={alice}"));
    assert_eq!(by_token_parameter.status, 200);
    assert_eq!(metric(&service.management, r#"signalbox_turn_issued_total{caller="token"}"#), Some(4.0));
}

#[test]
fn a_server_asks_for_others_with_its_key() {
    let service = start(&[]);
    let of = |query: &str| {
        let answer = http::get(&service.public, &format!("/v1/ice-servers?key={KEY}{query}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        answer["iceServers"][0]["username"].as_str().unwrap().split(':').nth(1).unwrap().to_owned()
    };
    assert_eq!(of("&subject=alice"), of("&username=alice"));
    assert_ne!(of("&subject=alice"), of("&subject=bob"));
    assert_ne!(of("&subject=alice"), of("&subject=alice&issuer=x"));
    assert_ne!(of(""), of("&subject=app"));
    let direct = service.credential("alice").0;
    assert_eq!(
        direct.split(':').nth(1),
        Some(&*of("&subject=alice")),
        "the gateway and the client get one name"
    );
    let header = http::request(&service.public, "GET", "/v1/ice-servers", &[("X-Api-Key", KEY)], "");
    assert_eq!(header.status, 200);
}

#[test]
fn what_is_refused_says_why_in_one_form() {
    let service = start(&[]);
    let alice = token("alice", true);
    let long = "x".repeat(257);
    for (target, parameter) in [
        ("/".to_owned(), "service"),
        ("/?service=stun".to_owned(), "service"),
        ("/?service=turn&username=a:b".to_owned(), "username"),
        ("/?service=turn&username=%00".to_owned(), "username"),
        (format!("/?service=turn&username={long}"), "username"),
        ("/v1/ice-servers?ttl=86401".to_owned(), "ttl"),
        ("/v1/ice-servers?transport=dtls".to_owned(), "transport"),
        ("/v1/ice-servers?region=a%20b".to_owned(), "region"),
        ("/v1/ice-servers?policy=none".to_owned(), "policy"),
    ] {
        let response = service.get(&target, &alice);
        assert_eq!(problem(&response), (400, "bad-parameter".to_owned()), "{target}");
        let body: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(body["parameter"], parameter, "{target}");
    }
    let nobody = http::get(&service.public, "/v1/ice-servers");
    assert_eq!(problem(&nobody), (401, "token-missing".to_owned()));
    assert_eq!(nobody.header("WWW-Authenticate"), Some("Bearer"));
    let forged = format!("{}x", token("alice", true));
    assert_eq!(problem(&service.get("/v1/ice-servers", &forged)).0, 401);
    assert_eq!(problem(&service.get("/v1/ice-servers?key=sbt_other", "")), (401, "key-unknown".to_owned()));
    assert_eq!(
        problem(&service.get("/v1/ice-servers", &token("bob", false))),
        (403, "turn-forbidden".to_owned())
    );
    assert_eq!(problem(&service.get("/v2", &alice)), (404, "not-found".to_owned()));
    assert_eq!(
        problem(&http::request(&service.public, "DELETE", "/v1/ice-servers", &[], "")),
        (405, "method-not-allowed".to_owned())
    );
    let json = [("Content-Type", "application/json")];
    assert_eq!(problem(&http::request(&service.public, "POST", "/v1/ice-servers", &json, "{}")).0, 415);
    assert_eq!(
        metric(&service.management, r#"signalbox_turn_refused_total{reason="bad-parameter"}"#),
        Some(9.0)
    );
}

#[test]
fn too_many_are_refused_until_the_minute_ends() {
    let service = start(&["--subject-limit", "3", "--address-limit", "8"]);
    let get = |subject: &str| service.get("/v1/ice-servers", &token(subject, true));
    // A minute may end meanwhile, once.
    let refused = (0..8).map(|_| get("alice")).find(|response| response.status != 200).expect("a refusal");
    assert_eq!(problem(&refused), (429, "subject-limit".to_owned()));
    let after: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    let refused = (0..20).map(|at| get(&format!("user {at}"))).find(|response| response.status != 200);
    assert_eq!(problem(&refused.expect("a refusal")), (429, "address-limit".to_owned()));
    let by_key = http::get(&service.public, &format!("/v1/ice-servers?key={KEY}&subject=carol"));
    assert_eq!(by_key.status, 200, "a server has its own limit");
}

#[test]
fn pages_of_other_origins_ask_and_read_as_configured() {
    let service = start(&["--origins", "https://a.example", "--cors", "https://a.example"]);
    let bearer = format!("Bearer {}", token("alice", true));
    let get = |origin| {
        http::request(
            &service.public,
            "GET",
            "/v1/ice-servers",
            &[("Authorization", &bearer), ("Origin", origin)],
            "",
        )
    };
    let ours = get("https://a.example");
    assert_eq!((ours.status, ours.header("Access-Control-Allow-Origin")), (200, Some("https://a.example")));
    let other = get("https://b.example");
    assert_eq!(problem(&other), (403, "origin-forbidden".to_owned()));
    assert_eq!(other.header("Access-Control-Allow-Origin"), None);
    let headers = [("Origin", "https://a.example"), ("Access-Control-Request-Headers", "authorization")];
    let preflight = http::request(&service.public, "OPTIONS", "/v1/ice-servers", &headers, "");
    assert_eq!(
        (preflight.status, preflight.header("Access-Control-Allow-Headers")),
        (204, Some("authorization"))
    );
}

#[test]
fn with_auth_off_an_address_counts_as_a_subject() {
    let service = start(&["--auth", "off", "--subject-limit", "2"]);
    let get = || http::get(&service.public, "/v1/ice-servers?username=whoever");
    let last = (0..6).map(|_| get().status).find(|status| *status != 200);
    assert_eq!(last, Some(429));
}

#[test]
fn it_serves_tls_and_takes_a_renewed_certificate() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("turn-tls");
    std::fs::create_dir_all(&directory).unwrap();
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    // Each names a port in its subject, by which curl tells them apart.
    let write = |name: &str| {
        let names = vec!["localhost".to_owned(), name.to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
    };
    write("first.example");
    let files = ["--sslkey", key.to_str().unwrap(), "--sslcert", certificate.to_str().unwrap()];
    let service = start(&files);
    let port = service.public.strip_prefix("https://127.0.0.1:").expect("it says https").to_owned();
    let ask = |host: &str| {
        let output = std::process::Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--cacert", certificate.to_str().unwrap()])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .args(["--oauth2-bearer", &token("alice", true), "--write-out", "%{http_version}"])
            .arg(format!("https://{host}:{port}/v1/ice-servers"))
            .output()
            .expect("curl is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answer = ask("first.example");
    assert!(answer.contains("iceServers") && answer.ends_with("1.1"), "{answer}");
    assert!(!ask("second.example").contains("iceServers"));
    let expiry = || metric(&service.management, "signalbox_turn_certificate_expiry_timestamp_seconds");
    assert!(expiry().unwrap() > 1e9);
    write("second.example");
    harness::until(|| ask("second.example").contains("iceServers").then_some(()))
        .expect("the new certificate");
}

#[test]
fn it_says_how_it_is_reads_secrets_again_and_stops() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("turn-secrets");
    std::fs::write(&file, "the-first-of-secrets\n").unwrap();
    let mut service =
        Service::start(&[&URIS[..], &["--secret-file", file.to_str().unwrap(), "--probe", "off"]].concat());
    for path in ["/livez", "/readyz"] {
        assert_eq!(http::get(&service.management, path).status, 200);
    }
    let openapi: Value = serde_json::from_str(&http::get(&service.public, "/v1/openapi.json").body).unwrap();
    for path in openapi["paths"].as_object().unwrap().keys() {
        assert_ne!(http::get(&service.public, &path.replace("{subject}", "s")).status, 404, "{path}");
    }
    let signed_with = |secret: &str| {
        let (username, password) = service.credential("alice");
        let (at, user) = username.split_once(':').unwrap();
        let user = signalbox_turn::UserPart::parse(user).unwrap();
        let secret = signalbox_turn::Secret::new(secret).unwrap();
        signalbox_turn::sign(&secret, &user, at.parse().unwrap()).password == password
    };
    assert!(signed_with("the-first-of-secrets"));
    std::fs::write(&file, "the-second-of-secrets\nthe-first-of-secrets\n").unwrap();
    service.signal("HUP");
    harness::until(|| signed_with("the-second-of-secrets").then_some(())).expect("the new secret signs");
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
}

#[test]
fn no_secret_of_the_service_or_of_its_clients_is_logged_or_counted() {
    let secret = "swordfish-that-signs-credentials";
    let flags = ["--secret", secret, "--probe", "off", "--log", "debug"];
    let mut service = Service::start(&[&URIS[..], &flags].concat());
    let alice = token("alice", true);
    let (_, password) = service.credential("alice");
    for target in [
        "/v1/ice-servers?key=sbt_swordfish",
        "/v1/ice-servers?token=swordfish",
        "/v1/ice-servers?region=swordfish%0Aline",
        "/?service=turn&username=swordfish%0D%0Aline",
        "/swordfish%0Aline",
    ] {
        http::get(&service.public, target);
    }
    let names = [
        "Authorization",
        "X-Api-Key",
        "Cookie",
        "Origin",
        "Referer",
        "User-Agent",
        "X-Forwarded-For",
        "Traceparent",
    ];
    http::request(&service.public, "GET", "/v1/ice-servers", &names.map(|name| (name, "swordfish")), "");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    http::request(&service.public, "POST", "/", &form, "service=turn&username=swordfish&key=swordfish");
    http::request(&service.management, "GET", "/metrics", &[("Accept", "swordfish;q=swordfish")], "");
    let metrics = http::get(&service.management, "/metrics").body;
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
    let lines = service.log();
    assert!(lines.iter().all(|line| line.starts_with("20")), "a line without its time: {lines:#?}");
    let log = lines.join("\n");
    assert!(!log.is_empty() && metrics.contains("signalbox_turn_refused_total"), "{log}");
    let signature = alice.rsplit('.').next().expect("a signature");
    for (place, text) in [("log", log), ("metrics", metrics)] {
        for secret in ["swordfish", JWT_SECRET, KEY, signature, &password] {
            let found = text.lines().find(|line| line.contains(secret));
            assert_eq!(found, None, "a secret stands in the {place}");
        }
    }
}
