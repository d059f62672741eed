//! One request to a server of the application, with its answer.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use signalbox_tls::client::{AuthorityError, ClientSettings, agent};
use ureq::Agent;

use crate::{
    address::HookAddress,
    signature::{ID, SIGNATURE, Signer, TIMESTAMP},
};

/// Asks one address. It blocks, goes nowhere else, and follows no redirect.
#[derive(Debug)]
pub struct HookClient {
    agent: Agent,
    address: HookAddress,
    signer: Signer,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The message's id, the same whenever it is sent again: without a full stop.
    pub id: &'a str,
    /// JSON.
    pub body: &'a [u8],
    /// Most bytes of an answer that are read; one with more is a failure. 0: the answer does not matter.
    pub max_answer: u64,
}

/// Why a request has failed, for the log and for a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody was reached, or not with a certificate that is trusted.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The answer did not come in time.
    #[error("does not answer in time")]
    TimedOut,
    /// The server has answered with something else than success.
    #[error("answers {status}")]
    Status {
        /// What it has answered with.
        status: u16,
        /// For how long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer has more bytes than it may.
    #[error("answers with too much")]
    TooLarge,
}

impl Failure {
    /// Its name among others, for a metric.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Status { .. } => "refused",
            Self::TooLarge => "too_large",
        }
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl HookClient {
    /// A client for this address. `timeout` is for a request as a whole, from the look-up of the name to the last byte; `authority` is a
    /// PEM file with the only certificate authority that counts.
    ///
    /// # Errors
    /// The certificate authority cannot be read.
    pub fn new(
        address: HookAddress,
        signer: Signer,
        timeout: Duration,
        authority: Option<&Path>,
    ) -> Result<Self, AuthorityError> {
        let settings = ClientSettings { timeout, authority, uses_proxy: address.is_outside() };
        Ok(Self { agent: agent(&settings)?, address, signer })
    }

    /// Where it asks.
    pub fn address(&self) -> &HookAddress {
        &self.address
    }

    /// Sends a request; gives back the body of the answer.
    ///
    /// # Errors
    /// The server was not reached, did not answer in time or with too much, or did not answer with success: a redirect is none.
    pub fn send(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut post = self
            .agent
            .post(self.address.as_str())
            .header("Content-Type", "application/json")
            .header(ID, request.id)
            .header(TIMESTAMP, timestamp.to_string());
        if !self.signer.is_empty() {
            post = post.header(SIGNATURE, self.signer.sign(request.id, timestamp, request.body));
        }
        let mut answer = post.send(request.body).map_err(failure)?;
        let status = answer.status().as_u16();
        if !(200..300).contains(&status) {
            let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok());
            let retry_after = after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
            return Err(Failure::Status { status, retry_after });
        }
        if request.max_answer == 0 {
            return Ok(Vec::new());
        }
        let body = answer.body_mut().with_config().limit(request.max_answer);
        body.read_to_vec().map_err(failure)
    }
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::TimedOut,
        ureq::Error::BodyExceedsLimit(_) => Failure::TooLarge,
        other => Failure::Unreachable(other.to_string()),
    }
}
