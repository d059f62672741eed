//! The environment variables that concern us.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{Arg, Command};

use crate::arguments::{CONFIG_VARIABLE, is_list, is_secret, own_variable, settings, variables};
use crate::error::{ConfigError, SettingSource};
use crate::suggest::suggest;

const PREFIX: &str = "SIGNALBOX_";

/// A snapshot of the environment. An empty variable counts as absent, as compose files and charts write an unset one.
pub(crate) struct EnvironmentLayer {
    variables: BTreeMap<String, OsString>,
    /// [`Program::unprefixed_variables`](crate::Program::unprefixed_variables)
    unprefixed: &'static [(&'static str, &'static str)],
}

impl EnvironmentLayer {
    /// Ignores variables that are empty, made by Kubernetes, or whose *name* is not UTF-8, so that it cannot be ours.
    pub(crate) fn new(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        unprefixed: &'static [(&'static str, &'static str)],
    ) -> Self {
        let variables = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| !value.is_empty() && !is_service_link(name, value))
            .collect();
        Self { variables, unprefixed }
    }

    /// The values of the setting, and the variable that gives them. Lists are separated by commas, but for secrets, which may contain
    /// some.
    pub(crate) fn get(&self, arg: &Arg) -> Result<Option<(Vec<String>, SettingSource)>, ConfigError> {
        for name in variables(arg, self.unprefixed) {
            let Some(value) = self.variables.get(&name) else { continue };
            let source = SettingSource::Env(name);
            let Some(text) = value.to_str() else {
                return Err(source.error(arg, "the value is not UTF-8 text"));
            };
            let values = if is_list(arg) && !is_secret(arg) {
                text.split(',').map(|item| item.trim().to_owned()).collect()
            } else {
                vec![text.to_owned()]
            };
            return Ok(Some((values, source)));
        }
        Ok(None)
    }

    /// The file that the environment names.
    pub(crate) fn config_file(&self) -> Option<&OsString> {
        self.variables.get(CONFIG_VARIABLE)
    }

    /// One sentence for each variable with our prefix that means nothing. They are no errors: an environment may be
    /// shared with other programs, and Kubernetes adds variables of its own.
    pub(crate) fn warnings(&self, command: &Command) -> Vec<String> {
        let known: Vec<String> = settings(command).map(own_variable).collect();
        let is_unknown = |name: &&String| {
            name.starts_with(PREFIX)
                && name.as_str() != CONFIG_VARIABLE
                && !known.contains(name)
                && !is_service_variable(name)
        };
        let warning = |name: &String| match suggest(name, known.iter().map(String::as_str)) {
            Some(nearest) => format!("unknown environment variable {name} (did you mean {nearest}?)"),
            None => format!("unknown environment variable {name} (see --help)"),
        };
        self.variables.keys().filter(is_unknown).map(warning).collect()
    }
}

/// Kubernetes gives every container `NAME_PORT=tcp://address:port` for each Service; for one that is called `signalbox`
/// or `signalbox-admin` that is the name of one of our settings.
fn is_service_link(name: &str, value: &OsString) -> bool {
    let is_link = |text: &str| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    name.ends_with("_PORT") && value.to_str().is_some_and(is_link)
}

/// The other variables that Kubernetes adds for a Service.
fn is_service_variable(name: &str) -> bool {
    let is_port_detail = |protocol: &str| name.contains("_PORT_") && name.contains(protocol);
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || ["_TCP", "_UDP", "_SCTP"].into_iter().any(is_port_detail)
}
