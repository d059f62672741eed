//! The program as an operator meets it: what it prints and serves, what it refuses, how it stops.
//!
//! - [`listening`], [`metrics`]: addresses, health and numbers.
//! - [`refusals`]: what keeps it from starting.
//! - [`token`]: the subcommand; [`completions`]: what a shell completes.
//! - [`tls`]: certificates, and real clients behind them; [`redis_tls`]: TLS to Redis.
//! - [`stopping`][]: signals.
//! - [`malformed`]: requests that cannot be read, and what is logged of them.
//! - [`logs`]: what it tells, and what it does not.
//! - [`memory`]: clients that would fill the node's; [`crowds`]: thousands of them, and what a neighbour feels.
//! - [`deadlines`], [`connections`]: what clients leave unfinished, and how many there may be.
//! - [`rules`]: rules files.
//! - [`bundles`], [`settings`], [`proxies`], [`proxy_protocol`]: what the flags change for clients.

mod harness;

#[path = "program/admission.rs"]
mod admission;
#[path = "program/bundles.rs"]
mod bundles;
#[path = "program/completions.rs"]
mod completions;
#[path = "program/connections.rs"]
mod connections;
#[path = "program/crowds.rs"]
mod crowds;
#[path = "program/deadlines.rs"]
mod deadlines;
#[path = "program/listening.rs"]
mod listening;
#[path = "program/logs.rs"]
mod logs;
#[path = "program/malformed.rs"]
mod malformed;
#[path = "program/memory.rs"]
mod memory;
#[path = "program/metrics.rs"]
mod metrics;
#[path = "program/proxies.rs"]
mod proxies;
#[path = "program/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "program/redis_tls.rs"]
mod redis_tls;
#[path = "program/refusals.rs"]
mod refusals;
#[path = "program/rules.rs"]
mod rules;
#[path = "program/settings.rs"]
mod settings;
#[path = "program/stopping.rs"]
mod stopping;
#[path = "program/tls.rs"]
mod tls;
#[path = "program/token.rs"]
mod token;
