//! The browser clients' bundles, and the demo that uses them.

use std::path::{Path, PathBuf};

use crate::harness::{
    Server,
    http::{DEADLINE, connect, get, request, send},
    scratch,
};

const SOCKETIO: [&str; 3] = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"];

/// A directory with a file for every bundle, each different.
fn vendor(name: &str) -> PathBuf {
    let directory = scratch(name);
    for bundle in SOCKETIO.iter().chain(&["peerjs.min.js"]) {
        std::fs::write(directory.join(bundle), content(bundle)).expect("a bundle");
    }
    std::fs::write(directory.join("socket.io.js.map"), "{}").expect("a source map");
    directory
}

fn content(bundle: &str) -> String {
    format!("// {bundle}\n")
}

fn with(directory: &Path) -> Server {
    Server::bare(&["--vendor-dir", directory.to_str().expect("a path in UTF-8")])
}

#[test]
fn bundles_come_from_the_vendor_directory() {
    let server = with(&vendor("vendor-served"));
    let paths = SOCKETIO.map(|bundle| format!("/socket.io/{bundle}"));
    for path in paths.iter().map(String::as_str).chain(["/demo/peerjs.min.js"]) {
        let response = get(server.public(), path);
        let name = path.rsplit('/').next().unwrap_or_default();
        assert_eq!((response.status, response.body.as_str()), (200, content(name).as_str()), "{path}");
        let content_type = response.header("Content-Type").unwrap_or_default();
        assert!(content_type.contains("javascript"), "{path}: {content_type}");
    }
    let map = get(server.public(), "/socket.io/socket.io.js.map");
    assert_eq!((map.status, map.header("Content-Type")), (200, Some("application/json; charset=utf-8")));
}

#[test]
fn a_browser_that_has_a_bundle_gets_304() {
    let server = with(&vendor("vendor-cached"));
    let mut etags = Vec::new();
    for bundle in SOCKETIO {
        let path = format!("/socket.io/{bundle}");
        let first = get(server.public(), &path);
        let etag = first.header("ETag").expect("an ETag").to_owned();
        let again = request(server.public(), "GET", &path, &[("If-None-Match", &etag)], "");
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("ETag"), Some(etag.as_str()));
        let stale = request(server.public(), "GET", &path, &[("If-None-Match", "\"another\"")], "");
        assert_eq!((stale.status, stale.body), (200, content(bundle)), "{path}");
        etags.push(etag);
    }
    etags.sort();
    etags.dedup();
    assert_eq!(etags.len(), SOCKETIO.len(), "different bundles have different ETags");
}

#[test]
fn a_cache_may_send_its_etag_weak_or_in_a_list() {
    let server = with(&vendor("vendor-etags"));
    let path = "/socket.io/socket.io.min.js";
    let etag = get(server.public(), path).header("ETag").expect("an ETag").to_owned();
    // RFC 9110 §13.1.2: a list, compared weakly; proxies that compress make ETags weak.
    for value in [format!("W/{etag}"), format!("\"another\", {etag}"), "*".to_owned()] {
        let response = request(server.public(), "GET", path, &[("If-None-Match", &value)], "");
        assert_eq!(response.status, 304, "If-None-Match: {value}");
    }
}

#[test]
fn head_tells_of_a_bundle_without_its_body() {
    let server = with(&vendor("vendor-head"));
    let mut stream = crate::harness::http::connect(server.public());
    crate::harness::http::send(&mut stream, server.public(), "HEAD", "/socket.io/socket.io.js", &[], "");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn without_a_vendor_directory_bundles_redirect_to_a_cdn() {
    let server = Server::bare(&[]);
    for bundle in SOCKETIO {
        let response = get(server.public(), &format!("/socket.io/{bundle}"));
        assert_eq!(response.status, 302, "{bundle}");
        let location = response.header("Location").expect("a Location");
        assert!(location.starts_with("https://") && location.ends_with(&format!("/{bundle}")), "{location}");
        assert!(location.contains("/socket.io-client@4."), "{location}");
    }
    let peerjs = get(server.public(), "/demo/peerjs.min.js");
    assert_eq!(peerjs.status, 302);
    assert!(peerjs.header("Location").is_some_and(|location| location.contains("/peerjs@1.5.")));
}

#[test]
fn the_demo_carries_integrity_hashes_for_the_cdn() {
    let server = Server::bare(&[]);
    let page = get(server.public(), "/demo/");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let remote: Vec<&str> =
        page.body.split("<script ").filter(|tag| tag.contains("src=\"https://")).collect();
    assert_eq!(remote.len(), 2, "{remote:?}");
    for tag in remote {
        let tag = tag.split('>').next().unwrap_or_default();
        assert!(tag.contains("integrity=\"sha384-") && tag.contains("crossorigin=\"anonymous\""), "{tag}");
    }
}

#[test]
fn the_demo_needs_nobody_else_with_a_vendor_directory() {
    let server = with(&vendor("vendor-demo"));
    let page = get(server.public(), "/demo/").body;
    assert!(!page.contains("src=\"https://"), "{page}");
    for path in ["/socket.io/socket.io.min.js", "/demo/peerjs.min.js"] {
        assert!(page.contains(&format!("<script src=\"{path}\"></script>")), "{page}");
    }
}

#[test]
fn the_demo_is_found_without_its_slash() {
    let server = Server::bare(&[]);
    for method in ["GET", "HEAD"] {
        let response = request(server.public(), method, "/demo", &[], "");
        assert!(matches!(response.status, 301 | 302 | 307 | 308), "{method}: {}", response.status);
        assert_eq!(response.header("Location"), Some("/demo/"));
    }
}

#[test]
fn a_vendor_directory_may_hold_any_subset() {
    for missing in SOCKETIO.iter().chain(&["peerjs.min.js", "socket.io.js.map"]) {
        let directory = vendor("vendor-incomplete");
        for name in SOCKETIO {
            std::fs::write(directory.join(format!("{name}.map")), "{}").expect("a source map");
        }
        let file = directory.join(missing);
        std::fs::remove_file(&file).expect("a file that is there");
        let mut server = with(&directory);
        let base = if missing.starts_with("peerjs") { "/demo" } else { "/socket.io" };
        assert_eq!(get(server.public(), &format!("{base}/{missing}")).status, 404, "{missing}");
        for present in SOCKETIO.iter().filter(|name| *name != missing) {
            assert_eq!(get(server.public(), &format!("/socket.io/{present}")).status, 200, "{present}");
        }
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE), Some(0));
        let file = file.to_str().expect("a path in UTF-8");
        let lines = server.log().into_iter().filter(|line| line.contains(file)).count();
        // The demo has a copy of the one that its page uses.
        assert_eq!(lines, if *missing == "socket.io.min.js" { 2 } else { 1 }, "{missing}");
    }
}

