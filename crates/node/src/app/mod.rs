//! What an application makes of events: namespaces, their handlers, and the built-in vocabulary.
//!
//! ```no_run
//! use signalbox_node::{App, Args, Namespace};
//!
//! let chat = Namespace::named("/chat")
//!     .on("echo", |socket, event| async move {
//!         let _ = socket.emit("echo", event.args().clone());
//!     })
//!     .on("add", |_, event| async move {
//!         let sum = event.args().get::<i64>(0).unwrap_or(0) + event.args().get::<i64>(1).unwrap_or(0);
//!         event.ack(Args::new((sum,)).unwrap_or_default());
//!     });
//! let app = App::new().namespace(chat);
//! ```

pub mod action;
mod broadcast;
mod event_message;
mod hooks;
mod namespace;
mod router;
pub mod socket;
pub mod vocabulary;

pub use action::Action;
pub use broadcast::To;
pub use hooks::{Called, Hooks};
pub use namespace::{App, ConnectRefused, Namespace};
pub(crate) use namespace::{ConnectHandler, DisconnectHandler, EventHandler, Handler, Middleware};
pub(crate) use router::SocketRouter;
pub use socket::{AckError, Event, Socket};
