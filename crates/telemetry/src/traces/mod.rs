//! Traces: the way of one message from the sender's frame to the receiver's, over workers, nodes and Redis, exported by OTLP.
//!
//! - `context`: the W3C trace context, which travels with a message.
//! - `sampling`: which traces are kept.
//! - `span`: what one message did on one node.
//! - `record`, `export`: what is told of it, and to whom.
//!
//! The `OTEL_*` variables turn them on. Where none asks for traces, a message costs a look at one number.

mod context;
mod export;
mod record;
mod sampling;
mod span;

pub use context::TraceContext;
pub use export::{TraceError, flush_traces, init_traces, of_auth, of_client};
pub use record::{Outcome, SpanKind};
pub use span::{SLOW, Span};
