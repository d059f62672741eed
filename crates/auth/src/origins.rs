//! Which pages may: lists of origins, as browsers send them in `Origin` (RFC 6454).

/// Any origin but `null`, in a list.
pub const ANY: &str = "*";
/// What pages without an origin of their own send: files, and sandboxed frames, which any page can make.
pub const NULL: &str = "null";
/// Stands in front of a domain for all that are below it.
const SUBDOMAINS: &str = "*.";

/// A list of origins: `scheme://host[:port]`, `scheme://*.domain[:port]` for all domains below one, `null`, and `*` for all but `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    is_any: bool,
    /// As browsers send them; `null` is one of them.
    exact: Vec<Box<str>>,
    subdomains: Vec<Subdomains>,
}

/// All domains below one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subdomains {
    /// With `://`.
    scheme: Box<str>,
    /// From the dot in front of the domain on, with the port.
    rest: Box<str>,
}

impl Origins {
    /// Reads a list. Whether its entries are origins was checked with the settings: what is none matches nothing.
    pub fn new<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Self {
        let mut origins = Self::default();
        for entry in entries {
            let entry = entry.as_ref();
            match entry.split_once("://") {
                None if entry == ANY => origins.is_any = true,
                Some((scheme, authority)) if authority.starts_with(SUBDOMAINS) => {
                    let rest = authority.strip_prefix('*').unwrap_or_default().into();
                    origins.subdomains.push(Subdomains { scheme: format!("{scheme}://").into(), rest });
                }
                _ => origins.exact.push(entry.into()),
            }
        }
        origins
    }

    /// Whether pages that nobody has named are in it.
    pub fn is_any(&self) -> bool {
        self.is_any
    }

    /// Whether a page of this origin is in it.
    pub fn contains(&self, origin: &[u8]) -> bool {
        self.is_any && origin != NULL.as_bytes()
            || self.exact.iter().any(|exact| exact.as_bytes() == origin)
            || self.subdomains.iter().any(|subdomains| subdomains.contains(origin))
    }
}

impl Subdomains {
    fn contains(&self, origin: &[u8]) -> bool {
        let below = origin
            .strip_prefix(self.scheme.as_bytes())
            .and_then(|authority| authority.strip_suffix(self.rest.as_bytes()));
        // Nothing but labels may stand there: no port, no user, no path.
        let is_label = |label: &[u8]| {
            !label.is_empty() && label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        below.is_some_and(|labels| labels.split(|b| *b == b'.').all(is_label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_in_a_list_or_not() {
        let table: [(&[&str], &[&str], &[&str]); 6] = [
            (
                &["https://app.example.org", "http://localhost:8080"],
                &["https://app.example.org", "http://localhost:8080"],
                &[
                    "http://app.example.org",
                    "https://app.example.org:8443",
                    "https://app.example.org.evil.example",
                    "https://app.example.orgx",
                    "http://localhost",
                    "https://APP.example.org",
                    "null",
                    "",
                ],
            ),
            (
                &["https://*.example.org"],
                &["https://a.example.org", "https://a.b.example.org", "https://a-1.example.org"],
                &[
                    "https://example.org",
                    "https://.example.org",
                    "https://a..example.org",
                    "https://evilexample.org",
                    "https://a.example.org.evil.example",
                    "https://a.example.org:8443",
                    "http://a.example.org",
                    "https://evil.example:443#.example.org",
                    "https://evil.example/.example.org",
                    "https://user@a.example.org",
                    "https://\u{e9}.example.org",
                    "null",
                ],
            ),
            (
                &["http://*.localhost:3000"],
                &["http://a.localhost:3000"],
                &["http://a.localhost", "http://a.localhost:30000", "http://a:1.localhost:3000"],
            ),
            (&["*"], &["https://anything.example", "capacitor://localhost"], &["null"]),
            (&["*", "null"], &["https://anything.example", "null"], &[]),
            (&[], &[], &["https://anything.example", "null", "*"]),
        ];
        for (entries, inside, outside) in table {
            let origins = Origins::new(entries);
            for origin in inside {
                assert!(origins.contains(origin.as_bytes()), "{entries:?} {origin:?}");
            }
            for origin in outside {
                assert!(!origins.contains(origin.as_bytes()), "{entries:?} {origin:?}");
            }
        }
        assert!(Origins::new(["*"]).is_any() && !Origins::new(["https://*.example.org", "null"]).is_any());
    }
}
