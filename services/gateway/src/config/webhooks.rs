//! The settings of webhooks.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Serialize, Serializer};
use signalbox_admin::events::EventKind;
use signalbox_config::error::quote;
use signalbox_config::parse::{Parsed, count, file_name, millis};
use signalbox_config::serialize::as_millis;
use signalbox_hooks::HookAddress;

use super::parse::signing_secret;

/// What happens, sent to a server of the application. `docs/hooks.md` describes it.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookSettings {
    /// URL that events are sent to: https, or http to this machine. Without it nothing is sent.
    #[arg(long, value_name = "HOOK_URL", value_parser = url)]
    pub webhook_url: Option<String>,

    /// Secret that requests are signed with, as Standard Webhooks has it: whsec_ and Base64. Repeatable: they are signed with each, so
    /// that one can take the place of another.
    #[arg(long, value_name = "WHSEC", hide_env_values = true, value_delimiter = ',', value_parser = signing_secret)]
    pub webhook_secret: Vec<String>,

    /// File with these secrets instead, one on a line.
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    pub webhook_secret_file: Option<PathBuf>,

    /// PEM file with the certificate of the only authority that counts for --webhook-url. Without it those of the system count.
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    pub webhook_ca: Option<PathBuf>,

    /// Kinds of events that are sent: connect, disconnect, claim, release, join, leave, evict, refuse, transfer, node-up, node-down,
    /// degraded, online, drain.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    #[arg(default_value = "connect,disconnect,claim,release,join,leave,transfer,node-up,node-down")]
    #[serde(serialize_with = "names")]
    pub webhook_events: Vec<EventKind>,

    /// Most events in one request.
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = count(1..=1000))]
    pub webhook_batch: usize,

    /// Most requests of one node at once. More than 8 make no difference.
    #[arg(long, value_name = "COUNT", default_value = "4", value_parser = count(1..=8))]
    pub webhook_concurrency: usize,

    /// How long a request may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "10000", value_parser = millis(100..=60_000))]
    #[serde(serialize_with = "as_millis")]
    pub webhook_timeout: Duration,

    /// Most events that wait to be sent, of all nodes together; of each node without --redis-url. Beyond it new ones are dropped, which
    /// is counted, and told with the next that is sent. An event takes some 500 bytes of Redis' memory.
    #[arg(long, value_name = "COUNT", default_value = "100000", value_parser = count(8..=10_000_000))]
    pub webhook_buffer: usize,
}

/// Leaves the secrets out, and what may be one in the URL: settings end up in logs.
impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.webhook_url.as_deref().and_then(|url| HookAddress::new(url).ok());
        f.debug_struct("WebhookSettings")
            .field("webhook_url", &url)
            .field("webhook_events", &self.webhook_events)
            .finish_non_exhaustive()
    }
}

fn names<S: Serializer>(kinds: &[EventKind], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(kinds.iter().map(|kind| kind.name()))
}

fn url(text: &str) -> Parsed<String> {
    HookAddress::new(text)
        .map(|address| address.as_str().to_owned())
        .map_err(|problem| format!("{} {problem}", quote(text)))
}

fn kind(text: &str) -> Parsed<EventKind> {
    text.parse().map_err(|problem| format!("{} {problem}", quote(text)))
}

#[cfg(test)]
mod tests {
    use signalbox_hooks::SigningSecret;

    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused_and_no_secret_is_shown() {
        assert!(url("https://app.example.com/hooks").is_ok());
        assert!(url("http://app.example.com/hooks").is_err_and(|problem| problem.contains("not https")));
        assert!(signing_secret(&SigningSecret::random().reveal()).is_ok());
        assert!(signing_secret("hunter2").is_err_and(|problem| !problem.contains("hunter2")));
        assert!(kind("node-up").is_ok() && kind("missing").is_err() && kind("nonsense").is_err());
    }
}
