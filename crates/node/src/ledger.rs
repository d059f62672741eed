//! Everything that the node holds for its clients: charged when it is taken, released when it is gone.
//!
//! - [`accounts`]: the ledger, a client's account in it, and whom several accounts belong to.
//! - [`holder`]: how these are named: an address, and later a subject.
//! - [`charge`]: the guards that charge an account.
//! - [`room`]: how those who would take more wait until there is room; [`waiting`]: who waits.
//! - [`hangup`]: connections that are closed from anywhere.
//!
//! What is held costs what it takes in memory, with [`OVERHEAD`] bytes for each item beside its own. Bytes that many clients share
//! are charged to the node once; to each client that has yet to read them only its part is attributed.

mod accounts;
mod charge;
mod hangup;
mod holder;
mod room;
mod waiting;

pub(crate) use accounts::{Account, EvictAt, Ledger, MOVE, OVERHEAD};
pub(crate) use charge::{Charge, charged, share};
pub(crate) use hangup::Hangup;
pub(crate) use holder::network;
pub(crate) use waiting::Lane;

#[cfg(test)]
mod tests;
