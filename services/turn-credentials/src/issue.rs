//! Credentials: for whom, signed with what, good at which servers.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::RwLock;
use signalbox_auth::Action;
use signalbox_turn::{
    Credential, IssueRequest, Policy, Secret, Selection, ServerUri, Servers, SubjectKey, TurnUri, UserPart,
    sign, subject::network,
};

use crate::{
    api_keys::Scope,
    callers::Caller,
    config::settings::{LimitSettings, TurnSettings},
    limits::{Limits, WINDOW},
    probe::Health,
    problem::Problem,
    shared::Shared,
    upstream::Upstream,
    usage::{Quotas, Usage},
};

/// Without an address of its own, a request counts for this name.
const NO_ADDRESS: &str = "none";

/// Who the probes are, in user names.
const PROBE: (&str, &str) = ("signalbox", "probe");
/// How long the credential of a probe is good, in seconds.
const PROBE_TTL: u64 = 60;

/// Issues credentials.
pub struct Issuer {
    servers: Servers,
    health: Health,
    /// A provider whose servers are used instead.
    upstream: Option<Upstream>,
    shared: Arc<Shared>,
    usage: Arc<Usage>,
    quotas: Quotas,
    /// The one that signs first.
    secrets: RwLock<Arc<[Secret]>>,
    subjects: SubjectKey,
    ttl: Duration,
    max_uris: usize,
    limits: LimitSettings,
    counts: Limits,
}

/// A credential, and where it is good.
#[derive(Debug)]
pub struct Issued<'a> {
    /// The credential.
    pub credential: Credential,
    /// For whom.
    pub user: UserPart,
    /// For how long, in seconds.
    pub ttl: u64,
    /// Where.
    pub uris: Vec<Cow<'a, TurnUri>>,
}

impl Issuer {
    /// With these settings, which were checked, the static secrets, and the provider whose servers are used instead, if any.
    pub fn new(
        turn: &TurnSettings,
        limits: &LimitSettings,
        secrets: Vec<Secret>,
        shared: Arc<Shared>,
        usage: Arc<Usage>,
        upstream: Option<Upstream>,
    ) -> Self {
        let uris = turn.uri.iter().filter(|_| upstream.is_none());
        let servers = Servers::new(uris.filter_map(|text| text.parse::<ServerUri>().ok()));
        let subject_key = match (&turn.subject_key, secrets.last()) {
            (Some(key), _) => key.as_bytes().to_vec(),
            // Not the secret itself: a name must be no hint at what signs it.
            (None, Some(secret)) => format!("subjects of {}", secret.expose()).into_bytes(),
            (None, None) => rand::random::<[u8; 32]>().to_vec(),
        };
        Self {
            health: Health::new(&servers),
            servers,
            upstream,
            shared,
            usage,
            quotas: Quotas { bytes: limits.quota_bytes as u64, allocations: limits.quota_allocations },
            secrets: RwLock::new(secrets.into()),
            subjects: SubjectKey::new(&subject_key),
            ttl: turn.ttl,
            max_uris: turn.max_uris,
            limits: limits.clone(),
            counts: Limits::default(),
        }
    }

    /// Other static secrets.
    pub fn replace_secrets(&self, secrets: Vec<Secret>) {
        *self.secrets.write() = secrets.into();
    }

    /// The servers.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Which of them work.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What signs: the newest secret in Redis, or the first static one.
    fn secret(&self) -> Option<Secret> {
        self.shared.secret().or_else(|| self.secrets.read().first().cloned())
    }

    /// What the probes try the servers with.
    pub fn probe_credential(&self) -> Option<Credential> {
        let user = self.subjects.user_part(Some(PROBE.0), PROBE.1);
        Some(sign(&self.secret()?, &user, now() + PROBE_TTL))
    }

    /// The user part of a subject.
    pub fn subjects(&self) -> &SubjectKey {
        &self.subjects
    }

    /// For whom the caller asks. Only a server may say; others are whom they are known as.
    pub fn user_of(&self, caller: &Caller<'_>, request: &IssueRequest, address: Option<IpAddr>) -> UserPart {
        match (caller, &request.subject) {
            (Caller::Token(principal), _) => {
                self.subjects.user_part(principal.issuer.as_deref(), &principal.subject)
            }
            (Caller::Key(_), Some(subject)) => self.subjects.user_part(request.issuer.as_deref(), subject),
            (Caller::Key(key), None) => self.subjects.user_part(Some("api key"), &key.name),
            (Caller::Anonymous, _) => match address {
                Some(address) => self.subjects.address_part(address),
                None => self.subjects.user_part(None, NO_ADDRESS),
            },
        }
    }

