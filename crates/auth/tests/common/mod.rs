//! What the tests share: keys made when they run, tokens with any header and any claims, and a fixed time.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(unreachable_pub, reason = "a module of several tests")]

use std::time::Instant;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData as _,
};
use serde_json::{Value, json};
use signalbox_auth::{Authenticator, HmacSecret, Issuer, Key, KeySet, Mode, Now, Settings};

/// The time in these tests.
pub const NOW: u64 = 1_800_000_000;

pub fn now() -> Now {
    Now { unix: NOW, monotonic: Instant::now() }
}

pub fn secret() -> HmacSecret {
    HmacSecret::new(*b"only for tests, 32 bytes or more").unwrap()
}

/// A key pair with the algorithm that the tests sign with by default.
pub struct Pair {
    pub algorithm: Algorithm,
    pub pair: KeyPair,
}

impl Pair {
    pub fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        Self { algorithm, pair: KeyPair::generate_for(kind).unwrap() }
    }

    pub fn signing_key(&self) -> EncodingKey {
        let pem = self.pair.serialize_pem();
        match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .unwrap()
    }

    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// The public key as it stands in a key set; of elliptic curves only.
    pub fn jwk(&self, kid: &str) -> Value {
        let point = self.pair.der_bytes();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self.algorithm {
            Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(point)}),
            _ => {
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                let curve = if self.algorithm == Algorithm::ES256 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "kid": kid, "x": encode(x), "y": encode(y)})
            }
        }
    }

    /// A good token with this `kid`.
    pub fn token(&self, kid: &str) -> String {
        let header = json!({"alg": self.algorithm, "kid": kid});
        sign(&header, &good_claims(), self.algorithm, &self.signing_key())
    }
}

pub fn hmac_key(bytes: &[u8]) -> EncodingKey {
    EncodingKey::from_secret(bytes).unwrap()
}

/// Signs any header and any payload: what libraries refuse to make, attackers do not.
pub fn sign(header: &Value, payload: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    sign_texts(&header.to_string(), &payload.to_string(), algorithm, key)
}

pub fn sign_texts(header: &str, payload: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub fn good_claims() -> Value {
    json!({"sub": "alice", "exp": NOW + 600, "iat": NOW - 10})
}

/// A token of the shared secret with some of the good claims changed; `null` takes one away.
pub fn token_with(changes: Value) -> String {
    let mut claims = good_claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    sign(&json!({"alg": "HS256", "typ": "JWT"}), &claims, Algorithm::HS256, &hmac_key(SECRET))
}

pub const SECRET: &[u8] = b"only for tests, 32 bytes or more";

/// Settings that require a token of the shared secret.
pub fn settings() -> Settings {
    settings_with(vec![Key::hmac(&secret()).unwrap()], KeySet::None)
}

pub fn settings_with(keys: Vec<Key>, set: KeySet) -> Settings {
    Settings { mode: Mode::Required, issuers: vec![Issuer { name: None, keys, set }], ..Settings::default() }
}

pub fn authenticator(settings: Settings) -> Authenticator {
    Authenticator::new(settings).unwrap()
}
