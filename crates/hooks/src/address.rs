//! Where requests may go.

use std::fmt;

use url::{Host, Url};

/// Why a URL cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read.
    #[error("is not a URL (as in https://app.example.com/hooks)")]
    NotAUrl,
    /// Everybody on the way would read it, and the receiver could not know the sender's server from another.
    #[error("is not https, and http is for this machine only (localhost, 127.0.0.1 or [::1])")]
    PlainHttp,
    /// It is neither http nor https.
    #[error("is neither https nor http")]
    Scheme,
    /// URLs are logged, and passwords in them too.
    #[error("has a user or a password in it, and URLs are logged (the signature shows who sends)")]
    Credentials,
}

/// A checked URL: https, or http to this machine. It comes from the configuration, and nothing that a client sends changes it.
#[derive(Clone, PartialEq, Eq)]
pub struct HookAddress(Url);

impl HookAddress {
    /// Checks a URL. A fragment is dropped, since no server gets to see it.
    ///
    /// # Errors
    /// It is no URL, or none that may be asked.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        let mut url = Url::parse(text).map_err(|_| AddressError::NotAUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        match url.scheme() {
            "https" => {}
            "http" if is_this_machine(&url) => {}
            "http" => return Err(AddressError::PlainHttp),
            _ => return Err(AddressError::Scheme),
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is outside this machine, where a proxy of the environment counts.
    pub(crate) fn is_outside(&self) -> bool {
        !is_this_machine(&self.0)
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl fmt::Debug for HookAddress {
    /// Without the query: there may be a key in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", &self.0[..url::Position::BeforePath], self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_asked() {
        for good in [
            "https://app.example.com/hooks?key=1#part",
            "https://10.0.0.1:8443/",
            "http://localhost:3000/hooks",
            "http://127.0.0.1/",
            "http://[::1]:9/",
        ] {
            assert!(HookAddress::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://app.example.com/hooks", AddressError::PlainHttp),
            ("http://localhost.example.com/", AddressError::PlainHttp),
            ("http://169.254.169.254/latest/meta-data", AddressError::PlainHttp),
            ("http://[::ffff:127.0.0.1]/", AddressError::PlainHttp),
            ("http://127.0.0.1@app.example.com/", AddressError::Credentials),
            ("https://user:password@app.example.com/", AddressError::Credentials),
            ("ftp://app.example.com/", AddressError::Scheme),
            ("file:///etc/passwd", AddressError::Scheme),
            ("app.example.com/hooks", AddressError::NotAUrl),
            ("https://", AddressError::NotAUrl),
        ] {
            assert_eq!(HookAddress::new(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_log_does_not_show_the_query() {
        let address = HookAddress::new("https://app.example.com/hooks?key=hidden#part").unwrap();
        assert_eq!(format!("{address:?}"), "https://app.example.com/hooks");
        assert_eq!(address.as_str(), "https://app.example.com/hooks?key=hidden");
    }
}
