//! What stands in `when` and `require`.

use regex_lite::RegexBuilder;
use toml::de::DeValue;

use super::{
    fields::{Fields, Node, number, string, strings, whole},
    kind,
    template::{Names, placeholder, template},
};
use crate::{
    condition::{Condition, GrantTest, Scalar, Test, TextPattern},
    problem::{Source, did_you_mean},
    value::Type,
};

/// Most conditions in one place.
const MAX_CONDITIONS: usize = 16;
/// Longest pattern in bytes.
const MAX_PATTERN: usize = 256;
/// Largest compiled pattern in bytes.
const MAX_COMPILED_PATTERN: usize = 64 * 1024;

const TESTS: [&str; 11] =
    ["type", "min", "max", "bytes", "is", "one-of", "not", "present", "plain", "pattern", "size"];

/// A table of conditions.
pub(super) fn conditions(
    source: &Source<'_>,
    node: &Node<'_>,
    names: &Names,
    what: &'static str,
) -> Option<Vec<Condition>> {
    let mut fields = Fields::of(source, node, what)?;
    let entries = fields.take_all();
    if entries.is_empty() || entries.len() > MAX_CONDITIONS {
        let remedy = "as in { text = { type = \"string\" } }";
        return source.problem(node.span().start, format!("{what} has 1 to 16 conditions"), remedy);
    }
    let conditions: Vec<_> =
        entries.into_iter().map(|(name, at, node)| condition(source, name, at, node, names)).collect();
    conditions.into_iter().collect()
}

fn condition(
    source: &Source<'_>,
    name: &str,
    at: usize,
    node: &Node<'_>,
    names: &Names,
) -> Option<Condition> {
    match name {
        "member" => Some(Condition::Member(template(source, node, names)?)),
        "announced" => {
            let (_, event) = string(source, node, name)?;
            Some(Condition::Announced(event.into()))
        }
        "ack" => match node.get_ref() {
            DeValue::Boolean(wanted) => Some(Condition::Ack(*wanted)),
            other => {
                let problem = format!("ack is true or false, not {}", kind(other));
                source.problem(node.span().start, problem, "write ack = true")
            }
        },
        "grant" => grant(source, node, names).map(Condition::Grant),
        path => {
            let placeholder = placeholder(source, at, path, names)?;
            Some(Condition::Value(placeholder, tests(source, node)?))
        }
    }
}

fn grant(source: &Source<'_>, node: &Node<'_>, names: &Names) -> Option<GrantTest> {
    let at = node.span().start;
    let remedy = "\"signal\", \"users\", { join = \"{room}\" } or { send = \"{room}\" }";
    match node.get_ref() {
        DeValue::String(text) if text == "signal" => Some(GrantTest::Signal),
        DeValue::String(text) if text == "users" => Some(GrantTest::Users),
        DeValue::Table(_) => {
            let mut fields = Fields::of(source, node, "a grant")?;
            if let Some(room) = fields.take("join") {
                fields.finish(&["join"]);
                return Some(GrantTest::Join(template(source, room, names)?));
            }
            let Some(room) = fields.take("send") else {
                return source.problem(at, "this is no grant", remedy);
            };
            fields.finish(&["send"]);
            Some(GrantTest::Send(template(source, room, names)?))
        }
        _ => source.problem(at, "this is no grant", remedy),
    }
}

/// The tests of one value: a constant that it is, or a table.
fn tests(source: &Source<'_>, node: &Node<'_>) -> Option<Vec<Test>> {
    if !matches!(node.get_ref(), DeValue::Table(_)) {
        return Some(vec![Test::OneOf(vec![scalar(source, node)?])]);
    }
    let mut fields = Fields::of(source, node, "a test")?;
    let mut tests = Vec::new();
    for (name, at, node) in fields.take_all() {
        tests.push(test(source, name, at, node)?);
    }
    if tests.is_empty() {
        let remedy = format!("one of: {}", TESTS.join(", "));
        return source.problem(node.span().start, "nothing is tested here", remedy);
    }
    Some(tests.concat())
}

