//! Servers of the application's own, which rules ask.

use std::{future::Future, pin::Pin};

use signalbox_rules::CallAnswer;

/// What was answered; `None` where there was no answer that can be used.
pub type Called = Pin<Box<dyn Future<Output = Option<CallAnswer>> + Send>>;

/// Servers of the application's own, which rules `call` by their names.
pub trait Hooks: std::fmt::Debug + Send + Sync + 'static {
    /// The names that rules may call.
    fn names(&self) -> Vec<String>;

    /// Asks one of them, with this JSON (`docs/rules.md`). The client's next events wait for the answer, so it has to come in bounded time.
    fn call(&self, hook: &str, body: String) -> Called;
}
