//! The fetcher against a server of the test's own, which rotates its keys, hangs, returns garbage, redirects and dies.

mod common;

use std::{
    io::{Read as _, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Pair, authenticator, settings_with};
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Signer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use signalbox_auth::{
    Authenticator, KeySet, Now, Outcome, Revocations,
    jwks::{FetchSettings, Fetcher, Intervals, JwksError, JwksStatus, JwksUrl, MAX_SET, SharedJwks},
};

/// What the server does with a request.
type Answer = Arc<dyn Fn(&mut dyn Write) + Send + Sync>;

struct Server {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    is_stopped: Arc<AtomicBool>,
}

impl Server {
    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            answer: Arc::new(Mutex::new(respond(404, "", ""))),
            requests: Arc::default(),
            is_stopped: Arc::default(),
        };
        let (answer, requests, stopped) =
            (server.answer.clone(), server.requests.clone(), server.is_stopped.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (answer, requests, tls) = (answer.clone(), requests.clone(), tls.clone());
                thread::spawn(move || serve(stream.unwrap(), tls, &answer, &requests));
            }
        });
        server
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(
    mut stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &Mutex<Answer>,
    requests: &AtomicUsize,
) {
    let mut buffer = [0; 4096];
    match tls {
        None => {
            let _ = stream.read(&mut buffer);
            requests.fetch_add(1, Ordering::Relaxed);
            let answer = answer.lock().clone();
            answer(&mut stream);
            let _ = stream.shutdown(Shutdown::Both);
        }
        Some(config) => {
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            // A client that does not trust us sends nothing.
            if stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                requests.fetch_add(1, Ordering::Relaxed);
                let answer = answer.lock().clone();
                answer(&mut stream);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    }
}

fn respond(status: u16, head: &str, body: &str) -> Answer {
    let text = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\nConnection: close\r\n{head}\r\n{body}",
        body.len()
    );
    Arc::new(move |stream| {
        let _ = stream.write_all(text.as_bytes());
    })
}

fn set(pairs: &[(&Pair, &str)]) -> Answer {
    let keys: Vec<Value> = pairs.iter().map(|(pair, kid)| pair.jwk(kid)).collect();
    respond(200, "", &json!({"keys": keys}).to_string())
}

struct Client {
    set: SharedJwks,
    authenticator: Authenticator,
    updates: Receiver<()>,
    _fetcher: Fetcher,
}

impl Client {
    fn start(url: &str, settings: &FetchSettings) -> Self {
        Self::start_with(url, settings, Intervals::default())
    }

    fn start_with(url: &str, settings: &FetchSettings, intervals: Intervals) -> Self {
        let set = SharedJwks::new(intervals, Instant::now());
        let (sender, updates) = channel();
        let on_update = move || {
            let _ = sender.send(());
        };
        let url = JwksUrl::new(url).unwrap();
        let fetcher = Fetcher::start(url, set.clone(), settings, on_update).unwrap();
        let authenticator = authenticator(settings_with(Vec::new(), KeySet::Fetched(set.clone())));
        Self { set, authenticator, updates, _fetcher: fetcher }
    }

    fn plain(server: &Server) -> Self {
        Self::start(&format!("http://127.0.0.1:{}/jwks", server.port), &quick())
    }

    /// Waits for a fetch to end.
    fn fetched(&self) -> JwksStatus {
        self.updates.recv_timeout(Duration::from_secs(20)).unwrap();
        self.set.with(|cache| cache.status())
    }

    fn judge(&self, token: &str) -> String {
        let now = Now { unix: common::NOW, monotonic: Instant::now() };
        match self.authenticator.authenticate(Some(token), &Revocations::default(), now) {
            Outcome::Accepted(_) => "accepted".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            Outcome::AwaitKeys(refusal) => format!("await, else {}", refusal.code()),
        }
    }
}

fn quick() -> FetchSettings {
    FetchSettings { timeout: Duration::from_millis(500), authority: None }
}

