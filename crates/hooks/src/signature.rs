//! Signatures as Standard Webhooks has them: HMAC-SHA256 over the message's id, the time and the body.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What a secret begins with.
pub const PREFIX: &str = "whsec_";
/// The header with the message's id.
pub const ID: &str = "webhook-id";
/// The header with the time, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// Shortest and longest key in bytes, as the specification says.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a new key.
const NEW: usize = 32;

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not begin as secrets do.
    #[error("does not begin with whsec_ (openssl rand -base64 32 makes what follows it)")]
    Prefix,
    /// What follows is no Base64.
    #[error("is not whsec_ and Base64 (openssl rand -base64 32 makes what follows whsec_)")]
    Base64,
    /// The key is too short to be safe, or too long.
    #[error("is not 24 to 64 bytes in Base64 (openssl rand -base64 32 makes what follows whsec_)")]
    Length,
}

/// A secret that the receiver knows too: `whsec_` and 24 to 64 bytes in Base64.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<[u8; NEW]>().to_vec())
    }

    /// As it is configured.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.0))
    }

    fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

impl FromStr for SigningSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let key = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let key = BASE64.decode(key).map_err(|_| SecretError::Base64)?;
        if LENGTHS.contains(&key.len()) { Ok(Self(key)) } else { Err(SecretError::Length) }
    }
}

/// Without the key.
impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

/// Signs with every secret that there is, so that one can take the place of another while receivers still know only the one or the
/// other.
#[derive(Debug, Clone, Default)]
pub struct Signer(Vec<SigningSecret>);

impl Signer {
    /// Signs with these.
    pub fn new(secrets: Vec<SigningSecret>) -> Self {
        Self(secrets)
    }

    /// Whether requests are not signed at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of [`SIGNATURE`], for a message of this id, sent at this time (seconds since 1970), with this body. An id must not
    /// contain a full stop, or it could be taken for another id and time.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        debug_assert!(!id.contains('.'));
        let signatures: Vec<String> = self.0.iter().map(|secret| secret.sign(id, timestamp, body)).collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let secret: SigningSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signer = Signer::new(vec![secret.clone()]);
        let body = br#"{"test": 2432232314}"#;
        let signed = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = Signer::new(vec![secret, SigningSecret::random()]);
        assert!(both.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).starts_with(&signed));
        assert_eq!(both.sign("a", 1, b"").split(' ').count(), 2);
    }

    #[test]
    fn secrets_are_read_as_they_are_written_and_shown_to_nobody() {
        let secret = SigningSecret::random();
        assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "SigningSecret(..)");
        for (bad, why) in [
            ("secret", SecretError::Prefix),
            ("whsec_???", SecretError::Base64),
            ("whsec_c2hvcnQ=", SecretError::Length),
        ] {
            assert_eq!(bad.parse::<SigningSecret>(), Err(why), "{bad}");
        }
    }
}
