//! Any sequence of text and binary messages, with a server that joins, refuses and throws out: what comes through is well formed,
//! belongs to a namespace that was joined, and no more is kept than was sent.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use signalbox_socketio::{Args, Connection, Event, MAX_ATTACHMENTS, args};

#[derive(Arbitrary, Debug)]
enum Step {
    /// Anything at all.
    Raw(String),
    /// Something with the shape of a packet.
    Packet {
        kind: u8,
        attachments: Option<u8>,
        namespace: Namespace,
        id: Option<u64>,
        body: Body,
    },
    Binary(Vec<u8>),
    /// The server closes a namespace.
    ThrowOut {
        slot: u8,
    },
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Namespace {
    Root,
    Admin,
    Odd,
}

#[derive(Arbitrary, Debug)]
enum Body {
    Empty,
    Object,
    Event,
    Placeholders(Vec<u8>),
    Reserved,
    Raw(String),
}

#[derive(Arbitrary, Debug)]
struct Input {
    refuses_odd: bool,
    steps: Vec<Step>,
}

fuzz_target!(|input: Input| {
    let now = Instant::now();
    let mut connection = Connection::new(now, Duration::from_secs(45));
    let mut received = 0;
    for step in input.steps {
        let outcome = match step {
            Step::ThrowOut { slot } => {
                let before = connection.sockets().len();
                let left = connection.leave(slot.into());
                assert_eq!(connection.sockets().len(), before - usize::from(left.is_some()));
                Ok(())
            }
            Step::Binary(bytes) => {
                received += bytes.len();
                match connection.receive_attachment(bytes.into()) {
                    Ok(Some(packet)) => {
                        assert_eq!(connection.buffered(), 0);
                        connection.interpret_binary(&packet).map(Answer::of).map(|answer| {
                            assert!(matches!(answer, Answer::Nothing | Answer::Checked { .. }));
                            answer.give(&mut connection, input.refuses_odd);
                        })
                    }
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Step::Raw(text) => text_message(&mut connection, &text, &mut received, input.refuses_odd),
            packet => text_message(&mut connection, &write(&packet), &mut received, input.refuses_odd),
        };
        assert!(connection.buffered() <= received);
        let names: Vec<_> = connection.sockets().iter().map(|joined| joined.namespace.clone()).collect();
        assert!(names.iter().all(|name| name.starts_with('/')));
        assert!((1..names.len()).all(|last| !names[..last].contains(&names[last])), "a namespace twice");
        if outcome.is_err() {
            break;
        }
    }
    connection.leave_all();
    assert_eq!((connection.buffered(), connection.deadline()), (0, None));
});

fn text_message(
    connection: &mut Connection<()>,
    text: &str,
    received: &mut usize,
    refuses_odd: bool,
) -> Result<(), signalbox_socketio::ParseError> {
    *received += text.len();
    let answer = Answer::of(connection.receive_text(text)?);
    answer.give(connection, refuses_odd);
    Ok(())
}

/// What the server does about an event.
enum Answer {
    Join(String),
    Leave(usize),
    Checked { slot: usize },
    Nothing,
}

impl Answer {
    fn of(event: Event<'_>) -> Self {
        match event {
            Event::Connect { namespace, auth } => {
                if let Some(auth) = auth {
                    assert!(auth.trim_start().starts_with('{'));
                    serde_json::from_str::<&serde_json::value::RawValue>(auth).expect("auth is JSON");
                }
                Self::Join(namespace.to_owned())
            }
            Event::Disconnect { slot } => Self::Leave(slot),
            Event::Event { slot, body, attachments, .. } => {
                check(body, attachments);
                assert!(body.is_empty() || args::is_event(&args::split(body).unwrap()));
                Self::Checked { slot }
            }
            Event::Ack { slot, body, attachments, .. } => {
                check(body, attachments);
                assert!(!body.is_empty());
                Self::Checked { slot }
            }
            Event::Nothing => Self::Nothing,
        }
    }

    fn give(self, connection: &mut Connection<()>, refuses_odd: bool) {
        match self {
            Self::Join(namespace) => {
                assert_eq!(connection.slot(&namespace), None, "joined already");
                if !(refuses_odd && namespace == "/o?dd") {
                    let slot = connection.join(namespace.as_str().into(), ());
                    assert_eq!(connection.slot(&namespace), Some(slot));
                    assert_eq!(connection.deadline(), None);
                }
            }
            Self::Leave(slot) => assert!(connection.leave(slot).is_some()),
            Self::Checked { slot } => assert!(slot < connection.sockets().len()),
            Self::Nothing => {}
        }
    }
}

/// Handlers rely on this.
fn check(body: &str, attachments: &[Bytes]) {
    assert!(attachments.len() <= MAX_ATTACHMENTS);
    if body.is_empty() {
        assert!(attachments.is_empty());
        return;
    }
    let args = Args::from_raw(body, attachments.to_vec()).expect("a checked body");
    if !attachments.is_empty() {
        assert_eq!(args::check_placeholders(args.json(), attachments.len()), Ok(()));
    }
}

fn write(step: &Step) -> String {
    let Step::Packet { kind, attachments, namespace, id, body } = step else { return String::new() };
    let mut text = (kind % 8).to_string();
    if let Some(attachments) = attachments {
        text.push_str(&format!("{}-", attachments % 12));
    }
    text.push_str(match namespace {
        Namespace::Root => "",
        Namespace::Admin => "/admin,",
        Namespace::Odd => "/o?dd,",
    });
    text.push_str(&id.map(|id| id.to_string()).unwrap_or_default());
    match body {
        Body::Empty => {}
        Body::Object => text.push_str("{\"token\":1}"),
        Body::Event => text.push_str("[\"event\",{\"a\":[1]}]"),
        Body::Placeholders(numbers) => {
            text.push_str("[\"event\"");
            for number in numbers {
                text.push_str(&format!(",{{\"_placeholder\":true,\"num\":{}}}", number % 12));
            }
            text.push(']');
        }
        Body::Reserved => text.push_str("[\"disconnect\"]"),
        Body::Raw(raw) => text.push_str(raw),
    }
    text
}
