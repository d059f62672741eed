//! One token: read, checked against keys, and its claims against the configuration. The order of the checks is the order of the
//! code, so that each token has exactly one outcome.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    jwks::{SharedJwks, UnknownKid},
    keys::Key,
    refusal::{MAX_NAME, MAX_TOKEN, Refusal},
    time::Now,
};

/// The claims of a token.
pub(crate) type Claims = Map<String, Value>;

/// Whose tokens are trusted, and what they are checked with.
#[derive(Debug, Clone, Default)]
pub struct Issuer {
    /// What `iss` must be. `None`: anything, or nothing.
    pub name: Option<String>,
    /// HMAC secrets and PEM keys: tried whatever `kid` a token names.
    pub keys: Vec<Key>,
    /// A key set.
    pub set: KeySet,
}

/// A key set, in which a token's `kid` names the key.
#[derive(Debug, Clone, Default)]
pub enum KeySet {
    /// None.
    #[default]
    None,
    /// One that was read from a file.
    File(Arc<[Key]>),
    /// One that a [`Fetcher`](crate::jwks::Fetcher) keeps fresh.
    Fetched(SharedJwks),
}

impl KeySet {
    /// Reads a file. HMAC secrets in it are fine, since only its owner reads it.
    pub fn from_file_content(content: &[u8]) -> Result<Self, crate::setup::SetupError> {
        Ok(Self::File(crate::jwks::parse(content, true)?.into()))
    }
}

/// Why a token is not accepted, yet or at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is refused.
    Refused(Refusal),
    /// It would be refused, but a fetch of keys under way may change that.
    AwaitKeys(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Whether a text is meant to be a token of ours: at least three parts, of which the first is the beginning of a JSON object.
pub fn looks_like_token(text: &str) -> bool {
    let Some((header, rest)) = text.split_once('.') else { return false };
    // Its beginning is enough to see the brace; JSON may begin with blanks. Four characters are three whole bytes.
    let start = if header.len() <= 64 { header } else { header.get(..64).unwrap_or_default() };
    let decoded = URL_SAFE_NO_PAD.decode(start).unwrap_or_default();
    rest.contains('.') && decoded.trim_ascii_start().first() == Some(&b'{')
}

/// The part of the header that is looked at here.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Reads a token and checks its signature.
pub(crate) fn verify(token: &str, issuers: &[Issuer], now: Now) -> Result<Claims, Failure> {
    if token.len() > MAX_TOKEN {
        return Err(Refusal::TokenTooLarge.into());
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::TokenMalformed.into());
    };
    let header: Header = decode(header)?;
    if header.alg.eq_ignore_ascii_case("none") {
        return Err(Refusal::AlgorithmNone.into());
    }
    if header.crit.is_some() {
        return Err(Refusal::CriticalHeader.into());
    }
    let algorithm: Algorithm = header.alg.parse().map_err(|_| Refusal::AlgorithmUnsupported)?;
    let unverified: Claims = decode(payload)?;
    let name = text(&unverified, "iss", "iss")?;
    let is_trusted = |issuer: &&Issuer| issuer.name.is_none() || issuer.name.as_deref() == name;
    let mut trusted = issuers.iter().filter(is_trusted).peekable();
    if trusted.peek().is_none() {
        let refusal = if name.is_none() { Refusal::IssuerMissing } else { Refusal::IssuerMismatch };
        return Err(refusal.into());
    }
    let mut failure = Failure::Refused(Refusal::AlgorithmMismatch);
    for issuer in trusted {
        match verify_by(issuer, token, algorithm, header.kid.as_deref(), now) {
            Ok(claims) => return Ok(claims),
            // Of several failures, the one that says most.
            Err(later) if rank(&later) > rank(&failure) => failure = later,
            Err(_) => {}
        }
    }
    Err(failure)
}

fn rank(failure: &Failure) -> u8 {
    match failure {
        Failure::AwaitKeys(_) => 4,
        Failure::Refused(Refusal::KeysUnavailable) => 3,
        Failure::Refused(Refusal::KeyUnknown) => 2,
        Failure::Refused(Refusal::SignatureInvalid) => 1,
        Failure::Refused(Refusal::AlgorithmMismatch) => 0,
        Failure::Refused(_) => 5,
    }
}

