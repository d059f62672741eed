//! One connection to one server, opened when it is needed. Scripts are loaded into the server first; commands are pipelined.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Pipeline, Value, aio::ConnectionLike, cmd};

use super::{
    calls::Context,
    cluster::{Address, Topology},
    command_error::CommandError,
    single_server::{Connection, SingleServer},
};

/// The server at the other end.
enum Target {
    Single(Arc<SingleServer>),
    Master(Arc<Topology>, Address),
}

/// A connection from a pool, kept while it works.
pub(super) struct RedisConnection {
    to: Target,
    context: Arc<Context>,
    connection: Option<Connection>,
    /// How long a pipeline may take to be answered.
    patience: Duration,
    /// How the server calls the connection.
    name: Option<ClientName>,
    /// How many connections to the server were lost when this one was opened.
    lost_before: u64,
    /// How a server called a connection that was given up: what it has not read of it must not run any more.
    stale: Option<ClientName>,
}

/// How a server calls a connection: its number, and both its addresses, so that no other server mistakes it for one of its own.
#[derive(Debug, Clone)]
struct ClientName {
    id: String,
    addr: String,
    laddr: String,
}

impl ClientName {
    /// Reads the answer to CLIENT INFO.
    fn read(info: &Value) -> Option<Self> {
        let info = match info {
            Value::BulkString(info) => str::from_utf8(info).ok()?,
            Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        let field = |name: &str| {
            let mut fields = info.split_whitespace().filter_map(|field| field.split_once('='));
            fields.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        Some(Self { id: field("id")?, addr: field("addr")?, laddr: field("laddr")? })
    }

    fn kill(&self) -> Cmd {
        let mut kill = cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(&self.id).arg("ADDR").arg(&self.addr).arg("LADDR").arg(&self.laddr);
        kill
    }
}

impl RedisConnection {
    pub(super) fn to_server(
        single_server: Arc<SingleServer>,
        context: Arc<Context>,
        patience: Duration,
    ) -> Self {
        Self::to(Target::Single(single_server), context, patience)
    }

    pub(super) fn to_master(
        topology: Arc<Topology>,
        address: Address,
        context: Arc<Context>,
        patience: Duration,
    ) -> Self {
        Self::to(Target::Master(topology, address), context, patience)
    }

    fn to(to: Target, context: Arc<Context>, patience: Duration) -> Self {
        Self { to, context, connection: None, patience, name: None, lost_before: 0, stale: None }
    }

    /// Sends commands in their order, pipelined. No command is sent again that may have been executed.
    pub(super) async fn send(&mut self, commands: Vec<Cmd>) -> Result<Vec<Value>, CommandError> {
        self.open().await?;
        let commands = pipeline(commands);
        let mut values = self.send_pipeline(&commands).await?;
        // The scripts were flushed: their calls were not executed, and are made again in the same order.
        let missing: Vec<usize> = (0..values.len()).filter(|index| is_missing(&values[*index])).collect();
        if !missing.is_empty() {
            self.load().await.map_err(|_| CommandError { may_have_run: true })?;
            let mut again = Pipeline::with_capacity(missing.len());
            for command in missing.iter().filter_map(|index| commands.cmd_iter().nth(*index)) {
                again.add_command(command.clone());
            }
            let answers = self.send_pipeline(&again).await?;
            for (index, answer) in missing.into_iter().zip(answers) {
                values[index] = answer;
            }
        }
        if values.iter().any(is_of_a_replica) {
            // The master has become a replica; the next connection goes to the new master.
            self.close();
        }
        Ok(values)
    }

    async fn open(&mut self) -> Result<(), CommandError> {
        if let Target::Single(single_server) = &self.to {
            let lost = single_server.lost_connections();
            if lost != std::mem::replace(&mut self.lost_before, lost)
                && let Some(connection) = self.connection.take()
            {
                connection.discard();
                self.name = None;
            }
        }
        if self.connection.is_none() {
            let connection = match &self.to {
                Target::Single(single_server) => single_server.connection().await,
                Target::Master(topology, address) => topology.connection(address).await,
            };
            let mut connection = connection.map_err(|error| {
                self.context.failed("unreachable");
                tracing::debug!(%error, "Redis cannot be reached");
                CommandError { may_have_run: false }
            })?;
            connection.set_response_timeout(self.patience);
            self.connection = Some(connection);
            self.begin().await.map_err(|_| CommandError { may_have_run: false })?;
            self.context.connected("commands");
        }
        Ok(())
    }

    /// Loads the scripts, and has the server drop what it has not read yet of the connection that was given up before.
    async fn begin(&mut self) -> Result<(), CommandError> {
        let mut commands = self.context.scripts.load();
        let scripts = commands.len();
        let mut info = cmd("CLIENT");
        info.arg("INFO");
        commands.push(info);
        commands.extend(self.stale.as_ref().map(ClientName::kill));
        let values = self.send_pipeline(&pipeline(commands)).await?;
        self.name = values.get(scripts).and_then(ClientName::read);
        self.stale = None;
        Ok(())
    }

    async fn load(&mut self) -> Result<(), CommandError> {
        let load = self.context.scripts.load();
        self.send_pipeline(&pipeline(load)).await.map(|_| ())
    }

    async fn send_pipeline(&mut self, pipeline: &Pipeline) -> Result<Vec<Value>, CommandError> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(CommandError { may_have_run: false });
        };
        let count = pipeline.cmd_iter().count();
        match connection.req_packed_commands(pipeline, 0, count).await {
            Ok(values) if values.len() == count => Ok(values),
            Ok(_) => {
                self.close();
                Err(CommandError { may_have_run: true })
            }
            Err(error) => {
                self.context.failed("no_answer");
                tracing::debug!(%error, "Redis does not answer");
                self.close();
                Err(CommandError { may_have_run: true })
            }
        }
    }

    /// Drops a broken connection instead of giving it back to the pool.
    pub(super) fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
            if let Target::Single(single_server) = &self.to {
                single_server.connection_lost();
            }
        }
        if let Some(name) = self.name.take() {
            self.stale = Some(name);
        }
    }
}

fn pipeline(commands: Vec<Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

/// The code of an answer that is an error.
pub(super) fn code(value: &Value) -> Option<&str> {
    match value {
        Value::ServerError(error) => Some(error.code()),
        _ => None,
    }
}

fn is_missing(value: &Value) -> bool {
    code(value) == Some("NOSCRIPT")
}

fn is_of_a_replica(value: &Value) -> bool {
    matches!(code(value), Some("READONLY" | "MASTERDOWN" | "LOADING"))
}
