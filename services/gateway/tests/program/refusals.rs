//! What keeps the program from starting is one line on stderr.

use std::{net::TcpListener, process::Output};

use crate::harness::{refused, scratch};

/// The one line on stderr of a program that ended with this code, and never listened.
#[track_caller]
pub(crate) fn line(output: &Output, code: i32) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(!stdout.contains("listening"), "{stdout}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.ends_with('\n'), "{stderr:?}");
    stderr.strip_prefix("signalbox-gateway: ").unwrap_or_else(|| panic!("{stderr}")).trim_end().to_owned()
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    for flag in ["--port", "--admin-port", "--metrics-port"] {
        let holder = TcpListener::bind("127.0.0.1:0").expect("any free port");
        let port = holder.local_addr().expect("it is bound").port().to_string();
        let line = line(&refused(&[flag, &port]), 1);
        assert_eq!(
            line,
            format!(
                "{flag}: 127.0.0.1:{port} is in use (stop what listens there, choose another port, or use {flag} 0 for any free one)"
            )
        );
    }
}

#[test]
fn an_address_of_another_machine_is_named_with_a_remedy() {
    // A block that is reserved for documentation.
    let line = line(&refused(&["--host", "192.0.2.1", "--port", "39999"]), 1);
    assert!(line.starts_with("--"), "{line}");
    assert!(line.contains("192.0.2.1:39999") && line.ends_with(')'), "{line}");
}

#[test]
fn a_mistake_in_the_file_is_named_with_the_file_and_the_key() {
    let file = scratch("mistakes").join("signalbox.toml");
    for (text, expected) in [
        ("ping-intervall = 5\n", ["ping-intervall", "did you mean ping-interval"]),
        ("ping-interval = \"soon\"\n", ["ping-interval", "use e.g. ping-interval = 25000"]),
        ("max-payload = -1\n", ["max-payload", "use e.g. max-payload = 1000000"]),
        ("port = 1\nport = 2\n", [":2: duplicate key", "valid TOML"]),
    ] {
        std::fs::write(&file, text).expect("a file");
        let path = file.to_str().expect("a path in UTF-8");
        let line = line(&refused(&["--config", path]), 2);
        assert!(line.contains(path), "{line}");
        for part in expected {
            assert!(line.contains(part), "{part:?} is missing: {line}");
        }
    }
}

#[test]
fn settings_that_exclude_each_other_are_named() {
    let both = line(&refused(&["--port", "39998", "--admin-port", "39998"]), 2);
    assert!(both.starts_with("--admin-port: "), "{both}");
    let alone = line(&refused(&["--trusted-proxies", "10.0.0.0/8"]), 2);
    assert_eq!(alone, "--trusted-proxies: has no effect without --proxied (set --proxied true too)");
}
