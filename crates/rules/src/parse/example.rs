//! One `[[example]]`.

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{
    fields::{Fields, Node, entries, string},
    kind,
    template::constant,
};
use crate::{
    example::{Example, ExampleStep, Played},
    problem::Source,
};

/// Most steps of an example.
const MAX_STEPS: usize = 1000;
/// Deepest nesting of a value in one.
const MAX_DEPTH: usize = 16;

const KINDS: &str =
    "{ from, emit, ack }, { to, emit }, { from, connect }, { from, disconnect }, { claim } or { release }";

pub(super) fn example(source: &Source<'_>, at: usize, table: &DeTable<'_>) -> Option<Example> {
    let mut fields = Fields::new(source, at, table, "an example");
    let name = fields.string("name");
    let steps = fields.take("steps");
    fields.finish(&["name", "steps"]);
    let Some((_, name)) = name else {
        return source.problem(at, "the example has no name", "add name = \"...\"");
    };
    let Some(node) = steps else {
        return source.problem(at, "the example has no steps", "add steps = [...]");
    };
    let DeValue::Array(array) = node.get_ref() else {
        let problem = format!("steps are an array, not {}", kind(node.get_ref()));
        return source.problem(node.span().start, problem, format!("each is {KINDS}"));
    };
    if array.len() > MAX_STEPS {
        return source.problem(node.span().start, "the example has more than 1000 steps", "use several");
    }
    let steps: Vec<_> = array.iter().map(|node| step(source, node)).collect();
    let steps = steps.into_iter().collect::<Option<_>>()?;
    Some(Example { name: name.to_owned(), line: source.place(at).0, steps })
}

fn step(source: &Source<'_>, node: &Node<'_>) -> Option<ExampleStep> {
    let at = node.span().start;
    let mut fields = Fields::of(source, node, "a step")?;
    let line = source.place(at).0;
    let from = fields.string("from").map(|(_, name)| name.to_owned());
    let to = fields.string("to").map(|(_, name)| name.to_owned());
    let namespace = fields.string("namespace").map_or("/", |(_, name)| name).to_owned();
    let answers = match fields.take("answers") {
        Some(node) => match json(source, node, 0)? {
            Value::Object(answers) => answers,
            _ => {
                let remedy = "write answers = { orders = { ack = true } }";
                return source.problem(node.span().start, "answers are a table, by the hooks' names", remedy);
            }
        },
        None => Map::new(),
    };
    let value = |node: Option<&Node<'_>>| match node {
        Some(node) => json(source, node, 0).map(Some),
        None => Some(None),
    };
    let event = match fields.take("emit") {
        Some(node) => match json(source, node, 0)? {
            Value::Array(parts) if parts.first().is_some_and(Value::is_string) => Some(parts),
            _ => {
                let problem = "emit is an array, the event's name first";
                return source.problem(node.span().start, problem, "write emit = [\"name\", ...]");
            }
        },
        None => None,
    };
    let played = match (from, to, event) {
        (Some(from), None, Some(event)) => {
            let ack = value(fields.take("ack"))?;
            Played::Emit { from, namespace, event, ack }
        }
        (None, Some(to), Some(event)) => Played::Expect { to, event },
        (Some(from), None, None) => {
            if let Some(node) = fields.take("disconnect") {
                truth(source, node, "disconnect")?;
                Played::Disconnect { from }
            } else if let Some(node) = fields.take("connect") {
                let auth = match node.get_ref() {
                    DeValue::Boolean(true) => None,
                    _ => Some(json(source, node, 0)?),
                };
                let subject = match fields.take("subject") {
                    Some(node) => Some(string(source, node, "subject")?.1.to_owned()),
                    None => None,
                };
                Played::Connect { from, namespace, auth, subject }
            } else {
                return source.problem(at, "nothing happens in this step", format!("write {KINDS}"));
            }
        }
        (None, None, None) => {
            let claim = fields.string("claim").map(|(_, id)| id.to_owned());
            let release = fields.string("release").map(|(_, id)| id.to_owned());
            match (claim, release) {
                (Some(id), None) => Played::Peer { id, is_claim: true },
                (None, Some(id)) => Played::Peer { id, is_claim: false },
                _ => return source.problem(at, "nothing happens in this step", format!("write {KINDS}")),
            }
        }
        _ => return source.problem(at, "this step is no step", format!("write {KINDS}")),
    };
    fields.finish(&[
        "from",
        "to",
        "emit",
        "ack",
        "answers",
        "connect",
        "subject",
        "namespace",
        "disconnect",
        "claim",
        "release",
    ]);
    Some(ExampleStep { line, answers, played })
}

fn truth(source: &Source<'_>, node: &Node<'_>, name: &str) -> Option<()> {
    match node.get_ref() {
        DeValue::Boolean(true) => Some(()),
        _ => source.problem(node.span().start, format!("{name} is true"), format!("write {name} = true")),
    }
}

/// A value of the file as JSON; there are no placeholders in examples.
fn json(source: &Source<'_>, node: &Node<'_>, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return source.problem(node.span().start, "the value is nested too deep", "nest it 16 deep at most");
    }
    Some(match node.get_ref() {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Array(array) => {
            let elements: Vec<_> = array.iter().map(|node| json(source, node, depth + 1)).collect();
            Value::Array(elements.into_iter().collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let mut object = Map::new();
            for (key, _, node) in entries(table) {
                object.insert(key.to_owned(), json(source, node, depth + 1)?);
            }
            Value::Object(object)
        }
        _ => serde_json::from_str(&constant(source, node)?).ok()?,
    })
}
