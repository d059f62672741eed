//! Certificate authorities that count for Redis, instead of those that browsers trust.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Reads `--redis-ca`; gives its PEM.
///
/// # Errors
/// It cannot be read, holds no certificate, or one that cannot be an authority.
pub fn of_redis(file: &Path) -> Result<Vec<u8>> {
    let name = file.display();
    let pem = std::fs::read(file).with_context(|| format!("--redis-ca: {name} cannot be read"))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.with_context(|| format!("--redis-ca: {name} cannot be read as PEM certificates"))?;
        store
            .add(certificate)
            .with_context(|| format!("--redis-ca: {name} holds a certificate that cannot be used"))?;
    }
    ensure!(!store.is_empty(), "--redis-ca: {name} holds no certificate (is it a PEM file?)");
    Ok(pem)
}
