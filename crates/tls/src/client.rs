//! How a program asks another one over HTTP.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

/// Longest head of an answer in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub struct ClientSettings<'a> {
    /// How long a request may take, from the look-up of the name to the last byte.
    pub timeout: Duration,
    /// A PEM file with the only certificate authority that counts. `None`: those of the system, or where there are none, as in many
    /// containers, those that browsers trust.
    pub authority: Option<&'a Path>,
    /// Whether a proxy that the environment names is used. It is meant for what is outside.
    pub uses_proxy: bool,
}

/// The certificate authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file cannot be read.
    #[error("cannot read the PEM file: {0}")]
    Unreadable(#[from] std::io::Error),
    /// There is no certificate in it.
    #[error("there is no certificate in the PEM file")]
    Empty,
    /// What stands there is no certificate, or none of an authority.
    #[error("the PEM file holds what is no certificate of an authority")]
    Unusable,
}

/// A client that goes nowhere but where it is sent: it follows no redirects, and gives every status back. It blocks.
///
/// # Errors
/// The certificate authority cannot be read.
pub fn agent(settings: &ClientSettings<'_>) -> Result<Agent, AuthorityError> {
    let tls = TlsConfig::builder()
        .root_certs(roots(settings.authority)?)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEAD)
        .timeout_global(Some(settings.timeout))
        .user_agent("signalbox");
    let config = if settings.uses_proxy { config } else { config.proxy(None) };
    Ok(config.build().new_agent())
}

/// TLS for a [`Connection`](crate::connection::Connection), with the authorities that count for an [`agent`], too.
///
/// # Errors
/// The certificate authority cannot be used.
pub fn tls(authority: Option<&Path>) -> Result<Arc<ClientConfig>, AuthorityError> {
    let mut store = RootCertStore::empty();
    let named = certificates(authority)?;
    if named.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else {
        // Systems keep some that are of no use.
        let (usable, _) = store.add_parsable_certificates(named);
        if usable == 0 {
            return Err(AuthorityError::Unusable);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| AuthorityError::Unusable)?;
    Ok(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
}

fn roots(authority: Option<&Path>) -> Result<RootCerts, AuthorityError> {
    let named = certificates(authority)?;
    let named: Vec<_> =
        named.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    Ok(if named.is_empty() { RootCerts::WebPki } else { RootCerts::from(named) })
}

/// Who vouches for others; nobody where it is those that browsers trust.
fn certificates(authority: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let Some(file) = authority else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let pem = std::fs::read(file)?;
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| AuthorityError::Empty)?;
    Ok(vec![certificate])
}
