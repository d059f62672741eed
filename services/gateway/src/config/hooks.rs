//! The settings of hooks.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Serialize, Serializer};
use signalbox_config::error::quote;
use signalbox_config::parse::{Parsed, count, file_name, millis};
use signalbox_config::serialize::as_millis;
use signalbox_hooks::HookAddress;

use super::parse::signing_secret;

/// Longest name of a hook in bytes.
const MAX_NAME: usize = 64;

/// Servers of the application's own that are asked. `docs/backend.md` describes it.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Hooks")]
pub struct HookSettings {
    /// Server of the application's own, as NAME=URL; repeatable. Rules ask it with call = "NAME", and --hook-policy has it decide. The
    /// URL is https, or http to this machine.
    #[arg(long, value_name = "NAME=URL", value_delimiter = ',', value_parser = hook)]
    pub hook: Vec<NamedHook>,

    /// What such a server decides, as WHAT=NAME; repeatable. WHAT is handshake (who may join a namespace), claim (who may have a
    /// PeerServer id) or join (who may join a room). It is asked after tokens were judged; without an answer the client is refused.
    #[arg(long, value_name = "WHAT=NAME", value_delimiter = ',', value_parser = policy)]
    pub hook_policy: Vec<HookPolicy>,

    /// Secret that requests to hooks are signed with, as Standard Webhooks has it: whsec_ and Base64. Repeatable: they are signed with
    /// each, so that one can take the place of another.
    #[arg(long, value_name = "SECRET", hide_env_values = true, value_delimiter = ',', value_parser = signing_secret)]
    pub hook_secret: Vec<String>,

    /// File with these secrets instead, one on a line. It is read at the start.
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    pub hook_secret_file: Option<PathBuf>,

    /// PEM file with the certificate of the only authority that counts for --hook. Without it those of the system count.
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    pub hook_ca: Option<PathBuf>,

    /// How long a hook may take to answer, in milliseconds, the wait for its turn included. The client's next events wait meanwhile.
    #[arg(long, value_name = "MS", default_value = "2000", value_parser = millis(50..=30_000))]
    #[serde(serialize_with = "as_millis")]
    pub hook_timeout: Duration,

    /// Most requests of one node to one hook at once; four times as many wait for their turn, and more are refused (busy).
    #[arg(long, value_name = "COUNT", default_value = "32", value_parser = count(1..=256))]
    pub hook_concurrency: usize,
}

impl HookSettings {
    /// The names that rules may call.
    pub fn names(&self) -> Vec<&str> {
        self.hook.iter().map(|hook| hook.name.as_str()).collect()
    }
}

/// Leaves the secrets out, and what may be one in a URL: settings end up in logs.
impl fmt::Debug for HookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSettings")
            .field("hook", &self.hook)
            .field("hook_policy", &self.hook_policy)
            .finish_non_exhaustive()
    }
}

/// A server, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHook {
    /// What rules call it.
    pub name: String,
    /// Where it is.
    pub address: HookAddress,
}

impl Serialize for NamedHook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}={}", self.name, self.address.as_str()))
    }
}

/// What a server can decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    /// Who may join a namespace.
    Handshake,
    /// Who may have a PeerServer id.
    Claim,
    /// Who may join a room.
    Join,
}

impl Decides {
    const ALL: [(&'static str, Self); 3] =
        [("handshake", Self::Handshake), ("claim", Self::Claim), ("join", Self::Join)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Claim => "claim",
            Self::Join => "join",
        }
    }
}

/// What a server decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookPolicy {
    /// What.
    pub decides: Decides,
    /// The server's name.
    pub hook: String,
}

impl Serialize for HookPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}={}", self.decides.name(), self.hook))
    }
}

fn hook(text: &str) -> Parsed<NamedHook> {
    let (name, url) = text.split_once('=').unwrap_or(("", text));
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= MAX_NAME
        && name.chars().all(is_plain);
    if !is_name {
        return Err(format!(
            "{} does not begin with a name of lower-case letters, digits and -, and = behind it",
            quote(text)
        ));
    }
    match HookAddress::new(url) {
        Ok(address) => Ok(NamedHook { name: name.to_owned(), address }),
        Err(problem) => Err(format!("{} {problem}", quote(url))),
    }
}

fn policy(text: &str) -> Parsed<HookPolicy> {
    let (what, name) = text.split_once('=').unwrap_or((text, ""));
    match Decides::ALL.iter().find(|(known, _)| *known == what) {
        Some((_, decides)) if !name.is_empty() => Ok(HookPolicy { decides: *decides, hook: name.to_owned() }),
        _ => Err(format!(
            "{} is not handshake, claim or join, and = with a hook's name behind it",
            quote(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use signalbox_hooks::SigningSecret;

    use super::*;

    #[test]
    fn hooks_have_names_and_safe_addresses() {
        let read = hook("orders=https://app.example.com/orders?key=hidden").expect("a hook");
        assert_eq!(read.name, "orders");
        assert!(!format!("{read:?}").contains("hidden"));
        for bad in [
            "https://app.example.com/",
            "=https://app.example.com",
            "Orders=https://a.example",
            "a=http://a.example",
            "a=",
            "a",
        ] {
            assert!(hook(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_name_what_is_decided() {
        let read = policy("claim=app").expect("a policy");
        assert_eq!((read.decides, read.hook.as_str()), (Decides::Claim, "app"));
        for bad in ["", "claim", "claim=", "emit=app"] {
            assert!(policy(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_problem_with_a_secret_does_not_show_it() {
        assert!(signing_secret(&SigningSecret::random().reveal()).is_ok());
        assert!(signing_secret("hunter2").is_err_and(|problem| !problem.contains("hunter2")));
    }
}
