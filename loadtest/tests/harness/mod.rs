//! Servers to load, and the program that does it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A running server; ended with the test.
pub(crate) struct Server {
    child: Child,
    listening: String,
}

impl Server {
    pub(crate) fn gateway() -> Self {
        let mut command = Command::new(program("signalbox-gateway", "cargo build -p signalbox-gateway"));
        command.args(["--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--workers", "2"]);
        Self::start(command)
    }

    /// A gateway that requires tokens, and a token that it takes.
    pub(crate) fn with_tokens() -> (Self, String) {
        const SECRET: [&str; 2] = ["--jwt-secret", "a-secret-of-the-tests-of-more-than-32-bytes"];
        let gateway = program("signalbox-gateway", "cargo build -p signalbox-gateway");
        let mut command = Command::new(&gateway);
        command.args(["--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--workers", "2"]);
        command.args(["--auth", "required"]).args(SECRET);
        let minted = Command::new(gateway)
            .args(["token", "--sub", "load", "--peer-id", "*", "--room", "*"])
            .args(SECRET)
            .output()
            .unwrap();
        (Self::start(command), String::from_utf8(minted.stdout).unwrap().trim().to_owned())
    }

    /// The TURN credentials service, which gives `sbt_load` as many credentials as it asks for.
    pub(crate) fn turn() -> Self {
        // The SHA-256 of that key.
        let hash = "a986ae4ee4ef5f4279fec136f37ef2b2be37a51434b2db3149b76b4f930f4922";
        let mut command =
            Command::new(program("signalbox-turn", "cargo build -p signalbox-turn-credentials"));
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
                "--probe",
                "off",
            ])
            .args(["--secret", "a-secret-of-the-tests", "--uri", "turn:turn.example:3478"])
            .args(["--subject-limit", "0", "--api-key", &format!("load:issue:{hash}")]);
        Self::start(command)
    }

    /// The handler API's example.
    pub(crate) fn handlers() -> Self {
        Self::start(Command::new(program("examples/handlers", "cargo build -p signalbox-node --examples")))
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let listening =
            lines.by_ref().find(|line| line.contains(" listening public=")).expect("the server listens");
        // Somebody has to read on, or the server would wait for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, listening }
    }

    pub(crate) fn url(&self) -> &str {
        self.word("public=")
    }

    /// Sessions that the gateway has opened.
    pub(crate) fn sessions(&self) -> u64 {
        let address = self.word("management=http://");
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let opened = answer.lines().filter(|line| line.starts_with("signalbox_handshakes_total{"));
        opened.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    fn word(&self, name: &str) -> &str {
        self.listening.split(' ').find_map(|word| word.strip_prefix(name)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The results of a run, as it writes them.
pub(crate) struct Report(Value);

impl Report {
    /// What is counted in a phase.
    pub(crate) fn number(&self, phase: &str, field: &str) -> u64 {
        let phases = self.0["phases"].as_array().unwrap();
        let found = phases.iter().find(|candidate| candidate["name"] == phase);
        found.unwrap_or_else(|| panic!("no phase {phase}: {}", self.0))[field].as_u64().unwrap()
    }

    pub(crate) fn delivered(&self, phase: &str) -> u64 {
        self.number(phase, "delivered")
    }
}

/// Loads a server with these options; nothing may be lost, doubled or misdirected, and its memory can be read.
pub(crate) fn run(server: &Server, options: &str) -> Report {
    let pid = server.child.id();
    let (succeeded, report) =
        loadtest(&format!("{options} --target {} --pid {pid} --patience 20 --strict", server.url()));
    assert!(succeeded, "{}", report.0);
    report
}

/// Whether the program succeeded, and what it reports.
pub(crate) fn loadtest(options: &str) -> (bool, Report) {
    let file = directory().join("report.json");
    // Of an earlier run, which must not be taken for this one's.
    let _ = std::fs::remove_file(&file);
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(options.split_ascii_whitespace())
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("no report ({error}): {said}"));
    (output.status.success(), Report(serde_json::from_str(&report).unwrap()))
}

/// A directory of the test's own.
pub(crate) fn directory() -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loadtest").join(test);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// A program of the workspace, built with the same profile as this test.
fn program(name: &str, remedy: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name(name);
    assert!(program.exists(), "{} is missing ({remedy})", program.display());
    program
}
