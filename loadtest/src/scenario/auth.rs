//! Clients that come with a token, and go: what it costs to judge it, beside `connect`.

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Body, Connect};
use crate::run::{Load, Seconds, Worker, rate};

/// Options of `auth`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Auth {
    /// Token that all clients show (signalbox-gateway token --sub load); its signature is verified each time.
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: String,

    /// Connects a second, each with its handshakes up to the namespace or OPEN.
    #[arg(long, default_value_t = 500.0, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,

    /// How long to measure.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub(crate) seconds: Seconds,

    /// PeerServer clients instead of Socket.IO.
    #[arg(long)]
    pub(crate) peerserver: bool,
}

impl Body for Auth {
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()> {
        let connect = Connect {
            rate: self.rate,
            seconds: self.seconds,
            stay: Seconds::new(0.0),
            peerserver: self.peerserver,
            token: Some(self.token.clone()),
        };
        connect.run(load, worker)
    }
}
