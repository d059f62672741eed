//! `completions`: a shell that has read the script completes our command line.

use std::process::Command;

/// What bash completes behind these words, the last of which is unfinished.
fn completed(words: &[&str]) -> Vec<String> {
    let script = r#"
        source <("$1" completions bash) || exit 1
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function_of_ours=$(complete -p signalbox-gateway | sed 's/.*-F \([^ ]*\).*/\1/')
        "$function_of_ours" signalbox-gateway "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash", env!("CARGO_BIN_EXE_signalbox-gateway"), "signalbox-gateway"]);
    let output = bash.args(words).output().expect("bash is there");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_subcommands_their_flags_and_settings() {
    assert_eq!(completed(&["comp"]), ["completions"]);
    assert_eq!(completed(&["admin", "mem"]), ["members"]);
    assert_eq!(completed(&["--redis-pre"]), ["--redis-prefix"]);
    assert_eq!(completed(&["admin", "kick", "--subj"]), ["--subject"]);
    assert_eq!(completed(&["completions", "f"]), ["fish"]);
}

#[test]
fn an_unknown_shell_is_one_line() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"));
    let output = command.args(["completions", "csh"]).output().expect("it runs");
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
}
