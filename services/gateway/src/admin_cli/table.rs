//! Answers for people: tables, and the nodes that are missing in them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use signalbox_admin::explain::AskedAction;

/// How a value is shown.
#[derive(Debug, Clone, Copy)]
pub(super) enum Show {
    /// As it is.
    Plain,
    /// Bytes, in a unit that fits.
    Bytes,
    /// How long ago a time was.
    Age,
}

/// A column: its head, the value's name, how it is shown.
pub(super) type Column = (&'static str, &'static str, Show);

pub(super) const NODES: &[Column] = &[
    ("NAME", "name", Show::Plain),
    ("ID", "id", Show::Plain),
    ("STATUS", "status", Show::Plain),
    ("WEBSOCKETS", "websocketClients", Show::Plain),
    ("POLLING", "pollingClients", Show::Plain),
    ("PEERS", "peers", Show::Plain),
    ("HELD", "heldBytes", Show::Bytes),
    ("UP", "startedAt", Show::Age),
    ("VERSION", "version", Show::Plain),
];
pub(super) const ROOMS: &[Column] = &[
    ("NAMESPACE", "namespace", Show::Plain),
    ("ROOM", "name", Show::Plain),
    ("MEMBERS", "members", Show::Plain),
];
pub(super) const MEMBERS: &[Column] = &[
    ("SOCKET", "id", Show::Plain),
    ("NODE", "node", Show::Plain),
    ("SUBJECT", "subject", Show::Plain),
    ("PROFILE", "profile", Show::Plain),
];
pub(super) const SOCKETS: &[Column] = &[
    ("SOCKET", "id", Show::Plain),
    ("NAMESPACE", "namespace", Show::Plain),
    ("NODE", "node", Show::Plain),
    ("TRANSPORT", "transport", Show::Plain),
    ("ADDRESS", "address", Show::Plain),
    ("SUBJECT", "subject", Show::Plain),
    ("ROOMS", "rooms", Show::Plain),
    ("WAITING", "waitingBytes", Show::Bytes),
    ("SINCE", "connectedAt", Show::Age),
];
pub(super) const PEERS: &[Column] = &[
    ("KEY", "key", Show::Plain),
    ("PEER", "id", Show::Plain),
    ("NODE", "node", Show::Plain),
    ("ADDRESS", "address", Show::Plain),
    ("SUBJECT", "subject", Show::Plain),
    ("WAITING", "waitingBytes", Show::Bytes),
    ("SINCE", "connectedAt", Show::Age),
];
pub(super) const OPERATIONS: &[Column] = &[
    ("OPERATION", "id", Show::Plain),
    ("KIND", "kind", Show::Plain),
    ("STATUS", "status", Show::Plain),
    ("RUN BY", "runnerName", Show::Plain),
    ("DONE", "done", Show::Plain),
    ("OF", "total", Show::Plain),
    ("SINCE", "startedAt", Show::Age),
    ("DETAIL", "detail", Show::Plain),
];
const OUTCOME: &[Column] =
    &[("NODE", "node", Show::Plain), ("MEANT", "matched", Show::Plain), ("DONE", "done", Show::Plain)];
const ACKS: &[Column] = &[("SOCKET", "socket", Show::Plain), ("ACKNOWLEDGES", "args", Show::Plain)];

/// A list.
pub(super) fn list(items: &[Value], partial: &[Value], columns: &[Column], has_colour: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|(_, name, show)| shown(&item[*name], *show, now)).collect())
        .collect();
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([columns[at].0.len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(widths.iter().copied()).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let (bold, yellow, end) = if has_colour { ("\x1b[1m", "\x1b[33m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{bold}{}{end}\n", line(columns.iter().map(|(head, ..)| *head).collect()));
    for row in &rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
        text.push('\n');
    }
    for missing in partial {
        let (name, reason) = (clean(&missing["name"]), clean(&missing["reason"]));
        text.push_str(&format!("{yellow}{name} does not answer: {reason}{end}\n"));
    }
    text
}

/// What became of a change.
pub(super) fn outcome(answer: &Value, has_colour: bool) -> String {
    let of = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let (nodes, partial, acks) = (of("nodes"), of("partial"), of("acks"));
    if nodes.is_empty() && partial.is_empty() {
        return "sent\n".to_owned();
    }
    let mut text = list(&nodes, &partial, OUTCOME, has_colour);
    if !acks.is_empty() {
        text.push_str(&list(&acks, &[], ACKS, has_colour));
    }
    text
}

/// What a node says of a token: a line for it, and one for each action.
pub(super) fn explained(answer: &Value) -> String {
    let verdict = |is_allowed: bool| if is_allowed { "allowed" } else { "refused" };
    let because = |of: &Value| match &of["code"] {
        Value::Null => clean(&of["reason"]),
        code => format!("{} ({})", clean(&of["reason"]), clean(code)),
    };
    let is_good = answer["accepted"] == true;
    let mut text = match &answer["principal"] {
        Value::Null => format!("{}: {}\n", if is_good { "good" } else { "refused" }, because(answer)),
        principal => format!(
            "good: subject {}\ngrants: {}\n",
            clean(&principal["subject"]),
            clean(&principal["grants"])
        ),
    };
    for decision in answer["decisions"].as_array().into_iter().flatten() {
        let action: Option<AskedAction> = serde_json::from_value(decision["action"].clone()).ok();
        let name = action.map_or_else(|| decision["action"].to_string(), |action| action.to_string());
        let verdict = verdict(decision["allowed"] == true);
        text.push_str(&format!("{}: {verdict}: {}\n", clean(&Value::from(name)), because(decision)));
    }
    text
}

fn shown(value: &Value, show: Show, now: u64) -> String {
    match (show, value.as_u64()) {
        (Show::Bytes, Some(bytes)) => size(bytes),
        (Show::Age, Some(at)) => age(now.saturating_sub(at) / 1000),
        _ => clean(value),
    }
}

/// A value without what a terminal would take for an order: clients choose names.
pub(super) fn clean(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(shift, name)| format!("{:.1} {name}", bytes as f64 / f64::from(1u32 << shift)),
    )
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_value_and_a_line_for_each_missing_node() {
        let items = [
            json!({"namespace": "/", "name": "a room", "members": 12}),
            json!({"namespace": "/chat", "name": "\u{1b}[2J", "members": 1}),
        ];
        let partial = [json!({"node": "1", "name": "b", "reason": "timeout"})];
        let text = list(&items, &partial, ROOMS, false);
        assert_eq!(
            text,
            "NAMESPACE  ROOM    MEMBERS\n/          a room  12\n/chat      \u{fffd}[2J    1\nb does not answer: timeout\n"
        );
    }

    #[test]
    fn sizes_and_ages_are_in_units_that_fit() {
        assert_eq!(
            (size(1023), size(1536), size(5 << 30)),
            ("1023 B".to_owned(), "1.5 KiB".to_owned(), "5.0 GiB".to_owned())
        );
        assert_eq!(
            (age(119), age(120), age(7200), age(200_000)),
            ("119 s".to_owned(), "2 min".to_owned(), "2 h".to_owned(), "2 d".to_owned())
        );
    }
}
