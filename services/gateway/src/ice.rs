//! ICE servers for clients: the event `ice-servers`, `GET /turn/ice-servers`, and where both get them.
//!
//! Credentials end. Whoever has asked once by the event is told of new ones in time, for as long as the socket is there.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, ServiceConfig},
};
use anyhow::{Context as _, Result, anyhow};
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use signalbox_auth::{Action, Identity, Principal};
use signalbox_node::{AckError, Args, Namespace, Node, Socket, policy::TokenPolicy};
use signalbox_tls::client::{self, ClientSettings};
use tokio::sync::Semaphore;
use ureq::Agent;

use crate::config::{self, ice::IceSettings};

/// The event, both ways.
pub const EVENT: &str = "ice-servers";
/// Who names the subjects that are addresses.
const STRANGERS: &str = "address";
/// How long the service may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Requests to the service at a time; others wait for one to end.
const AT_A_TIME: usize = 16;
/// Largest answer of the service in bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// How long a client may take to acknowledge new servers; it need not.
const ACK: Duration = Duration::from_secs(5);
/// How soon it is tried again when the service does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// Why there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoServers {
    /// The client is nobody in particular, and such clients get none.
    Forbidden,
    /// The subject has had too many.
    TooMany,
    /// The service does not answer.
    Unavailable,
}

impl NoServers {
    /// As an acknowledgement has it.
    fn code(self) -> &'static str {
        match self {
            Self::Forbidden => "turn-forbidden",
            Self::TooMany => "turn-limit",
            Self::Unavailable => "turn-unavailable",
        }
    }
}

/// ICE servers, and for how long they are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    list: Value,
    /// `None`: for ever.
    ttl: Option<Duration>,
}

impl Servers {
    fn to_json(&self) -> Value {
        match self.ttl {
            Some(ttl) => json!({"iceServers": self.list, "ttl": ttl.as_secs()}),
            None => json!({"iceServers": self.list}),
        }
    }
}

/// Who wants to know.
#[derive(Debug, Clone)]
enum Client {
    /// The holder of a token.
    Known(Arc<Principal>),
    /// Somebody of whom only this is known: an address.
    Stranger(String),
}

/// An address as limits count it: the holder of one IPv6 address has 64 bits of them.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        address => address.to_string(),
    }
}

/// The service that gives each client credentials of its own.
struct Service {
    agent: Agent,
    url: String,
    key: RwLock<String>,
    /// Where the key stands, if in a file.
    key_file: Option<PathBuf>,
    turns: Semaphore,
    is_for_anybody: bool,
}

enum Source {
    Fixed(Servers),
    Service(Box<Service>),
}

/// Where ICE servers come from. Cheap to clone.
#[derive(Clone)]
pub struct Ice {
    source: Arc<Source>,
    /// The sockets that are told of new servers, each by one task.
    told: Arc<Mutex<HashSet<String>>>,
}

impl std::fmt::Debug for Ice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ice")
    }
}

impl From<Source> for Ice {
    fn from(source: Source) -> Self {
        Self { source: Arc::new(source), told: Arc::default() }
    }
}

impl Ice {
    /// With these settings, which were checked. Without any, clients are told of no server at all.
    ///
    /// # Errors
    /// The file of the key cannot be read.
    pub fn new(settings: &IceSettings) -> Result<Self> {
        let Some(url) = &settings.turn_url else {
            let list = settings.ice_servers.as_deref().map(serde_json::from_str).transpose()?;
            let list = list.unwrap_or_else(|| json!([]));
            return Ok(Self::from(Source::Fixed(Servers { list, ttl: None })));
        };
        let key = match (&settings.turn_key, &settings.turn_key_file) {
            (Some(key), _) => key.clone(),
            (None, Some(file)) => read_key(file).context("--turn-key-file")?,
            (None, None) => {
                return Err(anyhow!("--turn-url: needs --turn-key too (signalbox-turn new-key makes one)"));
            }
        };
        // The service stands beside the gateway: no proxy of the environment is meant for it.
        let agent = client::agent(&ClientSettings { timeout: PATIENCE, authority: None, uses_proxy: false })?;
        Ok(Self::from(Source::Service(Box::new(Service {
            agent,
            url: format!("{url}/v1/ice-servers"),
            key: RwLock::new(key),
            key_file: settings.turn_key_file.clone(),
            turns: Semaphore::new(AT_A_TIME),
            is_for_anybody: settings.turn_anonymous,
        }))))
    }

