//! Commands on their way to Redis, and what may have become of them.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value};

use super::{
    backend::Backend, calls::Context, command_error::CommandError, connection::RedisConnection,
    router::Router,
};

/// Connections for commands, kept while they work. Commands are executed in order; in a Redis Cluster, in order within each slot.
pub(super) enum Commands {
    Single(RedisConnection),
    Cluster(Router),
}

impl Commands {
    /// Commands that may take so long to be answered.
    pub(super) fn new(backend: &Backend, context: Arc<Context>, patience: Duration) -> Self {
        match backend {
            Backend::Single(single_server) => {
                Self::Single(RedisConnection::to_server(single_server.clone(), context, patience))
            }
            Backend::Cluster(topology) => Self::Cluster(Router::new(topology.clone(), context, patience)),
        }
    }

    /// Gives up the connections: answers that have not arrived are not waited for.
    pub(super) fn close(&mut self) {
        match self {
            Self::Single(connection) => connection.close(),
            Self::Cluster(router) => router.close(),
        }
    }

    /// Sends commands in their order, pipelined; returns an answer for each. No command is sent again that may have been
    /// executed.
    pub(super) async fn send(&mut self, commands: Vec<Cmd>) -> Vec<Result<Value, CommandError>> {
        match self {
            Self::Single(connection) => match connection.send(&commands).await {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(lost) => vec![Err(lost); commands.len()],
            },
            Self::Cluster(router) => router.send(commands).await,
        }
    }
}

/// All answers of a call; an error if any of them is missing.
pub(super) fn all(answers: Vec<Result<Value, CommandError>>) -> Result<Vec<Value>, CommandError> {
    let may_have_run =
        answers.iter().any(|answer| matches!(answer, Err(CommandError { may_have_run: true })));
    answers.into_iter().collect::<Result<_, _>>().map_err(|_| CommandError { may_have_run })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_in_part_may_have_been_done() {
        let (done, not, maybe) = (
            Ok(Value::Okay),
            Err(CommandError { may_have_run: false }),
            Err(CommandError { may_have_run: true }),
        );
        assert_eq!(all(vec![done.clone(), done.clone()]), Ok(vec![Value::Okay; 2]));
        assert_eq!(all(vec![done.clone(), not.clone()]), Err(CommandError { may_have_run: false }));
        assert_eq!(all(vec![not, maybe, done]), Err(CommandError { may_have_run: true }));
    }
}
