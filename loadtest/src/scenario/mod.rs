//! What clients do, one file each.
//!
//! A scenario is a list of phases, run by each client process on its share of the clients. Two parts are common:
//! [`setup`] opens sessions and joins rooms, [`traffic`] sends on a fixed schedule and counts who hears it.

mod auth;
mod churn;
mod connect;
mod crowd;
mod echo;
mod fanout;
mod hold;
mod idle;
mod mesh;
mod polling;
mod reconnect;
mod relay;
mod setup;
mod signal;
mod storm;
mod traffic;
mod turn;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use crate::run::{Load, Output, Worker};

pub(crate) use auth::Auth;
pub(crate) use churn::Churn;
pub(crate) use connect::Connect;
pub(crate) use crowd::Crowd;
pub(crate) use echo::Echo;
pub(crate) use fanout::Fanout;
pub(crate) use idle::Idle;
pub(crate) use mesh::Mesh;
pub(crate) use polling::Polling;
pub(crate) use reconnect::Reconnect;
pub(crate) use relay::Relay;
pub(crate) use signal::Signal;
pub(crate) use storm::Storm;
pub(crate) use turn::Turn;

/// What a scenario does in each client process.
pub(crate) trait Body {
    /// Runs its phases.
    fn run(&self, load: &Load, worker: &mut Worker) -> Result<()>;
}

/// A scenario with all its options.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Run<B: Args> {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) body: B,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) output: Output,
}

/// Which scenario.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub(crate) enum Scenario {
    /// Hold connections that do nothing: memory per connection, and what they cost.
    Idle(Run<Idle>),
    /// Send to rooms: cost per delivery, latency, loss.
    Fanout(Run<Fanout>),
    /// Connect and disconnect at a steady rate: cost per connect.
    Connect(Run<Connect>),
    /// Connect with a token, and disconnect, at a steady rate: what judging it costs.
    Auth(Run<Auth>),
    /// Send to oneself: cost and latency of a round trip.
    Echo(Run<Echo>),
    /// Send from socket to socket, acknowledged where the server does that.
    Signal(Run<Signal>),
    /// Relay OFFER and CANDIDATE between pairs of PeerServer clients.
    Relay(Run<Relay>),
    /// Send to rooms of long-polling clients, which may upgrade to WebSockets meanwhile.
    Polling(Run<Polling>),
    /// Drop all connections at once, and come back the way socket.io-client does.
    Storm(Run<Storm>),
    /// Have all clients join one room at the same moment.
    Crowd(Run<Crowd>),
    /// Drop all connections of one room at once, and have all back within a second.
    Reconnect(Run<Reconnect>),
    /// Have all clients ask for the users, join one room, leave it and join again, over and over.
    Churn(Run<Churn>),
    /// Rooms whose members join, exchange session descriptions with each other, and leave.
    Mesh(Run<Mesh>),
    /// Ask the TURN credentials service for credentials: cost and latency of each.
    Turn(Run<Turn>),
}

impl Scenario {
    fn parts(&self) -> (&'static str, &dyn Body, &Load, &Output) {
        match self {
            Self::Idle(run) => run.parts("idle"),
            Self::Fanout(run) => run.parts("fanout"),
            Self::Connect(run) => run.parts("connect"),
            Self::Echo(run) => run.parts("echo"),
            Self::Signal(run) => run.parts("signal"),
            Self::Relay(run) => run.parts("relay"),
            Self::Polling(run) => run.parts("polling"),
            Self::Storm(run) => run.parts("storm"),
            Self::Crowd(run) => run.parts("crowd"),
            Self::Reconnect(run) => run.parts("reconnect"),
            Self::Churn(run) => run.parts("churn"),
            Self::Mesh(run) => run.parts("mesh"),
            Self::Turn(run) => run.parts("turn"),
            Self::Auth(run) => run.parts("auth"),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.parts().0
    }

    pub(crate) fn load(&self) -> &Load {
        self.parts().2
    }

    pub(crate) fn output(&self) -> &Output {
        self.parts().3
    }

    /// Our part of it.
    pub(crate) fn run(&self, worker: &mut Worker) -> Result<()> {
        let (_, body, load, _) = self.parts();
        body.run(load, worker)
    }
}

impl<B: Body + Args> Run<B> {
    fn parts(&self, name: &'static str) -> (&'static str, &dyn Body, &Load, &Output) {
        (name, &self.body, &self.load, &self.output)
    }
}
