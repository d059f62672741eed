//! A client that says one text wherever it can, to see where it comes out again.

use super::{
    Server,
    http::{get, request},
    websocket::{SOCKETIO, WebSocket},
};

/// Every header of a handshake from which something is read, now or one day.
const HEADERS: [&str; 9] = [
    "Authorization",
    "Baggage",
    "Cookie",
    "Origin",
    "Referer",
    "Traceparent",
    "Tracestate",
    "User-Agent",
    "X-Forwarded-For",
];

/// Says `text` in paths, queries, headers, tokens, names, arguments and payloads of both protocols.
pub(crate) fn say_everywhere(server: &Server, text: &str) {
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let base = server.public();
    for target in [
        format!("/{encoded}"),
        format!("/socket.io/?EIO=4&transport={encoded}"),
        format!("/socket.io/?EIO=4&transport=polling&sid={encoded}"),
        format!("/socket.io/?EIO=4&transport=polling&token={encoded}"),
        format!("/peerjs/{encoded}/id"),
        format!("/peerjs/peers?token={encoded}"),
    ] {
        get(base, &target);
    }
    let printable = text.replace(['\n', '\r', '\u{2028}'], "");
    let headers = HEADERS.map(|name| (name, printable.as_str()));
    request(base, "GET", "/socket.io/?EIO=4&transport=polling", &headers, "");
    drop(WebSocket::connect(base, SOCKETIO, &headers));
    let refused = format!("/peerjs?key=peerjs&id={encoded}&token={encoded}");
    drop(WebSocket::connect(base, &refused, &headers));
    drop(WebSocket::connect(base, &format!("{SOCKETIO}&sid={encoded}"), &[]));
    let mut client = WebSocket::socketio(base);
    let json = serde_json::to_string(text).expect("JSON");
    client.send(&format!("421[{json},{json}]"));
    assert!(client.text().starts_with("431["));
    client.send(&format!("422[\"join\",{json},{{\"name\":{json}}}]"));
    assert!(client.text().starts_with("432["));
    // An acknowledgement that nobody has asked for, and one that says what went wrong.
    client.send(&format!("437[{{\"error\":{json}}}]"));
    client.send(&format!("40/{json},{{\"token\":{json},\"traceparent\":{json}}}"));
    client.text();
    let mut peer = WebSocket::peer(base, "one");
    peer.send(&format!("{{\"type\":{json},\"dst\":{json},\"payload\":{json}}}"));
    peer.send(&format!("{{\"type\":\"OFFER\",\"dst\":{json},\"payload\":{json}}}"));
}
