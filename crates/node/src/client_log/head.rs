//! What is told of a frame: of what kind it is, for whom, and how long. What clients say to each other, and what proves who they are, is
//! left out: arguments, payloads, tokens.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use signalbox_engineio::Packet;

/// Longest name in a head, in characters; of longer ones the rest is left out.
const MAX_NAME: usize = 64;

/// Which names may be shown: those that the application knows. Others are whatever a client has made up.
pub(crate) trait Names {
    /// Whether the client is in this namespace, and did not make its name up.
    fn is_namespace(&self, namespace: &str) -> bool;
    /// Whether there is such an event in it.
    fn is_event(&self, namespace: &str, event: &str) -> bool;
}

/// The head of an Engine.IO packet.
pub(crate) fn packet(packet: &Packet<'_>, names: &impl Names) -> String {
    match packet {
        Packet::Open => "open".to_owned(),
        Packet::Close => "close".to_owned(),
        Packet::Ping("probe") => "ping probe".to_owned(),
        Packet::Ping(_) => "ping".to_owned(),
        Packet::Pong("probe") => "pong probe".to_owned(),
        Packet::Pong(_) => "pong".to_owned(),
        Packet::Upgrade => "upgrade".to_owned(),
        Packet::Noop => "noop".to_owned(),
        Packet::Binary(_) => "attachment".to_owned(),
        Packet::Message(text) => message(text, names),
    }
}

/// The head of a Socket.IO packet, `<type>[<attachments>-][<namespace>,][<ack id>][JSON]`.
fn message(text: &str, names: &impl Names) -> String {
    let Some(kind) = text.chars().next() else { return "empty".to_owned() };
    let (kind_name, may_be_event) = match kind {
        '0' => ("CONNECT", false),
        '1' => ("DISCONNECT", false),
        '2' => ("EVENT", true),
        '3' => ("ACK", false),
        '4' => ("CONNECT_ERROR", false),
        '5' => ("BINARY_EVENT", true),
        '6' => ("BINARY_ACK", false),
        _ => return "unreadable".to_owned(),
    };
    let mut rest = text.get(1..).unwrap_or_default();
    let mut head = kind_name.to_owned();
    if matches!(kind, '5' | '6')
        && let Some((count, behind)) = rest.split_once('-')
        && is_number(count)
    {
        rest = behind;
        let _ = write!(head, " attachments={count}");
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        match names.is_namespace(namespace) {
            true => {
                let _ = write!(head, " {}", cut(namespace));
            }
            false => {
                let _ = write!(head, " {}", name(namespace));
            }
        }
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if (1..=20).contains(&digits) {
        let (id, behind) = rest.split_at(digits);
        rest = behind;
        let _ = write!(head, " ack={id}");
    }
    if may_be_event && let Some(event) = event_name(rest) {
        match names.is_event(namespace, &event) {
            true => {
                let _ = write!(head, " {:?}", cut(&event));
            }
            false => {
                let _ = write!(head, " {}", name(&event));
            }
        }
    }
    head
}

/// The head of a message of a PeerServer client, as it is relayed.
pub(crate) fn peer_message(kind: &str, src: Option<&str>, dst: Option<&str>) -> String {
    let mut head = kind.to_owned();
    for (what, id) in [("src", src), ("dst", dst)] {
        if let Some(id) = id {
            let _ = write!(head, " {what}={}", name(id));
        }
    }
    head
}

/// A name that clients have made up, such as that of a room: its beginning, and the beginning of its SHA-256, by which it is known again.
/// It may be as good as a password, so it does not stand in the log.
pub(crate) fn name(name: &str) -> String {
    let shown = (name.chars().count() / 3).min(4);
    let mut text: String = name.chars().take(shown).collect();
    text.push_str("…#");
    for byte in Sha256::digest(name).iter().take(3) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A name as it may be shown: no longer than a line bears.
pub(crate) fn cut(name: &str) -> String {
    let mut shown: String = name.chars().take(MAX_NAME).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}

/// The name of an event: the first element of its array.
fn event_name(body: &str) -> Option<String> {
    let inside = body.strip_prefix('[')?.trim_start();
    serde_json::Deserializer::from_str(inside).into_iter::<String>().next()?.ok()
}

fn is_number(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All names but those that are made up.
    struct Known;

    impl Names for Known {
        fn is_namespace(&self, namespace: &str) -> bool {
            namespace != "/swordfish"
        }

        fn is_event(&self, _: &str, event: &str) -> bool {
            event != "made up"
        }
    }

    fn of(text: &str) -> String {
        packet(&Packet::decode(text).unwrap(), &Known)
    }

    #[test]
    fn a_head_says_what_a_frame_is_and_nothing_that_is_said_in_it() {
        for (frame, head) in [
            ("2probe", "ping probe"),
            ("3", "pong"),
            ("3swordfish", "pong"),
            ("5", "upgrade"),
            ("40", "CONNECT"),
            (r#"40{"token":"swordfish"}"#, "CONNECT"),
            (r#"40/chat,{"token":"swordfish"}"#, "CONNECT /chat"),
            (r#"40/swordfish,{"token":"swordfish"}"#, "CONNECT /sw…#2bdc8c"),
            (r#"42["join","room",{"name":"swordfish"}]"#, r#"EVENT "join""#),
            (r#"42/chat,17["message","swordfish"]"#, r#"EVENT /chat ack=17 "message""#),
            (r#"42["made up","swordfish"]"#, "EVENT ma…#48168f"),
            (r#"42[7,"swordfish"]"#, "EVENT"),
            (r#"4317["swordfish"]"#, "ACK ack=17"),
            (r#"452-/chat,["x",{"_placeholder":true,"num":0}]"#, r#"BINARY_EVENT attachments=2 /chat "x""#),
            (r#"44{"message":"swordfish"}"#, "CONNECT_ERROR"),
            ("4", "empty"),
            ("49swordfish", "unreadable"),
            ("bc3dvcmRmaXNo", "attachment"),
        ] {
            assert_eq!(of(frame), head, "{frame}");
        }
        let long = "x".repeat(1_000);
        assert!(of(&format!(r#"42["{long}"]"#)).len() < 100);
        assert!(of(&format!("40/{long},")).len() < 100);
        assert_eq!(peer_message("OFFER", None, Some("bob")), "OFFER dst=b…#81b637");
        assert_eq!(name("swordfish\n"), "swo…#136b4d");
        assert_eq!(name(""), "…#e3b0c4");
    }

    proptest! {
        #[test]
        fn any_text_has_a_short_head(text in "[0-6b][0-9]{0,30}[-/,\\[\"\\PC]{0,300}") {
            if let Ok(decoded) = Packet::decode(&text) {
                prop_assert!(packet(&decoded, &Known).chars().count() < 600);
            }
        }
    }
}
