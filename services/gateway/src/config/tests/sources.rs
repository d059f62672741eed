//! Which source wins, and what arrives in the struct.

use std::collections::HashSet;
use std::time::Duration;

use signalbox_config::arguments::{find, is_list, long_name, own_variable, settings, takes_boolean};
use signalbox_config::command::parser;

use super::super::{Loaded, LogFormat, PROGRAM, Transport};
use super::{Scratch, load, printed, settings_of};

#[test]
fn the_defaults_are_those_of_the_two_protocols() {
    let settings = settings_of(&[], &[]);
    assert_eq!((settings.listener.host.as_str(), settings.listener.port), ("::", 9000));
    assert_eq!(settings.listener.tls(), None);
    assert!(settings.listener.cors.is_empty() && settings.listener.origins.is_empty());
    assert!(!settings.listener.proxied && settings.listener.trusted_proxies.is_empty());
    assert_eq!(settings.listener.vendor_dir, None);
    assert_eq!(settings.peerserver.path, "/");
    assert_eq!(settings.peerserver.key, ["peerjs"]);
    assert_eq!(settings.peerserver.expire_timeout, Duration::from_secs(5));
    assert_eq!(settings.peerserver.alive_timeout, Duration::from_secs(60));
    assert_eq!(settings.peerserver.concurrent_limit, Some(5000));
    assert!(!settings.peerserver.allow_discovery);
    assert_eq!(settings.socketio.socketio_path, "/socket.io/");
    assert_eq!(settings.socketio.transports, [Transport::Polling, Transport::WebSocket]);
    assert_eq!(settings.socketio.ping_interval, Duration::from_secs(25));
    assert_eq!(settings.socketio.ping_timeout, Duration::from_secs(20));
    assert_eq!(settings.socketio.upgrade_timeout, Duration::from_secs(10));
    assert_eq!(settings.socketio.connect_timeout, Duration::from_secs(45));
    assert_eq!(settings.socketio.max_payload, 1_000_000);
    assert_eq!(settings.socketio.cookie, None);
    assert_eq!(
        (settings.management.admin_host.as_str(), settings.management.admin_port),
        ("127.0.0.1", 9001)
    );
    assert_eq!(settings.management.metrics_port, None);
    assert_eq!(settings.node.node_id, None);
    assert!(settings.node.workers >= 1);
    assert_eq!(settings.node.outbox_limit, Some(4_000_000));
    assert_eq!(settings.node.memory_budget, None);
    assert_eq!((settings.logging.log.as_str(), settings.logging.log_format), ("info", LogFormat::Text));
}

#[test]
fn flag_wins_over_variable_over_foreign_variable_over_file_over_default() {
    let scratch = Scratch::new();
    let file = scratch.file("signalbox.toml", "port = 1001\n");
    let own = ("SIGNALBOX_PORT", "1003");
    let foreign = ("PORT", "1002");
    let named = ("SIGNALBOX_CONFIG", file.as_str());
    for (arguments, environment, expected) in [
        (vec![], vec![], 9000),
        (vec!["--config", &file], vec![], 1001),
        (vec![], vec![named], 1001),
        (vec!["--config", &file], vec![foreign], 1002),
        (vec!["--config", &file], vec![foreign, own], 1003),
        (vec!["--config", &file, "-p", "1004"], vec![foreign, own], 1004),
        (vec!["--port=1004"], vec![named, foreign, own], 1004),
        // The default, asked for, is a choice too.
        (vec!["--port=9000"], vec![named, foreign, own], 9000),
    ] {
        assert_eq!(
            settings_of(&arguments, &environment).listener.port,
            expected,
            "{arguments:?} {environment:?}"
        );
    }
}

#[test]
fn a_higher_source_replaces_a_list() {
    let scratch = Scratch::new();
    let file = scratch.file("a.toml", "key = [\"one\", \"two\"]\nallow_discovery = true\n");
    let key =
        |arguments: &[&str], environment: &[(&str, &str)]| settings_of(arguments, environment).peerserver.key;
    assert_eq!(key(&["--config", &file], &[]), ["one", "two"]);
    assert_eq!(key(&["--config", &file], &[("SIGNALBOX_KEY", "three, four")]), ["three", "four"]);
    assert_eq!(key(&["--config", &file, "-k", "five", "-k", "six", "-k", "five"], &[]), ["five", "six"]);
    assert!(!settings_of(&["--config", &file, "--allow-discovery=false"], &[]).peerserver.allow_discovery);
    assert!(settings_of(&["--config", &file], &[]).peerserver.allow_discovery);
}

