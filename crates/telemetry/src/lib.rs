//! Metrics, logs and traces. Every metric of every service is declared in [`metrics`] or [`turn_metrics`], with its description; nothing else creates one.

pub mod logs;
pub mod metric_export;
pub mod metrics;
mod otlp;
pub mod traces;
pub mod turn_metrics;

pub use logs::{CLIENT_EVENTS, LogFormat, init_logs, take_http_errors, take_lines_left_out};
pub use metrics::{Metrics, sum};
pub use turn_metrics::TurnMetrics;
