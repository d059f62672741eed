//! Metrics, logs and traces. Every metric of every service is declared in [`metrics`] or [`turn_metrics`], with its description; nothing else creates one.
//!
//! - [`declaration`]: what a metric says of itself, and how it is made from that; [`histogram`]: the one kind that is our own.
//! - [`metrics`], [`turn_metrics`]: the metrics of both programs; `exposition`: what a scrape gets of them.
//! - [`metric_export`]: the same by OTLP; [`traces`]; [`logs`].

pub mod declaration;
mod exposition;
pub mod histogram;
pub mod logs;
pub mod metric_export;
pub mod metrics;
mod otlp;
pub mod traces;
pub mod turn_metrics;

pub use exposition::Exposition;
pub use logs::{CLIENT_EVENTS, LogFormat, init_logs, take_http_errors, take_lines_left_out};
pub use metrics::{Metrics, sum};
pub use turn_metrics::TurnMetrics;
