//! The events whose rules are those of the built-in vocabulary are known, and no others.

use signalbox_rules::{BUILTIN, RuleSet};

const EVENTS: [&str; 7] = ["join", "leave", "members", "users", "message", "signal", "join-room"];

fn rules(text: &str) -> RuleSet {
    RuleSet::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn builtin_events(rules: &RuleSet) -> Vec<&'static str> {
    EVENTS.into_iter().filter(|event| rules.is_builtin(event, "/")).collect()
}

#[test]
fn all_its_events_are_built_in_and_only_where_it_is_for() {
    let builtin = RuleSet::builtin();
    assert!(builtin.has_builtin_text());
    assert_eq!(builtin.len(), rules(BUILTIN).len());
    assert_eq!(builtin_events(&builtin), EVENTS);
    assert!(!builtin.is_builtin("message", "/game"), "it is for one namespace");
    assert!(!builtin.is_builtin("msg", "/"));
}

#[test]
fn what_is_changed_is_not_built_in_and_the_rest_still_is() {
    // Another answer to one event.
    let changed = rules(&BUILTIN.replacen("{ ack = { ok = true } },", "{ ack = { ok = true, at = 1 } },", 1));
    assert_eq!(builtin_events(&changed), ["join", "leave", "members", "users", "signal", "join-room"]);
    // Names of arguments make no difference.
    let renamed = BUILTIN.replace("[\"to\", \"data\"]", "[\"whom\", \"what\"]");
    let renamed =
        renamed.replace("\"signal\", \"{data}\"", "\"signal\", \"{what}\"").replace("{to}", "{whom}");
    assert_eq!(builtin_events(&rules(&renamed)), EVENTS);
    // One rule less, one more, and the same in another order.
    let blocks = BUILTIN.split("[[on]]").filter(|block| block.contains("event = \"message\""));
    let message =
        blocks.map(|block| format!("[[on]]{}", block.split("[[example]]").next().unwrap_or_default()));
    let message: Vec<String> = message.collect();
    assert_eq!(message.len(), 2);
    assert_eq!(builtin_events(&rules(&message.concat())), ["message"]);
    assert_eq!(builtin_events(&rules(&message[1])), [] as [&str; 0]);
    assert_eq!(builtin_events(&rules(&[&*message[1], &*message[0]].concat())), [] as [&str; 0]);
    assert_eq!(builtin_events(&rules(&[&*message.concat(), &*message[1]].concat())), [] as [&str; 0]);
}

#[test]
fn a_file_that_includes_it_keeps_it_where_it_says_nothing_else() {
    let own = "include-builtin = true\n[[on]]\nevent = \"signal\"\ndo = [{ ack = 1 }]\n";
    assert_eq!(
        builtin_events(&rules(own)),
        ["join", "leave", "members", "users", "message", "join-room"],
        "its own rule comes first"
    );
    let elsewhere =
        "include-builtin = true\n[[on]]\nevent = \"signal\"\nnamespace = \"/game\"\ndo = [{ ack = 1 }]\n";
    assert!(!rules(elsewhere).is_builtin("signal", "/game"));
}
