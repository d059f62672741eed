//! `signalbox-gateway token`: makes a token, explains one with the same code that judges it in the server, and revokes.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args, FromArgMatches as _};
use signalbox_admin::explain::AskedAction;
use signalbox_auth::{
    Action, Authenticator, GrantsSpec, Identity, Mint, Now, Outcome, Revocations,
    jwks::{FetchSettings, Fetcher, Intervals, SharedJwks},
    refusal::MAX_NAME,
    revocation::is_too_far_ahead,
};

use signalbox_config::{
    auth::{AuthMode, TokenSettings},
    keys,
};

use crate::completions::with_settings;
use crate::config::{Loaded, Settings, split_settings};
use crate::server::redis_authorities;

/// How long a key set may take to be fetched.
const KEYS_WAIT: Duration = Duration::from_secs(15);

/// What came of it: the text for stdout, and whether what was asked is allowed.
#[derive(Debug)]
pub struct Printed {
    /// What to print.
    pub text: String,
    /// Whether everything that was asked is allowed.
    pub allowed: bool,
}

/// The subcommand, as completions know it.
pub fn command() -> clap::Command {
    let explain = ExplainArgs::augment_args(clap::Command::new("explain"));
    let revoke = RevokeArgs::augment_args(clap::Command::new("revoke"));
    let mint = MintArgs::augment_args(clap::Command::new("token"));
    with_settings(mint).subcommand(with_settings(explain)).subcommand(with_settings(revoke))
}

/// Makes a token, signed with the first --jwt-secret. Without grants in it, its holder may do what --default-grants say.
#[derive(Debug, Args)]
struct MintArgs {
    /// Whose it is: the claim sub.
    #[arg(long, allow_hyphen_values = true, value_name = "SUBJECT")]
    sub: String,
    /// How long it lives: a number with s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    ttl: u64,
    /// Rooms that it may join and send to: a pattern; repeatable.
    #[arg(long, allow_hyphen_values = true, value_name = "PATTERN")]
    room: Vec<String>,
    /// Namespaces: a pattern; repeatable.
    #[arg(long, allow_hyphen_values = true, value_name = "PATTERN")]
    namespace: Vec<String>,
    /// Ids of peers: a pattern; repeatable.
    #[arg(long, allow_hyphen_values = true, value_name = "PATTERN")]
    peer_id: Vec<String>,
    /// May claim ids that the server issued.
    #[arg(long, action = ArgAction::SetTrue)]
    generated: bool,
    /// May list the peers of a realm.
    #[arg(long, action = ArgAction::SetTrue)]
    discover: bool,
    /// May list users.
    #[arg(long, action = ArgAction::SetTrue)]
    users: bool,
    /// May have TURN credentials.
    #[arg(long, action = ArgAction::SetTrue)]
    turn: bool,
    /// All its grants, as JSON, instead of the flags above.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["room", "namespace", "peer_id", "generated", "discover", "users", "turn"])]
    grants: Option<String>,
    /// Tells two sessions of one subject apart: the claim session.
    #[arg(long, allow_hyphen_values = true, value_name = "NAME")]
    session: Option<String>,
}

/// Says what a token allows, or why not. Ends with 0 if everything that is asked is allowed, else with 1.
#[derive(Debug, Args)]
struct ExplainArgs {
    /// The token; `-` reads it from standard input, where nobody else can see it.
    token: String,
    #[command(flatten)]
    actions: ActionArgs,
}

/// What somebody wants to do.
#[derive(Debug, Args)]
pub(crate) struct ActionArgs {
    /// A namespace to join.
    #[arg(long, value_name = "NAMESPACE")]
    connect: Vec<String>,
    /// A room to join.
    #[arg(long, allow_hyphen_values = true, value_name = "ROOM")]
    join: Vec<String>,
    /// A room to send to.
    #[arg(long, allow_hyphen_values = true, value_name = "ROOM")]
    send: Vec<String>,
    /// An id of a peer to claim, as if the server had not issued it.
    #[arg(long, allow_hyphen_values = true, value_name = "ID")]
    claim: Vec<String>,
    /// To claim an id that the server has issued.
    #[arg(long, action = ArgAction::SetTrue)]
    claim_generated: bool,
    /// To list the peers of a realm.
    #[arg(long, action = ArgAction::SetTrue)]
    discover: bool,
    /// To list users.
    #[arg(long, action = ArgAction::SetTrue)]
    users: bool,
    /// To have TURN credentials.
    #[arg(long, action = ArgAction::SetTrue)]
    turn: bool,
    /// To use the admin API: a scope.
    #[arg(long, value_name = "SCOPE")]
    admin: Vec<String>,
}