#[test]
fn keys_are_rotated_and_unknown_ones_fetched() {
    let (old, new) = (Pair::new(Algorithm::ES256), Pair::new(Algorithm::EdDSA));
    let server = Server::start(None);
    server.answers(set(&[(&old, "old")]));
    let url = format!("http://127.0.0.1:{}/jwks", server.port);
    let intervals = Intervals { unknown_kid: Duration::from_millis(300), ..Intervals::default() };
    let client = Client::start_with(&url, &quick(), intervals);
    assert_eq!(client.fetched().keys, 1);
    assert_eq!(client.judge(&old.token("old")), "accepted");

    server.answers(set(&[(&old, "old"), (&new, "new")]));
    assert_eq!(client.judge(&new.token("new")), "key-unknown", "it was fetched a moment ago");
    assert!(client.updates.recv_timeout(intervals.unknown_kid).is_err());
    assert_eq!(client.judge(&new.token("new")), "await, else key-unknown");
    assert_eq!(client.fetched().keys, 2);
    assert_eq!(client.judge(&new.token("new")), "accepted");
    assert_eq!(client.judge(&old.token("old")), "accepted");
    assert_eq!(server.requests(), 2);

    server.answers(set(&[(&new, "new")]));
    for kid in 0..1000 {
        client.judge(&new.token(&format!("made-up-{kid}")));
    }
    assert!(server.requests() <= 4, "made-up kids cost the issuer next to nothing");
    let hmac = common::sign(
        &json!({"alg": "HS256", "kid": "made-up"}),
        &common::good_claims(),
        Algorithm::HS256,
        &common::hmac_key(common::SECRET),
    );
    assert_eq!(client.judge(&hmac), "algorithm-mismatch", "no fetch makes it good");
}

#[test]
fn a_token_that_names_no_key_has_a_rotated_set_fetched_too() {
    let (old, new) = (Pair::new(Algorithm::ES256), Pair::new(Algorithm::ES256));
    let server = Server::start(None);
    server.answers(set(&[(&old, "old")]));
    let url = format!("http://127.0.0.1:{}/jwks", server.port);
    let intervals = Intervals { unknown_kid: Duration::ZERO, ..Intervals::default() };
    let client = Client::start_with(&url, &quick(), intervals);
    client.fetched();
    server.answers(set(&[(&new, "new")]));
    let header = json!({"alg": "ES256"});
    let token = common::sign(&header, &common::good_claims(), Algorithm::ES256, &new.signing_key());
    assert_eq!(client.judge(&token), "await, else signature-invalid");
    client.fetched();
    assert_eq!(client.judge(&token), "accepted");
    assert_eq!(client.judge(&old.token("old")), "await, else key-unknown", "its issuer took it away");
}

