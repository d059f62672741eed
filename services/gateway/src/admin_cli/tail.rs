//! `admin tail`: what happens in the cluster, line by line, for as long as somebody looks. A connection that breaks is opened again, and goes
//! on where it was.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use super::{
    client::{Client, EventStream, Refusal, Told, is_position},
    pause,
    table::clean,
};

/// How long a node is left alone that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// Which events are wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Of these kinds, separated by commas: connect, disconnect, join, leave, claim, release, evict, refuse, transfer, node-up, node-down,
    /// degraded, online, drain.
    #[arg(long, value_name = "KINDS")]
    kinds: Option<String>,
    /// In this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// In this room.
    #[arg(long, allow_hyphen_values = true, value_parser = super::given, value_name = "ROOM")]
    room: Option<String>,
    /// Of clients that have shown a token of this subject.
    #[arg(long, allow_hyphen_values = true, value_parser = super::given, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Of this socket.
    #[arg(long, allow_hyphen_values = true, value_parser = super::given, value_name = "ID")]
    socket: Option<String>,
    /// Of this PeerServer client.
    #[arg(long, allow_hyphen_values = true, value_parser = super::given, value_name = "ID")]
    peer: Option<String>,
    /// Of this node.
    #[arg(long, allow_hyphen_values = true, value_parser = super::given, value_name = "NODE")]
    node: Option<String>,
}

impl Filter {
    fn parameters(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("kinds", &self.kinds),
            ("namespace", &self.namespace),
            ("room", &self.room),
            ("subject", &self.subject),
            ("socket", &self.socket),
            ("peer", &self.peer),
            ("node", &self.node),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

/// Writes what happens until nobody reads it.
///
/// # Errors
/// The node refuses, or does not answer at the first time.
pub(super) fn run(client: &Client, filter: &Filter, as_text: bool, has_colour: bool) -> Result<()> {
    let parameters = filter.parameters();
    let mut last: Option<String> = None;
    let mut is_first = true;
    loop {
        match client.listen(&parameters, last.as_deref()) {
            Ok(mut stream) => {
                if !is_first {
                    say("listening again");
                }
                is_first = false;
                if !copy(&mut stream, &mut last, as_text, has_colour) {
                    return Ok(());
                }
                say(&lost(stream));
            }
            Err(Refusal::Final(error)) => return Err(error),
            Err(Refusal::Passing(error)) if is_first => return Err(error),
            Err(Refusal::Passing(_)) => {}
        }
        pause(RETRY);
    }
}

fn say(what: &str) {
    let _ = writeln!(io::stderr(), "signalbox-gateway: {what}");
}

fn lost(stream: EventStream) -> String {
    match stream.farewell() {
        Some(reason) => format!("the connection is lost: {}", clean(&Value::from(reason))),
        None => "the connection is lost".to_owned(),
    }
}

/// Writes events until the connection ends; `false` when nobody reads them any more.
fn copy(
    stream: &mut impl Iterator<Item = Told>,
    last: &mut Option<String>,
    as_text: bool,
    has_colour: bool,
) -> bool {
    let mut out = io::stdout();
    for told in stream {
        let json = match told {
            Told::Position(position) => {
                *last = Some(position.as_str().to_owned());
                continue;
            }
            Told::Event(json) => json,
        };
        let text = match serde_json::from_str::<Value>(&json) {
            Ok(event) => {
                if let Some(position) = event["position"].as_str().filter(|text| is_position(text)) {
                    *last = Some(position.to_owned());
                }
                if as_text { shown(&event, has_colour) } else { json.as_str().to_owned() }
            }
            // No node says that. Still it is told, as what it is.
            Err(_) if as_text => clean(&Value::from(json.as_str())),
            Err(_) => Value::from(json.as_str()).to_string(),
        };
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return false;
        }
    }
    true
}

/// An event for people: when, what, at which node, and everything else that is known of it.
fn shown(event: &Value, has_colour: bool) -> String {
    const FIRST: [&str; 7] = ["position", "id", "at", "kind", "node", "nodeName", "protocol"];
    let kind = clean(&event["kind"]);
    let colour = match kind.as_str() {
        _ if !has_colour => "",
        "connect" | "join" | "claim" | "node-up" | "online" | "back" => "\x1b[32m",
        "node-down" | "degraded" | "missing" | "dropped" | "resync" => "\x1b[31m",
        "evict" | "refuse" | "drain" => "\x1b[33m",
        _ => "\x1b[36m",
    };
    let end = if has_colour { "\x1b[0m" } else { "" };
    let at = event["at"].as_u64().unwrap_or_default();
    let (hours, minutes, seconds) = (at / 3_600_000 % 24, at / 60_000 % 60, at / 1_000 % 60);
    let mut text = format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{:03}Z  {colour}{kind:10}{end}  {}",
        at % 1_000,
        clean(&event["nodeName"])
    );
    for (name, value) in event.as_object().into_iter().flatten() {
        if !FIRST.contains(&name.as_str()) {
            text.push_str(&format!("  {}={}", clean(&Value::from(name.as_str())), clean(value)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line_without_anything_that_a_terminal_obeys() {
        let event = json!({
            "position": "1.1.1", "id": "1-1", "at": 1_764_376_522_130_u64, "kind": "join", "node": "1", "nodeName": "one",
            "namespace": "/", "room": "a\u{1b}[2Jb\n",
        });
        assert_eq!(
            shown(&event, false),
            "00:35:22.130Z  join        one  namespace=/  room=a\u{fffd}[2Jb\u{fffd}"
        );
        assert!(shown(&event, true).contains("\u{1b}[32mjoin"));
    }

    #[test]
    fn the_place_to_go_on_from_follows_the_stream() {
        let event = |text: &'static str| Told::Event(text.into());
        let position = |text: &'static str| Told::Position(text.into());
        for (told, expected) in [
            (vec![position("1.1.7"), event("{}")], "1.1.7"),
            (vec![position("1.1.7"), event(r#"{"position":"1.1.8"}"#)], "1.1.8"),
            (vec![event(r#"{"position":"1.1.8"}"#), position("1.1.9")], "1.1.9"),
            (vec![position("1.1.7"), event(r#"{"position":"a\nb"}"#), event("no JSON")], "1.1.7"),
        ] {
            let mut last = None;
            assert!(copy(&mut told.into_iter(), &mut last, false, false));
            assert_eq!(last.as_deref(), Some(expected));
        }
    }
}
