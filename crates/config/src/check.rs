//! Checks beyond a single value, as several programs make them: settings that need or exclude each other, and files that
//! must be readable.

use std::fs::File;
use std::path::Path;

use clap::Command;
use ipnet::IpNet;

use crate::arguments::find;
use crate::error::{ConfigError, SettingSource, quote};
use crate::file::reason;
use crate::sources::SettingSources;

/// Makes checks, and errors that name where a value came from.
#[derive(Debug)]
pub struct Check<'a> {
    sources: &'a SettingSources,
    command: &'a Command,
}

impl<'a> Check<'a> {
    /// For settings of this command, which came from these sources.
    pub fn new(sources: &'a SettingSources, command: &'a Command) -> Self {
        Self { sources, command }
    }

    /// Where the setting of this name came from.
    pub fn source(&self, name: &str) -> &SettingSource {
        self.sources.of(name)
    }

    /// The value of the setting is wrong.
    pub fn bad(&self, name: &str, problem: impl Into<String>) -> ConfigError {
        let source = self.sources.of(name);
        match find(self.command, name) {
            Some(arg) => source.error(arg, problem),
            None => ConfigError::new(source.place(name), problem, "see --help"),
        }
    }

    /// A setting is given that needs another, which is not.
    pub fn missing_partner(&self, given: &str, missing: &str, example: &str) -> ConfigError {
        let source = self.sources.of(given);
        let partner = SettingSource::Flag.place(missing);
        let remedy = match source {
            // The partner's variable differs in its name.
            SettingSource::Env(_) => {
                let variable = missing.replace('-', "_").to_ascii_uppercase();
                format!("set {partner} too, or SIGNALBOX_{variable}")
            }
            _ => format!("set {} too", source.assignment(missing, example)),
        };
        ConfigError::new(source.place(given), format!("needs {partner} too"), remedy)
    }

    /// The file or directory that a setting names cannot be read.
    pub fn unreadable(&self, name: &str, path: &Path, problem: &str, remedy: &str) -> ConfigError {
        let problem = format!("cannot read {}: {problem}", quote(&path.to_string_lossy()));
        ConfigError::new(self.sources.of(name).place(name), problem, remedy)
    }

    /// A setting names a file that must be readable now.
    ///
    /// # Errors
    /// It is absent, a directory, or not for us.
    pub fn readable_file(&self, name: &str, path: &Path, remedy: &str) -> Result<(), ConfigError> {
        let opened = File::open(path).and_then(|file| file.metadata());
        let problem = match opened {
            Ok(metadata) if metadata.is_file() => return Ok(()),
            Ok(_) => "it is not a file".to_owned(),
            Err(error) => reason(&error),
        };
        Err(self.unreadable(name, path, &problem, remedy))
    }

    /// `--sslkey` and `--sslcert` are both given, or neither.
    ///
    /// # Errors
    /// One is missing, or a file cannot be read.
    pub fn tls(&self, key: Option<&Path>, certificate: Option<&Path>) -> Result<(), ConfigError> {
        match (key, certificate) {
            (Some(_), None) => Err(self.missing_partner("sslkey", "sslcert", "cert.pem")),
            (None, Some(_)) => Err(self.missing_partner("sslcert", "sslkey", "key.pem")),
            (Some(key), Some(certificate)) => {
                self.readable_file("sslkey", key, "name a readable PEM file")?;
                self.readable_file("sslcert", certificate, "name a readable PEM file")
            }
            (None, None) => Ok(()),
        }
    }

    /// `--proxied` and `--trusted-proxies` are both given, or neither. A list of trusted proxies that has no effect would give
    /// a false sense of safety, and without the list everybody could choose the address that is logged, limited and allowed.
    ///
    /// # Errors
    /// One is missing.
    pub fn proxies(&self, is_proxied: bool, trusted: &[IpNet]) -> Result<(), ConfigError> {
        match (is_proxied, trusted.is_empty()) {
            (true, true) => {
                return Err(self.missing_partner("proxied", "trusted-proxies", "10.0.0.0/8"));
            }
            (false, false) => {}
            _ => return Ok(()),
        }
        let source = self.sources.of("trusted-proxies");
        let remedy = match source {
            SettingSource::Env(_) => "set SIGNALBOX_PROXIED=true too".to_owned(),
            _ => format!("set {} too", source.assignment("proxied", "true")),
        };
        let place = source.place("trusted-proxies");
        Err(ConfigError::new(place, "has no effect without --proxied", remedy))
    }

    /// Each listener has a port of its own.
    ///
    /// # Errors
    /// A listener has the port of one that stands before it.
    pub fn ports(&self, listeners: &[Address<'_>]) -> Result<(), ConfigError> {
        for (at, later) in listeners.iter().enumerate() {
            if let Some(earlier) = listeners[..at].iter().find(|earlier| later.collides_with(earlier)) {
                let problem = format!("{} is --{} too", later.port, earlier.name);
                let place = self.sources.of(later.name).place(later.name);
                return Err(ConfigError::new(place, problem, "give each listener a port of its own, or 0"));
            }
        }
        Ok(())
    }
}

/// Where a listener will be.
#[derive(Debug)]
pub struct Address<'a> {
    /// The setting of its port.
    pub name: &'static str,
    /// The host, as it is configured.
    pub host: &'a str,
    /// The port; 0 is any free one, which collides with none.
    pub port: u16,
}

impl Address<'_> {
    fn collides_with(&self, other: &Address<'_>) -> bool {
        let is_any = |host: &str| matches!(host, "0.0.0.0" | "::");
        let is_same_host = self.host == other.host || is_any(self.host) || is_any(other.host);
        self.port != 0 && self.port == other.port && is_same_host
    }
}

/// Removes what stands in a list already.
pub fn remove_repeated<T: PartialEq + Clone>(list: &mut Vec<T>) {
    let mut seen = Vec::new();
    list.retain(|item| {
        let is_new = !seen.contains(item);
        seen.push(item.clone());
        is_new
    });
}