#[test]
fn peerserver_command_lines_work_unchanged() {
    let settings = settings_of(
        &[
            "--port",
            "9100",
            "-H",
            "127.0.0.1",
            "--path",
            "/myapp/",
            "-k",
            "secretary",
            "-t",
            "2000",
            "--alive_timeout",
            "30000",
            "-c",
            "10",
            "--allow_discovery",
            "--proxied",
            "--trusted-proxies",
            "10.0.0.0/8",
            "--cors",
            "https://a.example",
            "--cors",
            "https://b.example",
        ],
        &[],
    );
    assert_eq!((settings.listener.host.as_str(), settings.listener.port), ("127.0.0.1", 9100));
    assert_eq!(settings.peerserver.path, "/myapp");
    assert_eq!(settings.peerserver.key, ["secretary"]);
    assert_eq!(settings.peerserver.expire_timeout, Duration::from_secs(2));
    assert_eq!(settings.peerserver.alive_timeout, Duration::from_secs(30));
    assert_eq!(settings.peerserver.concurrent_limit, Some(10));
    assert!(settings.peerserver.allow_discovery && settings.listener.proxied);
    assert_eq!(settings.listener.cors, ["https://a.example", "https://b.example"]);
    assert_eq!(settings_of(&[], &[("PEERSERVER_PATH", "myapp")]).peerserver.path, "/myapp");
}

#[test]
fn hyphens_and_underscores_are_interchangeable() {
    let scratch = Scratch::new();
    let underscores = scratch.file("u.toml", "ping_interval = 7\nexpire_timeout = 8\n");
    let hyphens = scratch.file("h.toml", "ping-interval = 7\nexpire-timeout = 8\n");
    for arguments in [
        ["--ping_interval=7", "--expire_timeout=8"],
        ["--ping-interval=7", "--expire-timeout=8"],
        ["--config", &underscores],
        ["--config", &hyphens],
    ] {
        let settings = settings_of(&arguments, &[]);
        assert_eq!(settings.socketio.ping_interval, Duration::from_millis(7), "{arguments:?}");
        assert_eq!(settings.peerserver.expire_timeout, Duration::from_millis(8), "{arguments:?}");
    }
}

#[test]
fn values_reach_the_struct_in_their_final_form() {
    let settings = settings_of(
        &[
            "--socketio-path",
            "live",
            "--transports",
            "websocket,websocket",
            "--cookie",
            "--metrics-port",
            "0",
            "--proxied",
            "--trusted-proxies",
            "10.0.0.0/8, ::1",
            "--workers",
            "3",
            "--max-payload",
            "10",
            "--log-format",
            "json",
            "--log",
            "warn,signalbox_node=debug",
            "--node-id",
            "node-1",
        ],
        &[],
    );
    assert_eq!(settings.socketio.socketio_path, "/live/");
    assert_eq!(settings.socketio.transports, [Transport::WebSocket]);
    assert_eq!(settings.socketio.cookie.as_deref(), Some("io"));
    assert_eq!(settings.management.metrics_port, Some(0));
    assert_eq!(settings.listener.trusted_proxies.len(), 2);
    assert_eq!((settings.node.workers, settings.node.outbox_limit), (3, Some(40)));
    assert_eq!(settings.logging.log_format, LogFormat::Json);

    let settings =
        settings_of(&["--no-trailing-slash", "--cookie", "sid"], &[("SIGNALBOX_OUTBOX_LIMIT", "9")]);
    assert_eq!(settings.socketio.socketio_path, "/socket.io");
    assert_eq!(settings.socketio.cookie.as_deref(), Some("sid"));
    assert_eq!(settings.node.outbox_limit, Some(9));
}

#[test]
fn variables_that_are_not_ours_do_no_harm() {
    let environment = [
        ("SIGNALBOX_PORT", "tcp://10.0.0.7:9000"),
        ("SIGNALBOX_SERVICE_HOST", "10.0.0.7"),
        ("SIGNALBOX_PORT_9000_TCP_ADDR", "10.0.0.7"),
        ("SIGNALBOX_NODE_ID", ""),
        ("SIGNALBOX_PINGINTERVAL", "5"),
        ("HOME", "somewhere"),
    ];
    let Ok(Loaded::Run { settings, warnings }) = load(&[], &environment) else { panic!("not accepted") };
    assert_eq!((settings.listener.port, settings.node.node_id), (9000, None));
    let expected =
        "unknown environment variable SIGNALBOX_PINGINTERVAL (did you mean SIGNALBOX_PING_INTERVAL?)";
    assert_eq!(warnings, [expected]);
}

