//! One message of a client: a JSON object with `type`, `dst` and `payload`. The sender's own `src` is ignored.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use signalbox_websocket::Frame;

use crate::handshake::MAX_ID;

/// The types that are relayed to another peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Opens a connection.
    Offer,
    /// Accepts one.
    Answer,
    /// An ICE candidate.
    Candidate,
    /// The sender closes its connection with the addressee.
    Leave,
    /// The addressee's message to the sender was never delivered.
    Expire,
}

impl Kind {
    /// The value of `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offer => "OFFER",
            Self::Answer => "ANSWER",
            Self::Candidate => "CANDIDATE",
            Self::Leave => "LEAVE",
            Self::Expire => "EXPIRE",
        }
    }

    /// The type with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Offer, Self::Answer, Self::Candidate, Self::Leave, Self::Expire]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Whether a message of this type waits for an addressee that is not there yet.
    pub fn is_queued(self) -> bool {
        matches!(self, Self::Offer | Self::Answer | Self::Candidate)
    }
}

/// A message for another peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay<'a> {
    /// Its type.
    pub kind: Kind,
    /// The id of the addressee.
    pub dst: Cow<'a, str>,
    /// The JSON of `payload` as it was received, if there is one.
    pub payload: Option<&'a str>,
}

impl Relay<'_> {
    /// The frame the addressee receives: rebuilt from known fields only, `src` being the sender's true id.
    pub fn frame(&self, src: &str) -> Frame {
        // Strings always serialize.
        let src = serde_json::to_string(src).unwrap_or_default();
        let dst = serde_json::to_string(&self.dst).unwrap_or_default();
        let (comma, payload) = match self.payload {
            Some(payload) => (",\"payload\":", payload),
            None => ("", ""),
        };
        let kind = self.kind.name();
        Frame::text_of(&["{\"type\":\"", kind, "\",\"src\":", &src, ",\"dst\":", &dst, comma, payload, "}"])
    }
}

/// EXPIRE: what `dst` sent to `src` could not be delivered.
pub fn expire_frame(src: &str, dst: &str) -> Frame {
    Relay { kind: Kind::Expire, dst: Cow::Borrowed(dst), payload: None }.frame(src)
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// HEARTBEAT: only its arrival matters.
    Heartbeat,
    /// A message for another peer.
    Relay(Relay<'a>),
    /// LEAVE without `dst`: the client releases its id.
    ReleaseId,
    /// A JSON object that is no message of the protocol. The reference ignores it.
    Ignored,
    /// Not a JSON object, or for a peer that cannot be; ignored and counted.
    Malformed,
}

/// Reads a message from the payload of a text or binary frame.
pub fn read(json: &[u8]) -> Incoming<'_> {
    let Ok(fields) = serde_json::from_slice::<Fields<'_>>(json) else { return Incoming::Malformed };
    let Some(kind) = fields.kind.and_then(string) else { return Incoming::Ignored };
    if kind == "HEARTBEAT" {
        return Incoming::Heartbeat;
    }
    let Some(kind) = Kind::of_name(&kind) else { return Incoming::Ignored };
    let dst = fields.dst.and_then(string).filter(|dst| !dst.is_empty());
    match (dst, kind) {
        // Nobody can have such an id.
        (Some(dst), _) if dst.len() > MAX_ID => Incoming::Malformed,
        (Some(dst), _) => Incoming::Relay(Relay { kind, dst, payload: fields.payload.map(RawValue::get) }),
        // Only without `dst` is it a release; a `dst` that is not a string names no peer.
        (None, Kind::Leave) if is_absent(fields.dst) => Incoming::ReleaseId,
        _ => Incoming::Ignored,
    }
}

fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    if !json.starts_with('"') {
        return None;
    }
    if !json.contains('\\') {
        return Some(Cow::Borrowed(&json[1..json.len() - 1]));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

fn is_absent(value: Option<&RawValue>) -> bool {
    value.is_none_or(|value| {
        let json = value.get();
        matches!(json, "null" | "\"\"" | "false") || json.parse() == Ok(0.0)
    })
}

/// The known fields of a message, undecoded; the last of a repeated field wins, as in JavaScript.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a RawValue>,
    dst: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a message object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    match &*name {
                        "type" => fields.kind = Some(map.next_value()?),
                        "dst" => fields.dst = Some(map.next_value()?),
                        "payload" => fields.payload = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relayed(json: &str) -> String {
        match read(json.as_bytes()) {
            Incoming::Relay(relay) => String::from_utf8(relay.frame("me").payload().to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn an_id_that_nobody_can_have_is_no_address() {
        let message = |length: usize| format!(r#"{{"type":"OFFER","dst":"{}"}}"#, "a".repeat(length));
        assert!(matches!(read(message(MAX_ID).as_bytes()), Incoming::Relay(_)));
        assert_eq!(read(message(MAX_ID + 1).as_bytes()), Incoming::Malformed);
    }

    #[test]
    fn a_message_is_rebuilt_with_its_true_sender() {
        assert_eq!(
            relayed(r#"{"payload":{"b":1.0,"a":"é"},"src":"forged","extra":1,"dst":"you","type":"OFFER"}"#),
            r#"{"type":"OFFER","src":"me","dst":"you","payload":{"b":1.0,"a":"é"}}"#
        );
        assert_eq!(relayed(r#"{"type":"LEAVE","dst":"you"}"#), r#"{"type":"LEAVE","src":"me","dst":"you"}"#);
        assert_eq!(
            relayed(r#"{"type":"ANSWER","dst":"a\"b","payload":null}"#),
            r#"{"type":"ANSWER","src":"me","dst":"a\"b","payload":null}"#
        );
        assert_eq!(
            relayed(r#"{"type":"OFFER","dst":"x","dst":"y","payload":[]}"#),
            r#"{"type":"OFFER","src":"me","dst":"y","payload":[]}"#
        );
    }

    #[test]
    fn what_means_nothing_is_ignored() {
        for json in [
            r#"{"type":"OPEN","dst":"x"}"#,
            r#"{"type":"offer","dst":"x"}"#,
            r#"{"type":7,"dst":"x"}"#,
            r#"{"dst":"x"}"#,
            "{}",
            r#"{"type":"OFFER"}"#,
            r#"{"type":"OFFER","dst":""}"#,
            r#"{"type":"OFFER","dst":5}"#,
            r#"{"type":"LEAVE","dst":5}"#,
        ] {
            assert_eq!(read(json.as_bytes()), Incoming::Ignored, "{json}");
        }
        for json in ["", "null", "1", "\"x\"", "true", "[]", "{", "\u{1}"] {
            assert_eq!(read(json.as_bytes()), Incoming::Malformed, "{json}");
        }
        assert_eq!(read(br#"{"type":"HEARTBEAT","dst":"x"}"#), Incoming::Heartbeat);
        for json in
            [r#"{"type":"LEAVE"}"#, r#"{"type":"LEAVE","dst":null}"#, r#"{"type":"LEAVE","dst":-0.0}"#]
        {
            assert_eq!(read(json.as_bytes()), Incoming::ReleaseId, "{json}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&json);
        }

        #[test]
        fn whatever_is_relayed_is_valid_json(dst in "\\PC{1,20}", src in "\\PC{1,20}", payload in "\\PC{0,20}") {
            let json = serde_json::json!({"type": "OFFER", "dst": dst, "payload": payload}).to_string();
            let Incoming::Relay(relay) = read(json.as_bytes()) else { panic!("not relayed") };
            let out: serde_json::Value = serde_json::from_slice(relay.frame(&src).payload()).unwrap();
            prop_assert_eq!(out, serde_json::json!({"type": "OFFER", "src": src, "dst": dst, "payload": payload}));
        }
    }
}
