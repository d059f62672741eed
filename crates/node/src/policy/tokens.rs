//! The policy that judges JSON Web Tokens: who a client is, and what its grants allow.
//!
//! A token is verified once for a namespace or a peer id; what is asked afterwards is answered from its grants, without allocating.
//! Nothing here repeats anything of a token but its subject.

mod judge;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use signalbox_auth::{
    Action, Authenticator, Decision, Expiry, GeneratedIds, Identity, Mode, Now, Outcome, Principal, Refusal,
    Revocation, Revocations, generated::NotGenerated,
};
use tokio::{sync::Notify, time::timeout};

use super::{AccessRequest, Denial, Handshake, Policy, Verdict};

/// How long a client waits at most for keys that are being fetched.
const KEYS_WAIT: Duration = Duration::from_secs(10);

/// How long an id from `/id` can be claimed, in seconds: `peerjs` claims it at once, and again after each loss of its connection.
const IDS_LIFETIME: u64 = 24 * 60 * 60;
/// Bytes of the key that signs ids.
const MAC_KEY: usize = 32;

/// Headers by which a client may show who it is before it joins a namespace, and those that say whether its cookie counts.
const KEPT_HEADERS: [&str; 4] = ["authorization", "cookie", "origin", "sec-fetch-site"];

/// Judges tokens. Cheap to clone; what it judges by can be replaced while it is in use.
#[derive(Debug, Clone)]
pub struct TokenPolicy(Arc<State>);

#[derive(Debug)]
struct State {
    authenticator: RwLock<Arc<Authenticator>>,
    revocations: RwLock<Arc<Revocations>>,
    /// The ids that the cluster issues, and the key in use.
    ids: RwLock<Option<(Arc<GeneratedIds>, [u8; MAC_KEY])>>,
    /// The cookie in which a browser shows its token.
    cookie: Option<String>,
    /// Told when keys were fetched, or could not be.
    keys: Notify,
    /// The node knows what was revoked on other nodes.
    knows_revocations: AtomicBool,
    /// While it does not, tokens are refused.
    needs_revocations: bool,
    /// Tokens found good meanwhile all the same.
    unchecked: AtomicU64,
}

/// What becomes of tokens while a node cannot know whether they were revoked, since Redis is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WithoutRedis {
    /// They are judged by what the node knows, and counted.
    #[default]
    Allow,
    /// They are refused for as long as that lasts. Who is connected stays.
    Refuse,
}

impl TokenPolicy {
    /// `cookie`: the name of the cookie in which a browser may show its token.
    pub fn new(authenticator: Authenticator, cookie: Option<String>, without_redis: WithoutRedis) -> Self {
        let state = State {
            authenticator: RwLock::new(Arc::new(authenticator)),
            revocations: RwLock::default(),
            ids: RwLock::default(),
            cookie,
            keys: Notify::new(),
            knows_revocations: AtomicBool::new(true),
            needs_revocations: without_redis == WithoutRedis::Refuse,
            unchecked: AtomicU64::new(0),
        };
        // Until there is a cluster that has one.
        state.set_ids(&rand::random::<[u8; MAC_KEY]>());
        Self(Arc::new(state))
    }

    /// Judges by other keys and grants from now on, e.g. because files were read again.
    pub fn replace(&self, authenticator: Authenticator) {
        *self.0.authenticator.write() = Arc::new(authenticator);
    }

    /// Who shows this token, where nobody can wait for keys.
    ///
    /// # Errors
    /// Why the token is no good, or that there is none.
    pub fn identify(&self, token: Option<&str>) -> Result<Identity, Refusal> {
        self.0.authenticate(token, Now::read()).now()
    }

    /// Whether a token that was found good is good still. Its grants and its signature are not judged again.
    ///
    /// # Errors
    /// It has expired or was revoked; or, while Redis is away, nobody can tell, and such tokens are to be refused.
    pub fn recheck(&self, principal: &Principal) -> Result<(), Refusal> {
        self.0.recheck(principal, Now::read())
    }

    /// Who judges its tokens.
    pub fn authenticator(&self) -> Arc<Authenticator> {
        self.0.authenticator()
    }

    /// Keys were fetched, or could not be: whoever waits for them asks again.
    pub fn keys_fetched(&self) {
        self.0.keys.notify_waiters();
    }
}

