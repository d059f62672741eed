//! Every setting of the programs can be reached through the chart: under its own name in `gateway.config` or `turn.config`, or at another place that is named here.

use std::collections::BTreeSet;

use super::values::{Content, Value};

/// A program whose settings are in the values.
pub(super) struct Program {
    /// Its key in the values.
    key: &'static str,
    /// The page of all its settings, which follows from its code.
    pub(super) reference: &'static str,
    /// Settings that the chart takes from elsewhere: a Secret, or the pod itself.
    elsewhere: &'static [&'static str],
}

/// All of them.
pub(super) const PROGRAMS: [Program; 2] = [
    Program {
        key: "gateway",
        reference: "docs/configuration.md",
        elsewhere: &[
            "turn-key",
            "webhook-secret",
            "hook-secret",
            "redis-url",
            "redis-url-file",
            "redis-ca",
            "cluster-secret",
            "cluster-secret-file",
            "cluster-tls",
            "cluster-tls-ca",
            "cluster-tls-cert",
            "cluster-tls-key",
            "jwt-secret",
            "sslkey",
            "sslcert",
            "node-id",
        ],
    },
    Program {
        key: "turn",
        reference: "docs/turn-configuration.md",
        elsewhere: &[
            "secret",
            "subject-key",
            "upstream-key",
            "jwt-secret",
            "redis-url",
            "redis-ca",
            "coturn-redis-url",
            "coturn-stats-url",
            "sslkey",
            "sslcert",
        ],
    },
];

/// One sentence for each setting that is missing in the values, and for each value that is no setting.
pub(super) fn problems(values: &[Value], program: &Program, reference: &str) -> Vec<String> {
    let Program { key, elsewhere, .. } = program;
    let settings: BTreeSet<&str> =
        reference.lines().filter_map(setting).filter(|name| !elsewhere.contains(name)).collect();
    let Some(config) = keys(values, key).and_then(|program| keys(program, "config")) else {
        return vec![format!("the values have no {key}.config")];
    };
    let configured: BTreeSet<&str> = config.iter().map(|value| value.key.as_str()).collect();
    let missing =
        settings.difference(&configured).map(|name| format!("{key}.config lacks the setting {name}"));
    let unknown = configured.difference(&settings).map(|name| format!("{key}.config.{name} is no setting"));
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
        let problems = problems(&values, &PROGRAMS[0], reference);
        assert_eq!(problems, ["gateway.config lacks the setting host", "gateway.config.prot is no setting"]);
    }
}
