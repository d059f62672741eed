//! Any bytes as a message: read as JavaScript would read them, and relayed as valid JSON under the sender's own id.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json, value::RawValue};
use signalbox_peerserver::{Incoming, Kind, message};

const SRC: &str = "the \"sender\"";

fuzz_target!(|bytes: &[u8]| {
    let incoming = message::read(bytes);
    if let Incoming::Relay(relay) = &incoming {
        assert!(!relay.dst.is_empty());
        let frame = relay.frame(SRC);
        assert!(
            frame.len() <= bytes.len() + SRC.len() + 64 + relay.dst.len() * 6,
            "a relayed message stays small"
        );
        serde_json::from_slice::<&RawValue>(frame.payload()).expect("what is relayed is JSON");
        if let Ok(out) = serde_json::from_slice::<Value>(frame.payload()) {
            let mut expected = json!({"type": relay.kind.name(), "src": SRC, "dst": relay.dst});
            if let Some(payload) = relay.payload {
                expected["payload"] = serde_json::from_str(payload).expect("part of the same text");
            }
            assert_eq!(out, expected);
        }
        let again = message::read(frame.payload());
        assert_eq!(again, incoming, "the reading end reads the same");
    }
    // A second opinion, on what `Value` can hold at all.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let Value::Object(fields) = &value else {
        assert_eq!(incoming, Incoming::Malformed);
        return;
    };
    let dst = fields.get("dst").and_then(Value::as_str).filter(|dst| !dst.is_empty());
    let expected = match (fields.get("type").and_then(Value::as_str), dst) {
        (Some("HEARTBEAT"), _) => Incoming::Heartbeat,
        (Some("OFFER" | "ANSWER" | "CANDIDATE" | "LEAVE" | "EXPIRE"), Some(dst)) => {
            let Incoming::Relay(relay) = &incoming else { panic!("not relayed: {value}") };
            assert_eq!(Some(relay.kind.name()), fields["type"].as_str());
            assert_eq!(relay.dst, dst);
            let payload = relay.payload.map(|payload| serde_json::from_str::<Value>(payload).unwrap());
            assert_eq!(payload.as_ref(), fields.get("payload"));
            assert_eq!(relay.kind.is_queued(), !matches!(relay.kind, Kind::Leave | Kind::Expire));
            return;
        }
        (Some("LEAVE"), None) if is_falsy(fields.get("dst")) => Incoming::ReleaseId,
        _ => Incoming::Ignored,
    };
    assert_eq!(incoming, expected);
});

/// As JavaScript has it.
fn is_falsy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(_) => false,
    }
}
