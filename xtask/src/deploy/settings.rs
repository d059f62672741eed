//! Every setting of the gateway can be reached through the chart: under its own name in `gateway.config`, or at another place that is named here.

use std::collections::BTreeSet;

use super::values::{Content, Value};

/// The page of all settings, which follows from the gateway's code.
pub(super) const REFERENCE: &str = "docs/configuration.md";

/// Settings that the chart takes from elsewhere: a Secret, or the pod itself.
const ELSEWHERE: [&str; 9] = [
    "turn-key",
    "redis-url",
    "redis-url-file",
    "cluster-secret",
    "cluster-secret-file",
    "jwt-secret",
    "sslkey",
    "sslcert",
    "node-id",
];

/// One sentence for each setting that is missing in the values, and for each value that is no setting.
pub(super) fn problems(values: &[Value], reference: &str) -> Vec<String> {
    let settings: BTreeSet<&str> =
        reference.lines().filter_map(setting).filter(|name| !ELSEWHERE.contains(name)).collect();
    let Some(config) = keys(values, "gateway").and_then(|gateway| keys(gateway, "config")) else {
        return vec!["the values have no gateway.config".to_owned()];
    };
    let configured: BTreeSet<&str> = config.iter().map(|value| value.key.as_str()).collect();
    let missing =
        settings.difference(&configured).map(|name| format!("gateway.config lacks the setting {name}"));
    let unknown = configured.difference(&settings).map(|name| format!("gateway.config.{name} is no setting"));
    missing.chain(unknown).collect()
}

/// The setting of a row of the reference.
fn setting(line: &str) -> Option<&str> {
    line.strip_prefix("| `--")?.split([' ', '`']).next()
}

fn keys<'a>(values: &'a [Value], key: &str) -> Option<&'a [Value]> {
    values.iter().find(|value| value.key == key).and_then(|value| match &value.content {
        Content::Keys(inner) => Some(inner.as_slice()),
        Content::Default(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::values::parse;
    use super::*;

    #[test]
    fn a_setting_without_a_value_is_found_and_a_value_without_a_setting_too() {
        let values = parse("gateway:\n  config:\n    port: 1\n    prot: 2\n").unwrap();
        let reference = "| `--port PORT`, `-p` | x |\n| `--host HOST` | x |\n| `--redis-url URL` | x |\n";
        let problems = problems(&values, reference);
        assert_eq!(problems, ["gateway.config lacks the setting host", "gateway.config.prot is no setting"]);
    }
}
