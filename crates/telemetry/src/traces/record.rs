//! What is told of a span once it has ended.

use std::time::{Duration, SystemTime};

use super::TraceContext;

/// Which end of a message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A message leaves.
    Producer,
    /// A message arrives.
    Consumer,
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Ok,
    /// Not, for this reason.
    Failed(&'static str),
}

/// A span that has ended. What it is called and what is said of it never comes from a client.
#[derive(Debug)]
pub(super) struct SpanRecord {
    pub(super) name: &'static str,
    pub(super) kind: SpanKind,
    pub(super) protocol: &'static str,
    pub(super) context: TraceContext,
    pub(super) parent: Option<TraceContext>,
    pub(super) began_at: SystemTime,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}
