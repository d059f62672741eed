//! What the black-box tests share: a server of their own on ports of their own, and client programs that are driven against it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest time a client program may take, on two busy cores.
const DEADLINE: Duration = Duration::from_secs(75);

/// A running server; ended with the test.
pub(crate) struct Server {
    child: Child,
    public: String,
    management: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// The gateway with these flags.
    pub(crate) fn gateway(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"));
        command.args(["--host", "127.0.0.1", "--port", "0", "--admin-port", "0"]);
        if !flags.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        command.arg("--vendor-dir").arg(target().join("vendor")).args(flags);
        Self::start(command)
    }

    /// The fixture on the handler API.
    pub(crate) fn fixture() -> Self {
        let program = target().join("debug/examples/handlers");
        assert!(
            program.exists(),
            "{} is missing (cargo build -p signalbox-node --examples)",
            program.display()
        );
        Self::start(Command::new(program))
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let listening = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(" listening public="))
            .expect("the server says where it listens");
        // Somebody has to read on, or the server would block on a full pipe; the test's own output shows what it logged.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        });
        let address =
            |name: &str| listening.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        let public = address("public=").expect("a public address");
        Self { child, public, management: address("management=") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the server to end by itself; the exit code, or `None` when it did not in time.
    #[allow(dead_code)]
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<i32> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("the server can be waited for") {
                return status.code();
            }
            if Instant::now() > until {
                return None;
            }
            pause();
        }
    }

    /// Runs a file of `tests/js` with node's test runner.
    pub(crate) fn run_js(&self, file: &str) {
        let mut command = Command::new("node");
        command.arg("--test").arg(tests().join("js").join(file));
        self.run(command, file);
    }

    /// Runs a file of `tests/js/python`.
    #[allow(dead_code)]
    pub(crate) fn run_python(&self, file: &str) {
        let mut command = Command::new(target().join("venv/bin/python"));
        command.arg(tests().join("js/python").join(file));
        self.run(command, file);
    }

    fn run(&self, mut command: Command, what: &str) {
        let artifacts = target().join("artifacts");
        std::fs::create_dir_all(&artifacts).expect("a directory for artifacts");
        let mut child = command
            .env("GATEWAY_URL", &self.public)
            .env("FIXTURE_URL", &self.public)
            .env("ADMIN_URL", self.management.as_deref().unwrap_or_default())
            .env("GATEWAY_PID", self.pid().to_string())
            .env("GATEWAY_BIN", env!("CARGO_BIN_EXE_signalbox-gateway"))
            .env("ARTIFACTS", &artifacts)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error} (cargo xtask prepare)"));
        let until = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the client can be waited for") {
                break status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{what} did not end within {DEADLINE:?}");
            }
            pause();
        };
        assert!(status.success(), "{what} failed: {status}");
    }
}

/// A child can only be asked whether it has ended.
#[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}
