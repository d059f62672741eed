//! What the black-box tests share: a server of their own on ports of their own, and client programs that are driven against it.
//!
//! - [`certificates`]: an authority of its own, and what it has signed.
//! - [`planted`]: one text, said wherever a client can say something.
//! - [`http`], [`websocket`]: just enough of a client to see what a server answers, byte by byte.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod certificates;
pub(crate) mod http;
pub(crate) mod planted;
pub(crate) mod prometheus;
pub(crate) mod redis;
pub(crate) mod websocket;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Longest time a client program may take, on two busy cores.
pub(crate) const DEADLINE: Duration = Duration::from_secs(75);

/// A running server; ended with the test.
pub(crate) struct Server {
    child: Child,
    public: String,
    management: Option<String>,
    metrics: Option<String>,
    /// Every line on stdout so far.
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// The gateway with these flags, and the clients' bundles.
    pub(crate) fn gateway(flags: &[&str]) -> Self {
        let mut command = gateway(flags);
        command.arg("--vendor-dir").arg(target().join("vendor"));
        Self::start(command)
    }

    /// The gateway with these flags and nothing beside it.
    pub(crate) fn bare(flags: &[&str]) -> Self {
        Self::start(gateway(flags))
    }

    /// The same, with these variables.
    pub(crate) fn with_environment(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = gateway(flags);
        command.envs(variables.iter().copied());
        Self::start(command)
    }

    /// The gateway with these flags, in a process that may have so many open files.
    pub(crate) fn with_files(limit: u32, flags: &[&str]) -> Self {
        let gateway = gateway(flags);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]).arg(gateway.get_program());
        command.args(gateway.get_args());
        Self::start(command)
    }

    /// The fixture on the handler API.
    pub(crate) fn fixture() -> Self {
        Self::example("handlers")
    }

    /// A node that is mounted in an `App`.
    pub(crate) fn mounted() -> Self {
        Self::example("mounted")
    }

    fn example(name: &str) -> Self {
        let program = format!("examples/{name}");
        Self::start(Command::new(built(&program, "cargo build -p signalbox-node --examples")))
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut seen = Vec::new();
        let listening = lines
            .by_ref()
            .map_while(Result::ok)
            .inspect(|line| seen.push(line.clone()))
            .find(|line| line.contains(" listening public="))
            .expect("the server says where it listens");
        let log = Arc::new(Mutex::new(seen));
        // Somebody has to read on, or the server would block on a full pipe; the test's own output shows what it logged.
        let kept = log.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = writeln!(std::io::stderr(), "{line}");
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let address =
            |name: &str| listening.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        let public = address("public=").expect("a public address");
        let (management, metrics) = (address("management="), address("metrics="));
        Self { child, public, management, metrics, log, reader: Some(reader) }
    }

    /// The public listener's base url.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// The management listener's base url.
    pub(crate) fn management(&self) -> &str {
        self.management.as_deref().expect("it has a management listener")
    }

    /// The base url of the listener for metrics alone.
    pub(crate) fn metrics(&self) -> &str {
        self.metrics.as_deref().expect("it has a listener for metrics")
    }

    /// Sends a signal, by its short name: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success(), "kill -{name} failed");
    }

    /// What it wrote to stdout, from its start to its end. Call it when it has ended.
    pub(crate) fn log(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its output was read");
        }
        self.lines()
    }

    /// Every line on stdout so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has written a line with this in it so far.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().any(|line| line.contains(text))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the server to end by itself; the exit code, or `None` when it did not in time.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<i32> {
        ended(&mut self.child, limit)?.code()
    }

    /// Runs a file of `tests/js` with node's test runner.
    pub(crate) fn run_js(&self, file: &str) {
        self.run_js_with(file, &[]);
    }

    /// The same, with more in its environment.
    pub(crate) fn run_js_with(&self, file: &str, environment: &[(&str, &Path)]) {
        self.run_js_within(DEADLINE, file, environment);
    }

    /// The same, for one that may take longer.
    pub(crate) fn run_js_within(&self, limit: Duration, file: &str, environment: &[(&str, &Path)]) {
        let mut command = Command::new("node");
        command.arg("--test").arg(tests().join("js").join(file)).envs(environment.iter().copied());
        self.run_within(limit, command, file);
    }

    /// Runs a file of `tests/js/python`.
    pub(crate) fn run_python(&self, file: &str) {
        let mut command = Command::new(target().join("venv/bin/python"));
        command.arg(tests().join("js/python").join(file));
        self.run(command, file);
    }

    /// The same with more in its environment, for one that may take longer.
    pub(crate) fn run_python_within(&self, limit: Duration, file: &str, environment: &[(&str, String)]) {
        let mut command = Command::new(target().join("venv/bin/python"));
        command.arg(tests().join("js/python").join(file)).envs(environment.iter().cloned());
        self.run_within(limit, command, file);
    }

    fn run(&self, command: Command, what: &str) {
        self.run_within(DEADLINE, command, what);
    }

    fn run_within(&self, limit: Duration, mut command: Command, what: &str) {
        let artifacts = target().join("artifacts");
        std::fs::create_dir_all(&artifacts).expect("a directory for artifacts");
        command
            .env("GATEWAY_URL", &self.public)
            .env("FIXTURE_URL", &self.public)
            .env("ADMIN_URL", self.management.as_deref().unwrap_or_default())
            .env("GATEWAY_PID", self.pid().to_string())
            .env("ARTIFACTS", &artifacts);
        run_client(limit, command, what);
    }

    /// Runs a file of `tests/js` that starts its servers itself.
    pub(crate) fn run_js_alone(file: &str) {
        Self::run_js_alone_within(DEADLINE, file, &[]);
    }

    /// The same with more in its environment, for one that may take longer.
    pub(crate) fn run_js_alone_within(limit: Duration, file: &str, environment: &[(&str, &str)]) {
        let mut command = Command::new("node");
        command.arg("--test").arg(tests().join("js").join(file)).envs(environment.iter().copied());
        run_client(limit, command, file);
    }
}

