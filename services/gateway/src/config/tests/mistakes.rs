//! Each mistake is one line that names the place and the remedy.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::super::Settings;
use super::{Scratch, error_of, printed, settings_of};

#[test]
fn a_wrong_flag_is_one_line_with_the_remedy() {
    for (arguments, expected) in [
        (
            vec!["--ping-interval", "abc"],
            "--ping-interval: \"abc\" is not a number of milliseconds (use e.g. --ping-interval 25000)",
        ),
        (
            vec!["--ping_interval=0"],
            "--ping-interval: \"0\" is not between 1 and 86400000 milliseconds (use e.g. --ping-interval 25000)",
        ),
        (
            vec!["--ping-interval", "-5"],
            "--ping-interval: \"-5\" is not a number of milliseconds (use e.g. --ping-interval 25000)",
        ),
        (vec!["-p", "70000"], "--port: \"70000\" is not a port from 0 to 65535 (use e.g. --port 9000)"),
        (vec!["--port"], "--port: a value is missing (use e.g. --port 9000)"),
        (vec!["--port="], "--port: \"\" is not a port from 0 to 65535 (use e.g. --port 9000)"),
        (vec!["--port", "1", "--port", "2"], "--port: given more than once (give it once)"),
        (vec!["--prot", "1"], "--prot: unknown flag (did you mean --port?)"),
        (vec!["--rediss-uri", "redis://cache"], "--rediss-uri: unknown flag (did you mean --redis-url?)"),
        (
            vec!["--redis-url", "cache:6379"],
            "--redis-url: the value does not begin with redis://, redis+sentinel:// or redis+cluster:// (rediss for TLS) (use e.g. --redis-url redis://127.0.0.1:6379)",
        ),
        (
            vec!["--redis-prefix", "{a}"],
            "--redis-prefix: \"{a}\" is not a prefix: 1 to 64 of A-Z a-z 0-9 . _ - : / (use e.g. --redis-prefix signalbox)",
        ),
        (
            vec!["--cluster-addr", "9005"],
            "--cluster-addr: \"9005\" is not an IP address with a port, as 10.0.0.7:9005 or [::1]:9005 (use e.g. --cluster-addr 127.0.0.1:9005)",
        ),
        (
            vec!["--cluster-secret", "short"],
            "--cluster-secret: the value is shorter than 16 bytes, or longer than 1024 (use e.g. --cluster-secret 16-bytes-or-more)",
        ),
        (
            vec!["--cluster-tls", "on"],
            "--cluster-tls: \"on\" is neither off, optional nor required (use e.g. --cluster-tls required)",
        ),
        (
            vec!["--cluster-tls", "required"],
            "--cluster-tls: needs --cluster-tls-ca too (set --cluster-tls-ca ca.pem too)",
        ),
        (
            vec!["--webhook-url", "http://app.example.com/hooks"],
            "--webhook-url: \"http://app.example.com/hooks\" is not https, and http is for this machine only (localhost, 127.0.0.1 or [::1]) (use e.g. --webhook-url https://app.example.com/hooks)",
        ),
        (
            vec!["--webhook-url", "https://app.example.com/hooks"],
            "--webhook-url: needs --webhook-secret too (set --webhook-secret whsec_... too)",
        ),
        (
            vec!["--webhook-secret", "hunter2"],
            "--webhook-secret: the value does not begin with whsec_ (openssl rand -base64 32 makes what follows it) (use e.g. --webhook-secret whsec_...)",
        ),
        (
            vec!["--webhook-events", "missing"],
            "--webhook-events: \"missing\" is none of connect, disconnect, join, leave, claim, release, evict, refuse, transfer, node-up, node-down, degraded, online, drain (use e.g. --webhook-events connect,disconnect,claim,release,join,leave,transfer,node-up,node-down)",
        ),
        (vec!["-x"], "-x: unknown flag (see --help)"),
        (vec!["--", "--port", "1"], "--port: unknown flag (put it in front of the --)"),
        (vec!["serve"], "\"serve\": not a flag (settings are given as --name value, see --help)"),
        (vec!["--print-config=yes"], "--print-config: takes no value (leave it out)"),
        (vec!["--proxied", "maybe"], "--proxied: \"maybe\" is not true or false (use e.g. --proxied false)"),
        (
            vec!["--metrics-port", "many"],
            "--metrics-port: \"many\" is not a port from 0 to 65535, or off (use e.g. --metrics-port 9004)",
        ),
        (
            vec!["--max-payload", "1MB"],
            "--max-payload: \"1MB\" is not a number of bytes (use e.g. --max-payload 1000000)",
        ),
        (
            vec!["--transports", "polling,webtransport"],
            "--transports: \"webtransport\" is not a transport: polling or websocket (use e.g. --transports \
             polling,websocket)",
        ),
        (
            vec!["--trusted-proxies", "10.0.0.0/99"],
            "--trusted-proxies: \"10.0.0.0/99\" has a prefix that is not between 0 and 32 (use e.g. --trusted-proxies \
             10.0.0.0/8)",
        ),
        (
            vec!["--trusted-proxies", "10.0.0.0/8"],
            "--trusted-proxies: has no effect without --proxied (set --proxied true too)",
        ),
        (
            vec!["--proxy-protocol"],
            "--proxy-protocol: needs --trusted-proxies too (set --trusted-proxies 10.0.0.0/8 too)",
        ),
        (vec!["--path", "/a b"], "--path: \"/a b\" is not a plain URL path (use e.g. --path /)"),
        (
            vec!["--path", "/socket.io/x"],
            "--path: \"/socket.io/x\" lies under the Socket.IO path \"/socket.io/\" (use e.g. --path /)",
        ),
        (
            vec!["--socketio-path", "/peerjs"],
            "--socketio-path: \"/peerjs/\" would take \"/peerjs/\" of the PeerServer (use e.g. --socketio-path \
             /socket.io/)",
        ),
        (
            vec!["--socketio-path", "/peer", "--no-trailing-slash"],
            "--socketio-path: \"/peer\" would take \"/peerjs/\" of the PeerServer (use e.g. --socketio-path \
             /socket.io/)",
        ),
        (
            vec!["--path", "/socket.io2", "--no-trailing-slash"],
            "--path: \"/socket.io\" would take \"/socket.io2/peerjs/\" of the PeerServer (use e.g. --path /)",
        ),
        (
            vec!["--key", "socket.io"],
            "--key: \"/socket.io/\" would take \"/socket.io/\" of the PeerServer (use e.g. --key peerjs)",
        ),
        (
            vec!["--key", "demo"],
            "--key: \"/demo/\" of the PeerServer belongs to the demo page (use e.g. --key peerjs)",
        ),
        (vec!["--path", "/demo"], "--path: \"/demo\" belongs to the demo page (use e.g. --path /)"),
        (
            vec!["--socketio-path", "/"],
            "--socketio-path: \"/\" would take every request of the other protocol (use e.g. --socketio-path \
             /socket.io/)",
        ),
        (
            vec!["--admin-port", "9000"],
            "--admin-port: 9000 is --port too (give each listener a port of its own, or 0)",
        ),
        (
            vec!["--metrics-port", "9001"],
            "--metrics-port: 9001 is --admin-port too (give each listener a port of its own, or 0)",
        ),
        (
            vec!["--workers", "many"],
            "--workers: \"many\" is neither a number from 1 to 256 nor cores (use e.g. --workers cores)",
        ),
        (vec!["--log", "info=loud"], "--log: \"info=loud\" is not a log filter (use e.g. --log info)"),
        (
            vec!["--node-id", "a\nb"],
            "--node-id: \"a\\nb\" is not a node id: 1 to 64 of A-Z a-z 0-9 . _ - (use e.g. --node-id node-1)",
        ),
        (
            vec!["--memory-budget", "5"],
            "--memory-budget: the memory budget (5 bytes) is less than one outbox (4000000 bytes) (set \
             --memory-budget to 4000000 or more, or lower --outbox-limit)",
        ),
        (
            vec!["--auth", "on"],
            "--auth: \"on\" is neither off, optional nor required (use e.g. --auth required)",
        ),
        (
            vec!["--auth", "required"],
            "--auth: auth is on, but there is no key to check tokens with (set --jwt-secret, --jwt-public-key or --jwks)",
        ),
        (
            vec!["--jwt-secret", "short"],
            "--jwt-secret: jwt secret has 5 bytes, fewer than 32 (make one with: openssl rand -base64 48)",
        ),
        (
            vec!["--jwt-secret-file", "missing"],
            "--jwt-secret-file: cannot read \"missing\": no such file (name a readable file)",
        ),
        (
            vec!["--jwt-public-key", "missing.pem"],
            "--jwt-public-key: cannot read \"missing.pem\": no such file (name a readable file)",
        ),
        (
            vec!["--jwks", "http://id.example.com/jwks"],
            "--jwks: jwks url is plain http, so that anybody on the way could put keys in (use https; http is for loopback only)",
        ),
        (
            vec!["--jwks", "https://user@id.example.com/jwks"],
            "--jwks: jwks url has credentials in it (a key set is public: leave them out)",
        ),
        (
            vec!["--default-grants", "{\"rooms\": {\"join\": [\"\"]}}"],
            "--default-grants: rooms.join[0]: the pattern is empty, so it can never match (docs/auth.md lists the grants)",
        ),
        (
            vec!["--anonymous-grants", "{\"rooms\": {\"join\": [\"of-{sub}\"]}}"],
            "--anonymous-grants: rooms.join[0]: the pattern has {sub}, but an anonymous client has no subject, so it can never match (docs/auth.md lists the grants)",
        ),
        (
            vec!["--jwt-cookie", "token"],
            "--jwt-cookie: needs --origins too (set --origins https://app.example.com too)",
        ),
        (
            vec!["--jwt-cookie", "token", "--origins", "*"],
            "--jwt-cookie: * in --origins would let any page show its visitors' tokens (name the origins of your pages, or leave --jwt-cookie out)",
        ),
        (
            vec!["--jwt-cookie", "token", "--origins", "https://a.example", "null"],
            "--jwt-cookie: null in --origins would let any page show its visitors' tokens (name the origins of your pages, or leave --jwt-cookie out)",
        ),
        (
            vec!["--origins", "https://*"],
            "--origins: \"https://*\" is not an origin (scheme://host or scheme://host:port) (use e.g. --origins https://app.example.com)",
        ),
        (
            vec!["--cookie", "--cookie-same-site", "none"],
            "--cookie-same-site: needs --cookie-secure too (set --cookie-secure true too)",
        ),
        (
            vec!["--cookie-same-site", "some"],
            "--cookie-same-site: \"some\" is neither strict, lax nor none (use e.g. --cookie-same-site lax)",
        ),
        (
            vec!["--cookie-secure", "perhaps"],
            "--cookie-secure: \"perhaps\" is neither auto, true nor false (use e.g. --cookie-secure auto)",
        ),
        (
            vec!["--redis-url-file", "missing"],
            "--redis-url-file: cannot read \"missing\": no such file (name a readable file)",
        ),
        (vec!["--sslkey", "key.pem"], "--sslkey: needs --sslcert too (set --sslcert cert.pem too)"),
        (
            vec!["--config", "missing.toml"],
            "--config: cannot read \"missing.toml\": no such file (name a readable TOML file)",
        ),
        (
            vec!["--static", "missing"],
            "--static: cannot read \"missing\": no such file (name a readable directory)",
        ),
        (
            vec!["--vendor-dir", "missing"],
            "--vendor-dir: cannot read \"missing\": no such file (name a readable directory, or leave it out for a \
             public CDN)",
        ),
    ] {
        assert_eq!(error_of(&arguments, &[]), expected, "{arguments:?}");
    }
}