impl State {
    /// Issues ids with a key that follows from this secret, and goes on to know those of the one before.
    fn set_ids(&self, secret: &[u8]) {
        let key = ids_key(secret);
        let mut ids = self.ids.write();
        let older = ids.as_ref().map(|(_, key)| *key);
        if older == Some(key) {
            return;
        }
        let older = older.as_ref().map(|key| &key[..]);
        // It has the length that is asked for.
        if let Ok(issuing) = GeneratedIds::new(&key, older.as_slice(), IDS_LIFETIME) {
            *ids = Some((Arc::new(issuing), key));
        }
    }

    fn ids(&self) -> Option<Arc<GeneratedIds>> {
        self.ids.read().as_ref().map(|(ids, _)| ids.clone())
    }

    fn authenticator(&self) -> Arc<Authenticator> {
        self.authenticator.read().clone()
    }

    fn authenticate(&self, token: Option<&str>, now: Now) -> Outcome {
        let revocations = self.revocations.read().clone();
        match self.authenticator().authenticate(token, &revocations, now) {
            Outcome::Accepted(Identity::Known(principal)) => match self.check_currency() {
                Ok(()) => Outcome::Accepted(Identity::Known(principal)),
                Err(refusal) => Outcome::Refused(refusal),
            },
            outcome => outcome,
        }
    }

    /// Whether a token may be found good now that may have been revoked without this node's knowing; counts those that are.
    fn check_currency(&self) -> Result<(), Refusal> {
        if self.knows_revocations.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.needs_revocations {
            return Err(Refusal::RevocationsUnknown);
        }
        self.unchecked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a token that was good is good still.
    fn recheck(&self, principal: &Principal, now: Now) -> Result<(), Refusal> {
        if now.unix >= principal.expires_at.saturating_add(self.authenticator().leeway()) {
            return Err(Refusal::Expired);
        }
        if self.revocations.read().revokes(principal) {
            return Err(Refusal::Revoked);
        }
        self.check_currency()
    }

    /// What the grants of a client say.
    fn decide(&self, principal: Option<&Arc<Principal>>, action: &Action<'_>) -> Verdict {
        match principal {
            Some(principal) => verdict(&principal.grants.decide(action)),
            None => {
                let authenticator = self.authenticator.read();
                match authenticator.mode() {
                    // It came from a node that does not ask for tokens.
                    Mode::Required => Verdict::Deny(refused(&Refusal::TokenMissing)),
                    Mode::Off | Mode::Optional => verdict(&authenticator.anonymous().decide(action)),
                }
            }
        }
    }

    /// Whether somebody who shows this token, or none, may do this; if so, who it is.
    fn admit(self: &Arc<Self>, token: Option<&str>, action: OwnedAction) -> Verdict {
        match self.authenticate(token, Now::read()) {
            Outcome::Accepted(identity) => self.admit_as(&identity, &action),
            Outcome::Refused(refusal) => Verdict::Deny(refused(&refusal)),
            Outcome::AwaitKeys(_) => {
                let (state, token) = (self.clone(), token.map(str::to_owned));
                Verdict::Later(Box::pin(async move { state.admit_later(token.as_deref(), &action).await }))
            }
        }
    }

    async fn admit_later(&self, token: Option<&str>, action: &OwnedAction) -> Verdict {
        let waiting = timeout(KEYS_WAIT, async {
            loop {
                let fetched = self.keys.notified();
                match self.authenticate(token, Now::read()) {
                    Outcome::Accepted(identity) => return self.admit_as(&identity, action),
                    Outcome::Refused(refusal) => return Verdict::Deny(refused(&refusal)),
                    Outcome::AwaitKeys(_) => fetched.await,
                }
            }
        });
        match waiting.await {
            Ok(verdict) => verdict,
            Err(_) => Verdict::Deny(refused(&Refusal::KeysUnavailable)),
        }
    }

    fn admit_as(&self, identity: &Identity, action: &OwnedAction) -> Verdict {
        let decision = match action {
            OwnedAction::Nothing => None,
            OwnedAction::Connect(namespace) => Some(identity.grants().decide(&Action::Connect { namespace })),
            OwnedAction::Claim { key, id } => {
                let is_generated =
                    self.ids().is_some_and(|ids| ids.verify(key, id, Now::read().unix).is_ok());
                Some(identity.grants().decide(&Action::Claim { id, is_generated }))
            }
            OwnedAction::Refresh { namespace, holder } => {
                let new = identity.principal().ok_or(Refusal::TokenMalformed);
                if let Err(refusal) = new.and_then(|new| holder.check_refresh(new)) {
                    return Verdict::Deny(refused(&refusal));
                }
                Some(identity.grants().decide(&Action::Connect { namespace }))
            }
            OwnedAction::Discover => Some(identity.grants().decide(&Action::Discover)),
        };
        match decision.as_ref().map(verdict) {
            Some(Verdict::Deny(denial)) => Verdict::Deny(denial),
            _ => match identity.principal() {
                Some(principal) => Verdict::AllowAs(principal.clone()),
                None => Verdict::Allow,
            },
        }
    }

    /// The token that a client shows in the headers of a request.
    fn token_of_headers<'a>(&self, handshake: &'a Handshake) -> Option<&'a str> {
        let bearer = handshake.header("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        bearer.or_else(|| self.cookie.as_deref().and_then(|name| cookie(handshake, name)))
    }

