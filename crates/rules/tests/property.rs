//! No rules file and no event panics, or costs more than was known when the file was read.

use std::borrow::Cow;

use proptest::prelude::*;
use signalbox_rules::{
    Answer, BUILTIN, CallAnswer, Event, EventOut, Facts, Grant, JoinedRoom, Member, MemberList, Output,
    RuleSet, Step, Trigger,
};

/// A socket about which everything is true or false by a number.
#[derive(Debug)]
struct Somebody {
    rooms: Vec<JoinedRoom>,
    data: Vec<(String, String)>,
    truth: u32,
}

impl Somebody {
    fn is(&self, bit: u32) -> bool {
        self.truth >> bit & 1 == 1
    }

    fn bytes(&self) -> usize {
        let rooms = self.rooms.iter().map(|room| room.name.len() + room.announcement.len());
        let data = self.data.iter().map(|(name, value)| name.len() + value.len());
        rooms.sum::<usize>() + data.sum::<usize>() + 200
    }
}

impl Facts for Somebody {
    fn id(&self) -> Option<Cow<'_, str>> {
        Some("id".into())
    }
    fn namespace(&self) -> Cow<'_, str> {
        "/".into()
    }
    fn address(&self) -> Option<String> {
        self.is(0).then(|| "192.0.2.1".to_owned())
    }
    fn claim(&self, _: &str) -> Option<String> {
        self.is(1).then(|| "\"claim\"".to_owned())
    }
    fn data(&self, name: &str) -> Option<&str> {
        self.data.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    fn all_data(&self) -> Vec<(&str, &str)> {
        self.data.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
    fn is_member(&self, _: &str) -> bool {
        self.is(2)
    }
    fn is_socket(&self, _: &str) -> bool {
        self.is(3)
    }
    fn rooms(&self, _: Option<&str>) -> Vec<JoinedRoom> {
        self.rooms.clone()
    }
    fn is_granted(&self, _: Grant<'_>) -> bool {
        self.is(4)
    }
}

fn size(event: &EventOut) -> usize {
    event.name.len() + event.args.len() + event.attachments.iter().map(bytes::Bytes::len).sum::<usize>()
}

fn sizes(output: &Output) -> usize {
    match output {
        Output::Join(join) => {
            let events = [&join.joined, &join.updated, &join.farewell].into_iter().flatten();
            join.room.len() + join.profile.len() + events.map(size).sum::<usize>()
        }
        Output::Leave(room) | Output::Peer(room) => room.len(),
        Output::Members { room, after } => room.len() + after.as_ref().map_or(0, String::len),
        Output::Emit { event, .. } => size(event),
        Output::EmitToRooms { rooms, .. } => rooms.iter().map(|(name, event)| name.len() + size(event)).sum(),
        Output::SendTo { socket, event } => socket.len() + size(event),
        Output::Ack { json, attachments } => {
            json.len() + attachments.iter().map(bytes::Bytes::len).sum::<usize>()
        }
        Output::Users { after } => after.as_ref().map_or(0, String::len),
        Output::Set(entries) => {
            entries.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len)).sum()
        }
        Output::Call { hook, body } => {
            assert!(
                serde_json::from_str::<serde_json::Value>(body).is_ok() || body.contains("\\ud8"),
                "{body}"
            );
            hook.len() + body.len()
        }
        Output::LeaveAll | Output::Disconnect { .. } => 0,
    }
}

/// What a server of the application's own says.
const ANSWER: &str = r#"{"ack":{"ok":[true]},"data":{"a":[1]},"do":[{"join":"q","joined":["j",1]},{"set":{"h":"kept"}},
    {"emit":["e",{"b":1}],"to":"room"},{"emit":["e"],"to":{"socket":"s"}},{"peer":"p"},{"leave":"q"}]}"#;

