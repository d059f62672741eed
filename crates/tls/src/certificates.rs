//! Certificates, which are taken anew when their files change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How often the files are looked at. Certificates are renewed days before they expire.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is wrong with the files; it names the setting and the file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("{0}: {1} cannot be read: {2}")]
    Unreadable(&'static str, PathBuf, std::io::Error),
    /// Something in it is not what PEM is.
    #[error("--sslcert: {0} cannot be read as PEM certificates: {1}")]
    NoPem(PathBuf, pem::Error),
    /// There is nothing in it.
    #[error("--sslcert: {0} holds no certificate (is it a PEM file?)")]
    NoCertificate(PathBuf),
    /// There is no key in it.
    #[error("--sslkey: {0} cannot be read as a PEM private key: {1}")]
    NoKey(PathBuf, pem::Error),
    /// The key is another certificate's.
    #[error("--sslkey, --sslcert: {0} and {1} do not fit together: {2}")]
    Mismatch(PathBuf, PathBuf, rustls::Error),
}

/// Called with the time at which the certificate expires, in seconds since 1970: at once, and whenever it was renewed. 0 where that cannot
/// be read.
pub type OnExpiry = Box<dyn Fn(f64) + Send>;

/// TLS with the key and the certificate chain of these PEM files, and the watch over them.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load(key: &Path, chain: &Path, expiry: OnExpiry) -> Result<(ServerConfig, Renewal), CertificateError> {
    let builder = ServerConfig::builder().with_no_client_auth();
    let files = Files { key: key.to_owned(), chain: chain.to_owned() };
    let provider = builder.crypto_provider().clone();
    let contents = files.read()?;
    let first = files.parse(&contents, &provider)?;
    expiry(expires_at(&first));
    let current = Arc::new(Current(RwLock::new(Arc::new(first))));
    let config = builder.with_cert_resolver(current.clone());
    Ok((config, Renewal { files: Arc::new(files), contents, provider, current, expiry }))
}

/// What new connections are shown.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Puts a renewed certificate in the place of the old one.
pub struct Renewal {
    files: Arc<Files>,
    /// What the files held when they were last looked at.
    contents: Contents,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    expiry: OnExpiry,
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Renewal {
    /// Looks at the files for ever. Those that cannot be used, as while only one of the two is replaced, change nothing.
    pub async fn watch(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let files = self.files.clone();
            // They may be on a network that hangs.
            let read = tokio::task::spawn_blocking(move || files.read().ok());
            let Ok(Some(contents)) = read.await else { continue };
            if contents == self.contents {
                continue;
            }
            match self.files.parse(&contents, &self.provider) {
                Ok(renewed) => {
                    (self.expiry)(expires_at(&renewed));
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
                    tracing::info!("the certificate was renewed");
                }
                Err(error) => tracing::warn!("{error}; the old certificate stays"),
            }
            self.contents = contents;
        }
    }
}

/// When the server's own certificate expires, in seconds since 1970; 0 where that cannot be read, which keeps nobody from using it.
fn expires_at(key: &CertifiedKey) -> f64 {
    let own = key.cert.first().and_then(|der| X509Certificate::from_der(der).ok());
    own.map_or(0.0, |(_, certificate)| certificate.validity().not_after.timestamp() as f64)
}

/// The PEM files.
#[derive(Debug)]
struct Files {
    key: PathBuf,
    chain: PathBuf,
}

#[derive(PartialEq, Eq)]
struct Contents {
    key: Vec<u8>,
    chain: Vec<u8>,
}

/// Without the key.
impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Files {
    fn read(&self) -> Result<Contents, CertificateError> {
        let read = |flag, file: &Path| {
            std::fs::read(file).map_err(|error| CertificateError::Unreadable(flag, file.to_owned(), error))
        };
        Ok(Contents { chain: read("--sslcert", &self.chain)?, key: read("--sslkey", &self.key)? })
    }

    fn parse(
        &self,
        contents: &Contents,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, CertificateError> {
        let certificates = CertificateDer::pem_slice_iter(&contents.chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CertificateError::NoPem(self.chain.clone(), error))?;
        if certificates.is_empty() {
            return Err(CertificateError::NoCertificate(self.chain.clone()));
        }
        let private = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| CertificateError::NoKey(self.key.clone(), error))?;
        CertifiedKey::from_der(certificates, private, provider)
            .map_err(|error| CertificateError::Mismatch(self.key.clone(), self.chain.clone(), error))
    }
}
