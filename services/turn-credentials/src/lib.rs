//! The TURN credentials service: it hands short-lived credentials to whoever may have them.
//!
//! - [`config`]: what can be set, and from where.
//! - [`server`]: the program's life: bind, listen, serve, stop.
//! - [`routes`]: what is asked, and the shapes of answers; [`problem`]: refusals; [`origins`]: pages of other origins.
//! - [`callers`]: who asks: [`tokens`], [`api_keys`], or an address.
//! - [`issue`]: credentials. [`limits`]: how many. [`probe`]: at which servers.
//! - [`upstream`]: credentials of a provider, instead.
//! - `subjects`: what is asked about subjects. [`usage`]: what they use, from coturn's statistics.
//! - [`shared`]: what instances share, and [`store`]: where.
//! - [`management`]: health and metrics.

pub mod api_keys;
pub mod callers;
pub mod config;
pub mod issue;
pub mod limits;
pub mod management;
pub mod origins;
pub mod probe;
pub mod problem;
pub mod routes;
pub mod server;
pub mod shared;
pub mod store;
mod subjects;
pub mod tokens;
pub mod upstream;
pub mod usage;
