//! Who is it? A token, or none, goes in; who it is, or why not, comes out.

use std::{collections::HashSet, sync::Arc};

use crate::{
    grants::{Grants, GrantsError, GrantsSpec},
    principal::Principal,
    refusal::Refusal,
    revocation::{Lifetimes, Revocations},
    setup::SetupError,
    time::Now,
    token::{self, ClaimRules, Claims, Failure, Issuer, KeySet, looks_like_token},
};

/// Whether tokens are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nobody is asked, and everybody may do everything.
    #[default]
    Off,
    /// What looks like a token is checked, and refused when it is bad. Anything else is an anonymous client.
    Optional,
    /// There must be a good token.
    Required,
}

/// All that authentication depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether tokens are asked for.
    pub mode: Mode,
    /// Whose tokens are trusted.
    pub issuers: Vec<Issuer>,
    /// What `aud` must contain, one of these. Empty: a token must have none.
    pub audiences: Vec<String>,
    /// How far the clocks of issuers may be off, in seconds; default 10.
    pub leeway: u64,
    /// How far away `exp` may be, in seconds; default: any distance. Revocations by subject and of all tokens are kept this long.
    pub max_lifetime: Option<u64>,
    /// The name of the claim with the grants; default `signalbox`.
    pub grants_claim: String,
    /// The name of the claim by which two sessions of one subject are told apart; default `session`.
    pub session_claim: String,
    /// What clients may do whose token has no grants; default: everything.
    pub default_grants: Option<GrantsSpec>,
    /// What clients may do that have no token; default: everything.
    pub anonymous_grants: Option<GrantsSpec>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: 10,
            max_lifetime: None,
            grants_claim: "signalbox".to_owned(),
            session_claim: "session".to_owned(),
            default_grants: None,
            anonymous_grants: None,
        }
    }
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular, who may do this.
    Anonymous(Arc<Grants>),
    /// The holder of a token.
    Known(Arc<Principal>),
}

impl Identity {
    /// What they may do.
    pub fn grants(&self) -> &Arc<Grants> {
        match self {
            Self::Anonymous(grants) => grants,
            Self::Known(principal) => &principal.grants,
        }
    }

    /// The holder of a token.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        match self {
            Self::Anonymous(_) => None,
            Self::Known(principal) => Some(principal),
        }
    }
}

/// What comes of a token, or of none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This is who it is.
    Accepted(Identity),
    /// It is refused.
    Refused(Refusal),
    /// Keys are being fetched that may make it good. Ask again when the fetcher has news; whoever cannot wait refuses with this.
    AwaitKeys(Refusal),
}

impl Outcome {
    /// For those who do not wait for keys.
    pub fn now(self) -> Result<Identity, Refusal> {
        match self {
            Self::Accepted(identity) => Ok(identity),
            Self::Refused(refusal) | Self::AwaitKeys(refusal) => Err(refusal),
        }
    }
}

/// Says who somebody is. It is made anew when its settings change, e.g. when files are read again.
#[derive(Debug)]
pub struct Authenticator {
    mode: Mode,
    issuers: Vec<Issuer>,
    rules: ClaimRules,
    grants_claim: String,
    session_claim: String,
    default_spec: Arc<GrantsSpec>,
    /// Those of all subjects at once, where no pattern names the subject.
    shared_default: Option<Arc<Grants>>,
    anonymous: Arc<Grants>,
}