/// Tries the keys of one issuer.
fn verify_by(
    issuer: &Issuer,
    token: &str,
    algorithm: Algorithm,
    kid: Option<&str>,
    now: Now,
) -> Result<Claims, Failure> {
    let (set, has_loaded) = match &issuer.set {
        KeySet::None => (None, true),
        KeySet::File(keys) => (Some(keys.clone()), true),
        KeySet::Fetched(shared) => {
            let (keys, has_loaded) = shared.keys();
            (Some(keys), has_loaded)
        }
    };
    let is_named = |key: &&Key| kid.is_none() || key.kid() == kid;
    let named = set.iter().flat_map(|keys| keys.iter()).filter(is_named);
    let mut was_tried = false;
    for key in issuer.keys.iter().chain(named).filter(|key| key.is_for(algorithm)) {
        was_tried = true;
        if let Some(claims) = check_signature(token, key, algorithm)? {
            return Ok(claims);
        }
    }
    let refusal = if was_tried { Refusal::SignatureInvalid } else { Refusal::AlgorithmMismatch };
    // No secret is ever fetched, so no fetch makes an HMAC good.
    let is_hmac = matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    let may_be_there = |set: &KeySet| !(is_hmac && matches!(set, KeySet::Fetched(_)));
    let Some(keys) = set.filter(|_| may_be_there(&issuer.set)) else { return Err(refusal.into()) };
    if kid.is_some() && keys.iter().any(|key| key.kid() == kid) {
        return Err(refusal.into());
    }
    let refusal = match (has_loaded, kid) {
        (false, _) => Refusal::KeysUnavailable,
        (true, Some(_)) => Refusal::KeyUnknown,
        (true, None) => refusal,
    };
    match &issuer.set {
        KeySet::Fetched(shared) if shared.on_unknown_kid(now.monotonic) == UnknownKid::Refreshing => {
            Err(Failure::AwaitKeys(refusal))
        }
        _ => Err(refusal.into()),
    }
}

/// `None`: the signature is not of this key.
fn check_signature(token: &str, key: &Key, algorithm: Algorithm) -> Result<Option<Claims>, Failure> {
    // Only the signature: times are compared with the `now` of the caller, and each failure has a code of its own.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    match jsonwebtoken::decode::<Claims>(token, key.decoding_key(), &validation) {
        Ok(token) => Ok(Some(token.claims)),
        Err(error) => match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => Ok(None),
            _ => Err(Refusal::TokenMalformed.into()),
        },
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::TokenMalformed)?;
    serde_json::from_slice(&json).map_err(|_| Refusal::TokenMalformed)
}

/// A claim of text. `label` is what a refusal calls it.
pub(crate) fn text<'a>(
    claims: &'a Claims,
    name: &str,
    label: &'static str,
) -> Result<Option<&'a str>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Refusal::ClaimMalformed(label)),
    }
}

/// A claim of text that sessions keep and that logs show: short, and without control characters.
pub(crate) fn name<'a>(
    claims: &'a Claims,
    name: &str,
    label: &'static str,
) -> Result<Option<&'a str>, Refusal> {
    let Some(text) = text(claims, name, label)? else { return Ok(None) };
    if text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(Refusal::ClaimMalformed(label));
    }
    Ok((!text.is_empty()).then_some(text))
}

/// A time in seconds since 1970. RFC 7519 allows fractions: they are cut off.
fn time(claims: &Claims, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(seconds.min(LATEST)));
    }
    match value.as_f64() {
        Some(seconds) if seconds >= 0.0 => Ok(Some((seconds as u64).min(LATEST))),
        _ => Err(Refusal::ClaimMalformed(name)),
    }
}

/// The year 9999: sums with it do not overflow.
const LATEST: u64 = 253_402_300_799;

