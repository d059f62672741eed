//! Command lines that start `peerjs`: each is taken, as what it means, or refused with what to write instead.

use super::{Loaded, error_of, load, settings_of};

/// What becomes of a command line.
enum Outcome {
    /// The same as with these arguments, without a word.
    Means(&'static [&'static str]),
    /// The same as without the flag, with a sentence in the log.
    Ignored(&'static str),
    Refused(&'static str),
}
use Outcome::{Ignored, Means, Refused};

const TABLE: &[(&[&str], Outcome)] = &[
    (&["peerjs"], Means(&[])),
    (
        &["peerjs", "--port", "9100", "--key", "peerjs", "--path", "/myapp"],
        Means(&["--port", "9100", "--path", "/myapp"]),
    ),
    (
        &["-p", "9100", "-k", "other", "-t", "100", "-c", "7", "-H", "::1"],
        Means(&["--port=9100", "--key=other", "--expire-timeout=100", "--concurrent-limit=7", "--host=::1"]),
    ),
    (&["--port=9100"], Means(&["-p9100"])),
    (&["--host", "0.0.0.0"], Means(&["--host=0.0.0.0"])),
    (
        &["--expireTimeout", "100", "--aliveTimeout=200"],
        Means(&["--expire_timeout", "100", "--alive_timeout", "200"]),
    ),
    (&["--concurrentLimit", "7"], Means(&["--concurrent_limit", "7"])),
    (&["--allowDiscovery"], Means(&["--allow_discovery"])),
    (&["--allowDiscovery", "false"], Means(&[])),
    (&["--allow_discovery", "true"], Means(&["--allow-discovery=true"])),
    (&["--no-allow_discovery"], Means(&[])),
    (&["--no-allowDiscovery"], Means(&[])),
    (&["--no-proxied"], Means(&[])),
    (&["--proxied", "false"], Means(&[])),
    (
        &["--proxied", "--trusted-proxies", "10.0.0.1"],
        Means(&["--trustedProxies", "10.0.0.1", "--proxied=true"]),
    ),
    (
        &["--proxied"],
        Refused("--proxied: needs --trusted-proxies too (set --trusted-proxies 10.0.0.0/8 too)"),
    ),
    (
        &["--proxied", "true"],
        Refused("--proxied: needs --trusted-proxies too (set --trusted-proxies 10.0.0.0/8 too)"),
    ),
    (&["--cors", "https://a.example", "*"], Means(&["--cors", "*"])),
    (&["--cors", "null", "*"], Means(&[])),
    (
        &["--cors", "https://a.example", "https://b.example"],
        Means(&["--cors=https://a.example,https://b.example"]),
    ),
    (
        &["--cors", "https://a.example", "https://b.example", "-p", "9100"],
        Means(&["--port", "9100", "--cors=https://a.example", "--cors=https://b.example"]),
    ),
    (
        &["--cors", "a.example"],
        Refused(
            "--cors: \"a.example\" is not an origin (scheme://host or scheme://host:port) (use e.g. --cors https://app.example.com)",
        ),
    ),
    (&["--path", ""], Means(&["--path", "/"])),
    (&["--path="], Means(&[])),
    (&["--path", "myapp/"], Means(&["--path", "/myapp"])),
    (
        &["--key", ""],
        Refused(
            "--key: \"\" is not a key: 1 to 256 bytes without spaces, /, ? and # (use e.g. --key peerjs)",
        ),
    ),
    (
        &["--concurrent_limit", "0"],
        Refused("--concurrent_limit: \"0\" would refuse every peer (use e.g. --concurrent_limit 5000)"),
    ),
    (&["--debug"], Ignored("--debug: has no effect (use --log debug)")),
    (&["--debug", "true", "-p", "9000"], Ignored("--debug: has no effect (use --log debug)")),
    (&["--debug=false"], Ignored("--debug: has no effect (use --log debug)")),
    (
        &["--cleanup_out_msgs", "1000"],
        Ignored(
            "--cleanup_out_msgs: has no effect (messages expire when they are due, see --expire_timeout)",
        ),
    ),
    (
        &["--cleanup_out_msgs=1000"],
        Ignored(
            "--cleanup_out_msgs: has no effect (messages expire when they are due, see --expire_timeout)",
        ),
    ),
    (
        &["--cleanupOutMsgs", "1000"],
        Ignored("--cleanupOutMsgs: has no effect (messages expire when they are due, see --expire_timeout)"),
    ),
    (&["--no-port"], Refused("--no-port: unknown flag (see --help)")),
    (&["--sslkey", "key.pem"], Refused("--sslkey: needs --sslcert too (set --sslcert cert.pem too)")),
    (&["somewhere"], Refused("\"somewhere\": not a flag (settings are given as --name value, see --help)")),
];

#[test]
fn command_lines_of_peerjs_are_taken_or_refused_with_what_to_write() {
    for (arguments, outcome) in TABLE {
        match outcome {
            Means(same) => {
                let Ok(Loaded::Run { settings, warnings }) = load(arguments, &[]) else {
                    panic!("{arguments:?}: {}", error_of(arguments, &[]));
                };
                assert_eq!(warnings, [""; 0], "{arguments:?}");
                assert_eq!(*settings, settings_of(same, &[]), "{arguments:?}");
            }
            Ignored(warning) => match load(arguments, &[]) {
                Ok(Loaded::Run { settings, warnings }) => {
                    assert_eq!(warnings, [*warning], "{arguments:?}");
                    assert_eq!(*settings, settings_of(&[], &[]), "{arguments:?}");
                }
                other => panic!("{arguments:?}: {other:?}"),
            },
            Refused(line) => assert_eq!(error_of(arguments, &[]), *line, "{arguments:?}"),
        }
    }
}

#[test]
fn a_setting_without_effect_is_told_in_one_line() {
    let redis = "--redis-url=redis://cache.example";
    for (arguments, environment, expected) in [
        (
            vec!["--cluster-addr", "127.0.0.1:9005"],
            vec![],
            "--cluster-addr: has no effect without --redis-url",
        ),
        (vec!["--drain-delay", "100"], vec![], "--drain-delay: has no effect without --redis-url"),
        (vec!["--redis-prefix", "other"], vec![], "--redis-prefix: has no effect without --redis-url"),
        (
            vec![],
            vec![("SIGNALBOX_CLUSTER_SECRET", "0123456789abcdef")],
            "SIGNALBOX_CLUSTER_SECRET: has no effect without --redis-url",
        ),
        (
            vec!["--drain-timeout", "9000"],
            vec![],
            "--drain-timeout: counts as 8000 milliseconds without --redis-url",
        ),
        (
            vec!["--transports", "polling", "--upgrade-timeout", "1"],
            vec![],
            "--upgrade-timeout: has no effect without both --transports",
        ),
        (
            vec!["--transports", "websocket", "--cookie"],
            vec![],
            "--cookie: has no effect without polling among --transports",
        ),
        (vec!["--cookie-secure", "true"], vec![], "--cookie-secure: has no effect without --cookie"),
        (
            vec!["--vendor-dir", "/", "--no-serve-client"],
            vec![],
            "--vendor-dir: has no effect with --serve-client false",
        ),
    ] {
        let warnings = |arguments: &[&str]| match load(arguments, &environment) {
            Ok(Loaded::Run { warnings, .. }) => warnings,
            other => panic!("{arguments:?}: {other:?}"),
        };
        assert_eq!(warnings(&arguments), [expected]);
        if expected.ends_with("--redis-url") {
            assert_eq!(warnings(&[arguments.as_slice(), &[redis]].concat()), [""; 0]);
        }
    }
}
