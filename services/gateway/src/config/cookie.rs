//! The attributes of the cookie that carries the session id.

use serde::{Serialize, Serializer};
use signalbox_node::config;

/// Whether a browser sends a cookie over TLS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieSecure {
    /// If it is set over TLS.
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

impl Serialize for CookieSecure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Always => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_bool(false),
        }
    }
}

impl From<CookieSecure> for Option<bool> {
    fn from(secure: CookieSecure) -> Self {
        match secure {
            CookieSecure::Auto => None,
            CookieSecure::Always => Some(true),
            CookieSecure::Never => Some(false),
        }
    }
}

/// On whose requests a browser sends a cookie (RFC 6265bis).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// Those of pages of the same site.
    Strict,
    /// Those, and when somebody follows a link to it.
    Lax,
    /// Those of all pages.
    None,
}

impl From<SameSite> for config::SameSite {
    fn from(same_site: SameSite) -> Self {
        match same_site {
            SameSite::Strict => Self::Strict,
            SameSite::Lax => Self::Lax,
            SameSite::None => Self::None,
        }
    }
}