    /// A credential, or why there is none.
    ///
    /// # Errors
    /// 403 without the grant, 429 beyond a limit, 503 where no server is up.
    pub async fn issue(
        &self,
        caller: &Caller<'_>,
        request: &IssueRequest,
        address: Option<IpAddr>,
    ) -> Result<Issued<'_>, Problem> {
        let is_granted = match caller {
            Caller::Token(principal) => principal.grants.allows(&Action::Turn),
            Caller::Key(key) => key.may(Scope::Issue),
            Caller::Anonymous => true,
        };
        if !is_granted {
            return Err(Problem::forbidden("turn-forbidden", "TURN credentials are not granted"));
        }
        let now = now();
        let user = self.user_of(caller, request, address);
        if self.shared.is_revoked(&user) {
            return Err(Problem::forbidden("turn-forbidden", "TURN credentials are not granted"));
        }
        self.check_limits(caller, &user, address, now).await?;
        self.usage.check(&user, self.quotas).await?;
        let selection = Selection {
            transport: request.transport,
            region: request.region.as_deref(),
            relay_only: request.policy == Policy::Relay,
            max: self.max_uris,
        };
        let ttl = request.ttl.unwrap_or(self.ttl).as_secs();
        if let Some(upstream) = &self.upstream {
            let answer = upstream.get(&user, ttl, now).await?;
            let uris = answer.servers.select(selection, |_, _| true, rand::random);
            let uris: Vec<_> = uris.into_iter().cloned().map(Cow::Owned).collect();
            let credential = answer.credential.clone();
            let ttl = credential.expires_at.saturating_sub(now);
            return if uris.is_empty() {
                Err(no_server())
            } else {
                Ok(Issued { credential, user, ttl, uris })
            };
        }
        let uris = self.servers.select(selection, |_, uri| self.health.is_up(uri), rand::random);
        if uris.is_empty() {
            return Err(no_server());
        }
        let Some(secret) = self.secret() else {
            return Err(Problem::unavailable(
                "no-secret",
                "there is no secret to sign with",
                Duration::from_secs(5),
            ));
        };
        let uris = uris.into_iter().map(Cow::Borrowed).collect();
        Ok(Issued { credential: sign(&secret, &user, now + ttl), user, ttl, uris })
    }

    /// Together with the other instances, or for itself while their store is gone.
    async fn check_limits(
        &self,
        caller: &Caller<'_>,
        user: &UserPart,
        address: Option<IpAddr>,
        now: u64,
    ) -> Result<(), Problem> {
        let sender = match (caller, address) {
            (Caller::Key(key), _) => ("key-limit", format!("key {}", key.name), self.limits.key_limit),
            (_, Some(address)) => {
                ("address-limit", format!("address {}", network(address)), self.limits.address_limit)
            }
            (_, None) => ("address-limit", NO_ADDRESS.to_owned(), self.limits.address_limit),
        };
        let subject = ("subject-limit", user.as_str().to_owned(), self.limits.subject_limit);
        let all: Vec<_> = [sender, subject].into_iter().filter(|(_, _, limit)| *limit > 0).collect();
        let too_many = |code, after| Problem::too_many(code, "too many credentials were asked for", after);
        if let Some(store) = self.shared.store().filter(|_| !all.is_empty()) {
            let names: Vec<(String, usize)> =
                all.iter().map(|(_, name, limit)| (name.clone(), *limit)).collect();
            if let Ok(full) = store.count(now / WINDOW.as_secs(), WINDOW, &names).await {
                let Some((code, _, _)) = full.and_then(|at| all.get(at)) else { return Ok(()) };
                return Err(too_many(code, Duration::from_secs(WINDOW.as_secs() - now % WINDOW.as_secs())));
            }
        }
        for (code, name, limit) in &all {
            self.counts.count(name, *limit, now).map_err(|after| too_many(code, after))?;
        }
        Ok(())
    }
}

fn no_server() -> Problem {
    Problem::unavailable("no-server", "no such TURN server is up", Duration::from_secs(5))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
