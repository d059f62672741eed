//! Keys that tokens are checked with. Each knows the algorithms that it is for: a token never chooses.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

use crate::setup::SetupError;

/// Fewest bytes of an HMAC secret.
pub const MIN_SECRET: usize = 32;
/// Fewest bytes of an RSA modulus: 2048 bits.
const MIN_MODULUS: usize = 256;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// How the names of the two curves stand in DER.
const P256_OID: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384_OID: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// An HMAC secret, which signs as well as it checks. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacSecret(Vec<u8>);

impl HmacSecret {
    /// Takes a secret of 32 bytes or more, as it is: nothing is decoded.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, SetupError> {
        let secret = secret.into();
        if secret.len() < MIN_SECRET {
            Err(SetupError::SecretTooShort(secret.len()))
        } else {
            Ok(Self(secret))
        }
    }

    /// Takes the content of a file, but for one line ending at its end, which editors add.
    pub fn from_file_content(content: &[u8]) -> Result<Self, SetupError> {
        let line = content.strip_suffix(b"\n").unwrap_or(content);
        Self::new(line.strip_suffix(b"\r").unwrap_or(line))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HmacSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacSecret")
    }
}

/// A key, with all that may be signed for it.
#[derive(Clone)]
pub struct Key {
    /// Its name in a key set.
    kid: Option<Box<str>>,
    algorithms: &'static [Algorithm],
    /// The one of those algorithms that a key set names.
    only: Option<Algorithm>,
    key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl Key {
    fn new(algorithms: &'static [Algorithm], key: DecodingKey) -> Self {
        Self { kid: None, algorithms, only: None, key }
    }

    /// A key that checks HS256, HS384 and HS512.
    pub fn hmac(secret: &HmacSecret) -> Result<Self, SetupError> {
        let too_short = |_| SetupError::SecretTooShort(secret.bytes().len());
        Ok(Self::new(HMAC, DecodingKey::from_secret(secret.bytes()).map_err(too_short)?))
    }

    /// The public keys in a PEM text: one or more `PUBLIC KEY` or `RSA PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, SetupError> {
        let blocks = text.split("-----BEGIN ").skip(1);
        let keys = blocks.map(|block| Self::from_block(&format!("-----BEGIN {block}")));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(SetupError::NoPem) } else { Ok(keys) }
    }

    fn from_block(block: &str) -> Result<Self, SetupError> {
        let label = block.trim_start_matches("-----BEGIN ").split("-----").next().unwrap_or_default();
        if label.ends_with("PRIVATE KEY") {
            return Err(SetupError::PrivateKey);
        }
        if label == "CERTIFICATE" {
            return Err(SetupError::Certificate);
        }
        let bad = |_| SetupError::BadPem;
        let pem = block.as_bytes();
        if label == "RSA PUBLIC KEY" {
            return Self::rsa(DecodingKey::from_rsa_pem(pem).map_err(bad)?);
        }
        if label != "PUBLIC KEY" {
            return Err(SetupError::BadPem);
        }
        // Other curves have points of the same length, so the curve is known by its name alone.
        let der = der_of(block).ok_or(SetupError::BadPem)?;
        let names = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let algorithms = if names(P256_OID) {
                P256
            } else if names(P384_OID) {
                P384
            } else {
                return Err(SetupError::BadPem);
            };
            return Ok(Self::new(algorithms, key));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Ok(Self::new(ED25519, key));
        }
        Self::rsa(DecodingKey::from_rsa_pem(pem).map_err(bad)?)
    }

    fn rsa(key: DecodingKey) -> Result<Self, SetupError> {
        let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| SetupError::BadPem)?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| SetupError::BadPem)?;
        if !is_long_enough(&key) {
            return Err(SetupError::RsaTooShort);
        }
        Ok(Self::new(RSA, key))
    }

    /// A key of a key set; `None` where it is of no use here. A set may have keys for other purposes, and of kinds yet to come.
    /// `may_be_secret`: whether an HMAC secret is accepted, which must never come from a place that others read.
    pub(crate) fn from_jwk(jwk: &Value, may_be_secret: bool) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk.clone()).ok()?;
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return None;
        }
        if common.key_operations.as_ref().is_some_and(|may| !may.contains(&KeyOperations::Verify)) {
            return None;
        }
        let algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => P256,
                EllipticCurve::P384 => P384,
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => ED25519,
            AlgorithmParameters::OctetKey(_) if may_be_secret => HMAC,
            _ => return None,
        };
        let only = match common.key_algorithm {
            None => None,
            Some(named) => Some(algorithm_named(named).filter(|named| algorithms.contains(named))?),
        };
        let key = DecodingKey::from_jwk(&jwk).ok().filter(is_long_enough)?;
        Some(Self { kid: common.key_id.as_deref().map(Into::into), algorithms, only, key })
    }

    /// Its name in a key set.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether tokens of this algorithm may be signed for it.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        match self.only {
            Some(only) => only == algorithm,
            None => self.algorithms.contains(&algorithm),
        }
    }

    pub(crate) fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }
}

fn algorithm_named(name: KeyAlgorithm) -> Option<Algorithm> {
    Algorithm::try_from(name).ok()
}

