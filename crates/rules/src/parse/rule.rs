//! One `[[on]]`.

use signalbox_socketio::args::is_reserved;
use toml::de::{DeTable, DeValue};

use super::{
    Found,
    action::{actions, note_members},
    condition::conditions,
    fields::{Fields, Node, string, strings},
    kind,
    template::{Names, RESERVED},
};
use crate::{
    action::{On, Pattern},
    cost::{Cost, MAX_ACTIONS, MAX_CALLS, MAX_QUESTIONS, MAX_VALUES},
    problem::{Source, did_you_mean},
    rule::Rule,
    template::Needs,
};

/// Most arguments with names.
const MAX_ARGS: usize = 32;

const FIELDS: [&str; 6] = ["event", "trigger", "namespace", "args", "when", "do"];

pub(super) fn rule(source: &Source<'_>, at: usize, table: &DeTable<'_>, found: &mut Found) -> Option<Rule> {
    let mut fields = Fields::new(source, at, table, "a rule");
    let (event, trigger) = (fields.take("event"), fields.take("trigger"));
    let namespace = fields.take("namespace");
    let args = fields.take("args");
    let when = fields.take("when");
    let to_do = fields.take("do");
    fields.finish(&FIELDS);
    let on = on(source, at, event, trigger)?;
    let namespaces = namespaces(source, namespace, &on)?;
    let (args, rest) = match args {
        Some(node) if !matches!(on, On::Event(_)) => {
            return source.problem(node.span().start, "only events have arguments", "leave args out");
        }
        Some(node) => args_of(source, node)?,
        None => (Vec::new(), None),
    };
    let mut names =
        Names { on, args, rest, has_room: false, has_called: false, in_join: false, in_rooms: false };
    let when = match when {
        Some(node) => {
            let conditions = conditions(source, node, &names, "when");
            // `count` and `members` are refused there: no room is named before.
            conditions?
        }
        None => Vec::new(),
    };
    debug_assert!(when.iter().all(|condition| condition.needs() == Needs::default()));
    let Some(to_do) = to_do else {
        return source.problem(at, "the rule does nothing", "add do = [...]");
    };
    let mut actions = actions(source, to_do, &mut names, found, true)?;
    note_members(&mut actions);
    let cost = Cost::of(&actions);
    let too_much = [
        (cost.calls, MAX_CALLS, "calls"),
        (cost.actions, MAX_ACTIONS, "actions"),
        (cost.questions, MAX_QUESTIONS, "questions to the cluster (joins, lists, single sockets)"),
        (cost.values, MAX_VALUES, "values"),
    ];
    for (is, most, what) in too_much {
        if is > most {
            let problem = format!("the rule has {is} {what}, and may have {most}");
            return source.problem(at, problem, "do less in one rule");
        }
    }
    let (line, _) = source.place(at);
    Some(Rule { namespaces, on: names.on, when, actions, cost, line })
}

fn on(source: &Source<'_>, at: usize, event: Option<&Node<'_>>, trigger: Option<&Node<'_>>) -> Option<On> {
    match (event, trigger) {
        (Some(node), None) => {
            let (at, name) = string(source, node, "event")?;
            if is_reserved(name) {
                let problem = format!("no client can send the event {name:?}: its name is reserved");
                let remedy = if name == "disconnecting" || name == "disconnect" {
                    "write trigger = \"disconnecting\""
                } else if name.starts_with("connect") {
                    "write trigger = \"connection\""
                } else {
                    "choose another name"
                };
                return source.problem(at, problem, remedy);
            }
            Some(On::Event(name.to_owned()))
        }
        (None, Some(node)) => {
            let (at, name) = string(source, node, "trigger")?;
            match name {
                "connection" => Some(On::Connection),
                "disconnecting" => Some(On::Disconnecting),
                "claim" => Some(On::Claim),
                "release" => Some(On::Release),
                _ => {
                    let known = ["connection", "disconnecting", "claim", "release"];
                    source.problem(at, format!("there is no trigger {name:?}"), did_you_mean(name, &known))
                }
            }
        }
        (Some(_), Some(node)) => {
            source.problem(node.span().start, "the rule has an event and a trigger", "leave one of them out")
        }
        (None, None) => {
            source.problem(at, "the rule waits for nothing", "add event = \"...\" or trigger = \"...\"")
        }
    }
}

fn namespaces(source: &Source<'_>, node: Option<&Node<'_>>, on: &On) -> Option<Vec<Pattern>> {
    let Some(node) = node else { return Some(vec![Pattern("/".to_owned())]) };
    let mut patterns = Vec::new();
    for (at, name) in strings(source, node, "namespace")? {
        if !name.starts_with('/') && name != "*" {
            let problem = format!("{name:?} is no namespace: these begin with a slash");
            return source.problem(at, problem, format!("write {:?}", format!("/{name}")));
        }
        if name.contains('*') && matches!(on, On::Claim | On::Release) {
            let problem = "peers are in no namespace, so this says where to emit";
            return source.problem(at, problem, "name a namespace without *");
        }
        patterns.push(Pattern(name.to_owned()));
    }
    if patterns.is_empty() || patterns.len() > 16 {
        return source.problem(node.span().start, "a rule has 1 to 16 namespaces", "write namespace = \"/\"");
    }
    Some(patterns)
}

fn args_of(source: &Source<'_>, node: &Node<'_>) -> Option<(Vec<String>, Option<String>)> {
    let DeValue::Array(array) = node.get_ref() else {
        let problem = format!("args is a list of names, not {}", kind(node.get_ref()));
        return source.problem(node.span().start, problem, "write args = [\"room\", \"...rest\"]");
    };
    if array.len() > MAX_ARGS {
        return source.problem(
            node.span().start,
            "more than 32 arguments have names",
            "end with \"...rest\"",
        );
    }
    let mut args: Vec<String> = Vec::new();
    let mut rest: Option<String> = None;
    for node in array.iter() {
        let (at, text) = string(source, node, "args")?;
        if let Some(rest) = &rest {
            let problem = format!("nothing comes behind ...{rest}");
            return source.problem(at, problem, "put it last");
        }
        let name = text.strip_prefix("...").unwrap_or(text);
        let is_plain = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !is_plain || name == "null" || name == "true" || name == "false" {
            let problem = format!("{text:?} is no name for an argument");
            return source.problem(at, problem, "use letters, digits, _ and -, a letter first");
        }
        if RESERVED.contains(&name) || name == "ack" {
            let problem = format!("an argument cannot be called {name:?}: that has a meaning of its own");
            return source.problem(at, problem, format!("call it e.g. {:?}", format!("the_{name}")));
        }
        if args.iter().any(|known| known == name) {
            return source.problem(
                at,
                format!("two arguments are called {name:?}"),
                "give each its own name",
            );
        }
        if text.starts_with("...") {
            rest = Some(name.to_owned());
        } else {
            args.push(name.to_owned());
        }
    }
    Some((args, rest))
}
