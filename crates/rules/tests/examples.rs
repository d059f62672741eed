//! Examples in rules files, and that their failures say what happened.

use signalbox_rules::{BUILTIN, RuleSet};

#[test]
fn the_builtin_vocabulary_is_a_rules_file_whose_examples_hold() {
    let rules = RuleSet::parse(BUILTIN).expect("it is a rules file");
    assert_eq!(rules.play_examples(), []);
    assert!(rules.examples().len() >= 3);
    assert!(rules.serves("/") && !rules.serves("/other"));
}

#[test]
fn an_example_that_goes_another_way_says_how() {
    let rule = "[[on]]\nevent = \"hi\"\nargs = [\"room\"]\ndo = [\n{ join = \"{room}\", limit = 2, full = \"room-full\" },\n\
                { emit = [\"came\", \"{count}\"], to = \"room\" },\n{ ack = \"{count}\" } ]\n";
    for (steps, expected) in [
        ("{ from = \"a\", emit = [\"hi\", \"r\"], ack = 2 }", "the ack was 1"),
        ("{ from = \"a\", emit = [\"hi\", \"r\"], ack = 1 }", "a also got [\"came\",1]"),
        (
            "{ from = \"a\", emit = [\"ho\"], ack = 1 }",
            "the ack was {\"error\":\"unknown-event\",\"ok\":false}",
        ),
        ("{ to = \"a\", emit = [\"hi\"] }", "a is not connected"),
        ("{ from = \"a\", connect = true }, { to = \"a\", emit = [\"hi\"] }", "a got nothing"),
        ("{ from = \"a\", connect = true, namespace = \"/x\" }", "there is no namespace /x"),
    ] {
        let text = format!("{rule}[[example]]\nname = \"x\"\nsteps = [\n{steps}\n]\n");
        let rules = RuleSet::parse(&text).expect(&text);
        let failures = rules.play_examples();
        assert_eq!(failures.len(), 1, "{text}");
        assert_eq!((failures[0].line, failures[0].what.as_str()), (11, expected));
    }
}

#[test]
fn own_rules_go_before_the_builtin_ones() {
    let text = "include-builtin = true\n[[on]]\nevent = \"users\"\ndo = [{ ack = \"none\" }]\n\
                [[example]]\nname = \"x\"\nsteps = [\n\
                { from = \"a\", emit = [\"users\"], ack = \"none\" },\n\
                { from = \"a\", emit = [\"leave\", \"r\"], ack = { ok = false, error = \"not-a-member\" } },\n]\n";
    assert_eq!(RuleSet::parse(text).expect("rules").play_examples(), []);
}