#[test]
fn a_wrong_variable_is_named_as_a_variable() {
    for (environment, expected) in [
        (
            ("SIGNALBOX_PING_INTERVAL", "abc"),
            "SIGNALBOX_PING_INTERVAL: \"abc\" is not a number of milliseconds (use e.g. SIGNALBOX_PING_INTERVAL=25000)",
        ),
        (("PORT", "http"), "PORT: \"http\" is not a port from 0 to 65535 (use e.g. PORT=9000)"),
        (
            ("SIGNALBOX_ALLOW_DISCOVERY", "y"),
            "SIGNALBOX_ALLOW_DISCOVERY: \"y\" is not true or false (use e.g. SIGNALBOX_ALLOW_DISCOVERY=false)",
        ),
        (
            ("SIGNALBOX_SSLCERT", "cert.pem"),
            "SIGNALBOX_SSLCERT: needs --sslkey too (set --sslkey too, or SIGNALBOX_SSLKEY)",
        ),
        (
            ("SIGNALBOX_CONFIG", "missing.toml"),
            "SIGNALBOX_CONFIG: cannot read \"missing.toml\": no such file (name a readable TOML file)",
        ),
    ] {
        assert_eq!(error_of(&[], &[environment]), expected, "{environment:?}");
    }

    let not_utf8 = OsString::from_vec(vec![0xff]);
    let environment = [(OsString::from("SIGNALBOX_NODE_ID"), not_utf8)];
    let error = Settings::load([OsString::from("signalbox-gateway")], environment).unwrap_err();
    let expected = "SIGNALBOX_NODE_ID: the value is not UTF-8 text (use e.g. SIGNALBOX_NODE_ID=node-1)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_wrong_file_is_named_with_its_key() {
    let scratch = Scratch::new();
    for (content, expected) in [
        (
            "ping-interval = \"abc\"",
            "F: ping-interval: \"abc\" is not a number of milliseconds (use e.g. ping-interval = 25000)",
        ),
        (
            "ping_interval = true",
            "F: ping-interval: expected a number, found boolean (use e.g. ping-interval = 25000)",
        ),
        ("pingintervall = 1", "F: pingintervall: unknown key (did you mean ping-interval?)"),
        ("jwt-key = \"x\"", "F: jwt-key: unknown key (the keys are the names of the flags, see --help)"),
        (
            "print-config = true",
            "F: print-config: unknown key (the keys are the names of the flags, see --help)",
        ),
        (
            "[socketio]\nping-interval = 1",
            "F: socketio: unknown key (the keys are the names of the flags, see --help)",
        ),
        ("node-id = 0x10", "F: node-id: expected a string, found integer (use e.g. node-id = \"node-1\")"),
        (
            "key = [\"a\", 1]",
            "F: key: expected a string or a list of strings, found integer (use e.g. key = \"peerjs\")",
        ),
        ("key = []", "F: key: the list is empty (use e.g. key = \"peerjs\")"),
        ("port = [1]", "F: port: expected a number, found array (use e.g. port = 9000)"),
        ("proxied = \"maybe\"", "F: proxied: \"maybe\" is not true or false (use e.g. proxied = false)"),
        ("ping-interval = 1\nping_interval = 1", "F: ping-interval: given in two spellings (give it once)"),
        ("sslkey = \"key.pem\"", "F: sslkey: needs --sslcert too (set sslcert = \"cert.pem\" too)"),
        ("port = 1\nport = 2", "F:2: duplicate key (the file must be valid TOML)"),
        (
            "trusted-proxies = [\"10.0.0.1/8\"]",
            "F: trusted-proxies: \"10.0.0.1/8\" has address bits set beyond its prefix; the range is 10.0.0.0/8 (use \
             e.g. trusted-proxies = \"10.0.0.0/8\")",
        ),
    ] {
        let file = scratch.file("signalbox.toml", content);
        assert_eq!(
            error_of(&["--config", &file], &[]),
            expected.replace("F:", &format!("{file}:")),
            "{content}"
        );
    }
    let file = scratch.file("signalbox.toml", "# fine\nport = = 1\n");
    assert!(error_of(&["--config", &file], &[]).starts_with(&format!("{file}:2: ")));
    let file = scratch.file("latin1.toml", b"# \xe9");
    assert!(error_of(&["--config", &file], &[]).contains("it is not UTF-8 text"));
    let directory = scratch.0.to_str().unwrap().to_owned();
    assert!(error_of(&["--config", &directory], &[]).contains("it is a directory"));
}

