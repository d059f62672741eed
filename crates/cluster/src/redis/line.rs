//! One connection to one server, opened when it is needed: scripts are loaded into it, commands pipelined through it.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value, aio::ConnectionLike};

use super::{
    calls::Context,
    cluster::{Address, Masters},
    commands::Lost,
    single::{Connection, Single},
};

/// Where a line leads.
enum To {
    Single(Arc<Single>),
    Master(Arc<Masters>, Address),
}

/// A connection out of a pool, held for as long as it works.
pub(super) struct Line {
    to: To,
    context: Arc<Context>,
    connection: Option<Connection>,
}

impl Line {
    pub(super) fn to_single(single: Arc<Single>, context: Arc<Context>) -> Self {
        Self { to: To::Single(single), context, connection: None }
    }

    pub(super) fn to_master(masters: Arc<Masters>, address: Address, context: Arc<Context>) -> Self {
        Self { to: To::Master(masters, address), context, connection: None }
    }

    /// Makes calls in their order, pipelined. No command is ever sent twice that may have been executed.
    pub(super) async fn send(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, Lost> {
        self.open().await?;
        let mut values = self.pipeline(commands).await?;
        // Somebody flushed the scripts: those calls were not executed, and are made again in the same order.
        let missing: Vec<usize> = (0..values.len()).filter(|index| is_missing(&values[*index])).collect();
        if !missing.is_empty() {
            self.load().await.map_err(|_| Lost { maybe: true })?;
            let again: Vec<Cmd> = missing.iter().map(|index| commands[*index].clone()).collect();
            let answers = self.pipeline(&again).await?;
            for (index, answer) in missing.into_iter().zip(answers) {
                values[index] = answer;
            }
        }
        if values.iter().any(is_of_a_replica) {
            // The master has become a replica; the next connection finds the new one.
            self.close();
        }
        Ok(values)
    }

    async fn open(&mut self) -> Result<(), Lost> {
        if self.connection.is_none() {
            let connection = match &self.to {
                To::Single(single) => single.connection().await,
                To::Master(masters, address) => masters.connection(address).await,
            };
            self.connection = Some(connection.map_err(|error| {
                tracing::debug!(%error, "Redis cannot be reached");
                Lost { maybe: false }
            })?);
            self.load().await.map_err(|_| Lost { maybe: false })?;
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<(), Lost> {
        let load = self.context.scripts.load();
        self.pipeline(&load).await.map(|_| ())
    }

    async fn pipeline(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, Lost> {
        let Some(connection) = self.connection.as_mut() else { return Err(Lost { maybe: false }) };
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command.clone());
        }
        match connection.req_packed_commands(&pipeline, 0, commands.len()).await {
            Ok(values) if values.len() == commands.len() => Ok(values),
            Ok(_) => {
                self.close();
                Err(Lost { maybe: true })
            }
            Err(error) => {
                tracing::debug!(%error, "Redis does not answer");
                self.close();
                Err(Lost { maybe: true })
            }
        }
    }

    /// The connection is of no use any more; it is not given back to the pool.
    fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
        }
    }
}

/// What kind of error an answer is.
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
