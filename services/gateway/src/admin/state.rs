//! What the routes share.

use std::{net::SocketAddr, sync::Arc};

use signalbox_auth::Lifetimes;
use signalbox_node::{Node, policy::TokenPolicy};
use tokio::sync::Semaphore;

use super::access::Access;
use crate::config::admin::AdminToken;

/// Requests that are answered at once.
const AT_ONCE: usize = 64;

/// Who may listen to events at once: each costs the node as much as its connection takes.
const LISTENERS: usize = 32;

/// What the routes share.
#[derive(Debug)]
pub struct AdminState {
    pub(super) node: Node,
    pub(super) access: Access,
    pub(super) requests: Semaphore,
    /// Changes that may be under way at once, also those that nobody waits for any more.
    pub(super) orders: Arc<Semaphore>,
    pub(super) lifetimes: Lifetimes,
    /// Places for those who listen to events.
    pub(super) listeners: Arc<Semaphore>,
}

impl AdminState {
    /// For a listener at this address. `policy` judges JSON Web Tokens, where they are asked for.
    /// `lifetimes`: for how long revocations are kept.
    pub fn new(
        node: Node,
        tokens: Vec<AdminToken>,
        policy: Option<TokenPolicy>,
        lifetimes: Lifetimes,
        listener: SocketAddr,
    ) -> Self {
        let access = Access::new(tokens, policy, listener);
        Self {
            node,
            access,
            requests: Semaphore::new(AT_ONCE),
            orders: Arc::new(Semaphore::new(AT_ONCE)),
            lifetimes,
            listeners: Arc::new(Semaphore::new(LISTENERS)),
        }
    }
}
