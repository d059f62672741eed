//! A table's fields, each taken once.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::kind;
use crate::problem::{Source, did_you_mean};

/// A value of the file.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// The fields of a table that were not taken yet.
pub(super) struct Fields<'s, 'a> {
    pub(super) source: &'s Source<'a>,
    /// Where the table stands.
    pub(super) at: usize,
    /// What the table is, for people: "an action".
    what: &'static str,
    entries: Vec<(&'s str, usize, &'s Node<'a>)>,
}

impl<'s, 'a> Fields<'s, 'a> {
    pub(super) fn new(source: &'s Source<'a>, at: usize, table: &'s DeTable<'a>, what: &'static str) -> Self {
        let entries = entries(table);
        Self { source, at, what, entries }
    }

    /// The same of a value that should be a table.
    pub(super) fn of(source: &'s Source<'a>, node: &'s Node<'a>, what: &'static str) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(table) => Some(Self::new(source, node.span().start, table, what)),
            other => {
                let problem = format!("{what} is a table, not {}", kind(other));
                source.problem(node.span().start, problem, "write { ... }")
            }
        }
    }

    /// The names that are left, in the order of the file.
    pub(super) fn names(&self) -> impl Iterator<Item = &'s str> {
        self.entries.iter().map(|(name, ..)| *name)
    }

    /// Takes a field.
    pub(super) fn take(&mut self, name: &str) -> Option<&'s Node<'a>> {
        self.take_with_place(name).map(|(_, node)| node)
    }

    /// Takes a field; where its name stands comes along.
    pub(super) fn take_with_place(&mut self, name: &str) -> Option<(usize, &'s Node<'a>)> {
        let index = self.entries.iter().position(|(known, ..)| *known == name)?;
        let (_, at, node) = self.entries.remove(index);
        Some((at, node))
    }

    /// Takes all that are left: names, where these stand, and values.
    pub(super) fn take_all(&mut self) -> Vec<(&'s str, usize, &'s Node<'a>)> {
        std::mem::take(&mut self.entries)
    }

    pub(super) fn string(&mut self, name: &str) -> Option<(usize, &'s str)> {
        let node = self.take(name)?;
        string(self.source, node, name)
    }

    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        let node = self.take(name)?;
        match node.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            other => {
                let problem = format!("{name} is true or false, not {}", kind(other));
                self.source.problem(node.span().start, problem, format!("write {name} = true"))
            }
        }
    }

    /// Takes an array of tables.
    pub(super) fn tables(&mut self, name: &str, most: usize) -> Vec<(usize, &'s DeTable<'a>)> {
        let Some(node) = self.take(name) else { return Vec::new() };
        let remedy = format!("write [[{name}]]");
        let DeValue::Array(array) = node.get_ref() else {
            let problem = format!("{name} is a list of tables, not {}", kind(node.get_ref()));
            self.source.problem::<()>(node.span().start, problem, remedy);
            return Vec::new();
        };
        if array.len() > most {
            let problem = format!("there are more than {most} of [[{name}]]");
            self.source.problem::<()>(node.span().start, problem, "use fewer");
            return Vec::new();
        }
        let table = |node: &'s Node<'a>| match node.get_ref() {
            DeValue::Table(table) => Some((node.span().start, table)),
            other => {
                let problem = format!("{name} is a list of tables, not of {}", kind(other));
                self.source.problem(node.span().start, problem, remedy.clone())
            }
        };
        array.iter().filter_map(table).collect()
    }

    /// What was not taken has no meaning here.
    pub(super) fn finish(self, known: &[&str]) {
        for (name, at, _) in self.entries {
            let what = self.what;
            self.source.problem::<()>(at, format!("{what} has no {name:?}"), did_you_mean(name, known));
        }
    }
}

/// A table's entries in the order of the file: names, where these stand, and values.
pub(super) fn entries<'s, 'a>(table: &'s DeTable<'a>) -> Vec<(&'s str, usize, &'s Node<'a>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(name, value)| (&**name.get_ref(), name.span().start, value)).collect();
    entries.sort_by_key(|(_, at, _)| *at);
    entries
}

/// A string, and where its content is.
pub(super) fn string<'s>(source: &Source<'_>, node: &'s Node<'_>, name: &str) -> Option<(usize, &'s str)> {
    match node.get_ref() {
        DeValue::String(text) => Some((node.span().start, text)),
        other => {
            let problem = format!("{name} is a string, not {}", kind(other));
            source.problem(node.span().start, problem, format!("write {name} = \"...\""))
        }
    }
}

/// A list of strings, or a single one.
pub(super) fn strings<'s>(
    source: &Source<'_>,
    node: &'s Node<'_>,
    name: &str,
) -> Option<Vec<(usize, &'s str)>> {
    match node.get_ref() {
        DeValue::Array(array) => array.iter().map(|node| string(source, node, name)).collect(),
        _ => string(source, node, name).map(|one| vec![one]),
    }
}

/// A number.
pub(super) fn number(source: &Source<'_>, node: &Node<'_>, name: &str) -> Option<f64> {
    let value = match node.get_ref() {
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|it| it as f64)
        }
        DeValue::Float(float) => float.as_str().parse::<f64>().ok().filter(|value| value.is_finite()),
        _ => None,
    };
    let problem = || format!("{name} is a number");
    value.or_else(|| source.problem(node.span().start, problem(), format!("write {name} = 4")))
}

/// A whole number in a range.
pub(super) fn whole(
    source: &Source<'_>,
    node: &Node<'_>,
    name: &str,
    range: std::ops::RangeInclusive<u32>,
) -> Option<u32> {
    let value = match node.get_ref() {
        DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()).ok(),
        _ => None,
    };
    value.filter(|value| range.contains(value)).or_else(|| {
        let problem = format!("{name} is a whole number from {} to {}", range.start(), range.end());
        source.problem(node.span().start, problem, format!("write {name} = {}", range.start().max(&4)))
    })
}
