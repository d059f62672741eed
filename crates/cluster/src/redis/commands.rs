//! Commands on their way to Redis and what may have become of them.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::{calls::Context, cluster::Router, line::Line, source::Source};

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Whether it may have done what it was asked.
    pub(super) maybe: bool,
}

/// Connections for commands, held for as long as they work. What is sent through it keeps its order; in a Redis Cluster, its
/// order within each partition.
pub(super) enum Commands {
    Single(Line),
    Cluster(Router),
}

impl Commands {
    pub(super) fn new(source: &Source, context: Arc<Context>) -> Self {
        match source {
            Source::Single(single) => Self::Single(Line::to_single(single.clone(), context)),
            Source::Cluster(masters) => Self::Cluster(Router::new(masters.clone(), context)),
        }
    }

    /// Makes calls in their order, pipelined; an answer for each. No command is ever sent twice that may have been executed.
    pub(super) async fn send(&mut self, commands: Vec<Cmd>) -> Vec<Result<Value, Lost>> {
        match self {
            Self::Single(line) => match line.send(&commands).await {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(lost) => vec![Err(lost); commands.len()],
            },
            Self::Cluster(router) => router.send(commands).await,
        }
    }
}

/// All answers; if one is lost, all are.
pub(super) fn all(answers: Vec<Result<Value, Lost>>) -> Result<Vec<Value>, Lost> {
    let maybe = answers.iter().any(|answer| matches!(answer, Err(Lost { maybe: true })));
    answers.into_iter().collect::<Result<_, _>>().map_err(|_| Lost { maybe })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_in_part_may_have_been_done() {
        let (done, not, maybe) = (Ok(Value::Okay), Err(Lost { maybe: false }), Err(Lost { maybe: true }));
        assert_eq!(all(vec![done.clone(), done.clone()]), Ok(vec![Value::Okay; 2]));
        assert_eq!(all(vec![done.clone(), not.clone()]), Err(Lost { maybe: false }));
        assert_eq!(all(vec![not, maybe, done]), Err(Lost { maybe: true }));
    }
}
