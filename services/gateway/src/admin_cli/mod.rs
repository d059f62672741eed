//! `signalbox-gateway admin ...`: looks into a cluster and acts on it, over the admin API.
//!
//! - `client`: requests, page by page where there are pages.
//! - `table`: answers for people; `mcp`: the same operations for assistants.
//! - `tail`: what happens.

mod client;
mod mcp;
mod table;
mod tail;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::{Value, json};

use crate::config::admin::Scope;
use signalbox_admin::explain::AskedAction;

use self::{
    client::{Client, Listed},
    table::Column,
};

use crate::token::{self, ActionArgs};

/// Something that was asked is not allowed.
const EXIT_REFUSED: u8 = 1;
/// Something is missing in the answer: nodes did not answer.
const EXIT_PARTIAL: u8 = 3;

/// Looks into a cluster and acts on it, through the admin API of any of its nodes.
#[derive(Debug, Parser)]
#[command(name = "signalbox-gateway admin")]
struct Cli {
    /// The management listener of a node.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SIGNALBOX_ADMIN_URL",
        default_value = "http://127.0.0.1:9001"
    )]
    url: String,
    /// A token of the API. The variable SIGNALBOX_ADMIN_TOKEN is safer: others on the machine do not see it.
    #[arg(
        long,
        global = true,
        allow_hyphen_values = true,
        value_name = "TOKEN",
        env = "SIGNALBOX_ADMIN_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// File with the token, instead.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Print JSON, as where the output is no terminal.
    #[arg(long, global = true)]
    json: bool,
    /// Print a table, also where the output is no terminal.
    #[arg(long, global = true, conflicts_with = "json")]
    table: bool,
    /// Look again every so many seconds.
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the nodes.
    Nodes,
    /// Lists the rooms that somebody is in.
    Rooms {
        /// Those whose names begin so.
        prefix: Option<String>,
        /// Those of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// The thousand with the most members, and those with the most first.
        #[arg(long)]
        busiest: bool,
    },
    /// Lists the members of a room.
    Members {
        /// The room.
        room: String,
        /// Its namespace.
        #[arg(long, value_name = "NAMESPACE", default_value = "/")]
        namespace: String,
    },
    /// Lists sockets.
    Sockets {
        /// Members of this room.
        #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "ROOM")]
        room: Option<String>,
        /// Those that have shown a token of this subject.
        #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "SUBJECT")]
        subject: Option<String>,
        /// Those at this IP address.
        #[arg(long, value_name = "ADDRESS")]
        address: Option<String>,
        /// Those on this node.
        #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "NODE")]
        node: Option<String>,
        /// Those of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
    },
    /// Lists PeerServer clients.
    Peers {
        /// Those whose ids begin so.
        prefix: Option<String>,
        /// Those of the realm with this key.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Sends an event.
    Emit {
        /// Its name.
        event: String,
        /// Its arguments, each as JSON; what is no JSON is text.
        #[arg(allow_negative_numbers = true)]
        args: Vec<String>,
        #[command(flatten)]
        to: To,
        /// Wait so many milliseconds for acknowledgements.
        #[arg(long, value_name = "MS")]
        ack: Option<u64>,
    },
    /// Disconnects clients.
    Kick {
        #[command(flatten)]
        to: To,
        /// PeerServer clients, by their ids.
        #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "ID")]
        peer: Vec<String>,
        /// Close their whole connections.
        #[arg(long)]
        close: bool,
    },
    /// Says what a client's token allows, and which grant, pattern or limit decides. Ends with 1 if something that is asked is not allowed.
    Explain {
        /// The client's token; `-` reads it from standard input, where nobody else can see it.
        #[arg(value_name = "TOKEN")]
        shown: String,
        #[command(flatten)]
        actions: ActionArgs,
        /// To have so much of something that is limited, such as rooms=200.
        #[arg(long, value_name = "NAME=AMOUNT", value_parser = limit)]
        limit: Vec<(String, u64)>,
    },
    /// Writes what happens in the cluster, until it is stopped: as lines on a terminal, as JSON elsewhere.
    Tail(tail::Filter),
    /// Drains a node, which then ends. That is an operation: see operations.
    Drain {
        /// Its id, or its name.
        node: String,
    },
    /// Changes what all nodes log, for a time.
    Log {
        /// Client whose whole story is told: a subject, an IP address, or the id of a session, a socket or a peer; repeatable.
        #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "CLIENT")]
        client: Vec<String>,
        /// The level of the nodes' own lines: error, warn, info, debug or trace.
        #[arg(long, value_name = "LEVEL")]
        level: Option<String>,
        /// For so many seconds.
        #[arg(long = "for", value_name = "SECONDS", default_value_t = 600)]
        seconds: u64,
        /// Log as configured again.
        #[arg(long, conflicts_with_all = ["client", "level"])]
        off: bool,
    },
    /// Rebalances the cluster: the nodes with the most Socket.IO clients send some away, until all nodes have equally many. That is an
    /// operation: see operations.
    Rebalance {
        /// How many clients are sent away in a second, all nodes together.
        #[arg(long, value_name = "CLIENTS", default_value = "50")]
        rate: u32,
    },
    /// Lists the long operations, or shows one, or stops it.
    Operations {
        /// One of them.
        id: Option<String>,
        /// Stop it.
        #[arg(long, requires = "id")]
        stop: bool,
        /// Those of this kind: drain or rebalance.
        #[arg(long, value_name = "KIND", conflicts_with = "id")]
        kind: Option<String>,
        /// Those that are so far: running, stopping, done, stopped or failed.
        #[arg(long, value_name = "STATUS", conflicts_with = "id")]
        status: Option<String>,
        /// Those that this node runs.
        #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "NODE", conflicts_with = "id")]
        node: Option<String>,
    },
    /// Serves the operations as tools of the Model Context Protocol, on standard input and output, for an assistant.
    Mcp {
        /// Let it change something too: emit (send to clients), control (everything else); repeatable. Without it, it may only look.
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', value_parser = allowed)]
        allow: Vec<Scope>,
    },
}

