//! The browser clients' bundles, and the demo that uses them.

use std::path::{Path, PathBuf};

use super::refusals::line;
use crate::harness::{
    Server,
    http::{get, request},
    refused, scratch,
};

const SOCKETIO: [&str; 4] =
    ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"];

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
    assert_eq!((map.status, map.header("Content-Type")), (200, Some("application/json")));
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
fn an_incomplete_vendor_directory_is_named_with_the_file() {
    for missing in SOCKETIO.iter().chain(&["peerjs.min.js"]) {
        let directory = vendor("vendor-incomplete");
        let file = directory.join(missing);
        std::fs::remove_file(&file).expect("a file that is there");
        let line = line(&refused(&["--vendor-dir", directory.to_str().expect("a path in UTF-8")]), 1);
        assert!(line.starts_with("--vendor-dir: "), "{line}");
        assert!(line.contains(file.to_str().expect("a path in UTF-8")), "{line}");
    }
}

#[test]
fn a_missing_source_map_is_no_mistake() {
    let directory = vendor("vendor-without-maps");
    std::fs::remove_file(directory.join("socket.io.js.map")).expect("a file that is there");
    let server = with(&directory);
    assert_ne!(get(server.public(), "/socket.io/socket.io.js.map").status, 200);
    assert_eq!(get(server.public(), "/socket.io/socket.io.js").status, 200);
}
