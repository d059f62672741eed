//! One connection for commands, opened when it is needed, and what may have become of a command when it breaks.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value, aio::ConnectionLike};

use super::{
    calls::Context,
    source::{Connection, Source},
};

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Whether it may have done what it was asked.
    pub(super) maybe: bool,
}

/// A connection out of a pool, held for as long as it works.
pub(super) struct Commands {
    source: Arc<Source>,
    context: Arc<Context>,
    connection: Option<Connection>,
}

impl Commands {
    pub(super) fn new(source: Arc<Source>, context: Arc<Context>) -> Self {
        Self { source, context, connection: None }
    }

    /// Makes calls in their order, pipelined. No command is ever sent twice that may have been executed.
    pub(super) async fn send(&mut self, commands: Vec<Cmd>) -> Result<Vec<Value>, Lost> {
        self.open().await?;
        let mut values = self.pipeline(&commands).await?;
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
            self.connection = Some(self.source.connection().await.map_err(|error| {
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

fn code(value: &Value) -> Option<&str> {
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