#[test]
fn a_fetcher_that_is_dropped_stops() {
    let server = Server::start(None);
    server.answers(respond(503, "", ""));
    let client = Client::plain(&server);
    client.fetched();
    let Client { updates, _fetcher, .. } = client;
    drop(_fetcher);
    // Its thread is gone with the sender that it holds, and asks no more, although a fetch was due.
    assert_eq!(
        updates.recv_timeout(Duration::from_secs(5)),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
    assert_eq!(server.requests(), 1);
}

#[test]
fn whatever_the_server_does_the_last_good_set_stays_and_nobody_is_let_in_by_it() {
    let pair = Pair::new(Algorithm::ES256);
    let server = Server::start(None);
    server.answers(set(&[(&pair, "1")]));
    let client = Client::plain(&server);
    assert_eq!(client.fetched().keys, 1);

    let elsewhere = Server::start(None);
    let stranger = Pair::new(Algorithm::ES256);
    elsewhere.answers(set(&[(&stranger, "1")]));
    let location = format!("Location: http://127.0.0.1:{}/jwks\r\n", elsewhere.port);
    let large = format!("{{\"keys\":[],\"fill\":\"{}\"}}", "x".repeat(MAX_SET));
    let endless: Answer = Arc::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"400\r\n").and_then(|()| stream.write_all(&[b' '; 1024])).is_ok()
            && stream.write_all(b"\r\n").is_ok()
        {}
    });
    let hangs: Answer = Arc::new(|_| thread::park_timeout(Duration::from_secs(5)));
    let drips: Answer = Arc::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for _ in 0..100 {
            thread::park_timeout(Duration::from_millis(50));
            if stream.write_all(b" ").and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    });
    let long_head = format!("X-Fill: {}\r\n", "x".repeat(64 * 1024));
    let no_http: Answer = Arc::new(|stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
    // `None`: the reason is the text of a library.
    let misbehaviours: Vec<(&str, Answer, Option<JwksError>)> = vec![
        ("garbage", respond(200, "", "<html>"), Some(JwksError::NotASet)),
        ("no keys", respond(200, "", r#"{"keys":[]}"#), Some(JwksError::NoKeys)),
        (
            "error",
            respond(500, "", &json!({"keys": [stranger.jwk("1")]}).to_string()),
            Some(JwksError::Status(500)),
        ),
        ("redirect", respond(302, &location, ""), Some(JwksError::Redirect)),
        ("permanent redirect", respond(308, &location, ""), Some(JwksError::Redirect)),
        ("large", respond(200, "", &large), Some(JwksError::TooLarge)),
        ("endless", endless, Some(JwksError::TooLarge)),
        ("long head", respond(200, &long_head, ""), None),
        ("no HTTP", no_http, None),
        ("silence", hangs, Some(JwksError::TimedOut)),
        ("drips", drips, Some(JwksError::TimedOut)),
    ];
    for (what, answer, expected) in misbehaviours {
        server.answers(answer);
        // A client of its own, which has fetched nothing yet; and the other goes on with what it has.
        let fresh = Client::plain(&server);
        let began = Instant::now();
        let status = fresh.fetched();
        let error = status.last_error.unwrap();
        match expected {
            Some(expected) => assert_eq!(error, expected, "{what}"),
            None => assert!(matches!(error, JwksError::Unreachable(_)), "{what}: {error:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{what}");
        assert_eq!(status.keys, 0, "{what}");
        assert_eq!(fresh.judge(&stranger.token("1")), "keys-unavailable", "{what}");
        client.set.with(|cache| cache.on_error(Instant::now(), error));
        assert_eq!(client.judge(&pair.token("1")), "accepted", "{what}");
        assert_eq!(client.judge(&stranger.token("1")), "signature-invalid", "{what}");
    }
    assert_eq!(elsewhere.requests(), 0, "no redirect was followed");
}

#[test]
fn a_server_that_dies_is_asked_again_until_it_is_back() {
    let pair = Pair::new(Algorithm::ES256);
    let server = Server::start(None);
    server.answers(respond(503, "", ""));
    let client = Client::plain(&server);
    assert_eq!(client.fetched().last_error, Some(JwksError::Status(503)));
    server.answers(set(&[(&pair, "1")]));
    // A second later, by itself.
    let status = client.fetched();
    assert_eq!((status.keys, status.failures, status.last_error), (1, 0, None));
    assert_eq!(client.judge(&pair.token("1")), "accepted");

    let port = server.port;
    drop(server);
    let gone = Client::start(&format!("http://127.0.0.1:{port}/jwks"), &quick());
    assert!(matches!(gone.fetched().last_error, Some(JwksError::Unreachable(_) | JwksError::TimedOut)));
}

#[test]
fn over_tls_only_the_configured_authority_is_trusted() {
    let (tls, authority) = tls();
    let pair = Pair::new(Algorithm::ES256);
    let server = Server::start(Some(tls));
    server.answers(set(&[(&pair, "1")]));
    let url = format!("https://localhost:{}/jwks", server.port);

    let trusting = FetchSettings { authority: Some(authority), timeout: Duration::from_secs(5) };
    let client = Client::start(&url, &trusting);
    let status = client.fetched();
    assert_eq!((status.keys, status.last_error), (1, None));
    assert_eq!(client.judge(&pair.token("1")), "accepted");

    let other = Client::start(&url, &FetchSettings { timeout: Duration::from_secs(5), authority: None });
    let status = other.fetched();
    assert!(matches!(&status.last_error, Some(JwksError::Unreachable(_))), "{status:?}");
    assert_eq!(server.requests(), 1, "the other said nothing");
}

/// A server for `localhost`, and the authority that it is signed by.
fn tls() -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let signer = Signer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &signer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (Arc::new(config), authority_certificate.pem())
}
