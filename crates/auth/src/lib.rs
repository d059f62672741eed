//! Who may: tokens and the keys they are checked with, what they grant, when they end, and which were revoked.
//!
//! In the order that data flows:
//!
//! - [`setup`]: what can be wrong with the configuration.
//! - [`keys`]: HMAC secrets and public keys; [`jwks`]: key sets, their cache, and the one fetcher.
//! - [`token`]: whose tokens are trusted.
//! - [`authenticator`]: a token or none goes in, who it is comes out: [`principal`], or why not: [`refusal`].
//! - [`grants`]: what somebody may do, asked on every event.
//! - [`expiry`] and [`revocation`]: when it ends.
//! - [`origins`]: which pages may.
//! - [`generated`]: peer ids that prove that the server issued them.
//! - [`mint`] and [`explain`]: for people.
//!
//! ```
//! use signalbox_auth::{
//!     Action, Authenticator, GrantsSpec, HmacSecret, Issuer, Key, Mint, Mode, Now, Revocations, Settings,
//! };
//!
//! let secret = HmacSecret::new("at least 32 bytes, and not these")?;
//! let issuer = Issuer { keys: vec![Key::hmac(&secret)?], ..Issuer::default() };
//! let settings = Settings { mode: Mode::Required, issuers: vec![issuer], ..Settings::default() };
//! let authenticator = Authenticator::new(settings)?;
//!
//! let now = Now::read();
//! let mut mint = Mint::new("alice");
//! mint.grants = Some(GrantsSpec::from_setting(r#"{"rooms": {"join": ["team-*"]}}"#)?);
//! let token = mint.sign(&secret, now.unix)?;
//!
//! let identity = authenticator.authenticate(Some(&token), &Revocations::default(), now).now()?;
//! assert!(identity.grants().allows(&Action::Join { room: "team-1" }));
//! assert!(!identity.grants().allows(&Action::Join { room: "lobby" }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! But for the fetcher, which has a thread of its own, the crate does no I/O and reads no clock: it takes [`Now`].
//!
//! Source: RFC 7515 (JWS), 7517 (JWK), 7518 (algorithms), 7519 (JWT), 8037 (EdDSA), 8725 (best practices).

pub mod authenticator;
pub mod expiry;
pub mod explain;
pub mod generated;
pub mod grants;
pub mod jwks;
mod jwks_errors;
pub mod keys;
pub mod mint;
pub mod origins;
pub mod principal;
pub mod refusal;
pub mod revocation;
pub mod setup;
mod time;
pub mod token;

pub use authenticator::{Authenticator, Identity, Mode, Outcome, Settings};
pub use expiry::{Expiry, ExpiryEvent};
pub use explain::Explanation;
pub use generated::GeneratedIds;
pub use grants::{Action, Decision, Grants, GrantsSpec};
pub use keys::{HmacSecret, Key};
pub use mint::Mint;
pub use origins::Origins;
pub use principal::Principal;
pub use refusal::Refusal;
pub use revocation::{Lifetimes, Revocation, Revocations, Revoked};
pub use setup::SetupError;
pub use time::Now;
pub use token::{Issuer, KeySet};