/// What the claims of every token are compared with.
#[derive(Debug, Clone)]
pub(crate) struct ClaimRules {
    pub(crate) audiences: Vec<String>,
    pub(crate) leeway: u64,
    pub(crate) max_lifetime: Option<u64>,
}

/// The times of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) issued_at: Option<u64>,
    pub(crate) expires_at: u64,
}

impl ClaimRules {
    /// Checks the times and the audience.
    pub(crate) fn check(&self, claims: &Claims, now: u64) -> Result<Times, Refusal> {
        let expires_at = time(claims, "exp")?.ok_or(Refusal::ExpiryMissing)?;
        if now >= expires_at.saturating_add(self.leeway) {
            return Err(Refusal::Expired);
        }
        let issued_at = time(claims, "iat")?;
        // A token of the future would also escape the revocation of all that were issued before now.
        let not_before = time(claims, "nbf")?.max(issued_at);
        if not_before.is_some_and(|start| now.saturating_add(self.leeway) < start) {
            return Err(Refusal::NotYetValid);
        }
        let latest = self.max_lifetime.map(|most| now.saturating_add(most).saturating_add(self.leeway));
        if latest.is_some_and(|latest| expires_at > latest) {
            return Err(Refusal::LifetimeTooLong);
        }
        self.check_audience(claims)?;
        Ok(Times { issued_at, expires_at })
    }

    /// RFC 7519 §4.1.3: a token with an audience is for nobody else, so it is refused where none is configured.
    fn check_audience(&self, claims: &Claims) -> Result<(), Refusal> {
        let wanted = |audience: &str| self.audiences.iter().any(|configured| configured.as_str() == audience);
        let is_for_us = match claims.get("aud") {
            None => self.audiences.is_empty(),
            Some(Value::String(audience)) => wanted(audience),
            Some(Value::Array(list)) => {
                let audiences: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
                audiences.ok_or(Refusal::ClaimMalformed("aud"))?.into_iter().any(wanted)
            }
            Some(_) => return Err(Refusal::ClaimMalformed("aud")),
        };
        if is_for_us { Ok(()) } else { Err(Refusal::AudienceMismatch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_token_is_told_from_what_clients_make_up() {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = encode(r#"{"alg":"none"}"#);
        for token in [
            format!("{header}.e30."),
            format!("{header}.e30.c2ln"),
            format!("{header}..."),
            "e30.e30.".to_owned(),
            format!("{}.a.b", encode(" \n{\"alg\":\"HS256\"}")),
            format!("{}.a.b", encode(&format!("{{\"alg\":\"HS256\",\"x\":\"{}\"}}", "y".repeat(9000)))),
            "eyJhbGciOiJkaXIifQ.a.b.c.d".to_owned(),
        ] {
            assert!(looks_like_token(&token), "{token}");
        }
        // The second is how peerjs makes its own: Math.random().toString(36).slice(2).
        for other in [
            "",
            "k2j1q9x0z7d",
            "a.b.c",
            "..",
            "eyJ",
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJhbGciOiJIUzI1NiJ9.x",
            "é.é.é",
        ] {
            assert!(!looks_like_token(other), "{other}");
        }
    }

    #[test]
    fn times_are_whole_seconds_whatever_they_are_written_as() {
        let claims = |json: &str| -> Claims { serde_json::from_str(json).unwrap() };
        assert_eq!(time(&claims(r#"{"exp":12}"#), "exp"), Ok(Some(12)));
        assert_eq!(time(&claims(r#"{"exp":12.9}"#), "exp"), Ok(Some(12)));
        assert_eq!(time(&claims(r#"{"exp":1e300}"#), "exp"), Ok(Some(LATEST)));
        assert_eq!(time(&claims(r#"{"exp":18446744073709551615}"#), "exp"), Ok(Some(LATEST)));
        assert_eq!(time(&claims("{}"), "exp"), Ok(None));
        for bad in [r#"{"exp":-1}"#, r#"{"exp":"12"}"#, r#"{"exp":null}"#] {
            assert_eq!(time(&claims(bad), "exp"), Err(Refusal::ClaimMalformed("exp")), "{bad}");
        }
    }
}
