//! What can be wrong with a key set, and with where it is to come from.

/// Longest key set in bytes.
pub const MAX_SET: usize = 256 * 1024;
/// Most usable keys in a set. A token without `kid` is tried with each, so they are few.
pub const MAX_KEYS: usize = 32;

/// What is wrong with a key set, or with fetching it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is longer than [`MAX_SET`].
    #[error("the key set is longer than {MAX_SET} bytes")]
    TooLarge,
    /// It is no JSON object with a list `keys`.
    #[error("the answer is not a key set: a JSON object with a list named keys")]
    NotASet,
    /// None of its keys can be used.
    #[error(
        "the key set has no key that can be used (RSA of 2048 bits, P-256, P-384 or Ed25519, for signatures)"
    )]
    NoKeys,
    /// It has more than [`MAX_KEYS`].
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// The server answered with another status than 200.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The server wanted to send us elsewhere.
    #[error(
        "the server answered with a redirect, which is not followed (configure the url that it leads to)"
    )]
    Redirect,
    /// It took too long.
    #[error("the server did not answer in time")]
    TimedOut,
    /// No connection, or it broke.
    #[error("the server could not be reached: {0}")]
    Unreachable(String),
}

/// Why a URL is no good for a key set. The message follows "jwks url".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    /// It is no URL.
    #[error("is not a URL (e.g. https://id.example.com/.well-known/jwks.json)")]
    NotAUrl,
    /// It is neither https nor http.
    #[error("is neither a file nor https (e.g. https://id.example.com/.well-known/jwks.json)")]
    Scheme,
    /// Plain http, to another host than this one.
    #[error(
        "is plain http, so that anybody on the way could put keys in (use https; http is for loopback only)"
    )]
    PlainHttp,
    /// It has a user name or a password.
    #[error("has credentials in it (a key set is public: leave them out)")]
    Credentials,
}
