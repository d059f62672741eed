//! The TOML file: one flat table whose keys are the names of the settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::{Table, Value};

use crate::arguments::{is_list, is_number, is_secret, is_switch, long_name, settings, takes_boolean};
use crate::error::{ConfigError, SettingSource, quote};
use crate::suggest::suggest;

/// The settings that a file gives, as text; lists have several values.
#[derive(Debug, Default)]
pub(crate) struct FileLayer {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

impl FileLayer {
    /// Reads the file. `named_at` is the flag or the variable that named it.
    pub(crate) fn read(path: &Path, named_at: &str, command: &Command) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let problem = format!("cannot read {}: {}", quote(&path.to_string_lossy()), reason(&error));
            ConfigError::new(named_at, problem, "name a readable TOML file")
        })?;
        let table: Table = text.parse().map_err(|error| syntax_error(path, &text, &error))?;
        let source = SettingSource::File(path.to_owned());
        let mut values = BTreeMap::new();
        for (key, value) in &table {
            let Some(arg) = settings(command).find(|arg| same_name(long_name(arg), key)) else {
                return Err(unknown_key(path, key, command));
            };
            let texts = texts_of(value, arg).map_err(|problem| source.error(arg, problem))?;
            if values.insert(long_name(arg).to_owned(), texts).is_some() {
                let place = source.place(long_name(arg));
                return Err(ConfigError::new(place, "given in two spellings", "give it once"));
            }
        }
        Ok(Self { path: path.to_owned(), values })
    }

    /// The values of the setting, and where they stood.
    pub(crate) fn get(&self, arg: &Arg) -> Option<(Vec<String>, SettingSource)> {
        let values = self.values.get(long_name(arg))?;
        Some((values.clone(), SettingSource::File(self.path.clone())))
    }
}

/// What the operating system said, without the error number.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

fn same_name(one: &str, other: &str) -> bool {
    one.replace('_', "-") == other.replace('_', "-")
}

fn unknown_key(path: &Path, key: &str, command: &Command) -> ConfigError {
    let remedy = match suggest(key, settings(command).map(long_name)) {
        Some(name) => format!("did you mean {name}?"),
        None => "the keys are the names of the flags, see --help".to_owned(),
    };
    let place = format!("{}: {}", path.display(), key.escape_debug());
    ConfigError::new(place, "unknown key", remedy)
}

fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let problem = error.message().replace('\n', ", ");
    ConfigError::new(format!("{}:{line}", path.display()), problem, "the file must be valid TOML")
}

/// The value as the texts its flag would take. No kind is turned into another: a node id `0x10` must not become `16`.
fn texts_of(value: &Value, arg: &Arg) -> Result<Vec<String>, String> {
    match value {
        Value::Array(items) if is_list(arg) => {
            // Nothing is a value of its own only where nothing is the default too.
            if items.is_empty() && !arg.get_default_values().is_empty() {
                return Err("the list is empty".to_owned());
            }
            items.iter().map(|item| text_of(item, arg)).collect()
        }
        _ => text_of(value, arg).map(|text| vec![text]),
    }
}

fn text_of(value: &Value, arg: &Arg) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) if is_number(arg) => Ok(number.to_string()),
        Value::Boolean(switch) if takes_boolean(arg) => Ok(switch.to_string()),
        _ if is_secret(arg) => Err("the value is not a string".to_owned()),
        _ => {
            let expected = match arg {
                arg if is_number(arg) => "a number",
                arg if is_switch(arg) => "true or false",
                arg if is_list(arg) => "a string or a list of strings",
                _ => "a string",
            };
            Err(format!("expected {expected}, found {}", value.type_str()))
        }
    }
}
