//! One connection to one server, opened when it is needed. Scripts are loaded into the server first; commands are pipelined.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value, aio::ConnectionLike};

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
}

impl RedisConnection {
    pub(super) fn to_server(single_server: Arc<SingleServer>, context: Arc<Context>) -> Self {
        Self { to: Target::Single(single_server), context, connection: None }
    }

    pub(super) fn to_master(topology: Arc<Topology>, address: Address, context: Arc<Context>) -> Self {
        Self { to: Target::Master(topology, address), context, connection: None }
    }

    /// Sends commands in their order, pipelined. No command is sent again that may have been executed.
    pub(super) async fn send(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, CommandError> {
        self.open().await?;
        let mut values = self.pipeline(commands).await?;
        // The scripts were flushed: their calls were not executed, and are made again in the same order.
        let missing: Vec<usize> = (0..values.len()).filter(|index| is_missing(&values[*index])).collect();
        if !missing.is_empty() {
            self.load().await.map_err(|_| CommandError { may_have_run: true })?;
            let again: Vec<Cmd> = missing.iter().map(|index| commands[*index].clone()).collect();
            let answers = self.pipeline(&again).await?;
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
        if self.connection.is_none() {
            let connection = match &self.to {
                Target::Single(single_server) => single_server.connection().await,
                Target::Master(topology, address) => topology.connection(address).await,
            };
            self.connection = Some(connection.map_err(|error| {
                tracing::debug!(%error, "Redis cannot be reached");
                CommandError { may_have_run: false }
            })?);
            self.load().await.map_err(|_| CommandError { may_have_run: false })?;
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<(), CommandError> {
        let load = self.context.scripts.load();
        self.pipeline(&load).await.map(|_| ())
    }

    async fn pipeline(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, CommandError> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(CommandError { may_have_run: false });
        };
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command.clone());
        }
        match connection.req_packed_commands(&pipeline, 0, commands.len()).await {
            Ok(values) if values.len() == commands.len() => Ok(values),
            Ok(_) => {
                self.close();
                Err(CommandError { may_have_run: true })
            }
            Err(error) => {
                tracing::debug!(%error, "Redis does not answer");
                self.close();
                Err(CommandError { may_have_run: true })
            }
        }
    }

    /// Drops a broken connection instead of giving it back to the pool.
    fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
        }
    }
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