/// A scope beside reading, which is always allowed.
fn allowed(name: &str) -> Result<Scope, String> {
    let found = Scope::ALL.into_iter().find(|scope| *scope != Scope::Read && scope.name() == name);
    found.ok_or_else(|| "it is neither emit nor control".to_owned())
}

impl Command {
    /// Whether it changes something.
    fn changes(&self) -> bool {
        match self {
            Self::Emit { .. }
            | Self::Kick { .. }
            | Self::Drain { .. }
            | Self::Log { .. }
            | Self::Rebalance { .. } => true,
            Self::Operations { stop, .. } => *stop,
            _ => false,
        }
    }
}

/// A name, which may begin with a hyphen: one id of a socket in 64 does. What looks like an option is one whose value was forgotten.
fn given(text: &str) -> Result<String, String> {
    let is_option = text.strip_prefix("--").is_some_and(|rest| {
        (1..=16).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    });
    match is_option {
        true => Err("it looks like an option; is a value missing before it?".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("{text:?} is not a name and an amount, such as rooms=200");
    let (name, amount) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.to_owned(), amount.parse().map_err(|_| wrong())?))
}

/// Which sockets are meant.
#[derive(Debug, clap::Args)]
struct To {
    /// Members of this room; repeatable.
    #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "ROOM")]
    room: Vec<String>,
    /// This socket; repeatable.
    #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "ID")]
    socket: Vec<String>,
    /// Those of this subject; repeatable.
    #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "SUBJECT")]
    subject: Vec<String>,
    /// Everybody in the namespace.
    #[arg(long)]
    everyone: bool,
    /// But not the members of this room, nor this socket; repeatable.
    #[arg(long, allow_hyphen_values = true, value_parser = given, value_name = "NAME")]
    except: Vec<String>,
    /// The namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = "/")]
    namespace: String,
}

impl To {
    fn is_nobody(&self) -> bool {
        self.room.is_empty() && self.socket.is_empty() && self.subject.is_empty() && !self.everyone
    }

    fn body(&self) -> Value {
        json!({
            "namespace": self.namespace, "rooms": self.room, "sockets": self.socket, "subjects": self.subject,
            "everyone": self.everyone, "except": self.except,
        })
    }
}

/// The subcommand, as completions know it.
pub fn command() -> clap::Command {
    Cli::command().name("admin")
}

/// Runs `admin ...`; `arguments` begin with the word `admin`.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match repeat(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "signalbox-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does it once, or again and again. Returns the exit code.
fn repeat(cli: &Cli) -> Result<u8> {
    let token = match &cli.token_file {
        Some(file) => {
            Some(std::fs::read_to_string(file).with_context(|| format!("--token-file: {}", file.display()))?)
        }
        None => cli.token.clone(),
    };
    let client = Client::new(&cli.url, token.as_deref().map(str::trim))?;
    if cli.command.changes() && cli.watch.is_some() {
        bail!("--watch: is for what looks, not for what changes something");
    }
    if let Command::Mcp { allow } = &cli.command {
        return mcp::run(client, allow).map(|()| 0);
    }
    let is_terminal = io::stdout().is_terminal();
    let as_table = cli.table || is_terminal && !cli.json;
    if let Command::Tail(filter) = &cli.command {
        if cli.watch.is_some() {
            bail!("--watch: tail goes on by itself");
        }
        return tail::run(&client, filter, as_table, is_terminal).map(|()| 0);
    }
    loop {
        let (text, code) = once(cli, &client, as_table, is_terminal)?;
        if cli.watch.is_some() && is_terminal {
            // The screen is cleared, and the text begins at its top.
            write!(io::stdout(), "\x1b[2J\x1b[H")?;
        }
        if io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
            // A reader that has seen enough is no failure.
            return Ok(code);
        }
        let Some(seconds) = cli.watch else { return Ok(code) };
        pause(Duration::from_secs(seconds));
    }
}

