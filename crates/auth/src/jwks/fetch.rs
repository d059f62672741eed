//! The one thing in this crate that does I/O: a thread that fetches one key set whenever it is due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::crypto::aws_lc_rs;
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{JwksError, JwksUrl, MAX_SET, SharedJwks};

/// Longest head of an answer in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The thread could not be started, or the certificates that it was given cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FetcherError {
    /// The operating system gave us no thread.
    #[error("cannot start the thread that fetches key sets: {0}")]
    Thread(#[from] std::io::Error),
    /// There is no certificate in it.
    #[error("the certificate authority is not a PEM certificate")]
    BadAuthority,
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// How long a fetch may take, from the look-up of the name to the last byte; default 10 s.
    pub timeout: Duration,
    /// The certificate authority of the server, in PEM, and no other. `None`: those of the system (`SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name others), or where there are none, as in many containers, those that browsers trust.
    pub authority: Option<String>,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), authority: None }
    }
}

/// Fetches a key set for as long as it lives. Dropping it stops it, without waiting for a fetch under way.
#[derive(Debug)]
pub struct Fetcher {
    set: SharedJwks,
    is_stopped: Arc<AtomicBool>,
}

impl Fetcher {
    /// Starts to fetch. After each fetch, `on_update` is called on the thread, which it must neither block nor panic on.
    pub fn start(
        url: JwksUrl,
        set: SharedJwks,
        settings: &FetchSettings,
        mut on_update: impl FnMut() + Send + 'static,
    ) -> Result<Self, FetcherError> {
        let agent = agent(&url, settings.timeout, roots(settings)?);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (stopped, shared) = (is_stopped.clone(), set.clone());
        thread::Builder::new().name("jwks".to_owned()).spawn(move || {
            while shared.wait(|| stopped.load(Ordering::Acquire), Instant::now) {
                let fetched = fetch(&agent, &url);
                let now = Instant::now();
                shared.with(|cache| match fetched {
                    Ok(body) => cache.on_body(now, &body),
                    Err(error) => cache.on_error(now, error),
                });
                on_update();
            }
        })?;
        Ok(Self { set, is_stopped })
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        self.set.wake();
    }
}

fn roots(settings: &FetchSettings) -> Result<RootCerts, FetcherError> {
    if let Some(pem) = &settings.authority {
        let authority = Certificate::from_pem(pem.as_bytes()).map_err(|_| FetcherError::BadAuthority)?;
        return Ok(RootCerts::from([authority]));
    }
    let system = rustls_native_certs::load_native_certs().certs;
    let certificates: Vec<_> =
        system.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    Ok(if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::from(certificates) })
}

fn agent(url: &JwksUrl, timeout: Duration, roots: RootCerts) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(url.is_https())
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEAD)
        .max_idle_connections(0)
        .timeout_global(Some(timeout))
        .user_agent("signalbox");
    // A proxy of the environment is for what is outside. TLS keeps it from putting keys in.
    let config = if url.is_https() { config } else { config.proxy(None) };
    config.build().new_agent()
}

fn fetch(agent: &Agent, url: &JwksUrl) -> Result<Vec<u8>, JwksError> {
    let mut response = agent.get(url.as_str()).call().map_err(failure)?;
    match response.status().as_u16() {
        200 => {}
        300..=399 => return Err(JwksError::Redirect),
        status => return Err(JwksError::Status(status)),
    }
    let limit = MAX_SET as u64 + 1;
    let body = response.body_mut().with_config().limit(limit).read_to_vec().map_err(failure)?;
    if body.len() > MAX_SET { Err(JwksError::TooLarge) } else { Ok(body) }
}

fn failure(error: ureq::Error) -> JwksError {
    match error {
        ureq::Error::Timeout(_) => JwksError::TimedOut,
        ureq::Error::BodyExceedsLimit(_) => JwksError::TooLarge,
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => JwksError::TimedOut,
        // Not its own text everywhere: some of them repeat the URL.
        ureq::Error::Io(error) => JwksError::Unreachable(error.to_string()),
        ureq::Error::Tls(reason) => JwksError::Unreachable(reason.to_owned()),
        ureq::Error::Rustls(error) => JwksError::Unreachable(error.to_string()),
        ureq::Error::HostNotFound => JwksError::Unreachable("its name is not known".to_owned()),
        _ => JwksError::Unreachable("it does not speak HTTP".to_owned()),
    }
}
