//! Spans: what one message did on one node.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    TraceContext,
    export::traces,
    record::{Outcome, SpanKind, SpanRecord},
};

/// A span that took so long is kept, whatever the sampler says.
pub const SLOW: Duration = Duration::from_millis(250);

/// A span that has begun, and is not told before it ends. What it is called and what is said of it never comes from a client.
#[derive(Debug)]
pub struct Span {
    name: &'static str,
    kind: SpanKind,
    protocol: &'static str,
    context: TraceContext,
    parent: Option<TraceContext>,
    began_at: SystemTime,
    began: Instant,
}

impl Span {
    /// Begins one; `None`, at the cost of a look at a number, where no traces are exported. `parent` is the `traceparent` of what caused it;
    /// one that cannot be read is none.
    // Never inlined: `cargo xtask bench` looks for it in a profile, to say what traces cost where they are off.
    #[inline(never)]
    pub fn begin(
        name: &'static str,
        kind: SpanKind,
        protocol: &'static str,
        parent: Option<&str>,
    ) -> Option<Box<Self>> {
        let traces = traces()?;
        let parent = parent.and_then(TraceContext::parse);
        let trace_id = parent.map_or_else(|| random_u128().max(1), |parent| parent.trace_id);
        let is_sampled = traces.sampler.keeps(trace_id, parent.as_ref());
        let context = TraceContext { trace_id, span_id: (random_u128() as u64).max(1), is_sampled };
        let (began_at, began) = (SystemTime::now(), Instant::now());
        Some(Box::new(Self { name, kind, protocol, context, parent, began_at, began }))
    }

    /// What travels with the message: its receiver's span is a child of this one.
    pub fn traceparent(&self) -> Arc<str> {
        self.context.to_string().into()
    }

    /// It began so much earlier than it was known here: what it stands for was under way.
    #[must_use]
    pub fn since(mut self: Box<Self>, earlier: Duration) -> Box<Self> {
        self.began_at = self.began_at.checked_sub(earlier).unwrap_or(self.began_at);
        self.began = self.began.checked_sub(earlier).unwrap_or(self.began);
        self
    }

    /// It is over. Kept, where the sampler keeps it, or where it was slow or failed.
    pub fn end(self, outcome: Outcome) {
        let took = self.began.elapsed();
        if !self.context.is_sampled && took < SLOW && outcome == Outcome::Ok {
            return;
        }
        if let Some(traces) = traces() {
            let Self { name, kind, protocol, context, parent, began_at, .. } = self;
            traces.export(&SpanRecord { name, kind, protocol, context, parent, began_at, took, outcome });
        }
    }
}

fn random_u128() -> u128 {
    rand::random()
}
