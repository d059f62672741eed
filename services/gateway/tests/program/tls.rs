//! TLS, terminated by the program itself.

use std::{path::Path, time::Duration};

use super::{metrics::sample, refusals::line};
use crate::harness::{
    Server,
    certificates::Files,
    http::{DEADLINE, connect, get},
    refused, until,
};

#[test]
fn real_clients_speak_both_protocols_over_tls() {
    let files = Files::make("tls-clients");
    let (key, cert) = (files.path("key.pem"), files.path("cert.pem"));
    let server = Server::bare(&["--sslkey", &key, "--sslcert", &cert, "--cookie"]);
    assert!(server.public().starts_with("https://"), "{}", server.public());
    server.run_js_with("tls.test.mjs", &[("CA_FILE", Path::new(&files.path("ca.pem")))]);
}

#[test]
fn http2_is_offered_to_nobody_and_refused_clearly() {
    let files = Files::make("tls-http2");
    let server = Server::bare(&["--sslkey", &files.path("key.pem"), "--sslcert", &files.path("cert.pem")]);
    server.run_js_with("http2.test.mjs", &[("CA_FILE", Path::new(&files.path("ca.pem")))]);
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let files = Files::make("tls-renewed");
    let _next = Files::make("tls-renewed/next");
    let mut server =
        Server::bare(&["--sslkey", &files.path("key.pem"), "--sslcert", &files.path("cert.pem")]);
    let expiry = sample(&server, "signalbox_certificate_expiry_timestamp_seconds");
    assert!(expiry > 1.7e9, "{expiry}");
    server.run_js_with("tls-renewal.test.mjs", &[("TLS_DIR", &files.directory)]);
    // What the test puts there in turn: a certificate without its key, and then its key.
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(30)), Some(0));
    let log = server.log();
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("do not fit together"), count("the certificate was renewed")), (1, 1), "{log:#?}");
}

#[test]
fn the_management_listener_needs_no_certificate() {
    let files = Files::make("tls-management");
    let server = Server::bare(&["--sslkey", &files.path("key.pem"), "--sslcert", &files.path("cert.pem")]);
    assert!(server.management().starts_with("http://"), "{}", server.management());
    assert_eq!(get(server.management(), "/readyz").status, 200);
}

#[test]
fn the_key_of_another_certificate_is_named() {
    let files = Files::make("tls-other-key");
    let (key, cert) = (files.path("other-key.pem"), files.path("cert.pem"));
    let line = line(&refused(&["--sslkey", &key, "--sslcert", &cert]), 1);
    for part in ["--sslkey", &key, "--sslcert", &cert] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
}

#[test]
fn a_file_that_holds_no_key_is_named() {
    let files = Files::make("tls-no-key");
    for file in ["nonsense.pem", "cert.pem"] {
        let key = files.path(file);
        let line = line(&refused(&["--sslkey", &key, "--sslcert", &files.path("cert.pem")]), 1);
        assert!(line.starts_with(&format!("--sslkey: {key} ")), "{line}");
    }
}

#[test]
fn a_file_that_holds_no_certificate_is_named() {
    let files = Files::make("tls-no-certificate");
    for file in ["nonsense.pem", "key.pem"] {
        let cert = files.path(file);
        let line = line(&refused(&["--sslkey", &files.path("key.pem"), "--sslcert", &cert]), 1);
        assert!(line.starts_with(&format!("--sslcert: {cert} ")), "{line}");
    }
}

#[test]
fn handshakes_that_do_not_end_give_way_and_have_their_time() {
    let files = Files::make("tls-handshakes");
    let (key, cert) = (files.path("key.pem"), files.path("cert.pem"));
    let flags = ["--workers", "1", "--header-timeout", "5000", "--cookie"];
    let server = Server::bare(&[["--sslkey", &key, "--sslcert", &cert].as_slice(), &flags].concat());
    let dropped = |reason: &str| {
        sample(&server, &format!("signalbox_connections_dropped_total{{reason=\"{reason}\"}}"))
    };
    // More than one worker has under way at a time.
    let silent: Vec<_> = (0..1_034).map(|_| connect(server.public())).collect();
    until(DEADLINE, || (dropped("tls_crowded") >= 10.0).then_some(())).expect("the oldest give way");
    server.run_js_with("tls.test.mjs", &[("CA_FILE", Path::new(&files.path("ca.pem")))]);
    until(DEADLINE, || (dropped("tls_handshake") >= 1_020.0).then_some(()))
        .expect("the others have their time");
    drop(silent);
}
