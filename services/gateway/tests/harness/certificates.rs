//! Certificates for tests.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::scratch;

/// The files of an authority, and of a server at 127.0.0.1 that it vouches for.
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
}

impl Files {
    pub(crate) fn make(name: &str) -> Self {
        let directory = scratch(name);
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "authority of a test");
        let ca = authority.self_signed(&authority_key).expect("a certificate");
        let issuer = Issuer::new(authority, authority_key);

        let key = KeyPair::generate().expect("a key");
        let names = ["127.0.0.1", "localhost"].map(String::from);
        let mut server = CertificateParams::new(names).expect("valid names");
        server.distinguished_name.push(DnType::CommonName, "server of a test");
        let cert = server.signed_by(&key, &issuer).expect("a certificate");

        for (file, text) in [
            ("ca.pem", ca.pem()),
            ("cert.pem", cert.pem()),
            ("key.pem", key.serialize_pem()),
            ("other-key.pem", KeyPair::generate().expect("a key").serialize_pem()),
            ("nonsense.pem", "no PEM at all\n".to_owned()),
        ] {
            std::fs::write(directory.join(file), text).expect("a file");
        }
        Self { directory }
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.directory.join(file).to_str().expect("a path in UTF-8").to_owned()
    }
}
