//! Any text as the arguments of an event: split without loss, and as strictly as a JSON parser would.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, value::RawValue};
use signalbox_socketio::{Args, Message, ParseError, args};

fuzz_target!(|body: &str| {
    let Ok(elements) = args::split(body) else {
        assert!(serde_json::from_str::<Vec<&RawValue>>(body).is_err(), "a JSON array was refused");
        assert!(Args::from_raw(body, Vec::new()).is_err());
        return;
    };
    assert_eq!(serde_json::from_str::<Vec<&RawValue>>(body).map(|raw| raw.len()).ok(), Some(elements.len()));

    let reserved =
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    let first = elements.first().and_then(|name| serde_json::from_str(name.get()).ok());
    match first {
        Some(Value::String(name)) => {
            assert_eq!(args::is_event(&elements), !reserved.contains(&name.as_str()));
        }
        Some(Value::Number(_)) => assert!(args::is_event(&elements)),
        Some(_) => assert!(!args::is_event(&elements)),
        // Lone surrogates and huge numbers are text to us, and no `Value`.
        None => {}
    }

    let args = Args::from_raw(body, vec![Bytes::from_static(b"x")]).expect("it was split");
    assert_eq!(args.json(), body);
    assert_eq!((args.len(), args.is_empty()), (elements.len(), elements.is_empty()));
    for count in 0..elements.len() + 2 {
        let rest = args.skip(count);
        assert_eq!(rest.len(), elements.len().saturating_sub(count));
        assert_eq!(rest.attachments(), args.attachments());
        assert_eq!(rest.get::<Box<RawValue>>(0).is_ok(), count < elements.len());
    }
    for (index, element) in elements.iter().enumerate() {
        if let Ok(value) = serde_json::from_str::<Value>(element.get()) {
            assert_eq!(args.get::<Value>(index).expect("the same text"), value);
        }
    }
    assert!(args.binary(elements.len()).is_err());

    // What is relayed to others is what came in.
    let message = Message::event("/", None, "relayed", &[args.inner()], &[]);
    let text = message.text();
    let relayed = args::split(&text[1..]).expect("a relayed event is well formed");
    assert_eq!(relayed.len(), 1 + elements.len());
    for (relayed, element) in relayed[1..].iter().zip(&elements) {
        assert_eq!(relayed.get(), element.get());
    }

    let one = args::check_placeholders(body, 1);
    assert_ne!(one, Err(ParseError::Payload), "what is valid without attachments is valid with them");
    assert!(one.is_err() || args::check_placeholders(body, 2).is_ok(), "more attachments break nothing");
});
