//! Who somebody is: what a token says about its holder. It moves with the session.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use sha2::{Digest as _, Sha256};

use crate::{
    grants::{Grants, GrantsSpec},
    refusal::Refusal,
};

/// The version in which principals are written.
const VERSION: u8 = 1;

/// The holder of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who issued the token (`iss`), where it says so.
    pub issuer: Option<Arc<str>>,
    /// Whose it is (`sub`). Only unique together with the issuer.
    pub subject: Arc<str>,
    /// The claim by which two sessions of one subject are told apart.
    pub session: Option<Arc<str>>,
    /// The token's own id (`jti`).
    pub token_id: Option<Arc<str>>,
    /// When it was issued (`iat`), in seconds since 1970.
    pub issued_at: Option<u64>,
    /// When it expires (`exp`), in seconds since 1970.
    pub expires_at: u64,
    /// What its holder may do.
    pub grants: Arc<Grants>,
}

impl Principal {
    /// Whether both are the same person. Two issuers may well use one name for two people.
    pub fn is_same_subject(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }

    /// Whether the other may take over what this one holds, such as a peer id: the same subject, in the same session.
    pub fn is_same_holder(&self, other: &Self) -> bool {
        self.is_same_subject(other) && self.session == other.session
    }

    /// The same text for the same holder and for nobody else, on every node: a hash, so that it tells nothing.
    pub fn holder_digest(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.issuer.as_deref(), Some(&*self.subject), self.session.as_deref()] {
            // Lengths keep parts apart; one that is absent is unlike one that is empty.
            hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    /// Whether a new token may take the place of the one in use: it must be of the same subject. From then on it alone counts,
    /// with its grants, its expiry and its session.
    pub fn check_refresh(&self, new: &Self) -> Result<(), Refusal> {
        if self.is_same_subject(new) { Ok(()) } else { Err(Refusal::SubjectChanged) }
    }
}

/// How it travels: a version, and JSON, to which fields can be added. A binary format around it needs to know nothing of it.
#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u8,
    json: String,
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<Arc<str>>,
    subject: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_id: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_at: Option<u64>,
    expires_at: u64,
    grants: serde_json::Value,
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = Body {
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            session: self.session.clone(),
            token_id: self.token_id.clone(),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            grants: serde_json::to_value(self.grants.spec()).map_err(serde::ser::Error::custom)?,
        };
        let json = serde_json::to_string(&body).map_err(serde::ser::Error::custom)?;
        Envelope { version: VERSION, json }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Envelope { version, json } = Envelope::deserialize(deserializer)?;
        if version != VERSION {
            return Err(D::Error::custom(format_args!(
                "a principal of version {version} is not known here, only {VERSION}"
            )));
        }
        let body: Body = serde_json::from_str(&json).map_err(D::Error::custom)?;
        // A newer node may know grants that this one does not.
        let spec = GrantsSpec::from_claim(&body.grants).map_err(D::Error::custom)?;
        Ok(Self {
            grants: Arc::new(Grants::new(Arc::new(spec), &body.subject)),
            issuer: body.issuer,
            subject: body.subject,
            session: body.session,
            token_id: body.token_id,
            issued_at: body.issued_at,
            expires_at: body.expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::Action;

    fn principal(subject: &str, session: Option<&str>) -> Principal {
        let spec =
            GrantsSpec::from_setting(r#"{"rooms":{"join":["of-{sub}"]},"limits":{"rooms":3}}"#).unwrap();
        Principal {
            issuer: Some("https://id".into()),
            subject: subject.into(),
            session: session.map(Into::into),
            token_id: Some("1".into()),
            issued_at: Some(10),
            expires_at: 20,
            grants: Arc::new(Grants::new(Arc::new(spec), subject)),
        }
    }

    #[test]
    fn it_arrives_as_it_left_in_text_and_in_bytes() {
        let alice = principal("alice", Some("tab"));
        let bytes = postcard::to_stdvec(&alice).unwrap();
        assert_eq!(postcard::from_bytes::<Principal>(&bytes).unwrap(), alice);
        let json = serde_json::to_string(&alice).unwrap();
        let arrived: Principal = serde_json::from_str(&json).unwrap();
        assert_eq!(arrived, alice);
        assert!(arrived.grants.allows(&Action::Join { room: "of-alice" }));
    }

    #[test]
    fn another_version_is_refused_and_a_newer_field_is_not() {
        let json = r#"{"version":2,"json":"{}"}"#;
        let error = serde_json::from_str::<Principal>(json).unwrap_err().to_string();
        assert!(error.starts_with("a principal of version 2 is not known here, only 1"), "{error}");
        let body = r#"{"subject":"a","expires_at":1,"grants":{"new":1},"new":2}"#;
        let json = serde_json::json!({"version": 1, "json": body}).to_string();
        assert_eq!(&*serde_json::from_str::<Principal>(&json).unwrap().subject, "a");
    }

    #[test]
    fn the_same_subject_refreshes_and_the_same_session_takes_over() {
        let alice = principal("alice", Some("one"));
        let other_tab = principal("alice", Some("two"));
        let elsewhere = Principal { issuer: None, ..alice.clone() };
        assert_eq!(alice.check_refresh(&other_tab), Ok(()));
        assert_eq!(alice.check_refresh(&principal("bob", None)), Err(Refusal::SubjectChanged));
        assert_eq!(alice.check_refresh(&elsewhere), Err(Refusal::SubjectChanged));
        assert!(alice.is_same_holder(&alice.clone()));
        assert!(principal("alice", None).is_same_holder(&principal("alice", None)));
        for (other, is_same) in [(&alice.clone(), true), (&other_tab, false), (&elsewhere, false)] {
            assert_eq!(alice.holder_digest() == other.holder_digest(), is_same);
        }
        assert_ne!(principal("alice", None).holder_digest(), principal("alice", Some("")).holder_digest());
        assert!(!alice.is_same_holder(&other_tab) && !alice.is_same_holder(&principal("alice", None)));
    }
}
