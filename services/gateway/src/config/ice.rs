//! The settings of ICE servers.

use std::fmt;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use serde::Serialize;
use serde_json::Value;
use signalbox_config::error::quote;
use signalbox_config::parse::{Parsed, file_name, switch};

/// The most ICE servers: with many, browsers take long to connect.
const MOST_SERVERS: usize = 16;

/// Which STUN and TURN servers clients are told of. `docs/turn.md` describes it.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "ICE servers")]
pub struct IceSettings {
    /// ICE servers that all clients are told of: JSON, a list as RTCConfiguration.iceServers has it. Everybody can read it.
    #[arg(long, value_name = "JSON", value_parser = ice_servers)]
    pub ice_servers: Option<String>,

    /// URL of the TURN credentials service (signalbox-turn), which gives each client credentials of its own.
    #[arg(long, value_name = "HTTP_URL", value_parser = http_url)]
    pub turn_url: Option<String>,

    /// API key for that service, with the scope issue.
    #[arg(long, value_name = "SECRET", hide_env_values = true, value_parser = turn_key)]
    pub turn_key: Option<String>,

    /// File with that key, instead. A line ending at its end is not part of it. It is read again on SIGHUP.
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    pub turn_key_file: Option<PathBuf>,

    /// Get TURN credentials for clients too of whom nothing is known: whoever reaches this port can then use the TURN servers.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = switch)]
    pub turn_anonymous: bool,
}

/// Leaves the key out: settings end up in logs.
impl fmt::Debug for IceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceSettings")
            .field("ice_servers", &self.ice_servers)
            .field("turn_url", &self.turn_url)
            .finish_non_exhaustive()
    }
}

/// It stays as it was written.
fn ice_servers(text: &str) -> Parsed<String> {
    let is_url = |url: &Value| {
        let schemes = ["stun:", "stuns:", "turn:", "turns:"];
        url.as_str().is_some_and(|url| schemes.iter().any(|scheme| url.starts_with(scheme)))
    };
    let has_urls = |server: &Value| match &server["urls"] {
        Value::Array(urls) => !urls.is_empty() && urls.iter().all(is_url),
        url => is_url(url),
    };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(servers)) if servers.len() > MOST_SERVERS => {
            Err(format!("the list has more than {MOST_SERVERS} servers"))
        }
        Ok(Value::Array(servers)) if servers.iter().all(has_urls) => Ok(text.trim().to_owned()),
        Ok(_) => Err(format!("{} is not a list of servers with urls of stun: or turn:", quote(text))),
        Err(error) => Err(format!("{} is not JSON: {error}", quote(text))),
    }
}

fn http_url(text: &str) -> Parsed<String> {
    let url = text.trim().trim_end_matches('/');
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['@', '?', '#', ' ']) => Ok(url.to_owned()),
        _ => Err(format!("{} is not the URL of a service (http:// or https://)", quote(text))),
    }
}

pub(crate) fn turn_key(text: &str) -> Parsed<String> {
    match text.is_empty() || text.len() > 256 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Err("the value is not an API key".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_those_that_browsers_take() {
        for text in [
            "[]",
            r#"[{"urls": "stun:a.example"}]"#,
            r#"[{"urls": ["turn:a.example", "turns:a.example"], "username": "u", "credential": "c"}]"#,
        ] {
            assert!(ice_servers(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "{}",
            "[1]",
            r#"[{"urls": []}]"#,
            r#"[{"urls": "http://a.example"}]"#,
            r#"[{"url": "stun:a"}]"#,
        ] {
            assert!(ice_servers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_are_of_services() {
        assert_eq!(http_url("http://turn:9002/").as_deref(), Ok("http://turn:9002"));
        for text in ["turn:9002", "ftp://a", "http://", "http://u:p@a", "https://a?b"] {
            assert!(http_url(text).is_err(), "{text}");
        }
    }
}
