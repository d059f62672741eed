//! A hash of the configuration, by which nodes that should have the same one are compared.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use signalbox_config::arguments::{find, is_secret};
use signalbox_config::command::parser;

use super::PROGRAM;
use super::settings::Settings;

/// Settings that differ between the nodes of a cluster.
const OWN: [&str; 5] = ["node_id", "cluster_addr", "cluster_tls_cert", "cluster_tls_key", "log_client"];

/// How many characters of the hash are shown.
const LENGTH: usize = 12;

impl Settings {
    /// A hash of all settings but secrets, and those that are each node's own.
    pub fn fingerprint(&self) -> String {
        // Serialising numbers, strings, booleans and lists of them into an object cannot fail.
        let mut settings = serde_json::to_value(self).unwrap_or_default();
        let command = parser(&PROGRAM);
        if let Value::Object(settings) = &mut settings {
            settings.retain(|key, _| {
                OWN.iter().all(|own| own != key) && !find(&command, key).is_some_and(is_secret)
            });
        }
        let hash = Sha256::digest(settings.to_string());
        let mut text: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        text.truncate(LENGTH);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, Settings};

    fn fingerprint(arguments: &[&str]) -> String {
        let arguments = std::iter::once("signalbox-gateway").chain(arguments.iter().copied());
        match Settings::load(arguments.map(Into::into), []) {
            Ok(Loaded::Run { settings, .. }) => settings.fingerprint(),
            _ => panic!("not to be run"),
        }
    }

    #[test]
    fn only_what_nodes_should_have_in_common_changes_it() {
        let redis = ["--redis-url", "redis://one", "--cluster-secret", "0123456789abcdef"];
        let alike =
            ["--redis-url", "redis://two", "--cluster-secret", "fedcba9876543210", "--node-id", "two"];
        assert_eq!(fingerprint(&redis), fingerprint(&alike));
        assert_ne!(fingerprint(&redis), fingerprint(&[&redis[..], &["--ping-interval", "1000"]].concat()));
        assert_eq!(fingerprint(&[]).len(), super::LENGTH);
    }
}
