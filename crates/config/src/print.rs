//! `--print-config`: the effective configuration as a TOML file that would give the same again.

use std::fmt::Write as _;

use clap::Command;
use serde::Serialize;
use toml::{Table, Value};

use crate::arguments::{is_secret, long_name, settings};
use crate::error::SettingSource;
use crate::sources::SettingSources;

/// Shown instead of a secret.
const HIDDEN: &str = "***";

/// The settings in groups, each with where its value came from.
pub(crate) fn effective(values: &impl Serialize, sources: &SettingSources, command: &Command) -> String {
    // Serialising numbers, strings, booleans and lists of them into a table cannot fail.
    let table = Table::try_from(values).unwrap_or_default();
    render(&table, sources, command)
}

fn render(table: &Table, sources: &SettingSources, command: &Command) -> String {
    let mut page = format!("# The effective configuration of {}.\n", command.get_name());
    let mut group = None;
    for arg in settings(command) {
        if arg.get_help_heading() != group {
            group = arg.get_help_heading();
            // Writing to a string cannot fail.
            let _ = write!(page, "\n# {}\n", group.unwrap_or_default());
        }
        let name = long_name(arg);
        let source = match sources.of(name) {
            SettingSource::Default => "default".to_owned(),
            SettingSource::Flag => format!("--{name}"),
            SettingSource::Env(variable) => variable.clone(),
            SettingSource::File(file) => file.display().to_string().escape_debug().to_string(),
        };
        let _ = match table.get(arg.get_id().as_str()) {
            Some(_) if is_secret(arg) => writeln!(page, "# {name} = \"{HIDDEN}\"  # {source}"),
            Some(value) => writeln!(page, "{name} = {}  # {source}", inline(value)),
            None => writeln!(page, "# {name} is not set"),
        };
    }
    page
}

fn inline(value: &Value) -> String {
    value.to_string().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Arg::new("token").long("token").value_name("TOKEN").hide_env_values(true);
        let command = Command::new("test").arg(secret).arg(Arg::new("port").long("port"));
        let mut table = Table::new();
        table.insert("token".to_owned(), Value::String("swordfish".to_owned()));
        table.insert("port".to_owned(), Value::Integer(9000));
        let page = render(&table, &SettingSources::default(), &command);
        assert!(!page.contains("swordfish"), "{page}");
        assert!(page.contains("token = \"***\""), "{page}");
        assert!(page.contains("port = 9000"), "{page}");
    }
}
