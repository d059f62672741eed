//! Several instances with one Redis, and coturn beside it: secrets, limits, revocations, usage; and Redis gone.

mod harness;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    KEY, SECRET, Service,
    certificates::Files,
    coturn::{Coturn, metric},
    free_port, http, pause,
    redis::Redis,
    token, until,
};
use serde_json::Value;

/// coturn with its secrets and its statistics in Redis.
fn coturn(redis: &Redis) -> Coturn {
    let at = format!("ip=127.0.0.1 port={} dbname=0 connect_timeout=5", redis.port());
    let (users, stats) = (format!("--redis-userdb={at}"), format!("--redis-statsdb={at}"));
    Coturn::start_at_with_database(
        free_port(),
        &["-n", "--use-auth-secret", "--allow-loopback-peers", &stats],
        &users,
    )
}

fn instance(redis: &Redis, uri: &str, flags: &[&str]) -> Service {
    let url = redis.url();
    let shared = [
        "--redis-url",
        &url,
        "--coturn-redis-url",
        &url,
        "--uri",
        uri,
        "--probe",
        "off",
        "--subject-key",
        "the same for all",
    ];
    Service::start(&[&shared, flags].concat())
}

fn rotate(redis: &Redis, uri: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-turn"));
    let url = redis.url();
    command
        .args([
            "rotate",
            "--auth",
            "off",
            "--coturn-redis-url",
            &url,
            "--uri",
            uri,
            "--subject-key",
            "the same for all",
        ])
        .args(flags)
        .env_clear();
    command
}

#[test]
fn during_a_rotation_both_secrets_work_and_afterwards_only_the_new_one() {
    let redis = Redis::start();
    let coturn = coturn(&redis);
    let uri = coturn.uri("tcp");
    let lifetimes = ["--ttl", "10000", "--max-ttl", "10000", "--rotation-margin", "1000"];
    let service = instance(&redis, &uri, &lifetimes);
    let old = service.credential("alice");
    assert!(coturn.relays((&old.0, &old.1), &["-t"]), "the first secret");

    assert!(rotate(&redis, &uri, &lifetimes).status().expect("it runs").success());
    assert!(coturn.relays((&old.0, &old.1), &["-t"]), "the old secret still works");
    let secrets = || redis.command(&["SMEMBERS", "turn/realm/signalbox/secret"]).lines().count();
    // From the first moment on, each fresh credential is taken, whichever secret signed it.
    let fresh = service.credential("alice");
    assert!(coturn.relays((&fresh.0, &fresh.1), &["-t"]), "a fresh credential");
    until(|| (secrets() == 1).then_some(())).expect("the old secret is out");
    let new = service.credential("alice");
    assert!(coturn.relays((&new.0, &new.1), &["-t"]), "the new secret");

    // A name signed with the old secret that has not ended yet: the secret alone is what is missing.
    let first = redis.command(&["HGET", "signalbox:turn:secrets:signalbox", "secret:1"]);
    assert_eq!(first.trim(), "", "it is forgotten");
}

