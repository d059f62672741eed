//! The built-in vocabulary: a rules file like any other, whose events whoever runs rules may do by code of its own.

use std::sync::LazyLock;

use crate::{action::On, parse, rule::Rule};

/// The built-in vocabulary as a rules file.
pub const BUILTIN: &str = include_str!("builtin.toml");

static RULES: LazyLock<Vec<Rule>> =
    LazyLock::new(|| parse::parse(BUILTIN).map(|parsed| parsed.rules).unwrap_or_default());

/// The name of the namespace that it is for.
pub(crate) const NAMESPACE: &str = "/";

/// Whether these rules, all that there are for an event, are those of the built-in vocabulary for it. What arguments are called and how
/// the file is laid out does not matter.
pub(crate) fn are_builtin<'a>(event: &str, rules: impl Iterator<Item = &'a Rule>) -> bool {
    let builtin = RULES.iter().filter(|rule| matches!(&rule.on, On::Event(name) if name == event));
    builtin.map(Rule::meaning).eq(rules.map(Rule::meaning))
}