    /// Reads the file of the key again. If it cannot be used, the key in use stays. It blocks.
    pub fn reload(&self) {
        let Source::Service(service) = &*self.source else { return };
        let Some(file) = &service.key_file else { return };
        match read_key(file) {
            Ok(key) => {
                *service.key.write() = key;
                tracing::info!("the key of the TURN credentials service was read again");
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "--turn-key-file cannot be read again; the key in use stays"
                );
            }
        }
    }

    /// The servers for a client.
    async fn get(&self, client: &Client) -> Result<Servers, NoServers> {
        let service = match &*self.source {
            Source::Fixed(servers) => return Ok(servers.clone()),
            Source::Service(service) => service,
        };
        match client {
            Client::Known(principal) if !principal.grants.allows(&Action::Turn) => Err(NoServers::Forbidden),
            Client::Known(principal) => {
                service.get(principal.issuer.as_deref().unwrap_or_default(), &principal.subject).await
            }
            Client::Stranger(_) if !service.is_for_anybody => Err(NoServers::Forbidden),
            Client::Stranger(address) => service.get(STRANGERS, address).await,
        }
    }

    /// Adds the event to a namespace.
    #[must_use]
    pub fn event(&self, namespace: Namespace) -> Namespace {
        let ice = self.clone();
        namespace.on(EVENT, move |socket, event| {
            let ice = ice.clone();
            async move {
                let address = || event.address().map_or_else(|| socket.id(), network);
                let client = match event.principal() {
                    Some(principal) => Client::Known(principal.clone()),
                    None => Client::Stranger(address()),
                };
                let outcome = ice.get(&client).await;
                let ttl = outcome.as_ref().ok().and_then(|servers| servers.ttl);
                let answer = match outcome {
                    Ok(servers) => with(servers.to_json(), "ok", true),
                    Err(problem) => json!({"ok": false, "error": problem.code()}),
                };
                let Ok(args) = Args::new((answer,)) else { return };
                match event.wants_ack() {
                    true => event.ack(args),
                    false => socket.emit(EVENT, args),
                }
                if let Some(ttl) = ttl
                    && ice.told.lock().insert(socket.id())
                {
                    tokio::spawn(ice.keep(socket, client, ttl));
                }
            }
        })
    }

    /// Tells a client of new servers in time, for as long as it is there.
    async fn keep(self, socket: Socket, client: Client, ttl: Duration) {
        self.tell(&socket, &client, ttl).await;
        self.told.lock().remove(&socket.id());
    }

    /// Sends new servers before the old ones end, until the client has gone. The socket is followed where it moves.
    async fn tell(&self, socket: &Socket, client: &Client, ttl: Duration) {
        let mut wait = ttl.mul_f64(0.8);
        loop {
            tokio::time::sleep(wait).await;
            let servers = match self.get(client).await {
                Ok(servers) => servers,
                Err(NoServers::Forbidden) => return,
                Err(_) => {
                    wait = RETRY;
                    continue;
                }
            };
            let Some(ttl) = servers.ttl else { return };
            wait = ttl.mul_f64(0.8);
            let Ok(args) = Args::new((servers.to_json(),)) else { return };
            if socket.emit_with_ack(EVENT, args, ACK).await == Err(AckError::Disconnected) {
                return;
            }
        }
    }

    /// Adds the route. `policy` judges tokens, where they are asked for; `node` knows whose a session is.
    pub fn routes(&self, policy: Option<&TokenPolicy>, node: &Node, routes: &mut ServiceConfig) {
        let (ice, policy, node) = (self.clone(), policy.cloned(), node.clone());
        let serve = move |request: HttpRequest| {
            let (ice, policy, node) = (ice.clone(), policy.clone(), node.clone());
            async move {
                if !node.allows_origin(&request) {
                    return foreign();
                }
                let client = match client_of(&request, policy.as_ref(), &node).await {
                    Ok(client) => client,
                    Err(Unidentified::Refused(code)) => return unauthorized(code),
                    Err(Unidentified::TooMany(seconds)) => return too_many(seconds),
                };
                match ice.get(&client).await {
                    Ok(servers) => HttpResponse::Ok()
                        .insert_header((header::CACHE_CONTROL, "no-store"))
                        .json(servers.to_json()),
                    Err(problem) => refusal(problem),
                }
            }
        };
        routes.route("/turn/ice-servers", web::get().to(serve));
    }
}

/// Why nobody knows who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unidentified {
    /// What it shows is no good; the code.
    Refused(&'static str),
    /// Its address has shown too many bad tokens: it may come again after so many seconds.
    TooMany(u64),
}

