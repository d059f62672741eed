//! A coturn of a test's own, and its client program.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use super::{SECRET, free_port, http, until};

/// A TURN server on a free port of the loopback; ended with the test.
pub(crate) struct Coturn {
    child: Child,
    pub(crate) port: u16,
}

/// Flags of a server that relays to nobody.
pub(crate) const DENY_ALL: &[&str] = &["--denied-peer-ip=0.0.0.0-255.255.255.255"];

impl Coturn {
    /// With the secret of the tests, these flags, and peers on the loopback.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_with_secret_at(free_port(), flags)
    }

    /// The same, on this port.
    pub(crate) fn start_with_secret_at(port: u16, flags: &[&str]) -> Self {
        let secret = format!("--static-auth-secret={SECRET}");
        let flags = [&["-n", "--use-auth-secret", &secret, "--allow-loopback-peers"], flags].concat();
        Self::start_at(port, &flags)
    }

    /// The same, with TLS on a second port.
    pub(crate) fn start_with_tls(port: u16, tls_port: u16, certificate: &str, key: &str) -> Self {
        let secret = format!("--static-auth-secret={SECRET}");
        let number = tls_port.to_string();
        let tls = ["--tls-listening-port", &number, "--cert", certificate, "--pkey", key];
        let flags = [&["-n", "--use-auth-secret", &secret, "--allow-loopback-peers"], &tls[..]].concat();
        Self::spawn(port, &flags, None)
    }

    /// On this port, with these flags alone.
    pub(crate) fn start_at(port: u16, flags: &[&str]) -> Self {
        Self::spawn(port, &[&["--no-tls"], flags].concat(), None)
    }

    /// The same, with its users and secrets in this database.
    pub(crate) fn start_at_with_database(port: u16, flags: &[&str], database: &str) -> Self {
        Self::spawn(port, &[&["--no-tls"], flags].concat(), Some(database))
    }

    fn spawn(port: u16, flags: &[&str], database: Option<&str>) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("coturn-{port}"));
        std::fs::create_dir_all(&directory).expect("a scratch directory");
        let file = |name: &str| directory.join(name).display().to_string();
        let number = port.to_string();
        let database = database.map_or_else(|| format!("--userdb={}", file("users")), str::to_owned);
        let child = Command::new("turnserver")
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", &number])
            .args(["--realm", "signalbox", "--no-cli", "--no-dtls", "--simple-log", "--log-file", "stdout"])
            .args([&database, "--pidfile", &file("pid")])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver is there (cargo xtask prepare)");
        let coturn = Self { child, port };
        until(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok()).expect("it listens");
        coturn
    }

    /// Its URI for `--uri`.
    pub(crate) fn uri(&self, transport: &str) -> String {
        format!("turn:127.0.0.1:{}?transport={transport}", self.port)
    }

    /// Allocates with a credential, and relays a few messages to a second allocation and back.
    pub(crate) fn relay(&self, (username, password): (&str, &str), flags: &[&str]) -> Output {
        Command::new("turnutils_uclient")
            .args(["-u", username, "-w", password, "-p", &self.port.to_string(), "-n", "2", "-m", "1", "-c"])
            .args(flags)
            .arg("127.0.0.1")
            .output()
            .expect("turnutils_uclient is there (cargo xtask prepare)")
    }

    /// Whether a credential relays.
    pub(crate) fn relays(&self, (username, password): (&str, &str), flags: &[&str]) -> bool {
        let output = self.relay((username, password), &[&["-y"], flags].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let has_lost_none = text.contains("Total lost packets 0 (0.000000%)");
        let has_received = text.contains("tot_recv_msgs=4") || text.contains("tot_recv_bytes ~ 400");
        output.status.success() && has_lost_none && has_received
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the metrics of a service say.
pub(crate) fn metric(management: &str, line: &str) -> Option<f64> {
    let text = http::get(management, "/metrics").body;
    text.lines().find_map(|at| at.strip_prefix(line)?.trim().parse().ok())
}
