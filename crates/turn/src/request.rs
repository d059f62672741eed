//! What a client asks for, checked: names and values of a query or a form.

use std::time::Duration;

use crate::{server::is_label, uri::RelayTransport};

/// The longest subject or issuer in bytes, as in tokens.
const MAX_SUBJECT: usize = 256;
/// The longest API key in bytes.
const MAX_KEY: usize = 256;

/// A parameter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {problem}")]
pub struct BadParameter {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it, to be read after the name.
    pub problem: String,
}

impl BadParameter {
    /// A parameter, and what is wrong with it.
    pub fn new(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: problem.into() }
    }
}

/// Which ways the client means to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Any.
    #[default]
    All,
    /// Relays alone (`iceTransportPolicy: "relay"`).
    Relay,
}

/// A request for credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssueRequest {
    /// `service`, which the draft has always.
    pub service: Option<String>,
    /// `username` of the draft, or `subject`: whom the credential is for, where the caller may say so.
    pub subject: Option<String>,
    /// `issuer`: who named the subject. Two issuers may use one name for two people.
    pub issuer: Option<String>,
    /// `key` of the draft: an API key.
    pub key: Option<String>,
    /// `ttl`: how long the credential should be good, at most.
    pub ttl: Option<Duration>,
    /// `transport`: how the relay should be reached.
    pub transport: Option<RelayTransport>,
    /// `region`: where it should stand.
    pub region: Option<String>,
    /// `policy`: what is needed.
    pub policy: Policy,
}

impl IssueRequest {
    /// Reads the parameters. Others than ours are none of our business. `max_ttl` is the longest lifetime that may be asked for.
    ///
    /// # Errors
    /// The first parameter that cannot be used.
    pub fn read<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
        max_ttl: Duration,
    ) -> Result<Self, BadParameter> {
        let mut request = Self::default();
        let mut seen = Vec::new();
        for (name, value) in parameters {
            let name = match name {
                "service" => "service",
                "username" => "username",
                "subject" => "subject",
                "issuer" => "issuer",
                "key" => "key",
                "ttl" => "ttl",
                "transport" => "transport",
                "region" => "region",
                "policy" => "policy",
                _ => continue,
            };
            if seen.contains(&name) {
                return Err(BadParameter::new(name, "is given twice"));
            }
            seen.push(name);
            request.set(name, value, max_ttl)?;
        }
        if seen.contains(&"username") && seen.contains(&"subject") {
            return Err(BadParameter::new(
                "subject",
                "is given together with username, which means the same",
            ));
        }
        Ok(request)
    }

    fn set(&mut self, name: &'static str, value: &str, max_ttl: Duration) -> Result<(), BadParameter> {
        let bad = |problem: &str| Err(BadParameter::new(name, problem));
        match name {
            "service" if value.len() > 16 => return bad("is unknown (the only service is turn)"),
            "service" => self.service = Some(value.to_owned()),
            "username" | "subject" => self.subject = Some(subject(name, value)?),
            "issuer" => self.issuer = Some(text(name, value)?),
            "key" if value.is_empty() || value.len() > MAX_KEY => return bad("is not an API key"),
            "key" => self.key = Some(value.to_owned()),
            "ttl" => {
                let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let seconds = is_number.then(|| value.parse::<u64>().unwrap_or(u64::MAX));
                match seconds {
                    None | Some(0) => return bad("is not a number of seconds above 0"),
                    Some(seconds) if seconds > max_ttl.as_secs() => {
                        let problem = format!("is more than {} seconds", max_ttl.as_secs());
                        return Err(BadParameter::new(name, problem));
                    }
                    Some(seconds) => self.ttl = Some(Duration::from_secs(seconds)),
                }
            }
            "transport" => {
                let known = RelayTransport::ALL.into_iter().find(|transport| transport.name() == value);
                match known {
                    Some(transport) => self.transport = Some(transport),
                    None => return bad("is neither udp, tcp nor tls"),
                }
            }
            "region" if is_label(value) => self.region = Some(value.to_owned()),
            "region" => return bad("is not 1 to 64 of A-Z a-z 0-9 . _ -"),
            _ => match value {
                "relay" => self.policy = Policy::Relay,
                "all" => self.policy = Policy::All,
                _ => return bad("is neither all nor relay"),
            },
        }
        Ok(())
    }
}

/// Checks a subject: it must not contain what separates the parts of a user name.
///
/// # Errors
/// It is empty, too long, or has a colon or a control character.
pub fn subject(name: &'static str, value: &str) -> Result<String, BadParameter> {
    // Subjects of tokens may contain it, and they are only ever hashed; but whoever sends a user name of this form means something else.
    if name == "username" && value.contains(crate::credential::SEPARATOR) {
        return Err(BadParameter::new(name, "contains the separator \":\""));
    }
    text(name, value)
}

fn text(name: &'static str, value: &str) -> Result<String, BadParameter> {
    let problem = match value {
        "" => "is empty",
        _ if value.len() > MAX_SUBJECT => "is longer than 256 bytes",
        _ if value.chars().any(char::is_control) => "contains a control character",
        _ => return Ok(value.to_owned()),
    };
    Err(BadParameter::new(name, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<IssueRequest, String> {
        IssueRequest::read(parameters.iter().copied(), Duration::from_secs(86_400))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_arrive() {
        let request = read(&[
            ("service", "turn"),
            ("username", "alice"),
            ("key", "k"),
            ("ttl", "60"),
            ("transport", "tls"),
            ("region", "eu-1"),
            ("policy", "relay"),
            ("other", "\n"),
        ]);
        let expected = IssueRequest {
            service: Some("turn".to_owned()),
            subject: Some("alice".to_owned()),
            issuer: None,
            key: Some("k".to_owned()),
            ttl: Some(Duration::from_secs(60)),
            transport: Some(RelayTransport::Tls),
            region: Some("eu-1".to_owned()),
            policy: Policy::Relay,
        };
        assert_eq!(request, Ok(expected));
        assert_eq!(read(&[]), Ok(IssueRequest::default()));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let long = "x".repeat(257);
        for (name, value, problem) in [
            ("username", "a:b", "username contains the separator \":\""),
            ("username", "a\u{0}", "username contains a control character"),
            ("username", "", "username is empty"),
            ("username", &long, "username is longer than 256 bytes"),
            ("issuer", "\r\n", "issuer contains a control character"),
            ("key", &long, "key is not an API key"),
            ("ttl", "86401", "ttl is more than 86400 seconds"),
            ("ttl", "99999999999999999999", "ttl is more than 86400 seconds"),
            ("ttl", "0", "ttl is not a number of seconds above 0"),
            ("ttl", "-1", "ttl is not a number of seconds above 0"),
            ("ttl", "1h", "ttl is not a number of seconds above 0"),
            ("transport", "sctp", "transport is neither udp, tcp nor tls"),
            ("region", "a b", "region is not 1 to 64 of A-Z a-z 0-9 . _ -"),
            ("policy", "none", "policy is neither all nor relay"),
            ("service", "the-longest-of-services", "service is unknown (the only service is turn)"),
        ] {
            assert_eq!(read(&[(name, value)]), Err(problem.to_owned()), "{name}={value}");
        }
        assert_eq!(read(&[("ttl", "1"), ("ttl", "2")]), Err("ttl is given twice".to_owned()));
        let both = read(&[("username", "a"), ("subject", "b")]);
        assert_eq!(both, Err("subject is given together with username, which means the same".to_owned()));
    }
}
