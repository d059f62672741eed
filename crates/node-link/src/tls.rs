//! TLS between nodes: both ends show a certificate that the cluster's own certificate authority has signed. Which name a certificate has
//! does not matter: nodes come and go, with addresses that nobody knows before. Whoever has such a certificate still has to know the
//! cluster's secret.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};

/// How often the files are looked at. Certificates are renewed days before they expire.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that sign the nodes' certificates. During a change of authority there are two.
    pub authorities: PathBuf,
    /// The node's own certificate, and those between it and the authority. It is shown at both ends of connections.
    pub certificate: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

/// Why TLS files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, or cannot be read.
    #[error("{setting}: {} cannot be read: {error}", file.display())]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// Its name.
        file: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{setting}: {} holds no {what} (is it a PEM file?)", file.display())]
    Empty {
        /// The setting that names it.
        setting: &'static str,
        /// Its name.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate and a key that do not belong together.
    #[error("--cluster-tls-key, --cluster-tls-cert: {} and {} do not fit together: {error}", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
        /// The reason.
        error: Error,
    },
    /// The node's own certificate would be refused by the other nodes.
    #[error(
        "--cluster-tls-cert: other nodes would refuse {}: {error} (it must be signed by an authority of --cluster-tls-ca, be valid now, and be \
         made for both serverAuth and clientAuth if it names any use)",
        certificate.display()
    )]
    Refused {
        /// The certificate's file.
        certificate: PathBuf,
        /// The reason.
        error: Error,
    },
    /// The authorities cannot be used.
    #[error("--cluster-tls-ca: {} cannot be used: {error}", file.display())]
    Authorities {
        /// Their file.
        file: PathBuf,
        /// The reason.
        error: String,
    },
}

/// TLS of a node's link, which follows its files.
#[derive(Debug)]
pub struct LinkTls {
    files: TlsFiles,
    /// What the files held when they were last looked at.
    contents: Mutex<Contents>,
    current: RwLock<Arc<TlsConfigs>>,
    /// Connections without TLS are refused, and none is opened.
    is_required: bool,
}

/// For both ends of a connection.
#[derive(Debug)]
pub(super) struct TlsConfigs {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

impl LinkTls {
    /// TLS with these files. Unless it is required, nodes that do not use TLS are spoken to without it.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(files: TlsFiles, is_required: bool) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let current = RwLock::new(Arc::new(contents.configs(&files)?));
        Ok(Self { files, contents: Mutex::new(contents), current, is_required })
    }

    /// Whether there are no connections without TLS.
    pub fn is_required(&self) -> bool {
        self.is_required
    }

    pub(super) fn configs(&self) -> Arc<TlsConfigs> {
        self.current.read().clone()
    }

    /// Looks at the files for ever. Connections that are opened after they have changed use what they hold then; files that cannot be
    /// used, as while only some of them are replaced, change nothing.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tls = self.clone();
            // They may be on a network that hangs.
            let _ = tokio::task::spawn_blocking(move || tls.renew()).await;
        }
    }

    /// Looks at the files once.
    pub(super) fn renew(&self) {
        let Ok(contents) = Contents::read(&self.files) else { return };
        let known = &mut *self.contents.lock();
        if *known == contents {
            return;
        }
        match contents.configs(&self.files) {
            Ok(configs) => {
                *self.current.write() = Arc::new(configs);
                tracing::info!("the certificate of the node link was renewed");
            }
            Err(error) => tracing::warn!("{error}; the node link keeps what it has"),
        }
        *known = contents;
    }
}

#[derive(PartialEq, Eq)]
struct Contents {
    authorities: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Without the key.
impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

const CA: &str = "--cluster-tls-ca";
const CERTIFICATE: &str = "--cluster-tls-cert";
const KEY: &str = "--cluster-tls-key";

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |setting, file: &Path| {
            std::fs::read(file).map_err(|error| TlsError::Unreadable {
                setting,
                file: file.to_owned(),
                error,
            })
        };
        Ok(Self {
            authorities: read(CA, &files.authorities)?,
            certificate: read(CERTIFICATE, &files.certificate)?,
            key: read(KEY, &files.key)?,
        })
    }

    fn configs(&self, files: &TlsFiles) -> Result<TlsConfigs, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(self.roots(files)?);
        let unusable = |error: String| TlsError::Authorities { file: files.authorities.clone(), error };
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let servers = Arc::new(OfCluster { roots, algorithms: provider.signature_verification_algorithms });

        let chain = certificates(CERTIFICATE, &files.certificate, &self.certificate)?;
        let key = || {
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Empty {
                setting: KEY,
                file: files.key.clone(),
                what: "private key",
            })
        };
        self.check(files, &chain, &servers, &*clients)?;
        let mismatch = |error| TlsError::Mismatch {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
            error,
        };
        // A resumed connection would not show a certificate, and would outlive a change of the authority.
        let mut server = server_builder(&provider)
            .map_err(&mismatch)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key()?)
            .map_err(&mismatch)?;
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(&mismatch)?
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_auth_cert(chain, key()?)
            .map_err(&mismatch)?;
        client.resumption = Resumption::disabled();
        Ok(TlsConfigs { server: Arc::new(server), client: Arc::new(client) })
    }

    fn roots(&self, files: &TlsFiles) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(CA, &files.authorities, &self.authorities)? {
            let unusable = |error: Error| TlsError::Authorities {
                file: files.authorities.clone(),
                error: error.to_string(),
            };
            roots.add(certificate).map_err(unusable)?;
        }
        Ok(roots)
    }

    /// Whether the others will take the node's own certificate, at both ends: better told at the start than by them.
    fn check(
        &self,
        files: &TlsFiles,
        chain: &[CertificateDer<'_>],
        servers: &OfCluster,
        clients: &dyn ClientCertVerifier,
    ) -> Result<(), TlsError> {
        let refused = |error| TlsError::Refused { certificate: files.certificate.clone(), error };
        let (own, between) = chain.split_first().ok_or_else(|| refused(Error::NoCertificatesPresented))?;
        servers.verify(own, between, UnixTime::now()).map_err(refused)?;
        clients.verify_client_cert(own, between, UnixTime::now()).map(drop).map_err(refused)
    }
}

fn server_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, Error> {
    ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])
}

/// The certificates in a PEM file.
fn certificates(
    setting: &'static str,
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    match certificates.is_empty() {
        true => Err(TlsError::Empty { setting, file: file.to_owned(), what: "certificate" }),
        false => Ok(certificates),
    }
}

/// Takes servers whose certificate an authority of the cluster has signed, whatever name it has.
#[derive(Debug)]
struct OfCluster {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OfCluster {
    fn verify(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let own = ParsedCertificate::try_from(own)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        verify_server_cert_signed_by_trust_anchor(&own, &self.roots, between, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for OfCluster {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(own, between, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
