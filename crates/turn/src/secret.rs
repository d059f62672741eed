//! A secret that is shared with TURN servers.

use std::fmt;

/// The fewest bytes of a secret.
pub const MIN_SECRET: usize = 16;
/// The most bytes of a secret: coturn cuts off what is longer.
pub const MAX_SECRET: usize = 256;

/// What is wrong with a secret; it is never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It is short enough to be guessed.
    #[error("the secret has {0} bytes, fewer than 16 (make one with: openssl rand -base64 32)")]
    TooShort(usize),
    /// It is longer than coturn takes.
    #[error(
        "the secret has {0} bytes, more than the 256 that coturn takes (make one with: openssl rand -base64 32)"
    )]
    TooLong(usize),
    /// coturn's configuration file has one secret a line, and drops spaces.
    #[error("the secret has a space or a control character, which coturn's configuration cannot hold")]
    Blank,
}

/// A secret that is shared with TURN servers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Checks a secret. It is used as it is written; nothing is decoded.
    ///
    /// # Errors
    /// It is too short, too long, or not one word.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, SecretError> {
        let text = text.into();
        match text.len() {
            0..MIN_SECRET => Err(SecretError::TooShort(text.len())),
            MIN_SECRET..=MAX_SECRET if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Err(SecretError::Blank)
            }
            MIN_SECRET..=MAX_SECRET => Ok(Self(text)),
            length => Err(SecretError::TooLong(length)),
        }
    }

    /// The secret itself, for those who must write it down.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Secrets end up in logs otherwise.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_word_of_16_to_256_bytes_and_never_shown() {
        assert_eq!(Secret::new("short"), Err(SecretError::TooShort(5)));
        assert_eq!(Secret::new("x".repeat(257)), Err(SecretError::TooLong(257)));
        assert_eq!(Secret::new("sixteen bytes ok"), Err(SecretError::Blank));
        let secret = Secret::new("sixteen-bytes-ok").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(***)");
    }
}