    /// The token that a client shows in the headers of a request, or in its parameter `token`.
    fn token_of_request<'a>(&self, handshake: &'a Handshake) -> Option<Cow<'a, str>> {
        let parameter = || {
            form_urlencoded::parse(handshake.query.as_bytes())
                .find_map(|(name, value)| (name == "token").then_some(value))
        };
        self.token_of_headers(handshake).map(Cow::Borrowed).or_else(parameter)
    }

    /// May a client join this namespace?
    fn connect(
        self: &Arc<Self>,
        principal: Option<&Arc<Principal>>,
        handshake: Option<&Handshake>,
        namespace: &str,
        auth: Option<&str>,
    ) -> Verdict {
        let own = token_of_auth(auth);
        if own.is_none()
            && let Some(principal) = principal
        {
            // It was verified with the handshake, and its own headers may be another node's by now.
            return match self.recheck(principal, Now::read()) {
                Ok(()) => {
                    let identity = Identity::Known(principal.clone());
                    self.admit_as(&identity, &OwnedAction::Connect(namespace.into()))
                }
                Err(refusal) => Verdict::Deny(refused(&refusal)),
            };
        }
        let token = own.or_else(|| handshake.and_then(|it| self.token_of_headers(it)).map(Cow::Borrowed));
        self.admit(token.as_deref(), OwnedAction::Connect(namespace.into()))
    }
}

impl State {
    /// May a client go on with this token?
    fn refresh(
        self: &Arc<Self>,
        principal: Option<&Arc<Principal>>,
        namespace: &str,
        token: &str,
    ) -> Verdict {
        // Whoever has shown none has nothing to refresh; with a token a client begins anew.
        let Some(principal) = principal else { return Verdict::Deny(refused(&Refusal::SubjectChanged)) };
        let (namespace, holder) = (namespace.into(), principal.clone());
        self.admit(Some(token), OwnedAction::Refresh { namespace, holder })
    }
}

/// What is to be decided once it is known who asks.
enum OwnedAction {
    Nothing,
    Connect(Box<str>),
    Claim { key: Box<str>, id: Box<str> },
    Refresh { namespace: Box<str>, holder: Arc<Principal> },
    Discover,
}

impl Policy for TokenPolicy {
    fn decide(&self, principal: Option<&Arc<Principal>>, ask: AccessRequest<'_>) -> Verdict {
        let state = &self.0;
        match ask {
            // Which events there are is for the application to say; what they do is asked of its own.
            AccessRequest::Emit { .. } | AccessRequest::Signal { .. } => Verdict::Allow,
            AccessRequest::Send { room, .. } => state.decide(principal, &Action::Send { room }),
            AccessRequest::Join { room, .. } => state.decide(principal, &Action::Join { room }),
            AccessRequest::Users { .. } => state.decide(principal, &Action::ListUsers),
            AccessRequest::Refresh { namespace, token } => state.refresh(principal, namespace, token),
            AccessRequest::Handshake(handshake) => match state.token_of_headers(handshake) {
                // A bad one is judged again where it counts: the client may show another for its namespace.
                Some(token) => match state.authenticate(Some(token), Now::read()) {
                    Outcome::Accepted(identity) => state.admit_as(&identity, &OwnedAction::Nothing),
                    Outcome::Refused(_) | Outcome::AwaitKeys(_) => Verdict::Allow,
                },
                None => Verdict::Allow,
            },
            AccessRequest::Namespace { handshake, namespace, auth } => {
                state.connect(principal, handshake, namespace, auth)
            }
            AccessRequest::Claim { key, id, token, .. } => {
                state.admit(Some(token), OwnedAction::Claim { key: key.into(), id: id.into() })
            }
            AccessRequest::Discover { handshake, .. } => {
                state.admit(state.token_of_request(handshake).as_deref(), OwnedAction::Discover)
            }
        }
    }

