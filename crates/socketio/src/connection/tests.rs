use super::*;
use proptest::prelude::*;

fn joined(namespaces: &[&str]) -> Connection<()> {
    let mut connection = Connection::new(Instant::now(), Duration::from_secs(45));
    for namespace in namespaces {
        connection.join((*namespace).into(), ());
    }
    connection
}

/// The rows of the malformed-input table that are about a connection that joined `/`.
#[test]
fn the_table_of_malformed_input_holds() {
    let closed = [
        "0",
        "0{}",
        "0[]",
        "0\"x\"",
        "0null",
        "0{",
        "4",
        "4{}",
        "2[]",
        "2{}",
        "2[null]",
        "2[\"connect\"]",
        "2[\"disconnecting\"]",
        "2abc[\"a\"]",
        "21e3[\"a\"]",
        "2[\"a\"]x",
        "2/other,[\"a\"]",
        "1/other,",
        "3999{}",
        "1{}",
        "7",
        "5[\"a\"]",
        "5-[\"a\"]",
        "51.5-[\"a\"]",
        "50-[\"a\"]",
        "511-[\"a\"]",
        "",
        "51-[]",
        "51-[\"a\",{\"_placeholder\":true,\"num\":1}]",
    ];
    for text in closed {
        let mut connection = joined(&["/"]);
        assert!(connection.receive_text(text).is_err(), "{text} was accepted");
    }
    for text in ["31", "3[]", "3"] {
        assert_eq!(joined(&["/"]).receive_text(text), Ok(Event::Nothing), "{text}");
    }
    assert_eq!(
        joined(&["/"]).receive_text("3999[]"),
        Ok(Event::Ack { slot: 0, id: 999, body: "[]", attachments: &[] }),
        "an unknown id is for the server to ignore"
    );
    for (text, body) in [("2", ""), ("2[1]", "[1]"), ("2[\"error\"]", "[\"error\"]")] {
        assert_eq!(
            joined(&["/"]).receive_text(text),
            Ok(Event::Event { slot: 0, id: None, body, attachments: &[] })
        );
    }
}

#[test]
fn nothing_comes_before_connect() {
    for text in ["2[\"a\"]", "1", "31[]", "51-[\"a\",{\"_placeholder\":true,\"num\":0}]"] {
        assert_eq!(joined(&[]).receive_text(text), Err(ParseError::Order), "{text}");
    }
    assert!(joined(&[]).receive_attachment(Bytes::new()).is_err());
}

#[test]
fn connect_carries_an_object_or_nothing() {
    let mut connection = joined(&[]);
    assert_eq!(connection.receive_text("0"), Ok(Event::Connect { namespace: "/", auth: None }));
    assert_eq!(
        connection.receive_text("012{\"a\":1}"),
        Ok(Event::Connect { namespace: "/", auth: Some("{\"a\":1}") })
    );
    assert_eq!(connection.receive_text("0/x,"), Ok(Event::Connect { namespace: "/x", auth: None }));
}

#[test]
fn the_connect_timeout_ends_with_the_first_namespace_for_good() {
    let mut connection = joined(&[]);
    assert!(connection.deadline().is_some());
    let slot = connection.join("/".into(), ());
    connection.leave(slot);
    assert_eq!(connection.deadline(), None);
}

#[test]
fn leaving_a_namespace_ends_what_may_be_sent_to_it() {
    let mut connection = joined(&["/", "/x"]);
    assert_eq!(connection.receive_text("1"), Ok(Event::Disconnect { slot: 0 }));
    connection.leave(0);
    assert_eq!(connection.receive_text("2[\"a\"]"), Err(ParseError::Order));
    assert!(matches!(connection.receive_text("2/x,[\"a\"]"), Ok(Event::Event { slot: 0, .. })));
}

