//! Certificate authorities that an operator names.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::client::AuthorityError;

/// Reads a PEM file of certificate authorities; gives its content, of which each certificate can be used.
///
/// # Errors
/// It cannot be read, holds no certificate, or one that cannot be an authority.
pub fn read(file: &Path) -> Result<Vec<u8>, AuthorityError> {
    let pem = std::fs::read(file)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| AuthorityError::Unusable)?;
        store.add(certificate).map_err(|_| AuthorityError::Unusable)?;
    }
    if store.is_empty() { Err(AuthorityError::Empty) } else { Ok(pem) }
}
