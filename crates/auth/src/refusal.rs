//! Why a token is refused: a code for programs and a sentence for people. Neither repeats anything of the token.

use crate::grants::GrantsError;

/// Longest token in bytes.
pub const MAX_TOKEN: usize = 8192;
/// Longest subject, token id and session claim in bytes: sessions keep them.
pub const MAX_NAME: usize = 256;

/// Why a token, or its absence, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A token is required, and there is none.
    #[error(
        "a token is required (send it as auth.token, in an Authorization header, or as the parameter token)"
    )]
    TokenMissing,
    /// The token is longer than [`MAX_TOKEN`].
    #[error("the token is longer than {MAX_TOKEN} bytes (put less into it)")]
    TokenTooLarge,
    /// It is not three parts of base64url, of which the first two are JSON objects.
    #[error("the token is not a signed JSON Web Token in compact form")]
    TokenMalformed,
    /// Its `alg` is `none`.
    #[error("the token is not signed: its alg is none")]
    AlgorithmNone,
    /// Its `alg` is none of those that are implemented.
    #[error("the token's alg is not supported (use HS, RS, PS, ES256, ES384 or EdDSA)")]
    AlgorithmUnsupported,
    /// Its `alg` is not one that the configured keys are for, such as an HMAC where there are only public keys.
    #[error("the token's alg does not fit the keys that are configured")]
    AlgorithmMismatch,
    /// Its header has a `crit` parameter: it wants something understood that is not.
    #[error("the token's header has a crit parameter, and no extension is supported")]
    CriticalHeader,
    /// The key set has no key with its `kid`.
    #[error("the token's kid names a key that is not known")]
    KeyUnknown,
    /// The key set was never fetched successfully. This passes.
    #[error("the keys to check the token with are not available (try again)")]
    KeysUnavailable,
    /// The signature is not that of any key that could have made it.
    #[error("the token's signature is wrong")]
    SignatureInvalid,
    /// A registered claim has the wrong type or is too long.
    #[error("the token's claim {0} has a wrong type, or is too long")]
    ClaimMalformed(&'static str),
    /// No `exp`.
    #[error("the token has no exp claim: it would never expire")]
    ExpiryMissing,
    /// `exp` is past, leeway included.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is in the future, leeway included.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `exp` is further away than tokens may live here.
    #[error("the token lives longer than is allowed here")]
    LifetimeTooLong,
    /// No `iss`, but an issuer is configured.
    #[error("the token has no iss claim, and an issuer is required")]
    IssuerMissing,
    /// `iss` is not a configured issuer.
    #[error("the token is from an issuer that is not trusted here")]
    IssuerMismatch,
    /// `aud` lacks the configured audience; or it has an audience, and none is configured.
    #[error("the token is not for this audience")]
    AudienceMismatch,
    /// No `sub`, or an empty one.
    #[error("the token has no sub claim: it does not say whose it is")]
    SubjectMissing,
    /// The grants in the token cannot be read.
    #[error("the token's grants are not readable: {0}")]
    GrantsMalformed(GrantsError),
    /// It was revoked.
    #[error("the token has been revoked")]
    Revoked,
    /// Nobody can tell at present whether it was revoked, and who cannot be judged is to be refused.
    #[error("nobody can tell at present whether the token has been revoked (try again)")]
    RevocationsUnknown,
    /// A refresh with a token of somebody else.
    #[error("the new token is for another subject")]
    SubjectChanged,
}

impl Refusal {
    /// The code by which programs know it. It never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "token-missing",
            Self::TokenTooLarge => "token-too-large",
            Self::TokenMalformed => "token-malformed",
            Self::AlgorithmNone => "algorithm-none",
            Self::AlgorithmUnsupported => "algorithm-unsupported",
            Self::AlgorithmMismatch => "algorithm-mismatch",
            Self::CriticalHeader => "critical-header",
            Self::KeyUnknown => "key-unknown",
            Self::KeysUnavailable => "keys-unavailable",
            Self::SignatureInvalid => "signature-invalid",
            Self::ClaimMalformed(_) => "claim-malformed",
            Self::ExpiryMissing => "expiry-missing",
            Self::Expired => "token-expired",
            Self::NotYetValid => "not-yet-valid",
            Self::LifetimeTooLong => "lifetime-too-long",
            Self::IssuerMissing => "issuer-missing",
            Self::IssuerMismatch => "issuer-mismatch",
            Self::AudienceMismatch => "audience-mismatch",
            Self::SubjectMissing => "subject-missing",
            Self::GrantsMalformed(_) => "grants-malformed",
            Self::Revoked => "token-revoked",
            Self::RevocationsUnknown => "revocations-unknown",
            Self::SubjectChanged => "subject-changed",
        }
    }

    /// Whether the token was not judged at all, since something is missing here that it takes: it may be a good one.
    pub fn is_unjudged(&self) -> bool {
        matches!(self, Self::KeysUnavailable | Self::RevocationsUnknown)
    }

    /// Whether the same token may well be accepted a moment later: a client should try again, and not give up.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable | Self::KeyUnknown | Self::NotYetValid | Self::RevocationsUnknown
        )
    }
}
