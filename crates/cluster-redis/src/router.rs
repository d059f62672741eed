//! Routes each command to the master that owns its slot.
//!
//! Commands of one slot are executed in order; commands of different slots have no order. Each master gets its commands in one
//! pipeline, and all masters get theirs at once.
//!
//! A master that refuses a command (it does not own the slot, or the slot is migrating) has not executed it. The topology is
//! refreshed, and the command is sent again. If a later command for the slot has run by then, the refused one fails instead: a
//! member that left must not be put back by its own earlier join, and the messages of a room keep their order.

use std::{sync::Arc, time::Duration, time::Instant};

use ahash::{AHashMap, AHashSet};
use futures_util::future::join_all;
use redis::{Arg, Cmd, Value};
use sha2::{Digest, Sha256};

use super::{
    calls::Context,
    cluster::{Address, FlushDetector, SlotMap, Topology},
    command_error::CommandError,
    connection::{RedisConnection, code},
    keys,
};

/// How long, and after which pauses, refused commands are sent again: a slot that is migrating arrives within milliseconds.
const RETRY_FOR: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);
/// How often the topology is refreshed though nothing seems wrong.
const REFRESH: Duration = Duration::from_secs(5);

/// For this long after a topology change, zero receivers do not prove that nobody received a message: a node may still be
/// subscribed at the old master, which is a replica now and delivers what the new one publishes.
const UNCERTAINTY: Duration = Duration::from_secs(10);

/// Connections to all masters.
pub(super) struct Router {
    topology: Arc<Topology>,
    /// The slot map that was used last, and when it last changed.
    slot_map: Option<Arc<SlotMap>>,
    changed: Option<Instant>,
    context: Arc<Context>,
    patience: Duration,
    connections: AHashMap<Address, RedisConnection>,
    refreshed: Option<Instant>,
    flush_detector: FlushDetector,
}

/// What a command concerns.
enum Subject {
    /// Keys of one slot.
    Slot(u16),
    /// The servers themselves: the run ids of all masters.
    Servers,
}

type Answer = Result<Value, CommandError>;

impl Router {
    pub(super) fn new(topology: Arc<Topology>, context: Arc<Context>, patience: Duration) -> Self {
        let (connections, flush_detector) = (AHashMap::new(), FlushDetector::default());
        Self {
            topology,
            slot_map: None,
            changed: None,
            context,
            patience,
            connections,
            refreshed: None,
            flush_detector,
        }
    }