#[test]
fn certificates_must_be_readable_files() {
    let scratch = Scratch::new();
    let key = scratch.file("key.pem", "");
    let certificate = scratch.file("cert.pem", "");
    let directory = scratch.0.to_str().unwrap().to_owned();
    let settings = settings_of(&["--sslkey", &key, "--sslcert", &certificate], &[]);
    assert_eq!(settings.listener.tls(), Some((Path::new(&key), Path::new(&certificate))));
    for (name, problem) in [("missing.pem", "no such file"), (directory.as_str(), "it is not a file")] {
        let expected = format!("--sslcert: cannot read {name:?}: {problem} (name a readable PEM file)");
        assert_eq!(error_of(&["--sslkey", &key, "--sslcert", name], &[]), expected);
    }
}

#[test]
fn what_a_secret_file_holds_is_never_shown() {
    let scratch = Scratch::new();
    let short = scratch.file("secret", "hush\n");
    assert_eq!(
        error_of(&["--cluster-secret-file", &short], &[]),
        "--cluster-secret-file: the value is shorter than 16 bytes, or longer than 1024 (write the value of --cluster-secret into that file)"
    );
    assert_eq!(
        error_of(&["--redis-url-file", &short], &[]),
        "--redis-url-file: the value does not begin with redis://, redis+sentinel:// or redis+cluster:// (rediss for TLS) (write the value of --redis-url into that file)"
    );
    assert_eq!(
        error_of(&["--jwt-secret-file", &short], &[]),
        "--jwt-secret-file: jwt secret has 4 bytes, fewer than 32 (make one with: openssl rand -base64 48)"
    );
    assert_eq!(
        error_of(&["--redis-url-file", &short, "--redis-url", "redis://h"], &[]),
        "--redis-url-file: --redis-url is given too (give one of the two)"
    );
    let private = scratch.file("key.pem", "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n");
    assert_eq!(
        error_of(&["--jwt-public-key", &private], &[]),
        "--jwt-public-key: jwt public key is a private key (give the public one: openssl pkey -in KEY -pubout)"
    );
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let scratch = Scratch::new();
    let url = scratch.file("url", "redis://:hush@cache:6379\n");
    let secret = scratch.file("secret", "sixteen bytes or more\r\n");
    let jwt = scratch.file("jwt", format!("{}\n", "j".repeat(32)));
    let environment = [
        ("SIGNALBOX_REDIS_URL_FILE", url.as_str()),
        ("SIGNALBOX_CLUSTER_SECRET_FILE", secret.as_str()),
        ("SIGNALBOX_JWT_SECRET_FILE", jwt.as_str()),
        ("SIGNALBOX_AUTH", "required"),
    ];
    let settings = settings_of(&[], &environment);
    assert_eq!(settings.cluster.redis_url.as_deref(), Some("redis://:hush@cache:6379"));
    assert_eq!(settings.cluster.cluster_secret.as_deref(), Some("sixteen bytes or more"));
    let shown = format!("{settings:?}{}", printed(&["--print-config"], &environment));
    assert!(!shown.contains("hush") && !shown.contains("sixteen") && !shown.contains("jjj"), "{shown}");
}
