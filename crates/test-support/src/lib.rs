//! What tests of several crates share.
//!
//! - [`seeds`]: which seeds a simulation runs with, and how a failure is shown.
//! - [`mailboxes`]: takes what a cluster delivers, in the place of shards.
//! - [`ports`]: ports for servers that tests start.

pub mod mailboxes;
pub mod ports;
pub mod seeds;

pub use mailboxes::Mailboxes;
pub use ports::free_port;
