//! A rules file is read: TOML in, compiled rules out, or everything that is wrong with it.
//!
//! - `fields`: a table's fields, each taken once; what is left is a mistake.
//! - `rule`: one `[[on]]`.
//! - `action`: what stands in `do`.
//! - `condition`: what stands in `when` and `require`.
//! - `template`: strings with placeholders.
//! - `example`: one `[[example]]`.

mod action;
mod condition;
mod example;
mod fields;
mod rule;
mod template;

use toml::de::{DeTable, DeValue};

use self::fields::Fields;
use crate::{
    example::Example,
    hook::HookName,
    problem::{Problem, Source},
    rule::Rule,
};

/// Largest file in bytes.
const MAX_FILE: usize = 1024 * 1024;
/// Most rules of a file.
const MAX_RULES: usize = 1000;
/// Most examples of a file.
const MAX_EXAMPLES: usize = 1000;

/// What a file holds.
pub(crate) struct Parsed {
    pub(crate) rules: Vec<Rule>,
    pub(crate) examples: Vec<Example>,
    pub(crate) includes_builtin: bool,
    pub(crate) found: Found,
}

/// What was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) names_subjects: bool,
    /// The hooks that are called.
    pub(crate) hooks: Vec<HookName>,
}

/// Reads a file.
pub(crate) fn parse(text: &str) -> Result<Parsed, Vec<Problem>> {
    let source = Source::new(text);
    let parsed = parse_file(&source, text);
    let problems = source.into_problems();
    match parsed {
        Some(parsed) if problems.is_empty() => Ok(parsed),
        _ => Err(problems),
    }
}

fn parse_file(source: &Source<'_>, text: &str) -> Option<Parsed> {
    if text.len() > MAX_FILE {
        return source.problem(0, "the file is larger than 1 MiB", "split what it does among fewer rules");
    }
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            return source.problem(at, format!("this is not TOML: {message}"), "see https://toml.io");
        }
    };
    let mut fields = Fields::new(source, 0, table.get_ref(), "a rules file");
    let includes_builtin = fields.boolean("include-builtin").unwrap_or(false);
    let on = fields.tables("on", MAX_RULES);
    let examples = fields.tables("example", MAX_EXAMPLES);
    fields.finish(&["include-builtin", "on", "example"]);
    let mut found = Found::default();
    let has_rules = !on.is_empty() || includes_builtin;
    let rules = on.into_iter().filter_map(|(at, table)| rule::rule(source, at, table, &mut found));
    let rules: Vec<Rule> = rules.collect();
    let examples = examples.into_iter().filter_map(|(at, table)| example::example(source, at, table));
    let examples: Vec<Example> = examples.collect();
    if !has_rules {
        let remedy = "begin with [[on]], or set include-builtin = true";
        return source.problem(0, "the file has no rule", remedy);
    }
    Some(Parsed { rules, examples, includes_builtin, found })
}

/// What kind of value it is, for people.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