#[test]
fn a_rotation_that_is_killed_ends_well_and_all_agree() {
    let redis = Redis::start();
    let coturn = coturn(&redis);
    let uri = coturn.uri("tcp");
    let lifetimes = ["--ttl", "600000", "--max-ttl", "600000"];
    let services = [instance(&redis, &uri, &lifetimes), instance(&redis, &uri, &lifetimes)];
    // Each is killed at another moment between its start and its end.
    for step in 0..8 {
        let mut child = rotate(&redis, &uri, &lifetimes).spawn().expect("it starts");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(step * 4) {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        let _ = child.wait();
        let (username, password) = services[step as usize % 2].credential("alice");
        assert!(accepts(&coturn, &redis, (&username, &password)), "after step {step}");
    }
    // Once the last rotation is known to all, they sign alike.
    let same = || {
        let [one, other] = [&services[0], &services[1]].map(|service| service.credential("alice"));
        (one == other).then_some(())
    };
    until(same).expect("both sign with one secret");
    let (username, password) = services[0].credential("alice");
    assert!(coturn.relays((&username, &password), &["-t"]));
}

/// Whether coturn has the secret that signed this, as coturn itself looks for it.
fn accepts(_: &Coturn, redis: &Redis, (username, password): (&str, &str)) -> bool {
    let secrets = redis.command(&["SMEMBERS", "turn/realm/signalbox/secret"]);
    let (at, user) = username.split_once(':').expect("two parts");
    let user = signalbox_turn::UserPart::parse(user).expect("ours");
    secrets.lines().any(|secret| {
        let secret = signalbox_turn::Secret::new(secret.trim()).expect("a secret");
        signalbox_turn::sign(&secret, &user, at.parse().expect("a time")).password == password
    })
}

#[test]
fn instances_keep_one_limit() {
    let redis = Redis::start();
    let flags = ["--subject-limit", "5", "--secret", SECRET];
    let services = [instance(&redis, "turn:a.example", &flags), instance(&redis, "turn:a.example", &flags)];
    let get =
        |at: usize, subject: &str| services[at % 2].get("/v1/ice-servers", &token(subject, true)).status;
    // A minute may end meanwhile, once.
    let issued = (0..12).take_while(|at| get(*at, "alice") == 200).count();
    assert!((5..=10).contains(&issued), "{issued}");

    let limits = ["--subject-limit", "0", "--address-limit", "4", "--key-limit", "6", "--secret", SECRET];
    let prefix = ["--redis-prefix", "other"];
    let flags = [&limits[..], &prefix].concat();
    let services = [instance(&redis, "turn:a.example", &flags), instance(&redis, "turn:a.example", &flags)];
    let get = |at: usize, bearer: &str| services[at % 2].get("/v1/ice-servers", bearer).status;
    let by_address = (0..10).take_while(|at| get(*at, &token(&format!("user {at}"), true)) == 200).count();
    assert!((4..=8).contains(&by_address), "{by_address}");
    let by_key = (0..14).take_while(|at| get(*at, KEY) == 200).count();
    assert!((6..=12).contains(&by_key), "{by_key}");
}

#[test]
fn a_clock_that_jumps_rotates_nothing_and_drops_nothing() {
    const MONTH_MS: i64 = 30 * 86_400_000;
    let redis = Redis::start();
    let lifetimes = ["--ttl", "600000", "--max-ttl", "600000", "--rotate-every", "86400000"];
    let service = instance(&redis, "turn:a.example", &lifetimes);
    let state = |field: &str| -> i64 {
        let text = redis.command(&["HGET", "signalbox:turn:secrets:signalbox", field]);
        text.trim().parse().unwrap_or_default()
    };
    until(|| (state("newest") == 1).then_some(())).expect("there is a secret");
    assert!(rotate(&redis, "turn:a.example", &lifetimes).status().expect("it runs").success());
    assert_eq!(state("newest"), 2);
    // What the script sees when the clock has jumped by a month: the last time it ran is a month ago, or a month away.
    for jump in [-MONTH_MS, MONTH_MS] {
        let last = (state("last") + jump).to_string();
        redis.command(&["HSET", "signalbox:turn:secrets:signalbox", "last", &last]);
        until(|| ((state("last") - last.parse::<i64>().unwrap()).abs() > MONTH_MS / 2).then_some(()))
            .expect("an instance has looked after the secrets");
        assert_eq!((state("newest"), state("oldest")), (2, 1));
        let secrets = redis.command(&["SMEMBERS", "turn/realm/signalbox/secret"]);
        assert_eq!(secrets.lines().count(), 2, "{secrets}");
        service.credential("alice");
    }
}

#[test]
fn instances_keep_one_list_of_the_revoked() {
    let redis = Redis::start();
    let flags = ["--subject-limit", "0", "--address-limit", "0", "--secret", SECRET];
    let services = [instance(&redis, "turn:a.example", &flags), instance(&redis, "turn:a.example", &flags)];
    let get = |at: usize, subject: &str| services[at].get("/v1/ice-servers", &token(subject, true)).status;
    let call = |at: usize, method: &str, target: &str, key: &str| {
        http::request(&services[at].public, method, target, &[("X-Api-Key", key)], "")
    };
    assert_eq!(call(0, "POST", "/v1/subjects/bob/revoke", "sbt_other").status, 401);
    let by_token = format!("Bearer {}", token("bob", true));
    let header = [("Authorization", &*by_token)];
    assert_eq!(
        http::request(&services[0].public, "POST", "/v1/subjects/bob/revoke", &header, "").status,
        403
    );
    assert_eq!(get(1, "bob"), 200);
    let revoked = call(0, "POST", "/v1/subjects/bob/revoke", KEY);
    assert_eq!(revoked.status, 200, "{}", revoked.body);
    let body: Value = serde_json::from_str(&revoked.body).unwrap();
    assert!(body["credentialsEndBy"].as_u64() > Some(signalbox_auth::Now::read().unix), "{body}");
    let stranger = call(0, "POST", "/v1/subjects/nobody-ever-seen/revoke", KEY);
    let stranger: Value = serde_json::from_str(&stranger.body).unwrap();
    assert_eq!(
        body.as_object().unwrap().keys().collect::<Vec<_>>(),
        stranger.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    until(|| (get(1, "bob") == 403).then_some(())).expect("the other instance knows it");
    assert_eq!(call(1, "DELETE", "/v1/subjects/bob/revoke", KEY).status, 200);
    until(|| (get(0, "bob") == 200).then_some(())).expect("credentials again");
}

#[test]
fn usage_is_counted_for_the_right_subject_and_the_quota_holds_everywhere() {
    let redis = Redis::start();
    let coturn = coturn(&redis);
    let flags = ["--quota-bytes", "500"];
    let services =
        [instance(&redis, &coturn.uri("tcp"), &flags), instance(&redis, &coturn.uri("tcp"), &flags)];
    let ask = |at: usize, target: &str| -> Value {
        let response = http::request(&services[at].public, "GET", target, &[("X-Api-Key", KEY)], "");
        assert_eq!(response.status, 200, "{}", response.body);
        serde_json::from_str(&response.body).unwrap()
    };
    // Whoever is to listen does so by now.
    let is_listening = || redis.command(&["PUBSUB", "NUMPAT"]).contains('1').then_some(());
    until(is_listening).expect("an instance listens");
    let (username, password) = services[0].credential("alice");
    assert!(coturn.relays((&username, &password), &["-t"]));
    let used = |at: usize, subject: &str| {
        ask(at, &format!("/v1/usage?subject={subject}"))["bytes"].as_u64().unwrap()
    };
    until(|| (used(0, "alice") > 500).then_some(())).expect("the bytes are counted");
    assert_eq!(used(1, "alice"), used(0, "alice"), "in all instances");
    assert_eq!(used(0, "bob"), 0);
    for service in &services {
        let refused = service.get("/v1/ice-servers", &token("alice", true));
        assert_eq!(refused.status, 429, "{}", refused.body);
        assert!(refused.body.contains("bytes-quota") && refused.header("Retry-After").is_some());
    }
    assert_eq!(services[0].get("/v1/ice-servers", &token("bob", true)).status, 200);
    let relayed = |service: &Service| {
        metric(&service.management, r#"signalbox_turn_relayed_bytes_total{direction="to_client"}"#)
            .unwrap_or(0.0)
    };
    assert!(relayed(&services[0]) + relayed(&services[1]) > 0.0);
    let open = ask(0, "/v1/allocations");
    assert_eq!(open["count"].as_u64().unwrap() as usize, open["allocations"].as_array().unwrap().len());
    assert_eq!(services[0].get("/v1/usage?subject=alice", &token("alice", true)).status, 403);
    assert_eq!(services[0].get("/v1/usage", KEY).status, 400);
}

#[test]
fn redis_is_reached_with_an_authority_of_its_own() {
    let files = Files::make("turn-redis-tls");
    let redis = Redis::start_with_tls(&files);
    let url = redis.url();
    // For all three: limits and revocations, secrets, statistics.
    let urls = ["--coturn-stats-url", &*url];
    let authority = files.path("ca.pem");
    let trusting = instance(&redis, "turn:a.example", &[&urls[..], &["--redis-ca", &authority]].concat());
    let revoke = |service: &Service| {
        http::request(&service.public, "POST", "/v1/subjects/bob/revoke", &[("X-Api-Key", KEY)], "").status
    };
    assert_eq!(revoke(&trusting), 200);
    trusting.credential("alice");
    let secrets = redis.command(&["SMEMBERS", "turn/realm/signalbox/secret"]);
    assert_eq!(secrets.lines().count(), 1, "{secrets}");
    until(|| redis.command(&["PUBSUB", "NUMPAT"]).contains('1').then_some(())).expect("it listens");

    // Browsers do not trust it, so without the setting nobody does.
    let stranger = instance(&redis, "turn:a.example", &["--secret", SECRET]);
    assert_eq!(revoke(&stranger), 503);
}

#[test]
fn without_redis_static_secrets_sign_and_the_rest_waits() {
    let mut redis = Redis::start();
    let unlimited = ["--subject-limit", "0", "--address-limit", "0"];
    let with_static = instance(&redis, "turn:a.example", &[&unlimited[..], &["--secret", SECRET]].concat());
    let without = instance(&redis, "turn:a.example", &unlimited);
    let status = |service: &Service| service.get("/v1/ice-servers", &token("alice", true)).status;
    assert_eq!((status(&with_static), status(&without)), (200, 200));
    redis.stop();
    let refused = until(|| {
        let response = without.get("/v1/ice-servers", &token("alice", true));
        (response.status == 503).then_some(response)
    });
    assert!(refused.expect("nothing to sign with").header("Retry-After").is_some());
    assert_eq!(status(&with_static), 200);
    let is_ours = || {
        let (username, password) = with_static.credential("alice");
        let (at, user) = username.split_once(':').unwrap();
        let user = signalbox_turn::UserPart::parse(user).unwrap();
        let secret = signalbox_turn::Secret::new(SECRET).unwrap();
        (signalbox_turn::sign(&secret, &user, at.parse().unwrap()).password == password).then_some(())
    };
    until(is_ours).expect("the static secret signs");
    let revoke =
        http::request(&with_static.public, "POST", "/v1/subjects/bob/revoke", &[("X-Api-Key", KEY)], "");
    assert_eq!(revoke.status, 503, "{}", revoke.body);
    assert!(revoke.header("Retry-After").is_some());
    let usage = with_static.get("/v1/usage?subject=bob", KEY);
    assert_eq!(usage.status, 503, "{}", usage.body);
    assert_eq!(http::get(&with_static.management, "/readyz").status, 200);

    let alone = Service::start(&["--secret", SECRET, "--uri", "turn:a.example", "--probe", "off"]);
    let revoke = http::request(&alone.public, "POST", "/v1/subjects/bob/revoke", &[("X-Api-Key", KEY)], "");
    assert_eq!(revoke.status, 501, "{}", revoke.body);
    pause();
}