/// Who sends a request: whose token is in its `Authorization`, or in the parameter `token`; or whose session the parameter `sid` names.
async fn client_of(
    request: &HttpRequest,
    policy: Option<&TokenPolicy>,
    node: &Node,
) -> Result<Client, Unidentified> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| value.split_once(' '));
    let bearer =
        bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let query = web::Query::<HashMap<String, String>>::from_query(request.query_string());
    let query = query.map(web::Query::into_inner).unwrap_or_default();
    let token = bearer.or(query.get("token").map(String::as_str));
    if let Some(sid) = query.get("sid").filter(|_| token.is_none()) {
        let client = node.session_client(sid).await.ok_or(Unidentified::Refused("sid-unknown"))?;
        let Some(principal) = client.principal else {
            return Ok(Client::Stranger(client.address.map_or_else(String::new, network)));
        };
        // A session outlives the token that it was opened with.
        if let Some(Err(refusal)) = policy.map(|policy| policy.recheck(&principal)) {
            return Err(Unidentified::Refused(refusal.code()));
        }
        return Ok(Client::Known(principal));
    }
    if policy.is_some() && token.is_some() {
        node.admit_token(request).map_err(Unidentified::TooMany)?;
    }
    match policy.map(|policy| policy.identify(token)) {
        Some(Ok(Identity::Known(principal))) => Ok(Client::Known(principal)),
        Some(Err(refusal)) => {
            if token.is_some() && !refusal.is_unjudged() {
                node.report_bad_token(request);
            }
            Err(Unidentified::Refused(refusal.code()))
        }
        Some(Ok(Identity::Anonymous(_))) | None => {
            Ok(Client::Stranger(node.client_address(request).map_or_else(String::new, network)))
        }
    }
}

fn unauthorized(code: &str) -> HttpResponse {
    HttpResponse::Unauthorized()
        .insert_header((header::WWW_AUTHENTICATE, "Bearer"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({"error": code}))
}

fn too_many(seconds: u64) -> HttpResponse {
    HttpResponse::TooManyRequests()
        .insert_header((header::RETRY_AFTER, seconds.to_string()))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({"error": "rate-limited"}))
}

/// A page of another origin asks.
fn foreign() -> HttpResponse {
    HttpResponse::Forbidden()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({"error": "origin-forbidden"}))
}

fn refusal(problem: NoServers) -> HttpResponse {
    let mut response = match problem {
        NoServers::Forbidden => HttpResponse::Forbidden(),
        NoServers::TooMany => HttpResponse::TooManyRequests(),
        NoServers::Unavailable => HttpResponse::ServiceUnavailable(),
    };
    if problem != NoServers::Forbidden {
        response.insert_header((header::RETRY_AFTER, RETRY.as_secs().to_string()));
    }
    response.insert_header((header::CACHE_CONTROL, "no-store")).json(json!({"error": problem.code()}))
}

fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    object[name] = value.into();
    object
}

impl Service {
    async fn get(&self, issuer: &str, subject: &str) -> Result<Servers, NoServers> {
        let _turn = self.turns.acquire().await.map_err(|_| NoServers::Unavailable)?;
        let (agent, url, key) = (self.agent.clone(), self.url.clone(), self.key.read().clone());
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        // It blocks; there are threads for that.
        let asked = tokio::task::spawn_blocking(move || ask(&agent, &url, &key, &issuer, &subject)).await;
        asked.unwrap_or(Err(NoServers::Unavailable))
    }
}

/// The key in a file, without the line ending at its end.
fn read_key(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).context("it cannot be read")?;
    config::ice::turn_key(text.trim_end_matches(['\r', '\n'])).map_err(|problem| anyhow!("{problem}"))
}

fn ask(agent: &Agent, url: &str, key: &str, issuer: &str, subject: &str) -> Result<Servers, NoServers> {
    let mut request = agent.get(url).header("X-Api-Key", key).query("subject", subject);
    if !issuer.is_empty() {
        request = request.query("issuer", issuer);
    }
    let unavailable = |error: ureq::Error| {
        tracing::warn!(%error, "the TURN credentials service does not answer");
        NoServers::Unavailable
    };
    let mut response = request.call().map_err(unavailable)?;
    match response.status().as_u16() {
        200 => {}
        403 => return Err(NoServers::Forbidden),
        429 => return Err(NoServers::TooMany),
        status => {
            tracing::warn!(status, "the TURN credentials service refuses (is --turn-key right?)");
            return Err(NoServers::Unavailable);
        }
    }
    let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(unavailable)?;
    let answer: Value = serde_json::from_slice(&body).map_err(|_| NoServers::Unavailable)?;
    let ttl = answer["ttl"].as_u64().filter(|ttl| *ttl > 0).ok_or(NoServers::Unavailable)?;
    match &answer["iceServers"] {
        list @ Value::Array(_) => Ok(Servers { list: list.clone(), ttl: Some(Duration::from_secs(ttl)) }),
        _ => Err(NoServers::Unavailable),
    }
}
