//! What servers of the application's own decide: who joins a namespace, has a PeerServer id, or joins a room. They come behind the policy that
//! judges tokens, and refuse what that one allows.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use signalbox_node::policy::{
    AccessRequest, Denial, Expiry, Handshake, Policy, Principal, Revocation, Verdict,
};

use super::endpoint::{Endpoint, NoAnswer};
use crate::config::hooks::Decides;

/// Headers of the request that opened the session, which a server is shown.
const HEADERS: [&str; 4] = ["authorization", "cookie", "origin", "user-agent"];
/// Longest text of a refusal in bytes.
const MAX_MESSAGE: usize = 1024;

/// A policy with servers behind it.
pub(super) struct HookedPolicy {
    policy: Arc<dyn Policy>,
    decides: Vec<(Decides, Arc<Endpoint>)>,
}

/// What a server answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    allow: bool,
    /// For people.
    message: Option<String>,
    /// For the page, where a namespace is refused.
    data: Option<Box<RawValue>>,
}

impl HookedPolicy {
    pub(super) fn new(policy: Arc<dyn Policy>, decides: Vec<(Decides, Arc<Endpoint>)>) -> Self {
        Self { policy, decides }
    }

    fn endpoint(&self, decides: Decides) -> Option<Arc<Endpoint>> {
        self.decides.iter().find(|(what, _)| *what == decides).map(|(_, endpoint)| endpoint.clone())
    }

    /// Who is asked, and what.
    fn question(&self, ask: &AccessRequest<'_>) -> Option<(Arc<Endpoint>, Map<String, Value>)> {
        let (decides, mut question) = match ask {
            AccessRequest::Namespace { handshake, namespace, auth } => {
                let auth = auth.and_then(|auth| serde_json::from_str::<Value>(auth).ok());
                let mut question = json!({"namespace": namespace, "auth": auth});
                add_request(&mut question, *handshake);
                (Decides::Handshake, question)
            }
            AccessRequest::Claim { handshake, key, id, token } => {
                let mut question = json!({"key": key, "id": id, "token": token});
                add_request(&mut question, Some(handshake));
                (Decides::Claim, question)
            }
            AccessRequest::Join { namespace, room } => {
                (Decides::Join, json!({"namespace": namespace, "room": room}))
            }
            _ => return None,
        };
        let endpoint = self.endpoint(decides)?;
        question["type"] = decides.name().into();
        match question {
            Value::Object(question) => Some((endpoint, question)),
            _ => None,
        }
    }
}

/// What is known of the client's request.
fn add_request(question: &mut Value, handshake: Option<&Handshake>) {
    let Some(handshake) = handshake else { return };
    let headers =
        HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), handshake.header(name)?.into())));
    question["address"] = json!(handshake.address);
    question["query"] = handshake.query.as_str().into();
    question["headers"] = Value::Object(headers.collect());
}

/// What is known of the holder of a token.
fn add_principal(question: &mut Map<String, Value>, principal: Option<&Principal>) {
    question.insert("subject".to_owned(), json!(principal.map(|it| &it.subject)));
    let claims = principal.map(|it| {
        let claims = json!({
            "iss": it.issuer, "sub": it.subject, "session": it.session, "jti": it.token_id, "iat": it.issued_at,
            "exp": it.expires_at,
        });
        match claims {
            Value::Object(claims) => claims.into_iter().filter(|(_, claim)| !claim.is_null()).collect(),
            _ => Map::new(),
        }
    });
    question.insert("claims".to_owned(), Value::Object(claims.unwrap_or_default()));
}

/// Asks a server about what the policy has allowed.
async fn ask(
    endpoint: Arc<Endpoint>,
    mut question: Map<String, Value>,
    principal: Option<Arc<Principal>>,
    verdict: Verdict,
) -> Verdict {
    let verdict = match verdict {
        Verdict::Later(later) => later.await,
        verdict => verdict,
    };
    let principal = match &verdict {
        Verdict::AllowAs(principal) => Some(principal.clone()),
        Verdict::Allow => principal,
        Verdict::Deny(_) | Verdict::Later(_) => return verdict,
    };
    add_principal(&mut question, principal.as_deref());
    let failed = || {
        let message = "the application does not answer, try again in a moment";
        Verdict::Deny(Denial { is_transient: true, ..Denial::new("busy", message) })
    };
    let answer: Result<String, NoAnswer> = endpoint.ask(Value::Object(question).to_string()).await;
    let Ok(answer) = answer else { return failed() };
    match endpoint.read(&answer, |answer| serde_json::from_str::<Answer>(answer)) {
        Some(Answer { allow: true, .. }) => verdict,
        Some(Answer { message, data, .. }) => {
            let mut message = message.unwrap_or_else(|| "the application has refused it".to_owned());
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            let data = data.map(|data| data.get().to_owned());
            Verdict::Deny(Denial { data, ..Denial::new("forbidden", message) })
        }
        None => failed(),
    }
}

impl Policy for HookedPolicy {
    fn decide(&self, principal: Option<&Arc<Principal>>, request: AccessRequest<'_>) -> Verdict {
        let question = self.question(&request);
        match (self.policy.decide(principal, request), question) {
            (Verdict::Deny(denial), _) => Verdict::Deny(denial),
            (verdict, None) => verdict,
            (verdict, Some((endpoint, question))) => {
                Verdict::Later(Box::pin(ask(endpoint, question, principal.cloned(), verdict)))
            }
        }
    }

    fn keeps_header(&self, name: &str) -> bool {
        let is_shown = HEADERS.contains(&name) && self.endpoint(Decides::Handshake).is_some();
        is_shown || self.policy.keeps_header(name)
    }

    fn keeps_query(&self) -> bool {
        self.endpoint(Decides::Handshake).is_some() || self.policy.keeps_query()
    }

    fn generate_id(&self, key: &str) -> Option<String> {
        self.policy.generate_id(key)
    }

    fn expiry(&self, principal: &Principal) -> Option<Expiry> {
        self.policy.expiry(principal)
    }

    fn revoke(&self, revocations: &[Revocation]) -> Vec<Revocation> {
        self.policy.revoke(revocations)
    }

    fn revocations(&self) -> Vec<Revocation> {
        self.policy.revocations()
    }

    fn is_revoked(&self, principal: &Principal) -> bool {
        self.policy.is_revoked(principal)
    }

    fn set_revocations_current(&self, is_current: bool) {
        self.policy.set_revocations_current(is_current);
    }

    fn take_unchecked(&self) -> u64 {
        self.policy.take_unchecked()
    }

    fn cluster_secret(&self, secret: &str) {
        self.policy.cluster_secret(secret);
    }
}
