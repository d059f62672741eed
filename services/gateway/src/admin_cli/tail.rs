//! `admin tail`: what happens in the cluster, line by line, for as long as somebody looks. A connection that breaks is opened again, and goes
//! on where it was.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use super::{
    client::{Client, Refusal},
    pause,
    table::clean,
};

/// The node says something every 15 seconds. One that is silent for so long is not there any more.
const SILENCE: Duration = Duration::from_secs(40);
/// How long a node is left alone that does not answer.
const RETRY: Duration = Duration::from_secs(2);
/// Lines that wait to be written; then the node is not read on.
const WAITING: usize = 1_024;
/// Longest line in bytes.
const MAX_LINE: u64 = 1 << 20;

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
        match client.stream("events", &parameters, last.as_deref()) {
            Ok(body) => {
                if !is_first {
                    say("listening again");
                }
                is_first = false;
                if !copy(&lines(body), &mut last, as_text, has_colour) {
                    return Ok(());
                }
                say("the connection is lost");
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

/// Reads on a thread of its own, so that silence is noticed. The thread ends with its connection.
fn lines(body: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(WAITING);
    std::thread::spawn(move || {
        let mut body = BufReader::new(body);
        let mut line = String::new();
        while matches!(body.by_ref().take(MAX_LINE).read_line(&mut line), Ok(1..)) && line.ends_with('\n') {
            if sender.send(line.trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

/// Writes events until the connection ends; `false` when nobody reads them any more.
fn copy(lines: &Receiver<String>, last: &mut Option<String>, as_text: bool, has_colour: bool) -> bool {
    let mut out = io::stdout();
    while let Ok(line) = lines.recv_timeout(SILENCE) {
        if let Some(id) = line.strip_prefix("id: ") {
            *last = Some(id.to_owned());
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let text = match serde_json::from_str::<Value>(data) {
            Ok(event) if as_text => shown(&event, has_colour),
            _ => data.to_owned(),
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
        let (sender, lines) = sync_channel(8);
        for line in [": listening", "id: 1.1.7", "", "data: {}"] {
            sender.send(line.to_owned()).unwrap();
        }
        drop(sender);
        let mut last = None;
        assert!(copy(&lines, &mut last, false, false));
        assert_eq!(last.as_deref(), Some("1.1.7"));
    }
}
