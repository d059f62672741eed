//! The gateway: both protocols on one port. Listeners, routes, configuration and wiring; everything else is in the
//! crates below.
//!
//! - [`config`]: what can be set, and from where.
//! - [`server`]: the program's life: bind, listen, serve, stop.
//! - [`auth`]: keys of tokens, fetched and read again.
//! - `cluster_secrets`: the password of Redis, read again.
//! - [`public`]: the routes beside the two protocols: the demo and the client bundles.
//! - [`ice`]: the STUN and TURN servers that clients are told of.
//! - [`hooks`]: servers of the application's own that are asked.
//! - [`management`]: health and metrics.
//! - [`admin`]: the admin API; [`admin_cli`]: the subcommand that uses it.
//! - [`token`], [`admin_token`]: the subcommands that make and explain tokens; [`completions`]: the one for shells.
//! - [`rules`]: rules files, and the subcommand that checks them.
//! - [`webhooks`]: what happens, sent to a server of the application.
//! - `files`: how many connections there may be.

pub mod admin;
pub mod admin_cli;
pub mod admin_token;
pub mod auth;
mod cluster_secrets;
pub mod completions;
pub mod config;
mod files;
pub mod hooks;
pub mod ice;
pub mod management;
mod memory;
pub mod public;
pub mod rules;
pub mod server;
pub mod token;
pub mod webhooks;
