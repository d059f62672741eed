//! Any query string: read as `URLSearchParams` reads it, and never beyond the limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use signalbox_peerserver::{
    Params, Refusal,
    handshake::{MAX_ID, MAX_TOKEN},
};

const REALMS: [&str; 2] = ["peerjs", "other key"];

fuzz_target!(|query: &str| {
    let last = |name: &str| {
        let pairs = form_urlencoded::parse(query.as_bytes());
        pairs.filter(|(key, _)| key == name).last().map_or_else(String::new, |(_, value)| value.into_owned())
    };
    let (key, id, token) = (last("key"), last("id"), last("token"));
    let expected = if key.is_empty() || id.is_empty() || token.is_empty() {
        Err(Refusal::Missing)
    } else if !REALMS.contains(&key.as_str()) {
        Err(Refusal::InvalidKey)
    } else if id.len() > MAX_ID {
        Err(Refusal::IdTooLong)
    } else if token.len() > MAX_TOKEN {
        Err(Refusal::TokenTooLong)
    } else {
        Ok(Params { key, id, token })
    };
    let parsed = Params::parse(query, &REALMS);
    assert_eq!(parsed, expected);
    if let Err(refusal) = parsed {
        serde_json::from_slice::<serde_json::Value>(refusal.frame().payload()).expect("a refusal is JSON");
    }
});
