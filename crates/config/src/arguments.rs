//! What the other sources derive from an argument of the command line: the names of the environment variables and of the
//! file's keys, and which kind of value each takes.

use clap::{Arg, ArgAction};

/// The variable that names the configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "SIGNALBOX_CONFIG";

/// Whether the argument is one of the settings, and not about the invocation.
pub fn is_setting(arg: &Arg) -> bool {
    !matches!(arg.get_id().as_str(), "config" | "print_config" | "print_reference" | "help" | "version")
}

/// The settings in the order of their declaration.
pub fn settings(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| is_setting(arg))
}

/// The name of the flag without its dashes, which is the key in the file too.
pub fn long_name(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// The argument of this name, in either spelling.
pub fn find<'a>(command: &'a clap::Command, name: &str) -> Option<&'a Arg> {
    let name = name.replace('_', "-");
    command.get_arguments().find(|arg| long_name(arg).replace('_', "-") == name)
}

/// `SIGNALBOX_` and the name in capitals.
pub fn own_variable(arg: &Arg) -> String {
    format!("SIGNALBOX_{}", long_name(arg).replace('-', "_").to_ascii_uppercase())
}

/// The variables that set the argument; the first that is set counts. `unprefixed` is [`Program::unprefixed_variables`](crate::Program::unprefixed_variables).
pub(crate) fn variables(arg: &Arg, unprefixed: &[(&str, &str)]) -> Vec<String> {
    let unprefixed = unprefixed.iter().filter(|(name, _)| *name == long_name(arg));
    std::iter::once(own_variable(arg)).chain(unprefixed.map(|(_, variable)| (*variable).to_owned())).collect()
}

/// Whether the setting may be given several times.
pub fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Whether the setting is a number.
pub fn is_number(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| matches!(name.as_str(), "PORT" | "MS" | "BYTES" | "COUNT"))
}

/// Whether the flag may stand without a value.
pub fn is_switch(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|range| range.min_values() == 0)
}

/// Whether a boolean in the file means something: the setting is a switch, or takes true and false among others (`auto|BOOL`).
pub fn takes_boolean(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    is_switch(arg) || names.iter().any(|name| name.split('|').any(|part| part == "BOOL"))
}

/// Whether the value must never be shown. A setting is made secret by `hide_env_values = true` in its `#[arg]`.
pub fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}
