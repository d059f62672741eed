//! Certificates.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// TLS with the key and the certificate chain of these PEM files.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load(key: &Path, chain: &Path) -> Result<ServerConfig> {
    let chain_name = chain.display();
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("--sslcert: {chain_name} cannot be read as PEM certificates"))?;
    ensure!(!certificates.is_empty(), "--sslcert: {chain_name} holds no certificate (is it a PEM file?)");
    let key_name = key.display();
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("--sslkey: {key_name} cannot be read as a PEM private key"))?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .with_context(|| format!("--sslkey, --sslcert: {key_name} and {chain_name} do not fit together"))
}
