//! Who may: one verdict guards whatever a client asks for.
//!
//! - [`tokens`]: the policy that judges JSON Web Tokens.

pub mod tokens;

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use signalbox_auth::Refusal;
pub use signalbox_auth::{Expiry, Principal, Revocation};
use signalbox_telemetry::{Metrics, declaration::Series, metrics::families::AUTHENTICATIONS};

use crate::panics::{Panicked, guarded, guarded_future, report};
pub use tokens::{TokenPolicy, WithoutRedis};

/// A client's HTTP request, as far as a verdict may depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The client's address, behind the proxies that are trusted.
    pub address: Option<IpAddr>,
    /// The query, undecoded. It may hold a token: never log it.
    pub query: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Handshake {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Who the client of a session is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClient {
    /// The holder of the token that it has shown: in the namespace that it joined first, or else with the request that opened the session.
    pub principal: Option<Arc<Principal>>,
    /// Its address, behind the proxies that are trusted.
    pub address: Option<IpAddr>,
}

/// What is asked.
#[derive(Debug)]
pub enum AccessRequest<'a> {
    /// May this client open a session at all?
    Handshake(&'a Handshake),
    /// May it join this namespace?
    Namespace {
        /// What the policy keeps of the request that opened the session; `None` once the client has joined a namespace.
        handshake: Option<&'a Handshake>,
        /// The namespace.
        namespace: &'a str,
        /// The CONNECT payload, JSON.
        auth: Option<&'a str>,
    },
    /// May it hold this peer id?
    Claim {
        /// The client's request.
        handshake: &'a Handshake,
        /// The realm's key.
        key: &'a str,
        /// The id.
        id: &'a str,
        /// Its token.
        token: &'a str,
    },
    /// May it list the peers of a realm?
    Discover {
        /// The client's request.
        handshake: &'a Handshake,
        /// The realm's key.
        key: &'a str,
    },
    /// May it join this room?
    Join {
        /// The namespace.
        namespace: &'a str,
        /// The room.
        room: &'a str,
    },
    /// May it send something to this room? Asked for each message, like the next two: `Later` is a refusal.
    Send {
        /// The namespace.
        namespace: &'a str,
        /// The room.
        room: &'a str,
    },
    /// May it send something to one socket?
    Signal {
        /// The namespace.
        namespace: &'a str,
    },
    /// May it list the users of this namespace?
    Users {
        /// The namespace.
        namespace: &'a str,
    },
    /// May it go on with this token in place of the one in use?
    Refresh {
        /// The namespace.
        namespace: &'a str,
        /// The new token.
        token: &'a str,
    },
    /// May it send this event?
    Emit {
        /// The namespace.
        namespace: &'a str,
        /// The event's name.
        event: &'a str,
    },
}

impl AccessRequest<'_> {
    /// Whether the answer says who the client is.
    fn is_of_identity(&self) -> bool {
        matches!(
            self,
            Self::Namespace { .. } | Self::Claim { .. } | Self::Discover { .. } | Self::Refresh { .. }
        )
    }

    /// What is asked, in a word.
    fn name(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "handshake",
            Self::Namespace { .. } => "namespace",
            Self::Claim { .. } => "claim",
            Self::Discover { .. } => "discover",
            Self::Join { .. } => "join",
            Self::Send { .. } => "send",
            Self::Signal { .. } => "signal",
            Self::Users { .. } => "users",
            Self::Refresh { .. } => "refresh",
            Self::Emit { .. } => "emit",
        }
    }
}

/// A refusal, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// A short code, e.g. `forbidden`; `internal-error` also closes the session.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// JSON for the client, in a CONNECT_ERROR. `None`: an object with the code.
    pub data: Option<String>,
    /// The same may well be allowed a moment later: a PeerServer client is not told that it is over.
    pub is_transient: bool,
    /// The token that was shown is no good, now or later: a connection that shows many such is closed.
    pub is_bad_token: bool,
}

impl Denial {
    /// A refusal that is final.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None, is_transient: false, is_bad_token: false }
    }

    /// What a CONNECT_ERROR carries as `data`.
    pub(crate) fn connect_data(&self) -> String {
        self.data.clone().unwrap_or_else(|| format!("{{\"code\":\"{}\"}}", self.code))
    }

    /// The code of the refusal that a policy gives by a panic.
    pub(crate) const FAILED: &'static str = "internal-error";

    /// Whether nobody knows whether the token is good.
    pub(crate) fn is_unjudged(&self) -> bool {
        let codes = [Refusal::KeysUnavailable.code(), Refusal::RevocationsUnknown.code()];
        self.is_failure() || codes.contains(&self.code)
    }

    /// Whether the policy has panicked.
    pub(crate) fn is_failure(&self) -> bool {
        self.code == Self::FAILED
    }
}

