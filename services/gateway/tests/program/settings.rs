//! Flags that change what clients meet.

use crate::harness::{
    Server,
    http::{Response, get, request},
    websocket::{Frame, SOCKETIO, WebSocket},
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const OURS: &str = "https://app.example.com";
const FOREIGN: &str = "https://evil.example.com";

fn from_origin(server: &Server, target: &str, origin: &str) -> Response {
    request(server.public(), "GET", target, &[("Origin", origin)], "")
}

/// The session id in the answer to a polling handshake.
fn sid(handshake: &Response) -> &str {
    assert_eq!(handshake.status, 200, "{}", handshake.body);
    handshake.body.split('"').nth(3).expect("a sid")
}

/// The answer to an upgrade that must be refused.
fn refusal(server: &Server, target: &str, headers: &[(&str, &str)]) -> Response {
    WebSocket::connect(server.public(), target, headers).err().expect("no 101")
}

#[test]
fn a_cookie_carries_the_session_id_when_it_has_a_name() {
    let server = Server::bare(&["--cookie", "io"]);
    let handshake = get(server.public(), POLLING);
    let cookie = handshake.header("Set-Cookie").expect("a cookie");
    let mut parts: Vec<&str> = cookie.split("; ").collect();
    parts.sort_unstable();
    let mut expected = vec![format!("io={}", sid(&handshake))];
    expected.extend(["HttpOnly", "Path=/", "SameSite=Lax"].map(String::from));
    expected.sort_unstable();
    assert_eq!(parts, expected);
    let later = get(server.public(), &format!("{POLLING}&sid={}", "x".repeat(20)));
    assert_eq!(later.header("Set-Cookie"), None);
}

#[test]
fn behind_a_proxy_that_speaks_tls_the_cookie_is_secure() {
    let is_secure = |flags: &[&str], protocol: &str| {
        let server = Server::bare(&[&["--cookie"], flags].concat());
        let handshake = request(server.public(), "GET", POLLING, &[("X-Forwarded-Proto", protocol)], "");
        handshake.header("Set-Cookie").expect("a cookie").contains("; Secure")
    };
    let trusting = ["--proxied", "--trusted-proxies", "127.0.0.1"];
    assert!(is_secure(&trusting, "https"));
    assert!(!is_secure(&trusting, "http"));
    assert!(!is_secure(&["--proxied", "--trusted-proxies", "10.0.0.1"], "https"));
    assert!(!is_secure(&[], "https"));
}

#[test]
fn the_attributes_of_the_cookie_are_settings() {
    let attributes = |flags: &[&str]| {
        let server = Server::bare(&[&["--cookie"], flags].concat());
        let handshake = get(server.public(), POLLING);
        let cookie = handshake.header("Set-Cookie").expect("a cookie").to_owned();
        let mut parts: Vec<String> = cookie.split("; ").skip(1).map(str::to_owned).collect();
        parts.sort_unstable();
        parts
    };
    assert_eq!(
        attributes(&["--cookie-same-site", "none", "--cookie-secure", "true"]),
        ["HttpOnly", "Path=/", "SameSite=None", "Secure"]
    );
    assert_eq!(
        attributes(&["--cookie-same-site", "strict", "--cookie-http-only", "false"]),
        ["Path=/", "SameSite=Strict"]
    );
}

#[test]
fn without_a_name_there_is_no_cookie() {
    let server = Server::bare(&[]);
    assert_eq!(get(server.public(), POLLING).header("Set-Cookie"), None);
}

#[test]
fn socketio_can_be_served_elsewhere() {
    let server = Server::bare(&["--socketio-path", "/realtime"]);
    assert_eq!(get(server.public(), "/realtime/?EIO=4&transport=polling").status, 200);
    assert!(WebSocket::connect(server.public(), "/realtime/?EIO=4&transport=websocket", &[]).is_ok());
    assert_eq!(get(server.public(), POLLING).status, 404);
    assert_eq!(refusal(&server, SOCKETIO, &[]).status, 400);
    assert_eq!(get(server.public(), "/realtime/socket.io.min.js").status, 302);
    assert_eq!(
        get(server.public(), "/realtime?EIO=4&transport=polling").status,
        404,
        "it has a trailing slash"
    );
    assert!(get(server.public(), "/demo/").body.contains("data-socketio-path=\"/realtime/\""));
    assert_eq!(get(server.public(), "/peerjs/id").status, 200);
}

#[test]
fn the_trailing_slash_can_be_left_out() {
    let server = Server::bare(&["--no-trailing-slash"]);
    for target in ["/socket.io?EIO=4&transport=polling", POLLING] {
        assert_eq!(get(server.public(), target).status, 200, "{target}");
    }
    assert!(WebSocket::connect(server.public(), "/socket.io?EIO=4&transport=websocket", &[]).is_ok());
    assert_eq!(get(server.public(), "/socket.io/socket.io.min.js").status, 302);
}

#[test]
fn the_trailing_slash_of_another_path_can_be_left_out() {
    let server = Server::bare(&["--socketio-path", "/realtime", "--no-trailing-slash"]);
    for target in ["/realtime?EIO=4&transport=polling", "/realtime/?EIO=4&transport=polling"] {
        assert_eq!(get(server.public(), target).status, 200, "{target}");
    }
    assert_eq!(get(server.public(), "/realtime/socket.io.min.js").status, 302);
}

#[test]
fn with_its_trailing_slash_the_path_without_it_is_not_found() {
    let server = Server::bare(&[]);
    assert_eq!(get(server.public(), "/socket.io?EIO=4&transport=polling").status, 404);
}

#[test]
fn the_peerserver_can_be_mounted_elsewhere() {
    let server = Server::bare(&["--path", "/myapp"]);
    for target in ["/myapp", "/myapp/"] {
        let info = get(server.public(), target);
        assert_eq!(info.status, 200, "{target}");
        assert!(info.body.starts_with(r#"{"name":"PeerJS Server""#), "{}", info.body);
    }
    let id = get(server.public(), "/myapp/peerjs/id");
    assert_eq!((id.status, id.body.len()), (200, 36));
    for target in ["/peerjs/id", "/myappetite", "/"] {
        assert_eq!(get(server.public(), target).status, 404, "{target}");
    }
    let query = "?key=peerjs&id=one&token=t";
    let mut peer = WebSocket::connect(server.public(), &format!("/myapp/peerjs{query}"), &[]).expect("101");
    assert_eq!(peer.text(), r#"{"type":"OPEN"}"#);
    assert_eq!(refusal(&server, &format!("/peerjs{query}"), &[]).status, 400);
    assert_eq!(get(server.public(), POLLING).status, 200);
    assert!(get(server.public(), "/demo/").body.contains("data-peer-path=\"/myapp/\""));
}

#[test]
fn a_key_may_be_any_text_in_a_path_too() {
    let server = Server::bare(&["--key", "schlüssel", "--allow_discovery"]);
    let mut peer =
        WebSocket::connect(server.public(), "/peerjs?key=schl%C3%BCssel&id=one&token=t", &[]).expect("101");
    assert_eq!(peer.text(), r#"{"type":"OPEN"}"#);
    assert_eq!(get(server.public(), "/schl%C3%BCssel/peers").body, r#"["one"]"#);
    assert_eq!(get(server.public(), "/peerjs/peers").body, "[]");
}

#[test]
fn polling_can_be_turned_off() {
    let server = Server::bare(&["--transports", "websocket"]);
    let polling = get(server.public(), POLLING);
    assert_eq!((polling.status, &*polling.body), (400, r#"{"code":0,"message":"Transport unknown"}"#));
    let mut socket = WebSocket::connect(server.public(), SOCKETIO, &[]).expect("101");
    assert!(socket.text().contains(r#""upgrades":[]"#));
    let demo = get(server.public(), "/demo/").body;
    assert!(demo.contains("data-transports=\"websocket\""), "{demo}");
}

#[test]
fn websockets_can_be_turned_off() {
    let server = Server::bare(&["--transports", "polling"]);
    let handshake = get(server.public(), POLLING);
    assert!(handshake.body.contains(r#""upgrades":[]"#), "{}", handshake.body);
    let refused = refusal(&server, SOCKETIO, &[]);
    assert_eq!((refused.status, &*refused.body), (400, "Transport unknown"));
    // The PeerServer has no other transport.
    WebSocket::peer(server.public(), "one");
}

const PEER: &str = "/peerjs?key=peerjs&id=one&token=t";

/// Neither protocol serves pages of this origin, whatever they ask for.
fn assert_foreign(server: &Server, origin: &str) {
    let headers = [("Origin", origin)];
    let session = get(server.public(), POLLING);
    let sid = sid(&session);
    let forbidden = (403, r#"{"code":4,"message":"Forbidden"}"#);
    for target in [POLLING.to_owned(), format!("{POLLING}&sid={sid}")] {
        let polling = from_origin(server, &target, origin);
        assert_eq!((polling.status, &*polling.body), forbidden, "{origin} {target}");
    }
    let post = request(server.public(), "POST", &format!("{POLLING}&sid={sid}"), &headers, "40");
    assert_eq!((post.status, &*post.body), forbidden, "{origin}");
    for target in [SOCKETIO.to_owned(), format!("{SOCKETIO}&sid={sid}")] {
        let upgrade = refusal(server, &target, &headers);
        assert_eq!((upgrade.status, &*upgrade.body), (400, "Forbidden"), "{origin} {target}");
    }
    assert_eq!(refusal(server, PEER, &headers).status, 403, "{origin}");
    for target in ["/peerjs/id", "/peerjs/peers"] {
        let answer = from_origin(server, target, origin);
        assert_eq!((answer.status, &*answer.body), (403, "Forbidden"), "{origin} {target}");
    }
}

/// Both protocols serve pages of this origin.
fn assert_served(server: &Server, origin: &str) {
    let headers = [("Origin", origin)];
    let session = from_origin(server, POLLING, origin);
    let sid = sid(&session);
    assert_eq!(request(server.public(), "POST", &format!("{POLLING}&sid={sid}"), &headers, "40").body, "ok");
    assert!(WebSocket::connect(server.public(), SOCKETIO, &headers).is_ok(), "{origin}");
    assert_eq!(from_origin(server, "/peerjs/id", origin).status, 200, "{origin}");
    let mut peer = WebSocket::connect(server.public(), PEER, &headers).expect("101");
    assert_eq!(peer.next(), Some(Frame::Text(r#"{"type":"OPEN"}"#.to_owned())), "{origin}");
}

#[test]
fn pages_of_foreign_origins_are_not_served() {
    let server = Server::bare(&["--origins", OURS, "--allow_discovery"]);
    for origin in [FOREIGN, "null", "https://app.example.com:8443", "http://app.example.com"] {
        assert_foreign(&server, origin);
    }
}

#[test]
fn a_star_stands_for_the_domains_below_one() {
    let server = Server::bare(&["--origins", "https://*.example.com", "--cors", "https://*.example.com"]);
    assert_served(&server, OURS);
    assert_served(&server, "https://a.b.example.com");
    let origins = [
        "https://example.com",
        "https://evilexample.com",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "null",
    ];
    for origin in origins {
        assert_foreign(&server, origin);
        assert_eq!(from_origin(&server, POLLING, origin).header("Access-Control-Allow-Origin"), None);
    }
    let answer = from_origin(&server, POLLING, OURS);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(OURS));
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), Some("true"));
}

#[test]
fn a_star_alone_is_any_origin_but_null() {
    let server = Server::bare(&["--origins", "*", "--cors", "*"]);
    assert_served(&server, FOREIGN);
    assert_foreign(&server, "null");
    let answer = from_origin(&server, "/peerjs/id", FOREIGN);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(FOREIGN));
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
    assert_eq!(from_origin(&server, "/peerjs/id", "null").header("Access-Control-Allow-Origin"), None);
    assert_served(&Server::bare(&["--origins", "*", "null"]), "null");
    assert_served(&Server::bare(&[]), "null");
}

#[test]
fn listed_origins_and_programs_without_one_open_sessions() {
    let server = Server::bare(&["--origins", OURS]);
    assert_eq!(from_origin(&server, POLLING, OURS).status, 200);
    assert_eq!(get(server.public(), POLLING).status, 200);
    for headers in [&[("Origin", OURS)][..], &[]] {
        assert!(WebSocket::connect(server.public(), SOCKETIO, headers).is_ok());
        let mut peer =
            WebSocket::connect(server.public(), "/peerjs?key=peerjs&id=one&token=t", headers).expect("101");
        assert_eq!(peer.next(), Some(Frame::Text(r#"{"type":"OPEN"}"#.to_owned())));
    }
}

#[test]
fn any_origin_may_read_answers_without_credentials() {
    let server = Server::bare(&[]);
    for target in [POLLING, "/socket.io/?EIO=4&transport=nonsense", "/peerjs/id", "/peerjs/nothing"] {
        let response = from_origin(&server, target, FOREIGN);
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some(FOREIGN), "{target}");
        assert_eq!(response.header("Access-Control-Allow-Credentials"), None, "{target}");
    }
    assert_eq!(get(server.public(), POLLING).header("Access-Control-Allow-Origin"), None);
}

#[test]
fn with_a_list_only_its_origins_may_read_answers_and_with_credentials() {
    let other = "https://other.example.com";
    let server = Server::bare(&["--cors", OURS, "--cors", other]);
    // Errors too: without the headers a page only learns that something failed.
    for target in [POLLING, "/socket.io/?EIO=4&transport=nonsense", "/peerjs/id", "/peerjs/nothing"] {
        for origin in [OURS, other] {
            let response = from_origin(&server, target, origin);
            assert_eq!(response.header("Access-Control-Allow-Origin"), Some(origin), "{target}");
            assert_eq!(response.header("Access-Control-Allow-Credentials"), Some("true"), "{target}");
            assert_eq!(response.header("Vary"), Some("Origin"), "{target}");
        }
        let response = from_origin(&server, target, FOREIGN);
        assert_eq!(response.header("Access-Control-Allow-Origin"), None, "{target}");
        assert_eq!(response.header("Vary"), Some("Origin"), "{target}: a cache keeps the two apart");
    }
}

#[test]
fn preflights_are_answered_for_listed_origins() {
    let server = Server::bare(&["--cors", OURS]);
    let preflight = |target, origin| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "x-custom"),
        ];
        request(server.public(), "OPTIONS", target, &headers, "")
    };
    for target in [POLLING, "/peerjs/id"] {
        let answer = preflight(target, OURS);
        assert_eq!(answer.status, 204, "{target}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(OURS));
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), Some("true"));
        assert_eq!(answer.header("Access-Control-Allow-Headers"), Some("x-custom"));
        let methods = answer.header("Access-Control-Allow-Methods").unwrap_or_default();
        assert!(methods.split(',').any(|method| method == "POST"), "{methods}");
        assert_eq!(preflight(target, FOREIGN).header("Access-Control-Allow-Origin"), None);
    }
}