    /// Sends commands; returns an answer for each. Commands about the servers come first: if any master does not answer, no
    /// command is sent.
    pub(super) async fn send(&mut self, commands: Vec<Cmd>) -> Vec<Answer> {
        let subject: Vec<Subject> = commands.iter().map(subject).collect();
        let mut answers: Vec<Option<Answer>> = vec![None; commands.len()];
        if subject.iter().any(|subject| matches!(subject, Subject::Servers)) {
            let Some(servers) = self.servers().await else {
                return vec![Err(CommandError { may_have_run: false }); commands.len()];
            };
            for (answer, subject) in answers.iter_mut().zip(&subject) {
                if matches!(subject, Subject::Servers) {
                    *answer = Some(Ok(Value::BulkString(format!("run_id:{servers}\r\n").into_bytes())));
                }
            }
        }
        let mut left: Vec<(usize, u16)> = Vec::with_capacity(commands.len());
        for (index, subject) in subject.iter().enumerate() {
            if let Subject::Slot(slot) = subject {
                left.push((index, *slot));
            }
        }
        let (began, mut pause) = (Instant::now(), PAUSE);
        while !left.is_empty() {
            let asked = Instant::now();
            left = self.round(&commands, left, &mut answers).await;
            if left.is_empty() {
                break;
            }
            if began.elapsed() >= RETRY_FOR {
                for (index, _) in left {
                    answers[index] = Some(Err(CommandError { may_have_run: false }));
                }
                break;
            }
            if asked > began {
                // Sending it again at once did not help.
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            self.topology.refresh(asked).await;
        }
        let is_certain = self.changed.is_none_or(|changed| changed.elapsed() >= UNCERTAINTY);
        let known = |(answer, command): (Option<Answer>, &Cmd)| match answer {
            Some(Ok(Value::Int(0))) if !is_certain && name(command) == b"SPUBLISH" => Ok(Value::Nil),
            answer => answer.unwrap_or(Err(CommandError { may_have_run: true })),
        };
        answers.into_iter().zip(&commands).map(known).collect()
    }

    /// Sends each master its commands; returns the refused ones, in their order.
    async fn round(
        &mut self,
        commands: &[Cmd],
        asked: Vec<(usize, u16)>,
        answers: &mut [Option<Answer>],
    ) -> Vec<(usize, u16)> {
        let slot_map = self.topology.slot_map();
        if self.slot_map.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &slot_map)) {
            self.changed = self.slot_map.replace(slot_map.clone()).map(|_| Instant::now());
        }
        let mut parts: AHashMap<&Address, Vec<(usize, u16)>> = AHashMap::new();
        let mut refused = Vec::new();
        for (index, slot) in asked {
            match slot_map.owner(slot) {
                Some(master) => parts.entry(&master.address).or_default().push((index, slot)),
                None => refused.push((index, slot)),
            }
        }
        let sent = parts.into_iter().map(|(address, part)| {
            let mut connection = self.take_connection(address);
            async move {
                let of_part: Vec<Cmd> = part.iter().map(|(index, _)| commands[*index].clone()).collect();
                let values = connection.send(&of_part).await;
                (address, connection, part, values)
            }
        });
        let sent: Vec<_> = sent.collect();
        for (address, connection, part, values) in join_all(sent).await {
            match values {
                Ok(values) => refused.extend(collect_answers(commands, part, values, answers)),
                Err(lost) => {
                    for (index, _) in part {
                        answers[index] = Some(Err(lost));
                    }
                }
            }
            self.connections.insert(address.clone(), connection);
        }
        self.connections.retain(|address, _| is_master(&slot_map, address));
        refused.sort_unstable();
        refused
    }

    fn take_connection(&mut self, address: &Address) -> RedisConnection {
        self.connections.remove(address).unwrap_or_else(|| {
            let (topology, context) = (self.topology.clone(), self.context.clone());
            RedisConnection::to_master(topology, address.clone(), context, self.patience)
        })
    }

    /// Gives up all connections. Those that are in use when this is called are gone already.
    pub(super) fn close(&mut self) {
        for connection in self.connections.values_mut() {
            connection.close();
        }
    }

    /// Identifies the present starts of all masters; `None` if a slot has no owner, or a master does not answer.
    async fn servers(&mut self) -> Option<String> {
        let mut noticed = Instant::now();
        if self.refreshed.is_none_or(|refreshed| refreshed.elapsed() >= REFRESH) {
            self.topology.refresh(noticed).await;
            self.refreshed = Some(noticed);
        }
        for _ in 0..2 {
            noticed = Instant::now();
            if let Some(servers) = self.ask_servers().await {
                return Some(servers);
            }
            self.topology.refresh(noticed).await;
        }
        None
    }

    async fn ask_servers(&mut self) -> Option<String> {
        let slot_map = self.topology.slot_map();
        if !slot_map.is_whole() {
            return None;
        }
        let mut info = redis::cmd("INFO");
        info.arg("server").arg("replication");
        let asked = slot_map.masters.iter().map(|master| {
            let mut connection = self.take_connection(&master.address);
            let partition = FlushDetector::partition(&self.context.keys, &slot_map, &master.address);
            let mark = rand::random::<u128>().to_string().into_bytes();
            let set = partition.map(|partition| FlushDetector::command(&self.context.keys, partition, &mark));
            let commands: Vec<Cmd> = [info.clone()].into_iter().chain(set).collect();
            async move { (connection.send(&commands).await, connection, master, partition, mark) }
        });
        let asked: Vec<_> = asked.collect();
        let mut servers = Vec::new();
        for (answer, connection, master, partition, mark) in join_all(asked).await {
            self.connections.insert(master.address.clone(), connection);
            let mut values = answer.into_iter().flatten();
            if let Some(run_id) = values.next().and_then(run_id_of_master) {
                servers.push(format!("{} {run_id}", master.id));
            }
            if let (Some(partition), Some(found)) = (partition, values.next()) {
                self.flush_detector.answered(partition, &mark, found);
            }
        }
        if servers.len() < slot_map.masters.len() {
            return None;
        }
        servers.sort_unstable();
        servers.push(self.flush_detector.flushes().to_string());
        let digest = Sha256::digest(servers.join("\n"));
        Some(digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect())
    }
}

fn is_master(slot_map: &SlotMap, address: &Address) -> bool {
    slot_map.masters.iter().any(|master| master.address == *address)
}