#[test]
fn print_config_is_a_file_that_gives_the_same_again() {
    let scratch = Scratch::new();
    let file = scratch.file("signalbox.toml", "ping-timeout = 77\n");
    let arguments = ["--config", &file, "--cors", "https://a.example", "--cookie", "-k", "a", "-k", "b"];
    let environment = [("SIGNALBOX_METRICS_PORT", "9004"), ("SIGNALBOX_ALLOW_DISCOVERY", "true")];
    let with_print: Vec<&str> = arguments.iter().copied().chain(["--print-config"]).collect();
    let page = printed(&with_print, &environment);
    assert!(page.contains("\nport = 9000  # default\n"), "{page}");
    assert!(page.contains("\nkey = [\"a\", \"b\"]  # --key\n"), "{page}");
    assert!(page.contains("\nmetrics-port = 9004  # SIGNALBOX_METRICS_PORT\n"), "{page}");
    assert!(page.contains(&format!("\nping-timeout = 77  # {file}\n")), "{page}");
    assert!(page.contains("\n# sslkey is not set\n"), "{page}");

    let again = scratch.file("again.toml", &page);
    assert_eq!(settings_of(&["--config", &again], &[]), settings_of(&arguments, &environment));
}

#[test]
fn help_lists_every_setting_with_its_variable() {
    let short = printed(&["-h"], &[]);
    let long = printed(&["--help"], &[]);
    for arg in settings(&parser(&PROGRAM)) {
        let name = long_name(arg);
        for help in [&short, &long] {
            assert!(help.contains(&format!("--{name} ")), "{name}");
            assert!(help.contains(&format!("[env: {}]", own_variable(arg))), "{name}");
        }
    }
    for heading in [
        "Public listener:",
        "PeerServer:",
        "Socket.IO:",
        "Authentication:",
        "Cluster:",
        "Management listener:",
        "Node:",
        "Logs:",
    ] {
        assert!(long.contains(heading), "{heading}");
    }
    assert!(printed(&["--version"], &[]).starts_with("signalbox-gateway "));
}

/// That of RFC 8037, appendix A.2.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

