//! Makes a token with an HMAC secret, for tests and for people at a command line. Applications make their own.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use crate::{grants::GrantsSpec, keys::HmacSecret};

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mint {
    /// Whose it is.
    pub subject: String,
    /// How long it lives, in seconds.
    pub lifetime: u64,
    /// What its holder may do; `None`: what the server grants by default.
    pub grants: Option<GrantsSpec>,
    /// The name of the claim for that.
    pub grants_claim: String,
    /// Who issues it.
    pub issuer: Option<String>,
    /// For whom it is.
    pub audience: Option<String>,
    /// By what two sessions of the subject are told apart.
    pub session: Option<String>,
    /// The name of the claim for that.
    pub session_claim: String,
}

/// The token could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// No subject.
    #[error("a token needs a subject (--sub)")]
    NoSubject,
    /// It would be as good as expired.
    #[error("a token needs a lifetime of a second or more (--ttl)")]
    NoLifetime,
    /// The library refused.
    #[error("the token could not be signed")]
    Sign,
}

impl Mint {
    /// A token of an hour with the server's default grants.
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            lifetime: 3600,
            grants: None,
            grants_claim: "signalbox".to_owned(),
            issuer: None,
            audience: None,
            session: None,
            session_claim: "session".to_owned(),
        }
    }

    /// Makes the token at `now`, in seconds since 1970. It has an id of its own, by which it can be revoked.
    pub fn sign(&self, secret: &HmacSecret, now: u64) -> Result<String, MintError> {
        if self.subject.is_empty() {
            return Err(MintError::NoSubject);
        }
        if self.lifetime == 0 {
            return Err(MintError::NoLifetime);
        }
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 15]>());
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        set("sub", json!(self.subject));
        set("iat", json!(now));
        set("exp", json!(now.saturating_add(self.lifetime)));
        set("jti", json!(id));
        let texts =
            [("iss", &self.issuer), ("aud", &self.audience), (self.session_claim.as_str(), &self.session)];
        for (name, value) in texts {
            if let Some(value) = value {
                set(name, json!(value));
            }
        }
        if let Some(grants) = &self.grants {
            set(&self.grants_claim, serde_json::to_value(grants).map_err(|_| MintError::Sign)?);
        }
        let key = EncodingKey::from_secret(secret.bytes()).map_err(|_| MintError::Sign)?;
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|_| MintError::Sign)
    }
}