    fn judges_token(&self, principal: Option<&Arc<Principal>>, ask: &AccessRequest<'_>) -> bool {
        match ask {
            AccessRequest::Refresh { .. } => principal.is_some(),
            AccessRequest::Discover { handshake, .. } => self.0.token_of_request(handshake).is_some(),
            AccessRequest::Namespace { handshake, auth, .. } => {
                let of_headers = || handshake.and_then(|handshake| self.0.token_of_headers(handshake));
                token_of_auth(*auth).is_some() || principal.is_none() && of_headers().is_some()
            }
            _ => false,
        }
    }

    fn may_hold(&self, principal: &Principal, key: &str, id: &str) -> bool {
        // An id may be held for longer than it can be claimed.
        let is_generated = self
            .0
            .ids()
            .is_some_and(|ids| ids.verify(key, id, Now::read().unix) != Err(NotGenerated::Foreign));
        principal.grants.allows(&Action::Claim { id, is_generated })
    }

    fn generate_id(&self, key: &str) -> Option<String> {
        self.0.ids().map(|ids| ids.issue(key, Now::read().unix))
    }

    fn expiry(&self, principal: &Principal) -> Option<Expiry> {
        Some(Expiry::new(principal, self.0.authenticator().leeway(), Now::read().unix))
    }

    fn revoke(&self, revocations: &[Revocation]) -> Vec<Revocation> {
        let mut set = self.0.revocations.write();
        let known = Arc::make_mut(&mut set);
        known.expire(Now::read().unix);
        revocations.iter().filter(|revocation| known.add(revocation)).cloned().collect()
    }

    fn revocations(&self) -> Vec<Revocation> {
        self.0.revocations.read().iter().collect()
    }

    fn is_revoked(&self, principal: &Principal) -> bool {
        self.0.revocations.read().revokes(principal)
    }

    fn set_revocations_current(&self, is_current: bool) {
        self.0.knows_revocations.store(is_current, Ordering::Release);
    }

    fn take_unchecked(&self) -> u64 {
        self.0.unchecked.swap(0, Ordering::Relaxed)
    }

    fn cluster_secret(&self, secret: &str) {
        self.0.set_ids(secret.as_bytes());
    }

    fn keeps_header(&self, name: &str) -> bool {
        KEPT_HEADERS.contains(&name)
    }
}

/// The key for ids: the secret itself is for other things.
fn ids_key(secret: &[u8]) -> [u8; MAC_KEY] {
    let hash = Sha256::new().chain_update(b"signalbox peer ids\0").chain_update(secret);
    hash.finalize().into()
}

fn verdict(decision: &Decision<'_>) -> Verdict {
    match decision.code() {
        None => Verdict::Allow,
        Some(code) => Verdict::Deny(Denial::new(code, decision.because.to_string())),
    }
}

fn refused(refusal: &Refusal) -> Denial {
    let denial = Denial::new(refusal.code(), refusal.to_string());
    let is_bad_token = !refusal.is_transient() && *refusal != Refusal::TokenMissing;
    Denial { is_transient: refusal.is_transient(), is_bad_token, ..denial }
}

/// The token in the payload of a CONNECT. What is no text is no token, but it is meant to be one.
fn token_of_auth(auth: Option<&str>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Auth {
        token: Option<Value>,
    }
    match serde_json::from_str::<Auth>(auth?).ok()?.token? {
        Value::String(token) => Some(token.into()),
        other => Some(other.to_string().into()),
    }
}

/// The value of a cookie, where it is the page's own doing that it was sent: the request has an `Origin`, which was found to be allowed,
/// or the browser says that the page is of this origin.
fn cookie<'a>(handshake: &'a Handshake, name: &str) -> Option<&'a str> {
    let is_ours = handshake.header("origin").is_some()
        || handshake.header("sec-fetch-site").is_some_and(|site| site == "same-origin");
    let cookies = handshake.headers.iter().filter(|(header, _)| header == "cookie" && is_ours);
    let mut pairs = cookies.flat_map(|(_, value)| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}
