//! What the black-box tests share: the service, a coturn and its clients, each on ports of their own.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "../../../gateway/tests/harness/certificates.rs"]
pub(crate) mod certificates;
pub(crate) mod coturn;
#[path = "../../../gateway/tests/harness/http.rs"]
pub(crate) mod http;
pub(crate) mod redis;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use signalbox_auth::{GrantsSpec, HmacSecret, Mint, Now};
pub(crate) use signalbox_test_support::free_port;

/// Longest time anything may take, on two busy cores.
pub(crate) const DEADLINE: Duration = Duration::from_secs(45);
/// What services and TURN servers share in tests.
pub(crate) const SECRET: &str = "a-secret-of-the-tests";
/// What tokens are signed with in tests.
pub(crate) const JWT_SECRET: &str = "tokens are signed with this in tests";
/// An API key that may do everything, and its setting.
pub(crate) const KEY: &str = "sbt_test";

/// The service; ended with the test.
pub(crate) struct Service {
    child: Child,
    pub(crate) public: String,
    pub(crate) management: String,
    /// Every line on stdout behind that of its listeners.
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Service {
    /// With these flags, beside those that every test needs.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let key = format!("app:issue+read+revoke:{}", sha256(KEY));
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-turn"));
        command
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--admin-port",
                "0",
                "--workers",
                "1",
                "--api-key",
                &key,
            ])
            .args(["--jwt-secret", JWT_SECRET])
            .args(flags)
            .env_clear();
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the service starts");
        let mut lines =
            BufReader::new(child.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains(" listening public=")).expect("it says where it listens");
        // Somebody has to read on, or the service would block on a full pipe.
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = log.clone();
        let reader = std::thread::spawn(move || {
            for line in lines {
                let _ = writeln!(std::io::stderr(), "{line}");
                kept.lock().expect("nobody panicked").push(line);
            }
        });
        let address = |name: &str| {
            line.split(' ').find_map(|word| word.strip_prefix(name)).expect("an address").to_owned()
        };
        let (public, management) = (address("public="), address("management="));
        Self { child, public, management, log, reader: Some(reader) }
    }

    /// GET with a token or a key.
    pub(crate) fn get(&self, target: &str, bearer: &str) -> http::Response {
        let header = format!("Bearer {bearer}");
        http::request(&self.public, "GET", target, &[("Authorization", &header)], "")
    }

    /// The ICE servers that it gives to a subject.
    pub(crate) fn ice_servers(&self, target: &str, bearer: &str) -> Value {
        let response = self.get(target, bearer);
        assert_eq!(response.status, 200, "{}", response.body);
        serde_json::from_str(&response.body).expect("JSON")
    }

    /// A credential for the subject.
    pub(crate) fn credential(&self, subject: &str) -> (String, String) {
        let answer = self.ice_servers("/v1/ice-servers?policy=relay", &token(subject, true));
        let server = &answer["iceServers"][0];
        let text = |name: &str| server[name].as_str().expect("a text").to_owned();
        (text("username"), text("credential"))
    }

    /// A signal, by its short name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// What it wrote to stdout. Call it when it has ended.
    pub(crate) fn log(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its output was read");
        }
        self.log.lock().expect("nobody panicked").clone()
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        until(|| self.child.try_wait().expect("a child can be waited for"))?.code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A token for an hour.
pub(crate) fn token(subject: &str, has_turn: bool) -> String {
    let mut mint = Mint::new(subject);
    let grants = if has_turn { r#"{"turn": true}"# } else { r#"{"rooms": {"join": ["*"]}}"# };
    mint.grants = Some(GrantsSpec::from_setting(grants).expect("grants"));
    let secret = HmacSecret::new(JWT_SECRET).expect("a secret");
    mint.sign(&secret, Now::read().unix).expect("a token")
}

/// An empty directory of a test's own.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    directory
}

pub(crate) fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks again until there is an answer; `None` when there is none in time.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() > end {
            return answer;
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
