//! What runs beside a shard: handlers, middlewares, slow verdicts. The runtime starts them once the shard is at rest, so they may
//! use it like anybody else: through the mailbox.

use std::{future::Future, pin::Pin};

use signalbox_rules::CallAnswer;

use crate::{
    app::{
        Called, ConnectHandler, ConnectRefused, DisconnectHandler, Event, EventHandler, Middleware, Socket,
    },
    policy::{Decided, Verdict},
};

/// Something to start.
pub(crate) enum Task {
    Event { handler: EventHandler, socket: Socket, event: Event },
    Connected { handler: ConnectHandler, socket: Socket, auth: Option<String> },
    Disconnected { handler: DisconnectHandler, socket: Socket, reason: String },
    Middlewares { ticket: u64, middlewares: Vec<Middleware>, socket: Socket, auth: Option<String> },
    Verdict { ticket: u64, verdict: Pin<Box<dyn Future<Output = Verdict> + Send>> },
    Call { ticket: u64, called: Called },
}

/// The result of something that took a while.
#[derive(Debug)]
pub(crate) enum TaskResult {
    Decided(Decided),
    Middlewares(Result<(), ConnectRefused>),
    /// A rule has asked a server of the application's own.
    Called(Option<Box<CallAnswer>>),
    /// A signal found its socket, or not.
    Signalled(bool),
    /// A signal was refused: the shard of its socket is too far behind.
    SignalRefused,
    /// It is somebody's turn again.
    Yield,
    /// Nothing: it panicked.
    Failed,
}