/// The answer.
pub enum Verdict {
    /// Yes.
    Allow,
    /// Yes, and this is who it is.
    AllowAs(Arc<Principal>),
    /// No.
    Deny(Denial),
    /// It takes a while; what the client sends meanwhile waits. A verdict of `Later` in it is taken as a refusal.
    Later(Pin<Box<dyn Future<Output = Verdict> + Send>>),
}

/// Decides. Called on every event, so a verdict that can be given at once should be. A panic refuses, and closes the session of the
/// client in question.
pub trait Policy: Send + Sync + 'static {
    /// Answers a question about the client that is `principal`: in a namespace who its verdict there said, before that who the verdict on
    /// the handshake said.
    fn decide(&self, principal: Option<&Arc<Principal>>, ask: AccessRequest<'_>) -> Verdict;

    /// Whether the answer to this means judging a token, which takes much longer than anything else that is asked: a connection may have
    /// it done so often only.
    fn judges_token(&self, principal: Option<&Arc<Principal>>, ask: &AccessRequest<'_>) -> bool {
        let _ = (principal, ask);
        false
    }

    /// Whether somebody who has claimed this id of a realm may go on holding it with another token.
    fn may_hold(&self, principal: &Principal, key: &str, id: &str) -> bool {
        let _ = (principal, key, id);
        true
    }

    /// Whether its verdicts on namespaces need this header (in lower case) of the request that opened the session. All others are
    /// forgotten when the session opens.
    fn keeps_header(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// The same for the query.
    fn keeps_query(&self) -> bool {
        false
    }

    /// An id for a peer of this realm, by which the policy knows later that it was issued here. `None`: any id will do.
    fn generate_id(&self, key: &str) -> Option<String> {
        let _ = key;
        None
    }

    /// When somebody is warned, and when they have to go. `None`: never.
    fn expiry(&self, principal: &Principal) -> Option<Expiry> {
        let _ = principal;
        None
    }

    /// Refuses these tokens from now on. Returns those of them that are news.
    fn revoke(&self, revocations: &[Revocation]) -> Vec<Revocation> {
        let _ = revocations;
        Vec::new()
    }

    /// All that it refuses as revoked.
    fn revocations(&self) -> Vec<Revocation> {
        Vec::new()
    }

    /// Whether a token that it found good is revoked by now.
    fn is_revoked(&self, principal: &Principal) -> bool {
        let _ = principal;
        false
    }

    /// Whether the node knows what was revoked on other nodes. One that is alone always does, and is not told.
    fn set_revocations_current(&self, is_current: bool) {
        let _ = is_current;
    }

    /// How many tokens it has found good, since it was asked last, although the node could not know whether they were revoked.
    fn take_unchecked(&self) -> u64 {
        0
    }

    /// The secret that all nodes of the cluster share, and nobody else; it may change. A node that is alone has none.
    fn cluster_secret(&self, secret: &str) {
        let _ = secret;
    }
}

/// A policy that cannot harm a shard: where it panics, its answer is a refusal, and the session that asked is closed.
pub(crate) struct GuardedPolicy {
    policy: Arc<dyn Policy>,
    metrics: Arc<Metrics>,
}

impl GuardedPolicy {
    pub(crate) fn new(policy: Arc<dyn Policy>, metrics: Metrics) -> Self {
        Self { policy, metrics: Arc::new(metrics) }
    }

    /// The policy's answer.
    pub(crate) fn decide(&self, principal: Option<&Arc<Principal>>, ask: AccessRequest<'_>) -> Verdict {
        let (asked, is_of_identity) = (ask.name(), ask.is_of_identity());
        let verdict = match guarded(|| self.policy.decide(principal, ask)) {
            Ok(Verdict::Later(later)) => {
                let metrics = self.metrics.clone();
                return Verdict::Later(Box::pin(async move {
                    let verdict = guarded_future(later).await;
                    let verdict = verdict.unwrap_or_else(|Panicked| Self::failed(&metrics, asked));
                    count(&metrics, is_of_identity, &verdict);
                    verdict
                }));
            }
            Ok(verdict) => verdict,
            Err(Panicked) => Self::failed(&self.metrics, asked),
        };
        count(&self.metrics, is_of_identity, &verdict);
        verdict
    }

    /// Whether its answer means judging a token; if it cannot say, it does.
    pub(crate) fn judges_token(&self, principal: Option<&Arc<Principal>>, ask: &AccessRequest<'_>) -> bool {
        guarded(|| self.policy.judges_token(principal, ask)).unwrap_or(true)
    }

    /// Whether somebody may go on holding an id with this token; without an answer, not.
    pub(crate) fn may_hold(&self, principal: &Principal, key: &str, id: &str) -> bool {
        guarded(|| self.policy.may_hold(principal, key, id)).unwrap_or(false)
    }

    /// Whether the policy needs this header later. If it cannot say, it is not kept.
    pub(crate) fn keeps_header(&self, name: &str) -> bool {
        guarded(|| self.policy.keeps_header(name)).unwrap_or(false)
    }

    /// The same for the query.
    pub(crate) fn keeps_query(&self) -> bool {
        guarded(|| self.policy.keeps_query()).unwrap_or(false)
    }

    /// When somebody is warned, and has to go; without an answer, never.
    pub(crate) fn expiry(&self, principal: &Principal) -> Option<Expiry> {
        guarded(|| self.policy.expiry(principal)).unwrap_or(None)
    }

    /// An id that the policy knows again, if it wants to.
    pub(crate) fn generate_id(&self, key: &str) -> Option<String> {
        guarded(|| self.policy.generate_id(key)).unwrap_or(None)
    }

    /// Refuses these tokens; those that are news.
    pub(crate) fn revoke(&self, revocations: &[Revocation]) -> Vec<Revocation> {
        guarded(|| self.policy.revoke(revocations)).unwrap_or_default()
    }

    /// All that is revoked.
    pub(crate) fn revocations(&self) -> Vec<Revocation> {
        guarded(|| self.policy.revocations()).unwrap_or_default()
    }

    /// Whether a token is revoked; without an answer it is, since nobody would ask again.
    pub(crate) fn is_revoked(&self, principal: &Principal) -> bool {
        guarded(|| self.policy.is_revoked(principal)).unwrap_or(true)
    }

    /// Whether the node knows what was revoked on other nodes.
    pub(crate) fn set_revocations_current(&self, is_current: bool) {
        let _ = guarded(|| self.policy.set_revocations_current(is_current));
    }

    /// Tokens found good that may have been revoked, since the last call.
    pub(crate) fn take_unchecked(&self) -> u64 {
        guarded(|| self.policy.take_unchecked()).unwrap_or_default()
    }

    fn failed(metrics: &Metrics, asked: &'static str) -> Verdict {
        report(metrics, "policy", asked);
        Verdict::Deny(Denial::new(Denial::FAILED, "internal error"))
    }
}

/// Counts a verdict on who a client is.
fn count(metrics: &Metrics, is_of_identity: bool, verdict: &Verdict) {
    if !is_of_identity {
        return;
    }
    let outcome = match verdict {
        Verdict::AllowAs(_) => "accepted",
        Verdict::Allow => "anonymous",
        Verdict::Deny(denial) if is_own_code(denial.code) => denial.code,
        Verdict::Deny(_) | Verdict::Later(_) => "other",
    };
    metrics.authentications.with_label_values(&[outcome]).inc();
}

/// Whether a code is one that has a series: those of an application have none.
fn is_own_code(code: &str) -> bool {
    match AUTHENTICATIONS {
        Series::Known(rows) => rows.iter().any(|row| row[0] == code),
        Series::Bounded(_) => false,
    }
}

/// Allows everything: what there is unless somebody asks for authentication.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn decide(&self, _: Option<&Arc<Principal>>, _: AccessRequest<'_>) -> Verdict {
        Verdict::Allow
    }
}

/// A verdict that is not `Later`.
#[derive(Debug)]
pub(crate) enum Decided {
    Allow(Option<Arc<Principal>>),
    Deny(Denial),
}

impl Verdict {
    /// The decision, or what to wait for.
    pub(crate) fn now(self) -> Result<Decided, Pin<Box<dyn Future<Output = Verdict> + Send>>> {
        Ok(match self {
            Self::Allow => Decided::Allow(None),
            Self::AllowAs(principal) => Decided::Allow(Some(principal)),
            Self::Deny(denial) => Decided::Deny(denial),
            Self::Later(later) => return Err(later),
        })
    }

    /// The decision, however long it takes.
    pub(crate) async fn decided(self) -> Decided {
        let undecided = || Decided::Deny(Denial::new("forbidden", "the policy could not decide"));
        match self.now() {
            Ok(decided) => decided,
            Err(later) => later.await.now().unwrap_or_else(|_| undecided()),
        }
    }
}