#[test]
fn no_bundle_is_served_where_that_is_switched_off() {
    let directory = vendor("vendor-off");
    let server =
        Server::bare(&["--serve-client", "false", "--vendor-dir", directory.to_str().expect("UTF-8")]);
    for bundle in SOCKETIO {
        let response = get(server.public(), &format!("/socket.io/{bundle}"));
        // As from socket.io with `serveClient: false`: the path is Engine.IO's.
        assert_eq!(
            (response.status, response.body.as_str()),
            (400, r#"{"code":0,"message":"Transport unknown"}"#)
        );
    }
    let page = get(server.public(), "/demo/").body;
    assert!(page.contains(r#"<script src="/demo/socket.io.min.js"></script>"#), "{page}");
    assert_eq!(get(server.public(), "/demo/socket.io.min.js").status, 200);
}

#[test]
fn the_msgpack_bundle_is_not_offered() {
    for server in [with(&vendor("vendor-msgpack")), Server::bare(&[])] {
        for name in ["socket.io.msgpack.min.js", "socket.io.msgpack.min.js.map"] {
            assert_eq!(get(server.public(), &format!("/socket.io/{name}")).status, 404, "{name}");
        }
    }
}

#[test]
fn bundles_are_compressed_as_the_browser_accepts_it() {
    let directory = vendor("vendor-compressed");
    std::fs::write(directory.join("socket.io.js"), "// the same again\n".repeat(1000)).expect("a bundle");
    let server = with(&directory);
    let path = "/socket.io/socket.io.js";
    let asked = |accepted: &str, more: &[(&str, &str)]| {
        let headers = [&[("Accept-Encoding", accepted)], more].concat();
        let mut stream = connect(server.public());
        send(&mut stream, server.public(), "HEAD", path, &headers, "");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
        let header = |name: &str| {
            let of =
                |line: &str| line.to_ascii_lowercase().strip_prefix(&format!("{name}: ")).map(str::to_owned);
            answer.lines().filter_map(of).collect::<Vec<_>>()
        };
        (
            answer[9..12].to_owned(),
            header("content-encoding"),
            header("etag"),
            header("vary"),
            header("content-length"),
        )
    };
    let mut etags = Vec::new();
    for (accepted, coding) in [
        ("gzip, deflate, br", Some("br")),
        ("gzip, deflate", Some("gzip")),
        ("br;q=0.1, gzip", Some("gzip")),
        ("br;q=0, gzip;q=0", None),
        ("identity", None),
        ("deflate", None),
    ] {
        let (status, codings, etag, vary, length) = asked(accepted, &[]);
        assert_eq!((status.as_str(), codings.first().map(String::as_str)), ("200", coding), "{accepted}");
        assert!(vary.iter().any(|value| value.contains("accept-encoding")), "{accepted}: {vary:?}");
        let length: usize = length[0].parse().expect("a length");
        assert_eq!(length == 18_000, coding.is_none(), "{accepted}: {length}");
        etags.push((coding, etag[0].clone()));
    }
    for (coding, etag) in &etags {
        let same = etags.iter().filter(|(other, _)| other == coding);
        assert!(same.clone().all(|(_, other)| other == etag), "{etags:?}");
        assert_eq!(etags.iter().filter(|(_, other)| other == etag).count(), same.count(), "{etags:?}");
    }
}

#[test]
fn the_demo_says_what_its_page_may_run() {
    let cdn = Server::bare(&[]);
    let policy = |server: &Server, path: &str| {
        let response = get(server.public(), path);
        response.header("Content-Security-Policy").map(str::to_owned).unwrap_or_default()
    };
    for path in ["/demo/", "/demo/main.js", "/demo/icons.svg"] {
        let policy = policy(&cdn, path);
        assert!(policy.starts_with("default-src 'none'; script-src 'self' https://"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
    }
    let vendored = policy(&with(&vendor("vendor-policy")), "/demo/");
    assert!(vendored.contains("script-src 'self';") && !vendored.contains("https:"), "{vendored}");
}