impl Authenticator {
    /// Checks the settings.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        for (name, which) in [(&settings.grants_claim, "grants"), (&settings.session_claim, "session")] {
            if name.is_empty() {
                return Err(SetupError::EmptyClaimName(which));
            }
        }
        let mut names = HashSet::new();
        if let Some(twice) = settings.issuers.iter().find(|issuer| !names.insert(&issuer.name)) {
            return Err(SetupError::IssuerTwice(twice.name.clone().unwrap_or_default()));
        }
        let has_keys = |issuer: &Issuer| !issuer.keys.is_empty() || !matches!(issuer.set, KeySet::None);
        if settings.mode != Mode::Off && !settings.issuers.iter().any(has_keys) {
            return Err(SetupError::NoKeys);
        }
        let everything = Arc::new(GrantsSpec::everything());
        let anonymous = match settings.anonymous_grants {
            Some(spec) if settings.mode != Mode::Off => {
                // A spec can be made without being read from a setting.
                let check = |spec: &GrantsSpec| GrantsSpec::from_anonymous_setting(&spec.to_json());
                Arc::new(check(&spec).map_err(SetupError::AnonymousGrants)?)
            }
            _ => everything.clone(),
        };
        let default_spec = match settings.default_grants {
            Some(spec) => {
                Arc::new(GrantsSpec::from_setting(&spec.to_json()).map_err(SetupError::DefaultGrants)?)
            }
            None => everything,
        };
        let shared_default =
            (!default_spec.names_subject()).then(|| Arc::new(Grants::new(default_spec.clone(), "")));
        Ok(Self {
            mode: settings.mode,
            issuers: settings.issuers,
            rules: ClaimRules {
                audiences: settings.audiences,
                leeway: settings.leeway,
                max_lifetime: settings.max_lifetime,
            },
            grants_claim: settings.grants_claim,
            session_claim: settings.session_claim,
            default_spec,
            shared_default,
            anonymous: Arc::new(Grants::new(anonymous, "")),
        })
    }

    /// Whether tokens are asked for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What clients may do that have no token.
    pub fn anonymous(&self) -> &Arc<Grants> {
        &self.anonymous
    }

    /// How far clocks may be off, in seconds.
    pub fn leeway(&self) -> u64 {
        self.rules.leeway
    }

    /// How long tokens may live here, which says how long their revocations are kept.
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes { longest: self.rules.max_lifetime, leeway: self.rules.leeway }
    }

    /// Judges a token, or its absence. An empty token is none.
    pub fn authenticate(&self, token: Option<&str>, revocations: &Revocations, now: Now) -> Outcome {
        let token = token.filter(|token| !token.is_empty());
        let token = match (self.mode, token) {
            (Mode::Off, _) => None,
            (Mode::Optional, token) => token.filter(|token| looks_like_token(token)),
            (Mode::Required, None) => return Outcome::Refused(Refusal::TokenMissing),
            (Mode::Required, token) => token,
        };
        let Some(token) = token else {
            return Outcome::Accepted(Identity::Anonymous(self.anonymous.clone()));
        };
        match self.principal(token, revocations, now) {
            Ok(principal) => Outcome::Accepted(Identity::Known(Arc::new(principal))),
            Err(Failure::Refused(refusal)) => Outcome::Refused(refusal),
            Err(Failure::AwaitKeys(refusal)) => Outcome::AwaitKeys(refusal),
        }
    }

    fn principal(&self, token: &str, revocations: &Revocations, now: Now) -> Result<Principal, Failure> {
        let claims = token::verify(token, &self.issuers, now)?;
        let times = self.rules.check(&claims, now.unix)?;
        let name = |claim, label| -> Result<Option<Arc<str>>, Refusal> {
            Ok(token::name(&claims, claim, label)?.map(Arc::from))
        };
        let subject = name("sub", "sub")?.ok_or(Refusal::SubjectMissing)?;
        let principal = Principal {
            issuer: name("iss", "iss")?,
            session: name(&self.session_claim, "session")?,
            token_id: name("jti", "jti")?,
            issued_at: times.issued_at,
            expires_at: times.expires_at,
            grants: self.grants(&claims, &subject).map_err(Refusal::GrantsMalformed)?,
            subject,
        };
        if revocations.revokes(&principal) {
            return Err(Refusal::Revoked.into());
        }
        Ok(principal)
    }

    fn grants(&self, claims: &Claims, subject: &str) -> Result<Arc<Grants>, GrantsError> {
        let spec = match (claims.get(&self.grants_claim), &self.shared_default) {
            (Some(claim), _) => Arc::new(GrantsSpec::from_claim(claim)?),
            (None, Some(shared)) => return Ok(shared.clone()),
            (None, None) => self.default_spec.clone(),
        };
        Ok(Arc::new(Grants::new(spec, subject)))
    }
}
