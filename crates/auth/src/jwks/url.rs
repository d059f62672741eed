//! The URL of a key set. Whoever answers there decides who gets in, so it is only ever the configured one.

use std::fmt;

use url::{Host, Url};

use crate::jwks_errors::JwksUrlError;

/// A checked URL.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

impl JwksUrl {
    /// Checks a URL: https, or http to this host; no credentials.
    pub fn new(text: &str) -> Result<Self, JwksUrlError> {
        let mut url = Url::parse(text).map_err(|_| JwksUrlError::NotAUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(JwksUrlError::Credentials);
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err(JwksUrlError::PlainHttp),
            _ => return Err(JwksUrlError::Scheme),
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Whether a setting means a URL and not a file.
    pub fn is_one(setting: &str) -> bool {
        setting.contains("://")
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl fmt::Debug for JwksUrl {
    /// The query is left out: there may be a key for an API in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", &self.0[..::url::Position::BeforePath], self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_urls_of_key_sets() {
        for good in [
            "https://id.example.com/jwks",
            "https://id.example.com:8443/jwks?a=b#c",
            "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com",
            "http://localhost:8080/jwks",
            "http://127.0.0.1/jwks",
            "http://127.8.9.1/",
            "http://[::1]:1/",
        ] {
            assert!(JwksUrl::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://id.example.com/jwks", JwksUrlError::PlainHttp),
            ("http://localhost.example.com/", JwksUrlError::PlainHttp),
            ("http://127.0.0.1.example.com/", JwksUrlError::PlainHttp),
            ("http://10.0.0.1/", JwksUrlError::PlainHttp),
            ("http://[::ffff:127.0.0.1]/", JwksUrlError::PlainHttp),
            ("https://user@id.example.com/", JwksUrlError::Credentials),
            ("https://:secret@id.example.com/", JwksUrlError::Credentials),
            ("http://127.0.0.1@id.example.com/", JwksUrlError::Credentials),
            ("ftp://id.example.com/", JwksUrlError::Scheme),
            ("file:///etc/passwd", JwksUrlError::Scheme),
            ("https://", JwksUrlError::NotAUrl),
            ("id.example.com/jwks", JwksUrlError::NotAUrl),
        ] {
            assert_eq!(JwksUrl::new(bad), Err(why), "{bad}");
        }
        let url = JwksUrl::new("https://id.example.com/jwks?key=secret").unwrap();
        assert_eq!(format!("{url:?}"), "https://id.example.com/jwks");
    }
}
