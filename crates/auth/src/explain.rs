//! Why something is allowed or not: the verdict of the server, told to people. There is no second opinion: it calls what the server
//! calls.

use std::fmt;

use crate::{
    authenticator::{Authenticator, Identity, Outcome},
    grants::{Action, Because, Decision, Grant},
    refusal::Refusal,
    revocation::Revocations,
    time::Now,
};

/// A verdict, with its reason. It holds nothing of the token but the subject and its patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the action is allowed.
    pub allowed: bool,
    /// The subject; `None` for an anonymous client, and for a refused token.
    pub subject: Option<String>,
    /// The code of the refusal, of the token or of the action.
    pub code: Option<&'static str>,
    /// What decides: the refusal of the token, or the grant, pattern or limit.
    pub reason: String,
    /// The grant that decides, by its place in the JSON.
    pub grant: Option<&'static str>,
    /// The pattern of it that matches, as it was written.
    pub pattern: Option<String>,
    /// The most that there may be, where a limit decides.
    pub most: Option<u64>,
}

impl Explanation {
    /// Of somebody who is known.
    pub fn of(identity: &Identity, action: &Action<'_>) -> Self {
        let subject = identity.principal().map(|principal| principal.subject.to_string());
        Self::of_decision(subject, identity.grants().decide(action))
    }

    fn of_decision(subject: Option<String>, decision: Decision<'_>) -> Self {
        Self {
            allowed: decision.allowed,
            subject,
            code: decision.code(),
            reason: decision.because.to_string(),
            grant: decision.because.grant().map(Grant::name),
            pattern: match decision.because {
                Because::Pattern { pattern, .. } => Some(pattern.to_owned()),
                _ => None,
            },
            most: match decision.because {
                Because::Limit { most, .. } => Some(most),
                _ => None,
            },
        }
    }

    /// Of somebody whose token is refused.
    pub fn of_refusal(refusal: &Refusal) -> Self {
        Self {
            allowed: false,
            subject: None,
            code: Some(refusal.code()),
            reason: refusal.to_string(),
            grant: None,
            pattern: None,
            most: None,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "allowed" } else { "refused" };
        write!(f, "{verdict}: {}", self.reason)
    }
}

impl Authenticator {
    /// What becomes of an action with this token, or without one, and why.
    pub fn explain(
        &self,
        token: Option<&str>,
        action: &Action<'_>,
        revocations: &Revocations,
        now: Now,
    ) -> Explanation {
        match self.authenticate(token, revocations, now) {
            Outcome::Accepted(identity) => Explanation::of(&identity, action),
            Outcome::Refused(refusal) | Outcome::AwaitKeys(refusal) => Explanation::of_refusal(&refusal),
        }
    }
}