/// Whether a key has as many bytes as its kind needs.
fn is_long_enough(key: &DecodingKey) -> bool {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            n.iter().skip_while(|byte| **byte == 0).count() >= MIN_MODULUS
        }
        DecodingKeyKind::SecretOrDer(bytes) => bytes.len() >= MIN_SECRET,
    }
}

/// What a PEM block contains.
fn der_of(block: &str) -> Option<Vec<u8>> {
    let lines = block.lines().skip(1).take_while(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.map(str::trim).collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_long_enough_and_never_shown() {
        assert_eq!(HmacSecret::new("x".repeat(31)), Err(SetupError::SecretTooShort(31)));
        let secret = HmacSecret::new("x".repeat(32)).unwrap();
        assert!(!format!("{secret:?} {:?}", Key::hmac(&secret).unwrap()).contains("xx"));
        let line = format!("{}\r\n", "x".repeat(32));
        assert_eq!(HmacSecret::from_file_content(line.as_bytes()).unwrap(), secret);
        assert_eq!(HmacSecret::from_file_content(b"\n\n"), Err(SetupError::SecretTooShort(1)));
    }

    #[test]
    fn the_kind_of_a_public_key_says_what_may_be_signed_for_it() {
        for (kind, algorithms) in [
            (&PKCS_ECDSA_P256_SHA256, P256),
            (&PKCS_ECDSA_P384_SHA384, P384),
            (&PKCS_ED25519, ED25519),
            (&PKCS_RSA_SHA256, RSA),
        ] {
            let pem = KeyPair::generate_for(kind).unwrap().public_key_pem();
            let keys = Key::from_pem(&pem).unwrap();
            assert_eq!(keys[0].algorithms, algorithms);
            assert!(!keys[0].is_for(Algorithm::HS256));
            assert_eq!(Key::from_pem(&format!("# both\n{pem}\n{pem}")).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_file_that_is_no_public_key_is_refused_with_the_remedy() {
        let pair = KeyPair::generate().unwrap();
        let refusal = |text: &str| Key::from_pem(text).unwrap_err();
        assert_eq!(refusal(""), SetupError::NoPem);
        assert_eq!(refusal("ssh-ed25519 AAAA"), SetupError::NoPem);
        assert_eq!(refusal(&pair.serialize_pem()), SetupError::PrivateKey);
        let rsa_private = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(refusal(rsa_private), SetupError::PrivateKey);
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap().pem();
        assert_eq!(refusal(&certificate), SetupError::Certificate);
        assert_eq!(
            refusal("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
            SetupError::BadPem
        );
        assert_eq!(refusal("-----BEGIN PUBLIC KEY-----\n"), SetupError::BadPem);
        // P-256 under the name of a curve with points as long.
        let body = STANDARD.encode({
            let mut der = der_of(&pair.public_key_pem()).unwrap();
            let at = der.windows(P256_OID.len()).position(|window| window == P256_OID).unwrap();
            der[at + P256_OID.len() - 1] = 0x01;
            der
        });
        let renamed = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        assert_eq!(refusal(&renamed), SetupError::BadPem);
    }

    #[test]
    fn keys_of_a_set_that_are_of_no_use_are_passed_over() {
        let good = json!({
            "kty": "EC", "crv": "P-256", "kid": "1",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        });
        let with = |changes: &[(&str, Value)]| {
            let mut jwk = good.clone();
            for (name, value) in changes {
                jwk[*name] = value.clone();
            }
            Key::from_jwk(&jwk, false)
        };
        let key = with(&[]).unwrap();
        assert_eq!(key.kid(), Some("1"));
        assert!(key.is_for(Algorithm::ES256) && !key.is_for(Algorithm::ES384));
        assert!(with(&[("use", json!("sig")), ("alg", json!("ES256"))]).is_some());
        assert!(with(&[("key_ops", json!(["verify"]))]).is_some());
        for changes in [
            ("use", json!("enc")),
            ("key_ops", json!(["encrypt"])),
            ("alg", json!("HS256")),
            ("alg", json!("ECDH-ES")),
            ("crv", json!("secp256k1")),
            ("kty", json!("AKP")),
            ("kid", json!(7)),
        ] {
            assert!(with(std::slice::from_ref(&changes)).is_none(), "{changes:?}");
        }
        let secret = json!({"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"});
        assert!(Key::from_jwk(&secret, false).is_none());
        assert!(Key::from_jwk(&secret, true).unwrap().is_for(Algorithm::HS512));
        assert!(Key::from_jwk(&json!({"kty": "oct", "k": "AAAA"}), true).is_none());
        assert!(Key::from_jwk(&json!({"kty": "RSA", "n": "AAAA", "e": "AQAB"}), false).is_none());
    }

    /// RFC 8037 appendix A.4, whose payload is no JSON: only its signature can be checked.
    #[test]
    fn the_vector_of_rfc_8037_is_verified() {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let key = Key::from_jwk(&jwk, false).unwrap();
        assert!(key.is_for(Algorithm::EdDSA));
        let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature =
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let verify = |message: &str| {
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), key.decoding_key(), Algorithm::EdDSA)
        };
        assert!(verify(message).unwrap());
        assert!(!verify(&message.replace("RXh", "RXH")).unwrap());
    }
}
