//! What is compared, and how it is started on a processor of its own.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// A server, and a column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Contestant {
    /// socket.io on Node, from npm.
    #[value(name = "socket.io")]
    SocketIo,
    /// socketioxide on axum.
    Socketioxide,
    /// peer on Node, from npm.
    Peer,
    /// A server that does nothing but read a message and send it to each member.
    Floor,
    /// The gateway.
    Gateway,
    /// The node as a library, where the gateway has no such events: the example `handlers`.
    Handlers,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SocketIo => "socket.io",
            Self::Socketioxide => "socketioxide",
            Self::Peer => "peer",
            Self::Floor => "floor",
            Self::Gateway => "gateway",
            Self::Handlers => "handlers",
        })
    }
}

impl Contestant {
    /// The dialect that its clients speak.
    pub(super) fn dialect(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Handlers => "handlers",
            _ => "generic",
        }
    }
}

/// Where the programs are.
pub(super) struct Programs {
    directory: PathBuf,
    scripts: PathBuf,
}

impl Programs {
    pub(super) fn find(directory: Option<PathBuf>, scripts: PathBuf) -> Result<Self> {
        let beside = || -> Result<PathBuf> {
            let program = std::env::current_exe().context("cannot find this program (give --programs)")?;
            Ok(program.parent().unwrap_or(Path::new(".")).to_owned())
        };
        Ok(Self { directory: directory.map_or_else(beside, Ok)?, scripts })
    }

    /// Whether a contestant can be started, before an hour of measurements has passed.
    pub(super) fn check(&self, contestant: Contestant) -> Result<()> {
        let (file, remedy) = match contestant {
            Contestant::SocketIo | Contestant::Peer => {
                (self.scripts.join("node_modules"), format!("npm ci --prefix {}", self.scripts.display()))
            }
            Contestant::Socketioxide => (
                self.program(contestant),
                "cargo build --release --manifest-path loadtest/peers/socketioxide/Cargo.toml --target-dir target"
                    .to_owned(),
            ),
            Contestant::Floor => {
                (self.program(contestant), "cargo build --release -p loadtest-peer-floor".to_owned())
            }
            Contestant::Gateway => {
                (self.program(contestant), "cargo build --release -p signalbox-gateway".to_owned())
            }
            Contestant::Handlers => {
                (self.program(contestant), "cargo build --release -p signalbox-node --example handlers".to_owned())
            }
        };
        ensure!(file.exists(), "{} is missing ({remedy}, or --without {contestant})", file.display());
        Ok(())
    }

    fn program(&self, contestant: Contestant) -> PathBuf {
        self.directory.join(match contestant {
            Contestant::Floor => "loadtest-peer-floor",
            Contestant::Socketioxide => "loadtest-peer-socketioxide",
            Contestant::Handlers => "examples/handlers",
            _ => "signalbox-gateway",
        })
    }

    fn command(&self, contestant: Contestant, workers: usize) -> Command {
        let workers = workers.to_string();
        match contestant {
            Contestant::SocketIo | Contestant::Peer => {
                let script = if contestant == Contestant::Peer { "peer.mjs" } else { "socketio.mjs" };
                let mut command = Command::new("node");
                command.arg(self.scripts.join(script)).args(["--port", "0"]).env("NODE_ENV", "production");
                command
            }
            Contestant::Floor | Contestant::Socketioxide => {
                let mut command = Command::new(self.program(contestant));
                command.args(["--port", "0"]);
                command
            }
            Contestant::Handlers => {
                let mut command = Command::new(self.program(contestant));
                command.env("PORT", "0").env("WORKERS", workers);
                command
            }
            Contestant::Gateway => {
                let mut command = Command::new(self.program(contestant));
                command.args(["--host", "127.0.0.1", "--port", "0", "--admin-host", "127.0.0.1"]);
                command.args(["--admin-port", "0", "--concurrent_limit", "100000", "--workers", &workers]);
                command
            }
        }
    }
}

/// Makes this thread, and every process it starts from now on, run on one processor.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    ensure!(cpu < CpuSet::MAX_CPU, "processor {cpu} is beyond what can be named");
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on processor {cpu} (is there one?)"))
}

/// A running server; ended with its measurement.
pub(super) struct Server {
    child: Child,
    pub(super) public: String,
    /// `host:port` of the gateway's management listener.
    management: Option<String>,
}

impl Server {
    /// Starts a server on a processor. The calling thread is left there.
    pub(super) fn start(
        programs: &Programs,
        contestant: Contestant,
        workers: usize,
        cpu: usize,
    ) -> Result<Self> {
        pin(cpu)?;
        let mut command = programs.command(contestant, workers);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut server = Self { child, public: String::new(), management: None };
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let Some(line) = lines.by_ref().find(|line| line.contains(" listening public=")) else {
            bail!("{contestant} ended before it listened (what it said stands above)");
        };
        // Somebody has to read on, or the server would wait for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        server.public = word("public=").context("the server does not say where it listens")?;
        server.management = word("management=http://");
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of a metric of the gateway's.
    pub(super) fn metric(&self, name: &str) -> Option<u64> {
        let address = self.management.as_deref()?;
        let mut stream = TcpStream::connect(address).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let values = answer.lines().filter(|line| line.starts_with(name));
        Some(values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
