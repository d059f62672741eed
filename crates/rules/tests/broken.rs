//! What is said of files that are wrong: the place, the problem and the remedy.

use signalbox_rules::RuleSet;

/// Files, and all that is said of each.
const BROKEN: &[(&str, &[&str])] = &[
    ("", &["line 1, column 1: the file has no rule (begin with [[on]], or set include-builtin = true)"]),
    (
        "[[on]]\nevent = \"a\ndo = []\n",
        &["line 2, column 11: this is not TOML: invalid basic string, expected `\"` (see https://toml.io)"],
    ),
    (
        "[[on]]\nevnt = \"a\"\ndo = [{ ack = 1 }]\n",
        &[
            "line 1, column 1: the rule waits for nothing (add event = \"...\" or trigger = \"...\")",
            "line 2, column 1: a rule has no \"evnt\" (did you mean \"event\"?)",
        ],
    ),
    (
        "[[rule]]\nevent = \"a\"\n",
        &[
            "line 1, column 1: the file has no rule (begin with [[on]], or set include-builtin = true)",
            "line 1, column 3: a rules file has no \"rule\" (one of: include-builtin, on, example)",
        ],
    ),
    ("[[on]]\nevent = \"a\"\n", &["line 1, column 1: the rule does nothing (add do = [...])"]),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ jion = \"x\" }]\n",
        &["line 3, column 7: there is no action \"jion\" (did you mean \"join\"?)"],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ join = \"x\", leave = \"y\" }]\n",
        &["line 3, column 7: this is 2 actions at once: join, leave (write each in { } of its own)"],
    ),
    (
        "[[on]]\nevent = \"disconnecting\"\ndo = [{ ack = 1 }]\n",
        &[
            "line 2, column 9: no client can send the event \"disconnecting\": its name is reserved (write trigger = \
             \"disconnecting\")",
        ],
    ),
    (
        "[[on]]\ntrigger = \"conection\"\ndo = [{ leave-all = true }]\n",
        &["line 2, column 11: there is no trigger \"conection\" (did you mean \"connection\"?)"],
    ),
    (
        "[[on]]\nevent = \"a\"\ntrigger = \"connection\"\ndo = [{ leave-all = true }]\n",
        &["line 3, column 11: the rule has an event and a trigger (leave one of them out)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nnamespace = \"chat\"\ndo = [{ ack = 1 }]\n",
        &["line 3, column 13: \"chat\" is no namespace: these begin with a slash (write \"/chat\")"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"...rest\", \"room\"]\ndo = [{ ack = 1 }]\n",
        &["line 3, column 20: nothing comes behind ...rest (put it last)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"x\", \"x\"]\ndo = [{ ack = 1 }]\n",
        &["line 3, column 14: two arguments are called \"x\" (give each its own name)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"members\"]\ndo = [{ ack = 1 }]\n",
        &[
            "line 3, column 9: an argument cannot be called \"members\": that has a meaning of its own (call it e.g. \
             \"the_members\")",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"1st\"]\ndo = [{ ack = 1 }]\n",
        &[
            "line 3, column 9: \"1st\" is no name for an argument (use letters, digits, _ and -, a letter first)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"id\"]\ndo = [{ members-after = \"{id}\" }, { leave = \"r\" }, { ack = \"{crowd.size}\" }]\n",
        &[
            "line 4, column 9: members-after belongs to a room, and none is named before (join a room before, or require \
             its membership)",
            "line 4, column 62: {crowd.size} is nothing that is said of a crowd (crowd.count or crowd.next)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"room\"]\ndo = [{ join = \"{rom}\" }]\n",
        &["line 4, column 18: {rom} is not known (did you mean {room}?)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"room\"]\ndo = [{ join = \"a {room\" }]\n",
        &["line 4, column 19: a { is not closed (close it, or write {{ for a brace in a text)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"room\"]\ndo = [{ join = \"room}\" }]\n",
        &["line 4, column 21: a } closes nothing (write }} for a brace in a text)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"...rest\"]\ndo = [{ ack = \"{...rest}\" }]\n",
        &[
            "line 4, column 16: only an element of an array can be spread (spread it as an element of its own, as in \
             [\"event\", \"{...rest}\"])",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ emit = [\"b\"], to = \"room\" }]\n",
        &[
            "line 3, column 28: no room is named before (join one before, require its membership, or write to = { room = \
             \"{room}\" })",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ emit = [\"b\"] }]\n",
        &[
            "line 3, column 7: emit does not say to whom (add to = \"room-but-me\", \"room\", \"me\", \"everyone\" ...)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ emit = [\"b\"], to = \"everybody\" }]\n",
        &["line 3, column 28: nobody is meant by \"everybody\" (did you mean \"everyone\"?)"],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ emit = [\"disconnect\"], to = \"me\" }]\n",
        &[
            "line 3, column 17: no event can be called \"disconnect\": clients would close the connection (choose another \
             name)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ ack = { n = \"{count}\" } }]\n",
        &[
            "line 3, column 23: {count} belongs to a room, and none is named before (join a room before, or require its \
             membership)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ ack = \"{auth.name}\" }]\n",
        &[
            "line 3, column 17: {auth.name} is known on a connection only: keep what you need with set (leave it out here)",
        ],
    ),
    (
        "[[on]]\ntrigger = \"connection\"\ndo = [{ ack = 1 }]\n",
        &["line 3, column 9: ack cannot be done on a connection (leave it out: there is no event to answer)"],
    ),
    (
        "[[on]]\ntrigger = \"disconnecting\"\ndo = [{ join = \"x\" }]\n",
        &["line 3, column 9: join cannot be done when a socket is going (use emit and require only)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{ require = { x = { typ = \"string\" } } }]\n",
        &["line 4, column 27: there is no test \"typ\" (did you mean \"type\"?)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{ require = { x = { type = \"text\" } } }]\n",
        &[
            "line 4, column 34: \"text\" is no type (one of: string, number, boolean, object, array, null, binary)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{ require = { x = 1 }, refusal = \"Too Long\" }]\n",
        &[
            "line 4, column 40: \"Too Long\" is no code of a refusal (use lower-case letters, digits and -, as in \
             \"room-full\")",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{ join = \"{x}\", full = \"nope\" }]\n",
        &["line 4, column 30: full means nothing without limit (add limit = 4)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{ join = \"{x}\", limit = 0 }]\n",
        &["line 4, column 31: limit is a whole number from 1 to 1000000 (write limit = 4)"],
    ),
    (
        "[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{ join = \"{x}\", profile = \"me\" }]\n",
        &[
            "line 4, column 33: a profile is an object (write profile = { name = \"{name}\" }, or name an argument that is \
             one)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ call = \"https://app\" }]\n",
        &[
            "line 3, column 16: \"https://app\" is no name of a hook (use lower-case letters, digits and -, as in call = \
             \"orders\" with --hook orders=https://...)",
        ],
    ),
    (
        "[[on]]\ntrigger = \"claim\"\ndo = [{ call = \"app\" }]\n",
        &["line 3, column 9: call cannot be done on a claim (use emit and require only)"],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ ack = \"{answer.x}\" }, { call = \"app\" }]\n",
        &["line 3, column 17: {answer.x} is known behind a call only (leave it out here)"],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ call = \"app\" }, { call = \"other\" }]\n",
        &["line 1, column 1: the rule has 2 calls, and may have 1 (do less in one rule)"],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ disconnect = false }]\n",
        &[
            "line 3, column 22: disconnect is true or \"connection\" (true ends the namespace, \"connection\" the whole \
             connection)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ ack = 2020-01-01 }]\n",
        &["line 3, column 15: a date has no form in JSON (write it as a string)"],
    ),
    (
        "[[on]]\ntrigger = \"claim\"\nnamespace = \"/*\"\ndo = [{ emit = [\"b\"], to = \"everyone\" }]\n",
        &[
            "line 3, column 13: peers are in no namespace, so this says where to emit (name a namespace without *)",
        ],
    ),
    (
        "[[on]]\nevent = \"a\"\ndo = [{ ack = 1 }]\n[[example]]\nname = \"x\"\nsteps = [{ from = \"ann\" }]\n",
        &[
            "line 6, column 10: nothing happens in this step (write { from, emit, ack }, { to, emit }, { from, connect }, \
             { from, disconnect }, { claim } or { release })",
        ],
    ),
];

#[test]
fn broken_files_are_refused_with_place_problem_and_remedy() {
    let mut other = Vec::new();
    for (text, expected) in BROKEN {
        let problems = RuleSet::parse(text).expect_err(text);
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        if said != *expected {
            other.push(format!("{text}{said:#?}"));
        }
    }
    assert!(other.is_empty(), "{}", other.join("\n"));
}

#[test]
fn hooks_have_to_be_known() {
    let rules = RuleSet::parse("[[on]]\nevent = \"a\"\ndo = [{ call = \"order\" }]\n").expect("rules");
    let said = |known: &[&str]| -> Vec<String> {
        rules.unknown_hooks(known).iter().map(ToString::to_string).collect()
    };
    assert!(said(&["order", "other"]).is_empty());
    assert_eq!(
        said(&["orders"]),
        ["line 3, column 16: there is no hook \"order\" (did you mean \"orders\"?)"]
    );
    assert_eq!(
        said(&[]),
        ["line 3, column 16: there is no hook \"order\" (configure it: --hook order=https://...)"]
    );
}

#[test]
fn a_rule_that_could_cost_too_much_is_refused() {
    let join = "{ join = \"{x}\" }";
    let text = format!("[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{}]\n", [join; 9].join(", "));
    let problems = RuleSet::parse(&text).expect_err("nine questions");
    assert_eq!(
        problems[0].to_string(),
        "line 1, column 1: the rule has 9 questions to the cluster (joins, lists, single sockets), and may have 8 (do less in \
         one rule)"
    );
    let ack = format!("{{ ack = [{}] }}", ["\"{x}\""; 300].join(", "));
    let text = format!("[[on]]\nevent = \"a\"\nargs = [\"x\"]\ndo = [{ack}]\n");
    assert!(RuleSet::parse(&text).expect_err("many values")[0].problem.contains("300 values"));
    let long = "#".repeat(2 << 20);
    assert!(RuleSet::parse(&long).expect_err("large")[0].problem.contains("1 MiB"));
}