/// Collects a master's answers; returns the commands that were refused and may be sent again.
fn collect_answers(
    commands: &[Cmd],
    part: Vec<(usize, u16)>,
    values: Vec<Value>,
    answers: &mut [Option<Answer>],
) -> Vec<(usize, u16)> {
    let mut refused = Vec::new();
    let (mut executed, mut published) = (AHashSet::new(), AHashSet::new());
    for ((index, slot), value) in part.into_iter().zip(values).rev() {
        // A message does not depend on stored data, only on earlier messages of its slot.
        let is_message = name(&commands[index]) == b"SPUBLISH";
        if !is_refused(&value) {
            let done = if is_message { &mut published } else { &mut executed };
            done.insert(slot);
            answers[index] = Some(Ok(value));
        } else if executed.contains(&slot) || is_message && published.contains(&slot) {
            answers[index] = Some(Err(CommandError { may_have_run: false }));
        } else {
            refused.push((index, slot));
        }
    }
    refused
}

/// Whether a master refused the command: it does not own the slot, or not now. Then it has executed nothing.
fn is_refused(value: &Value) -> bool {
    let refusals = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING"];
    code(value).is_some_and(|code| refusals.contains(&code)) || touches_migrating_key(value)
}

/// Whether a script failed on a key that was not named in the call and has migrated already. Scripts touch such keys before they
/// write, or may be run again.
fn touches_migrating_key(value: &Value) -> bool {
    match value {
        Value::ServerError(error) => error.details().is_some_and(|details| details.contains("non local key")),
        _ => false,
    }
}

fn run_id_of_master(info: Value) -> Option<String> {
    let info = match info {
        Value::BulkString(info) => String::from_utf8(info).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("role:")? != "master" {
        return None;
    }
    field("run_id:").map(str::to_owned)
}

fn argument(command: &Cmd, index: usize) -> &[u8] {
    match command.args_iter().nth(index) {
        Some(Arg::Simple(argument)) => argument,
        _ => b"",
    }
}

fn name(command: &Cmd) -> &[u8] {
    argument(command, 0)
}

/// The slot of a command is that of its first key.
fn subject(command: &Cmd) -> Subject {
    match name(command) {
        b"INFO" => Subject::Servers,
        b"EVALSHA" => Subject::Slot(keys::slot(argument(command, 3))),
        _ => Subject::Slot(keys::slot(argument(command, 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &str) -> Cmd {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command
    }

    fn error(text: &str) -> Value {
        redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_command_goes_where_its_first_key_is() {
        for words in ["EVALSHA hash 2 x{foo} y", "SPUBLISH x{foo} message", "HGET foo x"] {
            assert!(matches!(subject(&command(words)), Subject::Slot(12_182)), "{words}");
        }
        assert!(matches!(subject(&command("INFO server")), Subject::Servers));
    }

    #[test]
    fn what_was_refused_is_asked_again_unless_something_overtook_it() {
        let commands = ["HGET a", "HGET b", "HGET c", "SPUBLISH c", "HGET d", "SPUBLISH e", "SPUBLISH e"];
        let commands = commands.map(command);
        let part = vec![(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4)];
        let values = vec![
            error("TRYAGAIN Multiple keys request during rehashing of slot"),
            Value::Nil,
            error("MOVED 2 127.0.0.1:7001"),
            Value::Int(1),
            error("ERR wrong"),
            error("MOVED 4 127.0.0.1:7001"),
            Value::Int(1),
        ];
        let mut answers = vec![None; 7];
        assert_eq!(collect_answers(&commands, part, values, &mut answers), [(2, 2)]);
        assert_eq!(answers[0], Some(Err(CommandError { may_have_run: false })));
        assert_eq!(answers[1], Some(Ok(Value::Nil)));
        assert_eq!((&answers[2], &answers[3]), (&None, &Some(Ok(Value::Int(1)))));
        assert!(matches!(&answers[4], Some(Ok(Value::ServerError(_)))));
        assert_eq!(answers[5], Some(Err(CommandError { may_have_run: false })));
    }

    #[test]
    fn only_a_master_is_asked_who_it_is() {
        let info =
            |role: &str| Value::BulkString(format!("# Server\r\nrun_id:abc\r\nrole:{role}\r\n").into_bytes());
        assert_eq!(run_id_of_master(info("master")).as_deref(), Some("abc"));
        assert_eq!(run_id_of_master(info("slave")), None);
    }
}
