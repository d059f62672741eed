//! The settings as the program meets them.

use std::ffi::OsString;

use signalbox_config::arguments::{long_name, settings};
use signalbox_config::command::parser;
use signalbox_config::reference::{meaning, page};

use super::*;

/// Enough to start.
const LEAST: [&str; 6] = ["--uri", "turn:a.example:3478", "--secret", "0123456789abcdef", "--auth", "off"];

fn loaded(flags: &[&str]) -> Result<Loaded<Settings>, String> {
    let arguments = ["signalbox-turn"].iter().chain(flags).map(OsString::from);
    load(arguments, []).map_err(|error| error.to_string())
}

fn error_of(flags: &[&str]) -> String {
    loaded(flags).expect_err("it is refused")
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/turn-configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page(&PROGRAM),
        "docs/turn-configuration.md differs from the settings; run cargo xtask docs"
    );
}

#[test]
fn every_setting_says_what_it_is_for_and_in_which_unit() {
    for arg in settings(&parser(&PROGRAM)) {
        let (name, meaning) = (long_name(arg), meaning(arg));
        assert!(meaning.len() > 20, "{name}: {meaning}");
        let value_name = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
        if value_name == Some("MS") {
            assert!(meaning.contains("milliseconds"), "{name}: {meaning}");
        }
    }
}

#[test]
fn a_mistake_is_one_line_with_the_remedy() {
    for (flags, expected) in [
        (vec!["--auth", "off"], "--uri: there is no TURN server (use e.g. --uri turn:turn.example.com:3478)"),
        (
            vec!["--auth", "off", "--uri", "turn:a.example"],
            "--secret: there is no secret to sign with (use e.g. --secret 16-bytes-or-more)",
        ),
        (
            vec!["--uri", "turn:a.example:53"],
            "--uri: \"turn:a.example:53\" has port 53, which browsers do not connect to (use 3478, or 443 with turns:) (use e.g. --uri turn:turn.example.com:3478)",
        ),
        (
            vec!["--secret", "short"],
            "--secret: the secret has 5 bytes, fewer than 16 (make one with: openssl rand -base64 32) (use e.g. --secret 16-bytes-or-more)",
        ),
    ] {
        assert_eq!(error_of(&flags), expected);
    }
    let and = |more: &[&'static str]| [&LEAST[..4], more].concat();
    assert_eq!(
        error_of(&and(&[])),
        "--auth: auth is on, but there is no key to check tokens with (set --jwt-secret, --jwt-public-key or --jwks)"
    );
    assert_eq!(
        error_of(&and(&["--auth", "off", "--max-ttl", "1000"])),
        "--max-ttl: it is shorter than --ttl (use e.g. --max-ttl 86400000)"
    );
    assert_eq!(
        error_of(&and(&["--api-key", "a:issue:xyz"])),
        "--api-key: \"a\" has a hash that is not 64 hexadecimal digits (use e.g. --api-key app:issue:HASH)"
    );
}

#[test]
fn secrets_are_never_printed() {
    let hash = "a".repeat(64);
    let key = format!("app:issue+read:{hash}");
    let flags =
        [&LEAST[..], &["--subject-key", "fedcba9876543210", "--api-key", &key, "--print-config"]].concat();
    let Ok(Loaded::Print(page)) = loaded(&flags) else { panic!("it prints") };
    assert!(!page.contains("0123456789abcdef") && !page.contains("fedcba9876543210"), "{page}");
    assert!(page.contains(&key) && page.contains("ttl = 3600000  # default"), "{page}");
}

#[test]
fn servers_with_keys_need_no_tokens() {
    let key = format!("app:issue:{}", "b".repeat(64));
    let flags = [&LEAST[..4], &["--api-key", &key]].concat();
    assert!(matches!(loaded(&flags), Ok(Loaded::Run { .. })));
}

#[test]
fn a_provider_takes_the_place_of_servers_and_secrets() {
    let provider = ["--auth", "off", "--upstream", "twilio", "--upstream-id", "AC0"];
    let and = |more: &[&'static str]| [&provider[..], more].concat();
    assert!(matches!(loaded(&and(&["--upstream-key", "hidden"])), Ok(Loaded::Run { .. })));
    let Ok(Loaded::Print(page)) = loaded(&and(&["--upstream-key", "hidden", "--print-config"])) else {
        panic!("it prints")
    };
    assert!(!page.contains("hidden") && page.contains("upstream = \"twilio\""), "{page}");
    for (flags, expected) in [
        (and(&[]), "--upstream: needs --upstream-key too"),
        (and(&["--upstream-key", "k", "--max-ttl", "90000000"]), "it is longer than the 24 hours of twilio"),
        (and(&["--upstream-key", "k", "--upstream-url", "http://a.example"]), "is not the URL of an API"),
        (and(&["--upstream-key", "k", "--redis-url", "redis://a"]), "needs --subject-key too"),
        (vec!["--upstream", "other"], "is neither cloudflare nor twilio"),
    ] {
        let error = error_of(&flags);
        assert!(error.contains(expected), "{error}");
    }
}
