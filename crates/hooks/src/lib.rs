//! How Signalbox asks servers of the application's own: webhooks, and whatever else is sent to an address of the configuration.
//!
//! - [`address`]: where requests may go: to `https`, or to this machine, and never anywhere else than configured.
//! - [`signature`]: how a receiver knows that a request is ours and new, as [Standard Webhooks](https://www.standardwebhooks.com)
//!   has it.
//! - [`breaker`]: a server that fails is left alone for a while.
//! - [`client`]: one request, with its answer.

pub mod address;
pub mod breaker;
pub mod client;
pub mod signature;

pub use address::{AddressError, HookAddress};
pub use breaker::Breaker;
pub use client::{Failure, HookClient, Request};
pub use signature::{SecretError, Signer, SigningSecret};
