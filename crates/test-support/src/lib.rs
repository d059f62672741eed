//! What tests of several crates share.
//!
//! - [`seeds`]: which seeds a simulation runs with, and how a failure is shown.
//! - [`mailboxes`]: takes what a cluster delivers, in the place of shards.

pub mod mailboxes;
pub mod seeds;

pub use mailboxes::Mailboxes;
