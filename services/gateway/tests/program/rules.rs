//! Rules files: printed, checked, played, read again; and what keeps a node from starting.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::harness::{Server, printed_rules, refused, scratch, until, websocket::WebSocket};

const DEADLINE: Duration = Duration::from_secs(15);
const RULE: &str = "[[on]]\nevent = \"hi\"\ndo = [{ ack = \"ANSWER\" }]\n";

fn gateway(arguments: &[&str]) -> (bool, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_signalbox-gateway")).args(arguments).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn rules_are_printed_checked_and_played() {
    let file = PathBuf::from(printed_rules("rules-checked"));
    let (good, said, _) = gateway(&["rules", "check", text(&file)]);
    assert!(good && said.ends_with("9 rules, 3 examples: good\n"), "{said}");
    let (good, said, _) = gateway(&["rules", "test", text(&file)]);
    assert_eq!((good, said.as_str()), (true, "3 examples hold\n"));
    let example = "[[example]]\nname = \"greeting\"\nsteps = [{ from = \"a\", emit = [\"hi\"], ack = 1 }]\n";
    fs::write(&file, format!("{RULE}{example}")).expect("it is written");
    let (good, said, _) = gateway(&["rules", "test", text(&file)]);
    let expected =
        format!("{}:6: greeting: the ack was \"ANSWER\"\n1 of 1 examples went another way\n", file.display());
    assert_eq!((good, said), (false, expected));
    fs::write(&file, RULE.replace("ack", "acks")).expect("it is written");
    let (good, _, said) = gateway(&["rules", "check", text(&file)]);
    assert_eq!(
        said,
        format!("{}:3:7: there is no action \"acks\" (did you mean \"ack\"?)\n", file.display())
    );
    assert!(!good);
}

#[test]
fn rules_that_are_wrong_keep_a_node_from_starting() {
    let file = scratch("rules-refused").join("rules.toml");
    fs::write(&file, RULE.replace("ack", "acks")).expect("it is written");
    let output = refused(&["--rules", text(&file)]);
    let expected = format!(
        "signalbox-gateway: --rules: {}:3:7: there is no action \"acks\" (did you mean \"ack\"?)\n",
        file.display()
    );
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()),
        (Some(2), expected)
    );
}

#[test]
fn rules_are_read_again_on_sighup_and_kept_if_they_are_wrong() {
    let file = scratch("rules-again").join("rules.toml");
    fs::write(&file, RULE.replace("ANSWER", "one")).expect("it is written");
    let mut server = Server::gateway(&["--rules", text(&file)]);
    let mut client = WebSocket::socketio(server.public());
    let mut hi = move || {
        client.send(r#"421["hi"]"#);
        client.text()
    };
    assert_eq!(hi(), r#"431["one"]"#);
    fs::write(&file, RULE.replace("ANSWER", "two")).expect("it is written");
    server.signal("HUP");
    until(DEADLINE, || (hi() == r#"431["two"]"#).then_some(())).expect("the new rules are in force");
    fs::write(&file, "[[on]]\nevent = 7\n").expect("it is written");
    server.signal("HUP");
    // What is answered after a third file was read was decided by the second one.
    let wrong = "event is a string, not a number (write event = \\\"...\\\")";
    let wrong = wrong.replace('\\', "");
    until(DEADLINE, || server.has_logged(&wrong).then_some(())).expect("the problem is in the log");
    assert_eq!(hi(), r#"431["two"]"#);
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE), Some(0));
    let log = server.log();
    let lines: Vec<_> = log.iter().filter(|line| line.contains("the rules are wrong")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("rules.toml:2:9: "), "{}", lines[0]);
}