fn test(source: &Source<'_>, name: &str, at: usize, node: &Node<'_>) -> Option<Vec<Test>> {
    let value = node.span().start;
    Some(match name {
        "type" => vec![Test::Type(types(source, node)?)],
        "min" => vec![Test::Min(number(source, node, name)?)],
        "max" => vec![Test::Max(number(source, node, name)?)],
        "size" => {
            let size = number(source, node, name)?;
            vec![Test::Min(size), Test::Max(size)]
        }
        "bytes" => vec![Test::Bytes(whole(source, node, name, 0..=u32::MAX)? as usize)],
        "is" => vec![Test::OneOf(vec![scalar(source, node)?])],
        "one-of" => vec![Test::OneOf(scalars(source, node)?)],
        "not" => vec![Test::Not(scalars(source, node)?)],
        "present" | "plain" => match (name, node.get_ref()) {
            ("present", DeValue::Boolean(present)) => vec![Test::Present(*present)],
            ("plain", DeValue::Boolean(true)) => vec![Test::Plain],
            ("plain", _) => {
                return source.problem(value, "plain is true: without binary", "write plain = true");
            }
            _ => return source.problem(value, "present is true or false", "write present = true"),
        },
        "pattern" => vec![Test::Pattern(TextPattern(pattern(source, node)?))],
        _ => {
            let remedy = if matches!(node.get_ref(), DeValue::Table(_)) {
                "put the whole path in quotes, as in \"user.name\" = { type = \"string\" }".to_owned()
            } else {
                did_you_mean(name, &TESTS)
            };
            return source.problem(at, format!("there is no test {name:?}"), remedy);
        }
    })
}

fn types(source: &Source<'_>, node: &Node<'_>) -> Option<Vec<Type>> {
    let types = strings(source, node, "type")?.into_iter().map(|(at, name)| {
        Type::named(name)
            .or_else(|| source.problem(at, format!("{name:?} is no type"), did_you_mean(name, &Type::NAMES)))
    });
    types.collect()
}

fn pattern(source: &Source<'_>, node: &Node<'_>) -> Option<regex_lite::Regex> {
    let (at, text) = string(source, node, "pattern")?;
    if text.len() > MAX_PATTERN {
        return source.problem(at, "the pattern is longer than 256 bytes", "use a shorter one");
    }
    // The whole text has to match.
    let compiled =
        RegexBuilder::new(&format!("^(?:{text})$")).size_limit(MAX_COMPILED_PATTERN).nest_limit(32).build();
    match compiled {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let problem = format!("{text:?} is no regular expression: {error}");
            source.problem(at, problem, "as in \"[a-z]+\"; the whole text has to match")
        }
    }
}

fn scalars(source: &Source<'_>, node: &Node<'_>) -> Option<Vec<Scalar>> {
    match node.get_ref() {
        DeValue::Array(array) if array.len() <= 100 => {
            array.iter().map(|node| scalar(source, node)).collect()
        }
        DeValue::Array(_) => {
            source.problem(node.span().start, "the list has more than 100 values", "use a pattern")
        }
        _ => scalar(source, node).map(|one| vec![one]),
    }
}

fn scalar(source: &Source<'_>, node: &Node<'_>) -> Option<Scalar> {
    match node.get_ref() {
        DeValue::String(text) if text.contains(['{', '}']) => {
            let problem = "values are compared with constants, not with placeholders";
            source.problem(node.span().start, problem, "write a constant")
        }
        DeValue::String(text) => Some(Scalar::Text(text.clone().into_owned())),
        DeValue::Boolean(value) => Some(Scalar::Boolean(*value)),
        DeValue::Integer(_) | DeValue::Float(_) => number(source, node, "it").map(Scalar::Number),
        other => {
            let problem = format!("{} cannot be compared", kind(other));
            source.problem(node.span().start, problem, "use a string, a number, true or false")
        }
    }
}