#[expect(clippy::disallowed_methods, reason = "this program has one thread, and nothing to do meanwhile")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn once(cli: &Cli, client: &Client, as_table: bool, is_terminal: bool) -> Result<(String, u8)> {
    let code = |is_whole: bool| if is_whole { 0 } else { EXIT_PARTIAL };
    let list =
        |path: &str, parameters: &[(&str, Option<&str>)], columns: &[Column]| -> Result<(String, u8)> {
            let Listed { items, partial } = client.list(path, parameters)?;
            let is_whole = partial.is_empty();
            let text = match as_table {
                true => table::list(&items, &partial, columns, is_terminal),
                false => format!("{}\n", json!({"items": items, "partial": partial})),
            };
            Ok((text, code(is_whole)))
        };
    let outcome = |answer: Value| -> Result<(String, u8)> {
        let is_whole = answer["partial"].as_array().is_none_or(Vec::is_empty);
        let text = if as_table { table::outcome(&answer, is_terminal) } else { format!("{answer}\n") };
        Ok((text, code(is_whole)))
    };
    let done = |path: &str, body: &Value| outcome(client.post(path, body)?);
    let operation = |answer: &Value| match as_table {
        true => table::list(std::slice::from_ref(answer), &[], table::OPERATIONS, is_terminal),
        false => format!("{answer}\n"),
    };
    match &cli.command {
        Command::Nodes => list("nodes", &[], table::NODES),
        Command::Rooms { prefix, namespace, busiest } => {
            let order = busiest.then_some("members");
            let parameters =
                [("prefix", prefix.as_deref()), ("namespace", namespace.as_deref()), ("order", order)];
            list("rooms", &parameters, table::ROOMS)
        }
        Command::Members { room, namespace } => {
            let path = format!("rooms/{}/members", client::segment(room));
            list(&path, &[("namespace", Some(namespace))], table::MEMBERS)
        }
        Command::Sockets { room, subject, address, node, namespace } => {
            let parameters = [
                ("room", room.as_deref()),
                ("subject", subject.as_deref()),
                ("address", address.as_deref()),
                ("node", node.as_deref()),
                ("namespace", namespace.as_deref()),
            ];
            list("sockets", &parameters, table::SOCKETS)
        }
        Command::Peers { prefix, key } => {
            list("peers", &[("prefix", prefix.as_deref()), ("key", key.as_deref())], table::PEERS)
        }
        Command::Emit { event, args, to, ack } => {
            let value =
                |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
            let args: Vec<Value> = args.iter().map(value).collect();
            let mut body = json!({"to": to.body(), "event": event, "args": args});
            if let Some(timeout) = ack {
                body["ack"] = json!({"timeout": timeout});
            }
            done("emit", &body)
        }
        Command::Kick { to, peer, close } => {
            let peers: Vec<Value> = peer.iter().map(|id| json!({"id": id})).collect();
            let mut body = json!({"close": close, "peers": peers});
            if !to.is_nobody() {
                body["to"] = to.body();
            }
            done("disconnect", &body)
        }
        Command::Explain { shown, actions, limit } => {
            let mut asked = actions.asked();
            let limits = limit.iter().map(|(limit, amount)| (limit.clone(), *amount));
            asked.extend(limits.map(|(limit, amount)| AskedAction::Limit { limit, amount }));
            // Without a token a client is anonymous.
            let shown = token::shown(shown)?;
            let token = Some(shown.trim()).filter(|token| !token.is_empty());
            let answer = client.post("explain", &json!({"token": token, "actions": asked}))?;
            let refuses = |decision: &Value| decision["allowed"] != true;
            let is_refused = answer["accepted"] != true
                || answer["decisions"].as_array().is_some_and(|all| all.iter().any(refuses));
            let text = if as_table { table::explained(&answer) } else { format!("{answer}\n") };
            Ok((text, if is_refused { EXIT_REFUSED } else { 0 }))
        }
        // It has a conversation, and no text to print.
        Command::Mcp { .. } => Ok((String::new(), 0)),
        Command::Log { client: clients, level, seconds, off } => {
            if !off && clients.is_empty() && level.is_none() {
                bail!("say what is to be logged (--client, --level), or that it is enough (--off)");
            }
            outcome(client.put("log", &json!({"level": level, "clients": clients, "seconds": seconds}))?)
        }
        // It has no single answer.
        Command::Tail(_) => Ok((String::new(), 0)),
        Command::Drain { node } => {
            let path = format!("nodes/{}/drain", client::segment(node));
            Ok((operation(&client.post(&path, &Value::Null)?), 0))
        }
        Command::Rebalance { rate } => Ok((operation(&client.post("rebalance", &json!({"rate": rate}))?), 0)),
        Command::Operations { id: None, kind, status, node, .. } => {
            let parameters =
                [("kind", kind.as_deref()), ("status", status.as_deref()), ("node", node.as_deref())];
            list("operations", &parameters, table::OPERATIONS)
        }
        Command::Operations { id: Some(id), stop, .. } => {
            let path = format!("operations/{}", client::segment(id));
            let answer = if *stop { client.delete(&path)? } else { client.get(&path)? };
            Ok((operation(&answer), 0))
        }
    }
}
