//! What can be wrong with the configuration. Each message names the setting and the remedy; none shows a secret.

use crate::grants::GrantsError;

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// An HMAC secret is too short to be one.
    #[error("jwt secret has {0} bytes, fewer than 32 (make one with: openssl rand -base64 48)")]
    SecretTooShort(usize),
    /// The secret for ids is too short to be one.
    #[error("secret for generated ids has {0} bytes, fewer than 32 (make one with: openssl rand -base64 48)")]
    IdSecretTooShort(usize),
    /// There is no PEM block in the file of a public key.
    #[error("jwt public key has no PEM block (it begins with -----BEGIN PUBLIC KEY-----)")]
    NoPem,
    /// The file has a private key, which has no business on a server that only checks.
    #[error("jwt public key is a private key (give the public one: openssl pkey -in KEY -pubout)")]
    PrivateKey,
    /// The file has a certificate.
    #[error("jwt public key is a certificate (take its key: openssl x509 -in CERT -pubkey -noout)")]
    Certificate,
    /// It is a PEM block, but no public key that can be used.
    #[error(
        "jwt public key is not readable, or of a kind that is not supported (use RSA, P-256, P-384 or Ed25519)"
    )]
    BadPem,
    /// An RSA key of fewer than 2048 bits.
    #[error("jwt public key is RSA of fewer than 2048 bits (make a longer one)")]
    RsaTooShort,
    /// The key set's file is no key set.
    #[error("jwks file is not usable: {0}")]
    BadJwks(#[from] crate::jwks_errors::JwksError),
    /// The key set's URL.
    #[error("jwks url {0}")]
    BadJwksUrl(#[from] crate::jwks_errors::JwksUrlError),
    /// Tokens are to be checked, and there is nothing to check them with.
    #[error(
        "auth is on, but there is no key to check tokens with (set --jwt-secret, --jwt-public-key or --jwks)"
    )]
    NoKeys,
    /// The same issuer is configured twice.
    #[error("jwt issuer {0:?} is configured twice (give all its keys together)")]
    IssuerTwice(String),
    /// The name of a claim is empty.
    #[error("the name of the {0} claim is empty (leave the setting out for its default)")]
    EmptyClaimName(&'static str),
    /// The default grants.
    #[error("default grants: {0}")]
    DefaultGrants(GrantsError),
    /// The anonymous grants.
    #[error("anonymous grants: {0}")]
    AnonymousGrants(GrantsError),
}
