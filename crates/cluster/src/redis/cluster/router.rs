//! Commands, each to the master that owns its slot.
//!
//! Commands of one slot keep their order. Those of different slots have none: each master gets its own in one pipeline, all of
//! them at once. What a master refuses because it does not own the slot (any more, or not yet), or because the slot is on its way,
//! was not done, and is asked again once the table has been made anew. Should something later of the same slot have been done by
//! then, it is not: a member that left must not be put back by its own earlier join, and what is said in a room keeps its order. It
//! counts as not done.

use std::{sync::Arc, time::Duration, time::Instant};

use ahash::{AHashMap, AHashSet};
use futures_util::future::join_all;
use redis::{Arg, Cmd, Value};
use sha2::{Digest, Sha256};

use super::{
    super::{calls::Context, commands::Lost, keys, line::Line, line::code},
    marks::Marks,
    masters::Masters,
    table::Table,
    url::Address,
};

/// How long what was refused is asked again, and how long to wait before that: a slot on its way arrives within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);
/// How often the nodes are asked who owns what, though nothing seems wrong.
const REFRESH: Duration = Duration::from_secs(5);

/// How long after the masters have changed a message that nobody heard may have been heard all the same: by somebody who still has
/// his connection to the old master, which is a replica now and says what the new one says.
const UNSURE: Duration = Duration::from_secs(10);

/// Connections to all masters.
pub(in super::super) struct Router {
    masters: Arc<Masters>,
    /// The table that was believed last, and when another one was.
    table: Option<Arc<Table>>,
    changed: Option<Instant>,
    context: Arc<Context>,
    lines: AHashMap<Address, Line>,
    refreshed: Option<Instant>,
    marks: Marks,
}

/// What a command is about.
enum About {
    /// Keys of one slot.
    Slot(u16),
    /// The servers: which starts of which they are.
    Servers,
}

type Answer = Result<Value, Lost>;

impl Router {
    pub(in super::super) fn new(masters: Arc<Masters>, context: Arc<Context>) -> Self {
        let (lines, marks) = (AHashMap::new(), Marks::default());
        Self { masters, table: None, changed: None, context, lines, refreshed: None, marks }
    }

    /// Makes calls; an answer for each. One about the servers comes first: if any of them does not answer, none is made.
    pub(in super::super) async fn send(&mut self, commands: Vec<Cmd>) -> Vec<Answer> {
        let about: Vec<About> = commands.iter().map(about).collect();
        let mut answers: Vec<Option<Answer>> = vec![None; commands.len()];
        if about.iter().any(|about| matches!(about, About::Servers)) {
            let Some(servers) = self.servers().await else {
                return vec![Err(Lost { maybe: false }); commands.len()];
            };
            for (answer, about) in answers.iter_mut().zip(&about) {
                if matches!(about, About::Servers) {
                    *answer = Some(Ok(Value::BulkString(format!("run_id:{servers}\r\n").into_bytes())));
                }
            }
        }
        let mut left: Vec<(usize, u16)> = Vec::with_capacity(commands.len());
        for (index, about) in about.iter().enumerate() {
            if let About::Slot(slot) = about {
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
            if began.elapsed() >= PATIENCE {
                for (index, _) in left {
                    answers[index] = Some(Err(Lost { maybe: false }));
                }
                break;
            }
            if asked > began {
                // Asking at once did not help.
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            self.masters.refresh(asked).await;
        }
        let is_sure = self.changed.is_none_or(|changed| changed.elapsed() >= UNSURE);
        let known = |(answer, command): (Option<Answer>, &Cmd)| match answer {
            Some(Ok(Value::Int(0))) if !is_sure && name(command) == b"SPUBLISH" => Ok(Value::Nil),
            answer => answer.unwrap_or(Err(Lost { maybe: true })),
        };
        answers.into_iter().zip(&commands).map(known).collect()
    }

    /// Asks each master for its part, and gives back what was refused, in its order.
    async fn round(
        &mut self,
        commands: &[Cmd],
        asked: Vec<(usize, u16)>,
        answers: &mut [Option<Answer>],
    ) -> Vec<(usize, u16)> {
        let table = self.masters.table();
        if self.table.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &table)) {
            self.changed = self.table.replace(table.clone()).map(|_| Instant::now());
        }
        let mut parts: AHashMap<&Address, Vec<(usize, u16)>> = AHashMap::new();
        let mut refused = Vec::new();
        for (index, slot) in asked {
            match table.owner(slot) {
                Some(master) => parts.entry(&master.address).or_default().push((index, slot)),
                None => refused.push((index, slot)),
            }
        }
        let sent = parts.into_iter().map(|(address, part)| {
            let mut line = self.take_line(address);
            async move {
                let of_part: Vec<Cmd> = part.iter().map(|(index, _)| commands[*index].clone()).collect();
                let values = line.send(&of_part).await;
                (address, line, part, values)
            }
        });
        let sent: Vec<_> = sent.collect();
        for (address, line, part, values) in join_all(sent).await {
            match values {
                Ok(values) => refused.extend(sort_out(commands, part, values, answers)),
                Err(lost) => {
                    for (index, _) in part {
                        answers[index] = Some(Err(lost));
                    }
                }
            }
            self.lines.insert(address.clone(), line);
        }
        self.lines.retain(|address, _| is_master(&table, address));
        refused.sort_unstable();
        refused
    }

