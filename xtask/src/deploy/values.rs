//! Reads the chart's `values.yaml` with its comments. It is written in a small part of YAML, which is read here line by line: nested keys
//! with two spaces for each level, and defaults on one line, as JSON or as a bare word.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value as Json};

/// Words that some readers of YAML take for a boolean.
const AMBIGUOUS: [&str; 8] = ["yes", "no", "on", "off", "Yes", "No", "On", "Off"];

/// One key of the values.
#[derive(Debug, PartialEq)]
pub(super) struct Value {
    pub(super) key: String,
    /// The comment above it, on one line.
    pub(super) description: String,
    /// The JSON Schema of `@schema`.
    pub(super) hints: Map<String, Json>,
    /// The section of the README that it belongs to.
    pub(super) section: String,
    pub(super) content: Content,
}

/// What stands behind a key.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// A default.
    Default(Json),
    /// Further keys.
    Keys(Vec<Value>),
}

/// All keys of the file.
pub(super) fn parse(text: &str) -> Result<Vec<Value>> {
    let mut reader = Reader { lines: text.lines().enumerate().peekable(), section: String::new() };
    reader.keys(0)
}

struct Reader<'a> {
    lines: std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'a>>>,
    section: String,
}

impl Reader<'_> {
    /// The keys that stand at this indentation, until one stands further left.
    fn keys(&mut self, indentation: usize) -> Result<Vec<Value>> {
        let mut keys = Vec::new();
        let mut description: Vec<&str> = Vec::new();
        let mut hints = Map::new();
        while let Some(&(number, line)) = self.lines.peek() {
            let at = || format!("line {}: {line}", number + 1);
            let content = line.trim_start();
            if content.is_empty() {
                description.clear();
            } else if line.len() - content.len() < indentation {
                // A comment belongs to the key below it, and stands where that stands.
                break;
            } else if let Some(comment) = content.strip_prefix('#') {
                let comment = comment.trim();
                if let Some(title) = comment.strip_prefix("@section ") {
                    self.section = title.to_owned();
                } else if let Some(schema) = comment.strip_prefix("@schema ") {
                    let schema: Map<String, Json> = serde_json::from_str(schema).with_context(at)?;
                    hints.extend(schema);
                } else {
                    description.push(comment);
                }
            } else {
                if line.len() - content.len() > indentation {
                    bail!("{}: too far to the right", at());
                }
                let (key, default) = content.split_once(':').with_context(at)?;
                let (key, default) = (key.to_owned(), default.trim());
                let (section, description) =
                    (self.section.clone(), std::mem::take(&mut description).join(" "));
                let hints = std::mem::take(&mut hints);
                let content = if default.is_empty() { None } else { Some(scalar(default).with_context(at)?) };
                self.lines.next();
                let content = match content {
                    Some(default) => Content::Default(default),
                    None => Content::Keys(self.keys(indentation + 2)?),
                };
                keys.push(Value { key, description, hints, section, content });
                continue;
            }
            self.lines.next();
        }
        Ok(keys)
    }
}

fn scalar(text: &str) -> Result<Json> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    if AMBIGUOUS.contains(&text)
        || text.starts_with(['[', '{', '"', '\'', '&', '*', '|', '>'])
        || text.contains(" #")
    {
        bail!("a default is JSON on one line, or a bare word");
    }
    Ok(Json::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_with_their_comments_their_schema_and_their_section() {
        let text = "# About the file.\n\n# @section One\n\n# Two\n# lines.\n# @schema {\"minimum\": 1}\na: 5\nb:\n  c: x-1\n  # @section Two\n  d: []\n# @schema {\"type\": \"null\"}\ne: null\n";
        let values = parse(text).unwrap();
        let [a, b, e] = &values[..] else { panic!("{values:?}") };
        assert_eq!(
            (a.description.as_str(), a.section.as_str(), &a.hints["minimum"]),
            ("Two lines.", "One", &Json::from(1))
        );
        let Content::Keys(inner) = &b.content else { panic!("{b:?}") };
        assert_eq!(inner[0].content, Content::Default(Json::from("x-1")));
        assert_eq!((inner[1].section.as_str(), e.section.as_str()), ("Two", "Two"));
        assert!(inner[1].hints.is_empty() && !e.hints.is_empty());
    }

    #[test]
    fn what_other_readers_would_take_otherwise_is_refused() {
        for line in
            ["a: yes", "a: 'x'", "a: x # y", "a: [1", "a:\n      b: 1", "# @schema {\na: 1", "nothing"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