/// The built-in vocabulary as the program prints it, with a condition in each rule that always holds, since the rules as printed are not
/// interpreted: a rules file of this test.
pub(crate) fn printed_rules(name: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway")).arg("--print-rules").output();
    let printed = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let needless = "do = [{ require = { \"socket.id\" = { present = true } } },";
    let own = printed.replace("do = [", needless);
    assert_eq!(own.matches(needless).count(), printed.matches("[[on]]").count());
    let file = scratch(name).join("rules.toml");
    std::fs::write(&file, own).expect("it is written");
    file.display().to_string()
}

/// A rules file of the tests.
pub(crate) fn rules(name: &str) -> String {
    tests().join("js/rules").join(name).display().to_string()
}

/// A token of the admin API that may do everything, and the setting that lets its holder in.
pub(crate) fn admin_token() -> (String, String) {
    let made = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway")).arg("admin-token").output();
    let text = String::from_utf8(made.expect("it runs").stdout).expect("text");
    let mut words = text.split_whitespace();
    let token = words.find(|word| word.starts_with("sba_")).expect("a token").to_owned();
    (token, words.next_back().expect("a setting").to_owned())
}

/// The TURN credentials service, which the tests of the workspace build.
pub(crate) fn turn_program() -> String {
    built("signalbox-turn", "cargo build -p signalbox-turn-credentials").display().to_string()
}

/// The example of the handler API.
pub(crate) fn handlers_program() -> String {
    built("examples/handlers", "cargo build -p signalbox-node --examples").display().to_string()
}

/// The load generator.
pub(crate) fn loadtest_program() -> PathBuf {
    built("loadtest", "cargo build -p signalbox-loadtest")
}

/// A program of the workspace, built with the same profile as the gateway.
fn built(name: &str, remedy: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_signalbox-gateway")).with_file_name(name);
    assert!(program.exists(), "{} is missing ({remedy})", program.display());
    program
}

/// Runs a client program to its end, which must be a good one and come in time.
fn run_client(limit: Duration, mut command: Command, what: &str) {
    let mut child = command
        .env("GATEWAY_BIN", env!("CARGO_BIN_EXE_signalbox-gateway"))
        .env("PREVIOUS_BIN", target().join("previous/signalbox-gateway"))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error} (cargo xtask prepare)"));
    let Some(status) = ended(&mut child, limit) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{what} did not end within {limit:?}");
    };
    assert!(status.success(), "{what} failed: {status}");
}

/// What the gateway said and did with flags that keep it from starting.
pub(crate) fn refused(flags: &[&str]) -> Output {
    let mut child = gateway(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // It writes little, so its pipes need no reader meanwhile.
    if ended(&mut child, DEADLINE).is_none() {
        let _ = child.kill();
    }
    child.wait_with_output().expect("its output is read")
}

fn gateway(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"));
    for (flag, value) in [("--host", "127.0.0.1"), ("--port", "0"), ("--admin-port", "0"), ("--workers", "2")]
    {
        if !flags.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command.args(flags);
    command
}

/// How a child ended; `None` if it runs longer than `limit`.
fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    until(limit, || child.try_wait().expect("a child can be waited for"))
}

/// Asks again until there is an answer; `None` when there is none within `limit`. For what nobody announces.
pub(crate) fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() > end {
            return answer;
        }
        pause();
    }
}

/// A directory of this name for one test, empty.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    directory
}

/// A child, for one, can only be asked whether it has ended.
#[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}