#[test]
fn binary_packets_are_put_together() {
    let mut connection = joined(&["/"]);
    let text = r#"52-7["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    assert_eq!(connection.receive_text(text), Ok(Event::Nothing));
    assert!(connection.receive_attachment(Bytes::from_static(b"x")).unwrap().is_none());
    assert!(connection.buffered() > text.len());
    let packet = connection.receive_attachment(Bytes::from_static(b"y")).unwrap().unwrap();
    match connection.interpret_binary(&packet).unwrap() {
        Event::Event { slot: 0, id: Some(7), attachments, .. } => {
            assert_eq!(attachments, [&b"x"[..], &b"y"[..]])
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(connection.buffered(), 0);
}

#[test]
fn only_attachments_may_follow_a_binary_packet() {
    let mut connection = joined(&["/"]);
    connection.receive_text(r#"51-["a",{"_placeholder":true,"num":0}]"#).unwrap();
    assert_eq!(connection.receive_text("2[\"a\"]"), Err(ParseError::Order));
}

proptest! {
    /// Arbitrary input never panics, and never makes the connection hold more than it was sent.
    #[test]
    fn arbitrary_input_is_survived(steps in proptest::collection::vec(
        prop_oneof![
            "[0-6]([0-9]{0,2}-)?(/[a-z]?,)?[0-9]{0,3}(\\[\"a\"(,\\{\"_placeholder\":true,\"num\":[0-9]\\})?\\]|\\{\\}|\\PC{0,10})?".prop_map(Ok),
            "\\PC{0,30}".prop_map(Ok),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Err),
        ], 0..30))
    {
        let mut connection = joined(&["/", "/a"]);
        let mut sent = 0;
        for step in steps {
            match step {
                Ok(text) => { sent += text.len(); let _ = connection.receive_text(&text); }
                Err(bytes) => {
                    sent += bytes.len();
                    if let Ok(Some(packet)) = connection.receive_attachment(bytes.into()) {
                        let _ = connection.interpret_binary(&packet);
                    }
                }
            }
            prop_assert!(connection.buffered() <= sent);
        }
    }

    #[test]
    fn what_was_written_is_read(namespace in "/|/[a-z]{1,8}", id in proptest::option::of(any::<u64>()),
                                name in "[a-z]{1,9}x", args in proptest::collection::vec("[a-z\"\\\\é]{0,9}", 0..4)) {
        let values: Vec<String> = args.iter().map(|arg| serde_json::to_string(arg).unwrap()).collect();
        let joined_args = values.join(",");
        let message = crate::Message::event(&namespace, id, &name, &[&joined_args], &[]);
        let text = message.text();
        let mut connection = joined(&[&namespace]);
        match connection.receive_text(&text).unwrap() {
            Event::Event { slot: 0, id: read, body, attachments: [] } => {
                prop_assert_eq!(read, id);
                let read: Vec<String> = serde_json::from_str(body).unwrap();
                prop_assert_eq!(&read[0], &name);
                prop_assert_eq!(&read[1..], &args[..]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_restored_connection_goes_on_where_the_saved_one_stopped() {
    let now = Instant::now();
    let fresh = Connection::<()>::new(now, Duration::from_secs(45));
    let later = now + Duration::from_secs(60);
    let restored = Connection::<()>::restore(later, fresh.save(now + Duration::from_secs(5))).unwrap();
    assert_eq!(restored.deadline(), Some(later + Duration::from_secs(40)));

    let mut partial = joined(&["/"]);
    partial.receive_text(r#"52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#).unwrap();
    partial.receive_attachment(Bytes::from_static(b"x")).unwrap();
    let mut restored = Connection::restore(later, partial.save(now)).unwrap();
    restored.join("/".into(), ());
    assert_eq!(restored.deadline(), None);
    let packet = restored.receive_attachment(Bytes::from_static(b"y")).unwrap().unwrap();
    let Ok(Event::Event { attachments, .. }) = restored.interpret_binary(&packet) else {
        panic!("not an event")
    };
    assert_eq!(attachments, [&b"x"[..], &b"y"[..]]);

    let mut forged = partial.save(now);
    forged.partial.as_mut().unwrap().missing = 0;
    assert!(Connection::<()>::restore(later, forged).is_none());
}
