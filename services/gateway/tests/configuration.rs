//! The program, as a shell sees it, when its configuration is wrong or only asked for.

use std::process::{Command, Output};

/// Runs the program with these arguments and this environment, and nothing else in it.
fn gateway(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_mistake_is_one_line_on_stderr_and_code_2() {
    for (arguments, environment, expected) in [
        (
            vec!["--ping-interval", "abc"],
            vec![],
            "signalbox-gateway: --ping-interval: \"abc\" is not a number of milliseconds (use e.g. --ping-interval 25000)\n",
        ),
        (vec!["--no-such-flag"], vec![], "signalbox-gateway: --no-such-flag: unknown flag (see --help)\n"),
        (
            vec![],
            vec![("SIGNALBOX_WORKERS", "0")],
            "signalbox-gateway: SIGNALBOX_WORKERS: \"0\" is neither a number from 1 to 256 nor cores (use e.g. \
             SIGNALBOX_WORKERS=cores)\n",
        ),
    ] {
        let output = gateway(&arguments, &environment);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stderr), expected);
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn what_was_asked_for_goes_to_stdout_with_code_0() {
    for (argument, expected) in [
        ("--version", "signalbox-gateway "),
        ("--help", "--ping-interval <MS>"),
        ("--print-config", "ping-interval = 25000"),
    ] {
        let output = gateway(&[argument], &[]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(text(&output.stdout).contains(expected), "{argument}: {}", text(&output.stdout));
        assert_eq!(text(&output.stderr), "");
    }
}
