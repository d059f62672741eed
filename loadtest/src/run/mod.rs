//! A run: this process measures, and its worker processes are the clients.
//!
//! - [`options`]: what every scenario takes.
//! - [`coordinator`]: starts the workers, leads them through the phases, and reads `/proc` between them.
//! - [`worker`]: the other end, which a scenario is written against.
//! - [`wire`]: the lines of JSON between the two.

pub(crate) mod coordinator;
pub(crate) mod options;
mod wire;
pub(crate) mod worker;

pub(crate) use options::{Load, Output, Seconds, rate};
pub(crate) use worker::{Phase, Worker};