    fn take_line(&mut self, address: &Address) -> Line {
        let make = || Line::to_master(self.masters.clone(), address.clone(), self.context.clone());
        self.lines.remove(address).unwrap_or_else(make)
    }

    /// Which starts of which servers the store is on at present; `None` if it is not whole.
    async fn servers(&mut self) -> Option<String> {
        let mut noticed = Instant::now();
        if self.refreshed.is_none_or(|refreshed| refreshed.elapsed() >= REFRESH) {
            self.masters.refresh(noticed).await;
            self.refreshed = Some(noticed);
        }
        for _ in 0..2 {
            noticed = Instant::now();
            if let Some(servers) = self.ask_servers().await {
                return Some(servers);
            }
            self.masters.refresh(noticed).await;
        }
        None
    }

    async fn ask_servers(&mut self) -> Option<String> {
        let table = self.masters.table();
        if !table.is_whole() {
            return None;
        }
        let mut info = redis::cmd("INFO");
        info.arg("server").arg("replication");
        let asked = table.masters.iter().map(|master| {
            let mut line = self.take_line(&master.address);
            let partition = Marks::partition(&self.context.keys, &table, &master.address);
            let mark = rand::random::<u128>().to_string().into_bytes();
            let set = partition.map(|partition| Marks::command(&self.context.keys, partition, &mark));
            let commands: Vec<Cmd> = [info.clone()].into_iter().chain(set).collect();
            async move { (line.send(&commands).await, line, master, partition, mark) }
        });
        let asked: Vec<_> = asked.collect();
        let mut servers = Vec::new();
        for (answer, line, master, partition, mark) in join_all(asked).await {
            self.lines.insert(master.address.clone(), line);
            let mut values = answer.into_iter().flatten();
            if let Some(run_id) = values.next().and_then(run_id_of_master) {
                servers.push(format!("{} {run_id}", master.id));
            }
            if let (Some(partition), Some(found)) = (partition, values.next()) {
                self.marks.answered(partition, &mark, found);
            }
        }
        if servers.len() < table.masters.len() {
            return None;
        }
        servers.sort_unstable();
        servers.push(self.marks.losses().to_string());
        let digest = Sha256::digest(servers.join("\n"));
        Some(digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect())
    }
}

fn is_master(table: &Table, address: &Address) -> bool {
    table.masters.iter().any(|master| master.address == *address)
}

/// What a master answered. Gives back what was refused and may be asked again.
fn sort_out(
    commands: &[Cmd],
    part: Vec<(usize, u16)>,
    values: Vec<Value>,
    answers: &mut [Option<Answer>],
) -> Vec<(usize, u16)> {
    let mut refused = Vec::new();
    let (mut overtaken, mut spoken) = (AHashSet::new(), AHashSet::new());
    for ((index, slot), value) in part.into_iter().zip(values).rev() {
        // A message depends on nothing that is stored, but on what was said before.
        let is_message = name(&commands[index]) == b"SPUBLISH";
        if !is_refused(&value) {
            let done = if is_message { &mut spoken } else { &mut overtaken };
            done.insert(slot);
            answers[index] = Some(Ok(value));
        } else if overtaken.contains(&slot) || is_message && spoken.contains(&slot) {
            answers[index] = Some(Err(Lost { maybe: false }));
        } else {
            refused.push((index, slot));
        }
    }
    refused
}

/// Whether a master says that it is not the one to ask, or not now: then it has done nothing.
fn is_refused(value: &Value) -> bool {
    let refusals = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING"];
    code(value).is_some_and(|code| refusals.contains(&code)) || is_halfway(value)
}

/// Whether a script found that a key it is not given beforehand is on its way already. Each looks for such keys before it writes,
/// or may do what it does once more.
fn is_halfway(value: &Value) -> bool {
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
fn about(command: &Cmd) -> About {
    match name(command) {
        b"INFO" => About::Servers,
        b"EVALSHA" => About::Slot(keys::slot(argument(command, 3))),
        _ => About::Slot(keys::slot(argument(command, 1))),
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
            assert!(matches!(about(&command(words)), About::Slot(12_182)), "{words}");
        }
        assert!(matches!(about(&command("INFO server")), About::Servers));
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
        assert_eq!(sort_out(&commands, part, values, &mut answers), [(2, 2)]);
        assert_eq!(answers[0], Some(Err(Lost { maybe: false })));
        assert_eq!(answers[1], Some(Ok(Value::Nil)));
        assert_eq!((&answers[2], &answers[3]), (&None, &Some(Ok(Value::Int(1)))));
        assert!(matches!(&answers[4], Some(Ok(Value::ServerError(_)))));
        assert_eq!(answers[5], Some(Err(Lost { maybe: false })));
    }

    #[test]
    fn only_a_master_is_asked_who_it_is() {
        let info =
            |role: &str| Value::BulkString(format!("# Server\r\nrun_id:abc\r\nrole:{role}\r\n").into_bytes());
        assert_eq!(run_id_of_master(info("master")).as_deref(), Some("abc"));
        assert_eq!(run_id_of_master(info("slave")), None);
    }
}