/// Runs an event to its end, and compares what it cost with what was known before.
fn run(rules: &RuleSet, trigger: Trigger, event: Event, known: usize, facts: &Somebody) {
    let Ok(mut run) = rules.begin(trigger, event, facts) else { return };
    let line = run.line();
    let costs = rules.costs();
    let cost = costs.iter().find(|(at, _)| *at == line).expect("every rule has a cost").1;
    let members =
        (0..3).map(|n| Member { id: format!("m{n}"), profile: "{\"name\":\"x\"}".into() }).collect();
    let members = MemberList { members, count: 3, is_large: facts.is(7), next: Some("m2".to_owned()) };
    let known = known + facts.bytes() + ANSWER.len() + 200;
    let (mut actions, mut questions, mut bytes) = (0, 0, 0);
    loop {
        let output = match run.next(facts) {
            Step::End | Step::Refuse(_) => break,
            Step::Do(output) => {
                actions += 1;
                output
            }
            Step::Ask(output) => {
                questions += 1;
                actions += usize::from(!matches!(output, Output::Members { .. }));
                run.answer(match &output {
                    Output::Join(join)
                        if join.limit > 0 && facts.is(5) && run.refusal_of_full_room().is_some() =>
                    {
                        break;
                    }
                    Output::Join(join) if join.limit > 0 && facts.is(5) => Answer::Full,
                    Output::Join(_) => Answer::Joined { members: members.clone(), count: 3 },
                    Output::Members { .. } => Answer::Members(members.clone()),
                    Output::Call { .. } if facts.is(6) => Answer::NotCalled,
                    Output::Call { .. } => {
                        Answer::Called(Box::new(CallAnswer::parse(ANSWER).expect("an answer")))
                    }
                    _ => Answer::Sent,
                });
                output
            }
        };
        bytes += sizes(&output);
    }
    assert!(actions <= cost.actions, "{actions} actions: {cost:?}");
    assert!(questions <= cost.questions, "{questions} questions: {cost:?}");
    let most = cost.bytes(known, facts.rooms.len());
    assert!(bytes <= most, "{bytes} bytes of {most}: {cost:?}");
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1.50e+3".to_owned()),
        Just("7".to_owned()),
        Just("\"room\"".to_owned()),
        Just("{\"_placeholder\":true,\"num\":0}".to_owned()),
        Just("{\"_placeholder\":true,\"num\":1}".to_owned()),
        "[\"\\\\{}:a\\n\u{e9}\u{1}]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap_or_default()),
        Just("\"\\ud800\"".to_owned()),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(
                (prop_oneof!["a", "b", "roomId", "peerId", "id", "room", "0"], inner),
                0..4
            )
            .prop_map(|all| {
                let fields: Vec<_> = all.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

/// A string with placeholders, most of them known.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z \"]{0,5}",
        Just("{x}".to_owned()),
        Just("{x.a.0}".to_owned()),
        Just("{x.a|y|'z'}".to_owned()),
        Just("{y:text}".to_owned()),
        Just("{args}".to_owned()),
        Just("{socket.id}".to_owned()),
        Just("{socket.data.f}".to_owned()),
        Just("{subject}".to_owned()),
        Just("{members}".to_owned()),
        Just("{others}".to_owned()),
        Just("{count}".to_owned()),
        Just("{member}".to_owned()),
        Just("{joined.0}".to_owned()),
        Just("{answer.a|x}".to_owned()),
        Just("{{".to_owned()),
        Just("{".to_owned()),
        Just("{rest.1}".to_owned()),
    ];
    proptest::collection::vec(piece, 1..4)
        .prop_map(|pieces| serde_json::to_string(&pieces.concat()).unwrap_or_default())
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => text(),
        1 => Just("\"{...rest}\"".to_owned()),
        1 => Just("\"{x?}\"".to_owned()),
        1 => (text(), text()).prop_map(|(a, b)| format!("[{a}, \"{{...args}}\", {b}]")),
        1 => (text(), text()).prop_map(|(a, b)| format!("{{ a = {a}, \"b c\" = {b} }}")),
        1 => Just("12".to_owned()),
    ]
}

fn test() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{ x = { type = [\"string\", \"object\"] } }".to_owned()),
        Just("{ \"x.a|y\" = { min = 1, max = 40 } }".to_owned()),
        Just("{ y = { bytes = 50, plain = true } }".to_owned()),
        Just("{ x = { pattern = \"[a-z]*\" } }".to_owned()),
        Just("{ x = { not = [\"a\", 7, true] } }".to_owned()),
        Just("{ announced = \"e\" }".to_owned()),
        Just("{ ack = true }".to_owned()),
        Just("{ grant = \"signal\" }".to_owned()),
        text().prop_map(|room| format!("{{ member = {room} }}")),
        Just("{ count = { max = 3 } }".to_owned()),
    ]
}

