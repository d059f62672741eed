//! The programs of `docs/auth.md` that make tokens, run as they stand there: what they make is accepted and allows what the page says.
//!
//! They need the languages, and fetch their packages, so they run only when they are asked for:
//! `cargo test -p signalbox-auth --test minting -- --ignored`.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Pair, authenticator, settings_with};
use jsonwebtoken::Algorithm;
use signalbox_auth::{Action, HmacSecret, Key, KeySet, Now, Revocations};

const PAGE: &str = include_str!("../../../docs/auth.md");
const SECRET: &str = "only for tests: 32 bytes or more, as they are";

/// The programs of a language, in their order on the page.
fn program(language: &str, at: usize) -> &'static str {
    let fence = format!("\n```{language}\n");
    PAGE.split(&fence).nth(at + 1).unwrap().split("\n```").next().unwrap()
}

/// A directory of the test's own, empty.
fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("minting").join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn run(directory: &Path, command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command)
        .args(arguments)
        .current_dir(directory)
        .env("JWT_SECRET", SECRET)
        .env("JWT_KEY", "key.pem")
        .env("PYTHONPATH", "packages")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn check(token: &str, key: Key) {
    let authenticator = authenticator(settings_with(vec![key], KeySet::None));
    let (token, now) = (token.trim(), Now::read());
    let revocations = Revocations::default();
    let identity = authenticator.authenticate(Some(token), &revocations, now).now().unwrap();
    let principal = identity.principal().unwrap();
    assert_eq!(&*principal.subject, "alice");
    assert!(principal.token_id.is_some());
    let lifetime = principal.expires_at - principal.issued_at.unwrap();
    assert_eq!(lifetime, 3600);
    let allows = |action: Action<'_>| principal.grants.allows(&action);
    assert!(allows(Action::Connect { namespace: "/" }));
    assert!(allows(Action::Join { room: "team-1" }) && allows(Action::Send { room: "team-1" }));
    assert!(allows(Action::Claim { id: "any", is_generated: true }));
    assert!(!allows(Action::Claim { id: "any", is_generated: false }));
    assert!(!allows(Action::Join { room: "lobby" }) && !allows(Action::ListUsers));
}

fn check_secret(token: &str) {
    check(token, Key::hmac(&HmacSecret::new(SECRET).unwrap()).unwrap());
}

#[test]
#[ignore = "needs Node, and fetches jsonwebtoken and jose from npm"]
fn node() {
    let directory = directory("node");
    let options = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "jsonwebtoken", "jose"];
    run(&directory, "npm", &options);
    fs::write(directory.join("secret.mjs"), program("js", 0)).unwrap();
    check_secret(&run(&directory, "node", &["secret.mjs"]));

    let pair = Pair::new(Algorithm::ES256);
    fs::write(directory.join("key.pem"), pair.pair.serialize_pem()).unwrap();
    fs::write(directory.join("key.mjs"), program("js", 1)).unwrap();
    let key = Key::from_pem(&pair.public_pem()).unwrap().remove(0);
    check(&run(&directory, "node", &["key.mjs"]), key);
}

#[test]
#[ignore = "needs Python, and fetches PyJWT from PyPI"]
fn python() {
    let directory = directory("python");
    run(&directory, "python3", &["-m", "pip", "install", "--quiet", "--target", "packages", "PyJWT"]);
    // Not token.py: that is a module of Python's own.
    fs::write(directory.join("make.py"), program("python", 0)).unwrap();
    check_secret(&run(&directory, "python3", &["make.py"]));
}

#[test]
#[ignore = "needs Go"]
fn go() {
    let directory = directory("go");
    fs::write(directory.join("main.go"), program("go", 0)).unwrap();
    check_secret(&run(&directory, "go", &["run", "main.go"]));
}

#[test]
#[ignore = "needs PHP"]
fn php() {
    let directory = directory("php");
    fs::write(directory.join("token.php"), program("php", 0)).unwrap();
    check_secret(&run(&directory, "php", &["token.php"]));
}
