//! Nodes that use TLS, with certificates of the cluster's own authority.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::*;

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// The files of a node, in a directory of their own.
    fn issue(&self, uses: &[ExtendedKeyUsagePurpose]) -> Files {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("signalbox-link-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let files = Files(directory);
        files.write("ca.pem", &self.pem);
        self.issue_into(&files, uses);
        files
    }

    fn issue_into(&self, files: &Files, uses: &[ExtendedKeyUsagePurpose]) {
        let key = KeyPair::generate().unwrap();
        // The name stands for nothing.
        let mut params = CertificateParams::new(["node.signalbox".to_owned()]).unwrap();
        params.extended_key_usages = uses.to_vec();
        files.write("cert.pem", &params.signed_by(&key, &self.issuer).unwrap().pem());
        files.write("key.pem", &key.serialize_pem());
    }
}

struct Files(PathBuf);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn names(&self) -> TlsFiles {
        TlsFiles {
            authorities: self.path("ca.pem"),
            certificate: self.path("cert.pem"),
            key: self.path("key.pem"),
        }
    }

    fn load(&self, is_required: bool) -> Result<Arc<LinkTls>, TlsError> {
        LinkTls::load(self.names(), is_required).map(Arc::new)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tls_node(tag: u32, secret: &str, tls: &Arc<LinkTls>) -> (Link, Arc<Desk>, RemoteNode) {
    node_with(tag, secret, Desk::default(), Some(tls.clone()))
}

const REQUIRED: bool = true;

async fn asks(from: &Link, to: RemoteNode) -> Result<Bytes, LinkError> {
    from.request(to, ECHO, Bytes::from_static(b"x")).await
}

#[tokio::test]
async fn nodes_of_one_authority_speak_tls_and_large_bodies_pass() {
    let authority = Authority::new();
    let (first, second) = (authority.issue(&[]), authority.issue(&[]));
    let (one, _, to_one) = tls_node(1, "secret", &first.load(REQUIRED).unwrap());
    let (two, _, to_two) = tls_node(2, "secret", &second.load(REQUIRED).unwrap());
    let body = Bytes::from(vec![7; 4 << 20]);
    let (a, b) =
        tokio::join!(one.request(to_two, ECHO, body.clone()), two.request(to_one, ECHO, body.clone()));
    assert_eq!((a, b), (Ok(body.clone()), Ok(body)));
    let responses: Vec<_> =
        (0..20).map(|_| one.request(to_two, GROW, Bytes::from(vec![7; 1 << 19]))).collect();
    for answer in responses {
        assert_eq!(answer.await.map(|body| body.len()), Ok(8 << 20));
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_and_none_are_refused_at_both_ends() {
    let files = Authority::new().issue(&[]);
    let (one, _, to_one) = tls_node(1, "secret", &files.load(REQUIRED).unwrap());
    let others = Authority::new().issue(&[]);
    let (other, _, to_other) = tls_node(2, "secret", &others.load(REQUIRED).unwrap());
    assert_eq!(asks(&one, to_other).await, Err(LinkError::WrongNode));
    assert_eq!(asks(&other, to_one).await, Err(LinkError::WrongNode));
    // Without TLS, neither to one that requires it nor from one that does.
    let (plain, desk, to_plain) = node(3, "secret");
    assert_eq!(asks(&plain, to_one).await, Err(LinkError::WrongNode));
    assert_eq!(asks(&one, to_plain).await, Err(LinkError::WrongNode));
    let previous = RemoteNode { is_previous: true, ..to_plain };
    assert_eq!(asks(&one, previous).await, Err(LinkError::WrongNode));
    assert!(desk.told.lock().is_empty());
}

#[tokio::test]
async fn a_certificate_alone_is_not_enough() {
    let authority = Authority::new();
    let (first, second) = (authority.issue(&[]), authority.issue(&[]));
    let (one, _, _) = tls_node(1, "secret", &first.load(REQUIRED).unwrap());
    let (_two, _, to_two) = tls_node(2, "another", &second.load(REQUIRED).unwrap());
    assert_eq!(asks(&one, to_two).await, Err(LinkError::WrongNode));
}

#[tokio::test]
async fn while_tls_is_optional_nodes_with_and_without_it_speak_to_each_other() {
    let files = Authority::new().issue(&[]);
    let (one, _, to_one) = tls_node(1, "secret", &files.load(!REQUIRED).unwrap());
    let (two, _, to_two) = tls_node(2, "secret", &files.load(REQUIRED).unwrap());
    let (plain, _, to_plain) = node(3, "secret");
    let echoed = Ok(Bytes::from_static(b"x"));
    assert_eq!(asks(&one, to_two).await, echoed);
    assert_eq!(asks(&two, to_one).await, echoed);
    assert_eq!(asks(&one, to_plain).await, echoed);
    assert_eq!(asks(&plain, to_one).await, echoed);
    // And with one of the previous version, as far as it is known as such.
    let desk = Desk { previous: Some(NodeTag(3)), ..Desk::default() };
    let (_four, _, to_four) = node_with(4, "secret", desk, Some(files.load(!REQUIRED).unwrap()));
    let as_previous = RemoteNode { is_previous: true, takes_tls: false, ..to_four };
    assert_eq!(asks(&plain, as_previous).await, echoed);
}

/// What stands between two nodes, with a certificate of its own authority, gets nothing; nor does one with a certificate of the cluster's:
/// the proof of the secret is bound to the TLS connection.
#[tokio::test]
async fn nobody_stands_between_two_nodes_even_with_a_certificate() {
    let authority = Authority::new();
    let (first, second, third) = (authority.issue(&[]), authority.issue(&[]), authority.issue(&[]));
    let (one, _, _) = tls_node(1, "secret", &first.load(REQUIRED).unwrap());
    let (_two, desk, to_two) = tls_node(2, "secret", &second.load(REQUIRED).unwrap());
    let between = third.load(REQUIRED).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = RemoteNode { addr: listener.local_addr().unwrap(), ..to_two };
    tokio::spawn(async move {
        let near = Stream::accept(listener.accept().await.unwrap().0, &between.configs()).await.unwrap();
        let far = TcpStream::connect(to_two.addr).await.unwrap();
        let far = Stream::connect(far, &between.configs()).await.unwrap();
        let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
            (tokio::io::split(near), tokio::io::split(far));
        tokio::select! {
            _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
            _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
        }
    });
    assert_eq!(asks(&one, here).await, Err(LinkError::WrongNode));
    assert!(desk.told.lock().is_empty());
}

#[tokio::test]
async fn renewed_files_are_taken_and_those_that_do_not_fit_are_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let (first, second) = (old.issue(&[]), new.issue(&[]));
    let tls = first.load(REQUIRED).unwrap();
    let (one, _, _) = tls_node(1, "secret", &tls);
    let (_two, _, to_two) = tls_node(2, "secret", &second.load(REQUIRED).unwrap());
    assert_eq!(asks(&one, to_two).await, Err(LinkError::WrongNode));
    // Half of the change: a certificate that the authority in the file has not signed.
    new.issue_into(&first, &[]);
    tls.renew();
    assert_eq!(asks(&one, to_two).await, Err(LinkError::WrongNode));
    first.write("ca.pem", &new.pem);
    tls.renew();
    assert_eq!(asks(&one, to_two).await, Ok(Bytes::from_static(b"x")));
    // Both authorities, as during a change of authority.
    first.write("ca.pem", &format!("{}{}", old.pem, new.pem));
    tls.renew();
    let (_three, _, to_three) = tls_node(3, "secret", &second.load(REQUIRED).unwrap());
    assert_eq!(asks(&one, to_three).await, Ok(Bytes::from_static(b"x")));
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let authority = Authority::new();
    let error = |change: &dyn Fn(&Files)| {
        let files = authority.issue(&[]);
        change(&files);
        let error = files.load(REQUIRED).expect_err("they cannot be used").to_string();
        error.replace(&format!("{}/", files.0.display()), "")
    };
    let missing = error(&|files| std::fs::remove_file(files.path("ca.pem")).unwrap());
    assert!(missing.starts_with("--cluster-tls-ca: ca.pem cannot be read: "), "{missing}");
    assert_eq!(
        error(&|files| files.write("cert.pem", "nonsense")),
        "--cluster-tls-cert: cert.pem holds no certificate (is it a PEM file?)"
    );
    assert_eq!(
        error(&|files| files.write("key.pem", "nonsense")),
        "--cluster-tls-key: key.pem holds no private key (is it a PEM file?)"
    );
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let mismatch = error(&|files| files.write("key.pem", &other_key));
    assert!(
        mismatch
            .starts_with("--cluster-tls-key, --cluster-tls-cert: key.pem and cert.pem do not fit together: "),
        "{mismatch}"
    );
    let foreign = error(&|files| files.write("ca.pem", &Authority::new().pem));
    assert!(foreign.starts_with("--cluster-tls-cert: other nodes would refuse cert.pem: "), "{foreign}");
    for use_of_one_end in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth] {
        let uses = [use_of_one_end];
        let one_end = error(&|files| authority.issue_into(files, &uses));
        assert!(
            one_end.contains("would refuse") && one_end.contains("serverAuth and clientAuth"),
            "{one_end}"
        );
    }
    let both = authority.issue(&[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]);
    assert!(both.load(REQUIRED).is_ok() && Path::new(&both.0).is_dir());
}