fn action() -> impl Strategy<Value = String> {
    let to = prop_oneof![
        Just("\"room\"".to_owned()),
        Just("\"room-but-me\"".to_owned()),
        Just("\"me\"".to_owned()),
        Just("\"everyone\"".to_owned()),
        Just("\"rooms\", announced = \"e\"".to_owned()),
        Just("\"rooms-but-me\"".to_owned()),
        text().prop_map(|it| format!("{{ socket = {it} }}")),
        text().prop_map(|it| format!("{{ room = {it} }}")),
        text().prop_map(|it| format!("{{ peer = {it} }}")),
        text().prop_map(|it| format!("{{ subject = {it} }}")),
    ];
    prop_oneof![
        3 => (text(), value(), value(), to).prop_map(|(n, a, b, to)| format!("{{ emit = [{n}, {a}, {b}], to = {to} }}")),
        2 => (text(), value(), value()).prop_map(|(room, a, b)| {
            format!("{{ join = {room}, profile = {{ p = {a} }}, joined = [\"e\", \"{{member}}\", {b}], farewell = [\"f\", {a}] }}")
        }),
        1 => (text(), value()).prop_map(|(room, a)| format!("{{ join = {room}, limit = 2, full = [{{ ack = {a} }}] }}")),
        1 => text().prop_map(|room| format!("{{ leave = {room} }}")),
        1 => Just("{ leave-all = true }".to_owned()),
        2 => value().prop_map(|it| format!("{{ ack = {it} }}")),
        1 => text().prop_map(|it| format!("{{ users = {it} }}")),
        1 => (value(), value()).prop_map(|(a, b)| format!("{{ set = {{ f = {a}, g = {b} }} }}")),
        1 => test().prop_map(|it| format!("{{ require = {it}, refusal = \"no\" }}")),
        1 => (test(), value()).prop_map(|(it, a)| format!("{{ when = {it}, ack = {a} }}")),
        1 => text().prop_map(|it| format!("{{ peer = {it} }}")),
        1 => Just("{ disconnect = true }".to_owned()),
        2 => prop_oneof![
            Just("{ call = \"h\" }".to_owned()),
            Just("{ call = \"h\", refusal = \"no\" }".to_owned()),
        ],
    ]
}

fn facts() -> impl Strategy<Value = Somebody> {
    let room = json().prop_map(|told| JoinedRoom { name: "r".to_owned(), announcement: format!("[{told}]") });
    (proptest::collection::vec(room, 0..4), json(), any::<u32>()).prop_map(|(rooms, value, truth)| Somebody {
        rooms,
        data: vec![("f".to_owned(), value)],
        truth,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_costs_more_than_was_known(
        actions in proptest::collection::vec(action(), 1..6),
        args in proptest::collection::vec(json(), 0..5),
        facts in facts(),
        wants_ack in any::<bool>(),
    ) {
        let text = format!(
            "[[on]]\nevent = \"e\"\nargs = [\"x\", \"y\", \"...rest\"]\ndo = [\n{}\n]\n",
            actions.join(",\n")
        );
        let attachments = [bytes::Bytes::from_static(b"zero"), bytes::Bytes::from_static(b"one")];
        let known: usize = args.iter().map(String::len).sum::<usize>() + 8;
        // What is wrong is refused, which is fine.
        if let Ok(rules) = RuleSet::parse(&text) {
            let event = Event::new("e", args.iter().map(String::as_str), &attachments, wants_ack);
            run(&rules, Trigger::Event, event, known, &facts);
        }
    }

    #[test]
    fn any_event_may_meet_the_builtin_rules(
        name in prop_oneof!["join", "leave", "members", "users", "message", "signal", "join-room", "x"],
        args in proptest::collection::vec(json(), 0..4),
        facts in facts(),
        wants_ack in any::<bool>(),
    ) {
        let rules = RuleSet::parse(BUILTIN).expect("rules");
        let known: usize = args.iter().map(String::len).sum();
        let event = Event::new(&name, args.iter().map(String::as_str), &[], wants_ack);
        run(&rules, Trigger::Event, event, known, &facts);
    }

    #[test]
    fn no_answer_panics(
        at in 0..ANSWER.len(),
        len in 0..40usize,
        put in prop_oneof!["[\\[\\]{}\":,.a-z0-9 ]{0,10}", "\\PC{0,5}"],
    ) {
        // The text is ASCII.
        let text = format!("{}{put}{}", &ANSWER[..at], &ANSWER[(at + len).min(ANSWER.len())..]);
        drop(CallAnswer::parse(&text));
    }

    #[test]
    fn no_text_panics(
        at in 0..BUILTIN.len(),
        len in 0..40usize,
        put in prop_oneof!["[\\[\\]{}\"=,.|?:a-z0-9 \n]{0,10}", "\\PC{0,5}"],
    ) {
        let start = (0..=at).rev().find(|at| BUILTIN.is_char_boundary(*at)).unwrap_or(0);
        let end = (start + len).min(BUILTIN.len());
        let end = (end..=BUILTIN.len()).find(|at| BUILTIN.is_char_boundary(*at)).unwrap_or(BUILTIN.len());
        let text = format!("{}{put}{}", &BUILTIN[..start], &BUILTIN[end..]);
        match RuleSet::parse(&text) {
            Ok(rules) => drop(rules.play_examples()),
            Err(problems) => assert!(!problems.is_empty()),
        }
    }
}
