//! Ephemeral TURN credentials, as the "TURN REST API" draft describes them and coturn checks them with `use-auth-secret`.
//!
//! In the order that data flows:
//!
//! - [`request`]: what a client asks for, checked.
//! - [`subject`]: for whom; in a credential only a keyed hash of that is seen.
//! - [`secret`]: what credentials are signed with.
//! - [`credential`]: a user name that says when it ends, and the password that proves it.
//! - [`uri`] and [`server`]: where it is good, and which of those places an answer names.
//! - [`answer`]: the two shapes of an answer.
//! - [`stats`]: what coturn says of what is relayed.
//! - [`upstream`]: providers that relay for others, and hand out credentials of their own.
//!
//! The crate does no I/O, and reads no clock.
//!
//! ```
//! use signalbox_turn::{Secret, SubjectKey, sign};
//!
//! let secret = Secret::new("a-secret-that-coturn-has-too")?;
//! let user = SubjectKey::new(b"another secret").user_part(None, "alice");
//! let credential = sign(&secret, &user, 1_700_000_000 + 3600);
//! assert!(credential.username.starts_with("1700003600:"));
//! # Ok::<(), signalbox_turn::secret::SecretError>(())
//! ```
//!
//! Source: draft-uberti-behave-turn-rest-00, RFC 7064 and 7065 (URIs), RFC 8656 (TURN).

pub mod answer;
pub mod credential;
pub mod request;
pub mod secret;
pub mod server;
pub mod stats;
pub mod subject;
pub mod upstream;
pub mod uri;

pub use answer::{Answer, IceServer, IceServers, RestAnswer};
pub use credential::{Credential, sign};
pub use request::{BadParameter, IssueRequest, Policy};
pub use secret::Secret;
pub use server::{Selection, Server, ServerUri, Servers};
pub use subject::{SubjectKey, UserPart};
pub use uri::{RelayTransport, TurnUri};