#[test]
fn every_setting_can_be_set_from_every_source() {
    let scratch = Scratch::new();
    let pem = scratch.file("file.pem", "");
    let redis_url = scratch.file("url", "redis://cache.example/3");
    let hook_secret = scratch.file("whsec", format!("whsec_{}", "A".repeat(32)));
    let rules = scratch.file("rules.toml", signalbox_node::rules::BUILTIN);
    let secret = scratch.file("secret", "x".repeat(32));
    let public_key = scratch.file("public.pem", PUBLIC_KEY);
    let directory = scratch.0.to_str().unwrap().to_owned();
    // A value for each kind that is not the default.
    let value_of = |name: &str| match name {
        "redis-ca" | "sslkey" | "sslcert" | "cluster-tls-ca" | "cluster-tls-cert" | "cluster-tls-key" => {
            pem.clone()
        }
        "cluster-tls" => "optional".to_owned(),
        "vendor-dir" | "static" => directory.clone(),
        "rules" => rules.clone(),
        "hook" => "app=https://app.example/hooks".to_owned(),
        "hook-policy" => "claim=app".to_owned(),
        "webhook-url" => "https://app.example/webhooks".to_owned(),
        "webhook-events" => "evict".to_owned(),
        "webhook-batch" => "12".to_owned(),
        "webhook-concurrency" => "2".to_owned(),
        "hook-secret" | "webhook-secret" => format!("whsec_{}", "A".repeat(32)),
        "hook-secret-file" | "webhook-secret-file" => hook_secret.clone(),
        "hook-ca" | "webhook-ca" => pem.clone(),
        "hook-concurrency" => "12".to_owned(),
        "host" | "admin-host" => "127.0.0.2".to_owned(),
        "cors" | "origins" => "https://a.example".to_owned(),
        "trusted-proxies" => "10.0.0.0/8".to_owned(),
        "path" | "socketio-path" => "/other".to_owned(),
        "metric-namespaces" => "/chat".to_owned(),
        "log-client" => "alice".to_owned(),
        "transports" => "websocket".to_owned(),
        "key" | "cookie" | "node-id" | "jwt-issuer" | "jwt-audience" | "jwt-cookie" | "jwt-grants-claim"
        | "jwt-session-claim" => "other".to_owned(),
        "admin-token-hash" => format!("ops:read:{}", "0".repeat(64)),
        "memory-limit" => "100000000".to_owned(),
        "auth-without-redis" => "refuse".to_owned(),
        "cookie-secure" => "true".to_owned(),
        "cookie-same-site" => "strict".to_owned(),
        "log" => "debug".to_owned(),
        "log-format" => "json".to_owned(),
        "serve-client" | "cookie-http-only" => "false".to_owned(),
        "proxied" | "proxy-protocol" | "allow_discovery" | "no-trailing-slash" => "true".to_owned(),
        "workers" => "7".to_owned(),
        "outbox-limit" => "4000001".to_owned(),
        "memory-budget" => "4000002".to_owned(),
        "redis-url" => "redis://cache.example/2".to_owned(),
        "redis-prefix" => "other".to_owned(),
        "cluster-addr" => "127.0.0.2:9005".to_owned(),
        "cluster-secret" => "0123456789abcdef".to_owned(),
        "redis-url-file" => redis_url.clone(),
        "cluster-secret-file" | "jwt-secret-file" => secret.clone(),
        "jwt-secret" => "s".repeat(32),
        "auth" => "required".to_owned(),
        "jwt-public-key" => public_key.clone(),
        "jwks" => "https://id.example/keys".to_owned(),
        "default-grants" | "anonymous-grants" => "{\"users\": true}".to_owned(),
        "no-users" => "true".to_owned(),
        "ice-servers" => r#"[{"urls": "stun:stun.example"}]"#.to_owned(),
        "turn-url" => "http://turn.example:9002".to_owned(),
        "turn-key" => "sbt_other".to_owned(),
        "turn-key-file" => pem.clone(),
        "turn-anonymous" => "true".to_owned(),
        _ => "1234".to_owned(),
    };
    let partners_of = |name: &str| match name {
        "sslkey" => vec![format!("--sslcert={pem}")],
        "sslcert" => vec![format!("--sslkey={pem}")],
        "cluster-tls" => ["ca", "cert", "key"].map(|file| format!("--cluster-tls-{file}={pem}")).to_vec(),
        "trusted-proxies" => vec!["--proxied".to_owned()],
        "auth" => vec!["--jwks=https://id.example/keys".to_owned()],
        "jwt-cookie" => vec!["--origins=https://a.example".to_owned()],
        "turn-url" => vec!["--turn-key=sbt_a".to_owned()],
        "webhook-url" => vec![format!("--webhook-secret=whsec_{}", "A".repeat(32))],
        "hook" => vec![format!("--hook-secret=whsec_{}", "A".repeat(32))],
        "hook-policy" => {
            let secret = format!("--hook-secret=whsec_{}", "A".repeat(32));
            vec!["--hook=app=https://app.example/hooks".to_owned(), secret]
        }
        "proxied" | "proxy-protocol" => vec!["--trusted-proxies=10.0.0.0/8".to_owned()],
        _ => Vec::new(),
    };
    let command = parser(&PROGRAM);
    let mut names = HashSet::new();
    for arg in settings(&command) {
        let name = long_name(arg);
        assert!(names.insert(name.to_owned()));
        assert!(find(&command, name).is_some());
        let value = value_of(name);
        let partners = partners_of(name);
        let partner: Vec<&str> = partners.iter().map(String::as_str).collect();

        let flag = format!("--{name}={value}");
        let from_flag = settings_of(&[&[flag.as_str()], partner.as_slice()].concat(), &[]);
        let from_variable = settings_of(&partner, &[(&own_variable(arg), &value)]);
        let quoted = if is_list(arg) { format!("[{value:?}]") } else { format!("{value:?}") };
        let bare = if value.parse::<u64>().is_ok() || (takes_boolean(arg) && value.parse::<bool>().is_ok()) {
            value
        } else {
            quoted
        };
        let file = scratch.file("signalbox.toml", format!("{name} = {bare}\n"));
        let from_file = settings_of(&[&["--config", &file], partner.as_slice()].concat(), &[]);

        // With its partner alone, a key without a certificate is an error.
        if let Ok(Loaded::Run { settings, .. }) = load(&partner, &[]) {
            assert_ne!(from_flag, *settings, "{name} changes nothing");
        }
        assert_eq!(from_flag, from_variable, "{name}");
        assert_eq!(from_flag, from_file, "{name}");
    }
}
