//! What is compared, and how it is started on a processor of its own.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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

    fn command(&self, contestant: Contestant, workers: usize, announces: bool) -> Command {
        let workers = workers.to_string();
        match contestant {
            Contestant::SocketIo | Contestant::Peer => {
                let script = if contestant == Contestant::Peer { "peer.mjs" } else { "socketio.mjs" };
                let mut command = Command::new("node");
                command.arg(self.scripts.join(script)).args(["--port", "0"]).env("NODE_ENV", "production");
                if announces {
                    command.arg("--announce");
                }
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
                // What is measured is how much it can do, not how much it lets one client do.
                command.args(["--events-per-second", "off", "--bytes-per-second", "off"]);
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

/// The servers of one measurement: one, or several that share a Redis.
pub(super) struct Group {
    servers: Vec<Server>,
    redis: Option<Redis>,
}

impl Group {
    /// Starts them on a processor, Redis too; `announces`: they tell the members of a room of each other. The calling thread is left
    /// there.
    pub(super) fn start(
        programs: &Programs,
        contestant: Contestant,
        (servers, workers, announces): (usize, usize, bool),
        cpu: usize,
    ) -> Result<Self> {
        pin(cpu)?;
        let redis = (servers > 1).then(Redis::start).transpose()?;
        let url = redis.as_ref().map(Redis::url);
        let start = |_| Server::start(programs, contestant, (workers, announces), url.as_deref());
        let servers: Vec<Server> = (0..servers).map(start).collect::<Result<_>>()?;
        if redis.is_some() {
            // A gateway serves clients before it has joined its cluster.
            servers.iter().try_for_each(Server::wait_until_ready)?;
        }
        Ok(Self { servers, redis })
    }

    /// Where clients connect.
    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|server| server.public.as_str())
    }

    /// All processes that work for them.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        let redis = self.redis.iter().map(|redis| redis.child.id());
        self.servers.iter().map(|server| server.child.id()).chain(redis)
    }

    /// The sum of a metric of the gateway's.
    pub(super) fn metric(&self, name: &str) -> Option<u64> {
        self.servers.first()?.metric(name)
    }
}

/// A `redis-server` without persistence; ended with its measurement.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let number = port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start redis-server (Debian: apt install redis-server)")?;
        let redis = Self { child, port };
        wait_for("redis-server", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(redis)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again until something is there.
#[expect(clippy::disallowed_methods, reason = "the generator has nothing else to do")]
fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..PATIENCE {
        if is_there() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    bail!("{what} is not there in time")
}

/// How often, and how many times, something that starts is looked for.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: usize = 300;

/// A running server; ended with its measurement.
struct Server {
    child: Child,
    public: String,
    /// `host:port` of the gateway's management listener.
    management: Option<String>,
}

impl Server {
    fn start(
        programs: &Programs,
        contestant: Contestant,
        (workers, announces): (usize, bool),
        redis: Option<&str>,
    ) -> Result<Self> {
        let mut command = programs.command(contestant, workers, announces);
        if let Some(redis) = redis {
            let flag = if contestant == Contestant::Gateway { "--redis-url" } else { "--redis" };
            command.args([flag, redis]);
        }
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

    /// Waits for a gateway to say that it is ready.
    fn wait_until_ready(&self) -> Result<()> {
        let is_ready = || self.ask("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
        if self.management.is_some() { wait_for("a ready gateway", is_ready) } else { Ok(()) }
    }

    /// What the management listener of a gateway answers.
    fn ask(&self, path: &str) -> Option<String> {
        let address = self.management.as_deref()?;
        let mut stream = TcpStream::connect(address).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let answer = self.ask("/metrics")?;
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
