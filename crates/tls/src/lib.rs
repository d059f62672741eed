//! TLS, the same in all programs.
//!
//! - [`certificates`]: what a listener shows, taken anew when its files change.
//! - [`authorities`]: who vouches for others, where an operator says it.
//! - [`client`]: how a program asks another one over HTTP.
//! - [`connection`]: how it connects to another one to speak something else, such as a WebSocket.

pub mod authorities;
pub mod certificates;
pub mod client;
pub mod connection;

pub use certificates::{CertificateError, Renewal, load};
