//! The reference page of a program, made from its settings.

use std::fmt::Write as _;

use clap::{Arg, Args};

use crate::arguments::{long_name, settings, variables};
use crate::command::parser;
use crate::program::Program;

/// The whole page.
pub fn page<S: Args>(program: &Program<S>) -> String {
    let command = parser(program);
    let mut page = program.introduction.to_owned();
    let mut group = None;
    for arg in settings(&command) {
        if arg.get_help_heading() != group {
            group = arg.get_help_heading();
            let heading = group.unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = write!(
                page,
                "\n## {heading}\n\n| setting | variable | default | meaning |\n|---|---|---|---|\n"
            );
        }
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            flag(arg),
            variable(arg, program.unprefixed_variables),
            default(arg),
            meaning(arg)
        );
    }
    page
}

fn flag(arg: &Arg) -> String {
    let value_name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let long = format!("`--{} {value_name}`", long_name(arg));
    match arg.get_short() {
        Some(short) => format!("{long}, `-{short}`"),
        None => long,
    }
}

fn variable(arg: &Arg, unprefixed: &[(&str, &str)]) -> String {
    let names: Vec<String> = variables(arg, unprefixed).into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn default(arg: &Arg) -> String {
    match arg.get_default_values().first().and_then(|value| value.to_str()) {
        Some(value) => format!("`{value}`"),
        None => "none".to_owned(),
    }
}

/// What the setting is for, in one line.
pub fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let one_line = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let escaped = one_line.replace('|', "\\|");
    if escaped.ends_with('.') { escaped } else { format!("{escaped}.") }
}