/// Revokes tokens on all nodes of the cluster at --redis-url: those that are connected with one are disconnected within a second, and
/// nobody is let in with it any more. Give exactly one of --jti, --subject and --issued-before, or both of the last.
#[derive(Debug, Args)]
struct RevokeArgs {
    /// One token, by its claim jti.
    #[arg(long, allow_hyphen_values = true, value_name = "ID", value_parser = name, conflicts_with_all = ["subject", "issued_before"])]
    jti: Option<String>,
    /// When that token expires, in seconds since 1970 (its claim exp): so long the revocation is kept. Without it as long as
    /// --jwt-max-lifetime lets tokens live, and without that for ever.
    #[arg(long, value_name = "SECONDS", requires = "jti")]
    expires: Option<u64>,
    /// All tokens of a subject, whoever issued them: those issued so far, or before --issued-before.
    #[arg(long, allow_hyphen_values = true, value_name = "SUBJECT", value_parser = name)]
    subject: Option<String>,
    /// All tokens issued before this time, in seconds since 1970, or now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    issued_before: Option<Time>,
}

/// Runs `token ...`; `arguments` are those behind the program's name. Settings are read from the same places as the server's.
///
/// # Errors
/// A mistake in the arguments or settings.
pub fn run(
    arguments: &[OsString],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Printed> {
    let what =
        arguments.get(1).and_then(|word| word.to_str()).filter(|word| matches!(*word, "explain" | "revoke"));
    let rest = &arguments[if what.is_some() { 2 } else { 1 }..];
    let own = match what {
        Some("explain") => ExplainArgs::augment_args(clap::Command::new("signalbox-gateway token explain")),
        Some(_) => RevokeArgs::augment_args(clap::Command::new("signalbox-gateway token revoke")),
        None => MintArgs::augment_args(clap::Command::new("signalbox-gateway token")),
    };
    let (matches, settings) = match split_settings(own, rest)? {
        Ok(split) => split,
        Err(help) => return Ok(Printed { text: help, allowed: true }),
    };
    let Loaded::Run { settings, .. } = Settings::load(settings, environment)? else {
        bail!("--print-config goes without token");
    };
    let text = match what {
        Some("explain") => return explain(&ExplainArgs::from_arg_matches(&matches)?, &settings.auth.tokens),
        Some(_) => revoke(&RevokeArgs::from_arg_matches(&matches)?, &settings)?,
        None => mint(&MintArgs::from_arg_matches(&matches)?, &settings.auth.tokens)?,
    };
    Ok(Printed { text, allowed: true })
}

fn lifetime(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a number with s, m, h or d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let (number, seconds) = match unit {
        's' => (&text[..text.len() - 1], 1),
        'm' => (&text[..text.len() - 1], 60),
        'h' => (&text[..text.len() - 1], 3600),
        'd' => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// A time that is to be revoked before.
#[derive(Debug, Clone, Copy)]
enum Time {
    /// That of Redis.
    Now,
    /// Seconds since 1970.
    At(u64),
}

impl Time {
    fn or(self, now: u64) -> u64 {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

fn time(text: &str) -> Result<Time, String> {
    match text {
        "now" => Ok(Time::Now),
        _ => text
            .parse()
            .map(Time::At)
            .map_err(|_| format!("{text:?} is neither a number of seconds since 1970 nor now")),
    }
}

/// An id or a subject, as a token may have it.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(format!("it has {} bytes, and that of a token 1 to {MAX_NAME}", text.len()));
    }
    Ok(text.to_owned())
}

fn revoke(args: &RevokeArgs, settings: &Settings) -> Result<String> {
    let Some(url) = &settings.cluster.redis_url else {
        bail!(
            "--redis-url: is missing: a node that is alone is told by its admin API (set --redis-url redis://HOST:6379)"
        );
    };
    if args.jti.is_none() && args.subject.is_none() && args.issued_before.is_none() {
        bail!("token revoke: says not what (give --jti, --subject or --issued-before)");
    }
    let lifetimes = keys::lifetimes(&settings.auth.tokens);
    let authorities = redis_authorities(settings)?;
    let prefix = &settings.cluster.redis_prefix;
    let (mut until, mut is_meant) = (None, true);
    let revocations = |now: u64| {
        let before = args.issued_before.map(|time| time.or(now));
        if before.is_some_and(|before| is_too_far_ahead(before, now)) {
            is_meant = false;
            return Vec::new();
        }
        let revocation = match (&args.jti, &args.subject) {
            (Some(id), _) => lifetimes.of_token(id, args.expires, now),
            // Times are whole seconds, so one that is issued in this very second goes as well.
            (None, Some(subject)) => lifetimes.of_subject(subject, before.unwrap_or(now + 1)),
            (None, None) => lifetimes.of_all(before.unwrap_or(now)),
        };
        until = revocation.until;
        vec![revocation]
    };
    signalbox_node::revoke_in(url, authorities.as_deref(), prefix, revocations)??;
    if !is_meant {
        bail!(
            "token revoke: --issued-before is more than a minute from now (give seconds since 1970, not milliseconds, or now)"
        );
    }
    let until = match until {
        Some(until) => format!("until {until} (seconds since 1970)"),
        None => "for ever (set --jwt-max-lifetime, as for the nodes, or --expires)".to_owned(),
    };
    Ok(format!("revoked; kept {until}\n"))
}

fn mint(args: &MintArgs, settings: &TokenSettings) -> Result<String> {
    let secret = keys::signing_secret(settings)?;
    let grants = match &args.grants {
        Some(json) => Some(GrantsSpec::from_setting(json).context("--grants")?),
        None => grants_of(args),
    };
    if let Some(grants) = &grants {
        // The flags are patterns of a person, and a mistake in one would be found only when the token is shown.
        GrantsSpec::from_setting(&grants.to_json())?;
    }
    let mut mint = Mint::new(args.sub.clone());
    mint.lifetime = args.ttl;
    mint.grants = grants;
    mint.grants_claim = settings.jwt_grants_claim.clone();
    mint.issuer = settings.jwt_issuer.clone();
    mint.audience = settings.jwt_audience.first().cloned();
    mint.session_claim = settings.jwt_session_claim.clone();
    mint.session = args.session.clone();
    Ok(format!("{}\n", mint.sign(&secret, Now::read().unix)?))
}

/// What the flags grant; `None` where there is none of them.
fn grants_of(args: &MintArgs) -> Option<GrantsSpec> {
    let lists = [&args.room, &args.namespace, &args.peer_id];
    let is_any = lists.iter().any(|list| !list.is_empty());
    if !(is_any || args.generated || args.discover || args.users || args.turn) {
        return None;
    }
    let mut spec = GrantsSpec::default();
    if !args.namespace.is_empty() {
        spec.namespaces = args.namespace.clone();
    }
    spec.rooms.join = args.room.clone();
    spec.rooms.send = args.room.clone();
    spec.peer.ids = args.peer_id.clone();
    spec.peer.generated = args.generated;
    spec.peer.discover = args.discover;
    spec.users = args.users;
    spec.turn = args.turn;
    Some(spec)
}

fn explain(args: &ExplainArgs, settings: &TokenSettings) -> Result<Printed> {
    let token = shown(&args.token)?;
    let token = Some(token.trim());
    // With authentication off the server looks at no token; what is asked is what it would say.
    let mut settings = settings.clone();
    if settings.auth == AuthMode::Off {
        settings.auth = AuthMode::Required;
    }
    let (authenticator, fetching) = authenticator(&settings)?;
    if let Some(fetching) = &fetching {
        fetching.wait(&authenticator, token);
    }
    let none = Revocations::default();
    let mut text = String::new();
    let identity = match authenticator.authenticate(token, &none, Now::read()) {
        Outcome::Accepted(identity) => identity,
        Outcome::Refused(refusal) | Outcome::AwaitKeys(refusal) => {
            return Ok(Printed {
                text: format!("refused: {refusal} ({})\n", refusal.code()),
                allowed: false,
            });
        }
    };
    match &identity {
        Identity::Anonymous(_) => text.push_str("anonymous: this is no token\n"),
        Identity::Known(principal) => {
            let left = principal.expires_at.saturating_sub(Now::read().unix);
            text.push_str(&format!("good: subject {:?}, expires in {left} s\n", principal.subject));
        }
    }
    let actions = args.actions.asked();
    if actions.is_empty() {
        text.push_str(&format!("grants: {}\n", identity.grants().spec().to_json()));
    }
    let mut allowed = true;
    for (asked, action) in actions.iter().filter_map(|asked| Some((asked, action(asked)?))) {
        let explanation = authenticator.explain(token, &action, &none, Now::read());
        allowed &= explanation.allowed;
        let code = explanation.code.map(|code| format!(" ({code})")).unwrap_or_default();
        text.push_str(&format!("{asked}: {explanation}{code}\n"));
    }
    Ok(Printed { text, allowed })
}

/// The token of an argument.
pub(crate) fn shown(argument: &str) -> Result<String> {
    match argument {
        "-" => std::io::read_to_string(std::io::stdin()).context("standard input"),
        token => Ok(token.to_owned()),
    }
}

impl ActionArgs {
    /// In the order of the flags in `--help`. A claim of an id that the server has issued has an empty one.
    pub(crate) fn asked(&self) -> Vec<AskedAction> {
        let of = |names: &[String], action: fn(String) -> AskedAction| {
            names.iter().cloned().map(action).collect::<Vec<_>>()
        };
        let mut asked = of(&self.connect, |namespace| AskedAction::Connect { namespace });
        asked.extend(of(&self.join, |room| AskedAction::Join { room }));
        asked.extend(of(&self.send, |room| AskedAction::Send { room }));
        asked.extend(of(&self.claim, |id| AskedAction::Claim { id, key: None }));
        for (is_asked, action) in [
            (self.claim_generated, AskedAction::ClaimGenerated {}),
            (self.discover, AskedAction::Discover {}),
            (self.users, AskedAction::Users {}),
            (self.turn, AskedAction::Turn {}),
        ] {
            asked.extend(is_asked.then_some(action));
        }
        asked.extend(of(&self.admin, |scope| AskedAction::Admin { scope }));
        asked
    }
}

/// As grants are asked, where nothing is known of the ids that a server has issued; `None` for an amount, since only a server knows its
/// own limits.
pub(crate) fn action(asked: &AskedAction) -> Option<Action<'_>> {
    Some(match asked {
        AskedAction::Connect { namespace } => Action::Connect { namespace },
        AskedAction::Join { room } => Action::Join { room },
        AskedAction::Send { room } => Action::Send { room },
        AskedAction::Claim { id, .. } => Action::Claim { id, is_generated: false },
        AskedAction::ClaimGenerated {} => Action::Claim { id: "", is_generated: true },
        AskedAction::Users {} => Action::ListUsers,
        AskedAction::Turn {} => Action::Turn,
        AskedAction::Admin { scope } => Action::Admin { scope },
        AskedAction::Discover {} => Action::Discover,
        AskedAction::Limit { .. } => return None,
    })
}

/// A key set that is being fetched.
struct Fetching {
    news: Receiver<()>,
    _fetcher: Fetcher,
}

impl Fetching {
    /// Waits until the keys are there that the token needs, or will not come.
    fn wait(&self, authenticator: &Authenticator, token: Option<&str>) {
        let until = Instant::now() + KEYS_WAIT;
        while let Outcome::AwaitKeys(_) =
            authenticator.authenticate(token, &Revocations::default(), Now::read())
        {
            let left = until.saturating_duration_since(Instant::now());
            if self.news.recv_timeout(left).is_err() {
                break;
            }
        }
    }
}

fn authenticator(settings: &TokenSettings) -> Result<(Authenticator, Option<Fetching>)> {
    let Some(url) = keys::jwks_url(settings)? else {
        return Ok((keys::authenticator(settings, None)?, None));
    };
    let set = SharedJwks::new(Intervals::default(), Instant::now());
    let (told, news) = channel();
    let fetcher = Fetcher::start(url, set.clone(), &FetchSettings::default(), move || {
        // Nobody waits any more.
        let _ = told.send(());
    })?;
    let authenticator = keys::authenticator(settings, Some(&set))?;
    Ok((authenticator, Some(Fetching { news, _fetcher: fetcher })))
}
