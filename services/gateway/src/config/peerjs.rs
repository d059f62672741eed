//! Command lines of the `peerjs` program. Its parser (yargs) takes more spellings than ours, and it has flags that mean nothing here.

use std::ffi::OsString;

use clap::Command;
use signalbox_config::arguments::{find, is_setting, is_switch, long_name};

/// Flags of `peerjs` that are taken and mean nothing: name, whether a value follows, what to use.
const MEANINGLESS: [(&str, bool, &str); 2] = [
    ("debug", false, "use --log debug"),
    ("cleanup-out-msgs", true, "messages expire when they are due, see --expire_timeout"),
];

/// A command line as ours, and one sentence for each flag that means nothing.
pub(super) fn translate(arguments: Vec<OsString>, command: &Command) -> (Vec<OsString>, Vec<String>) {
    let mut arguments = arguments.into_iter().peekable();
    let mut translated: Vec<OsString> = arguments.next().into_iter().collect();
    let mut warnings = Vec::new();
    // `npx peerjs --port 9000` in front of which another program was put.
    let _ = arguments.next_if(|argument| argument == "peerjs");
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.to_str().and_then(|text| text.strip_prefix("--")) else {
            translated.push(argument);
            continue;
        };
        if flag.is_empty() {
            // What stands behind a lone `--` is no flag.
            translated.push(argument);
            translated.extend(arguments);
            break;
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let plain = hyphenated(name);
        if let Some((_, takes_value, remedy)) = MEANINGLESS.iter().find(|(known, ..)| *known == plain) {
            let is_value = |next: &OsString| match takes_value {
                true => !next.to_string_lossy().starts_with('-'),
                false => next == "true" || next == "false",
            };
            if value.is_none() {
                let _ = arguments.next_if(is_value);
            }
            warnings.push(format!("--{name}: has no effect ({remedy})"));
            continue;
        }
        translated.push(own_flag(name, &plain, value, command).map_or(argument, OsString::from));
    }
    (translated, warnings)
}

/// A flag in our spelling; `None` if it is that already, or unknown.
fn own_flag(name: &str, plain: &str, value: Option<&str>, command: &Command) -> Option<String> {
    if find(command, name).is_some() {
        return None;
    }
    let value = value.map(|value| format!("={value}")).unwrap_or_default();
    if let Some(arg) = find(command, plain) {
        return Some(format!("--{}{value}", long_name(arg)));
    }
    let arg = find(command, plain.strip_prefix("no-")?)?;
    (is_setting(arg) && is_switch(arg) && value.is_empty()).then(|| format!("--{}=false", long_name(arg)))
}

/// `allowDiscovery` and `allow_discovery` as `allow-discovery`.
fn hyphenated(name: &str) -> String {
    let mut plain = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        match c {
            'A'..='Z' => plain.extend(['-', c.to_ascii_lowercase()]),
            '_' => plain.push('-'),
            _ => plain.push(c),
        }
    }
    plain
}
