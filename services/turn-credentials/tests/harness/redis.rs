//! A `redis-server` of a test's own.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use super::{certificates::Files, free_port, until};

/// Without persistence; ended with the test.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    /// The authority of its certificate, where it speaks TLS.
    authority: Option<String>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is there (cargo xtask prepare)");
        until(|| TcpStream::connect(("127.0.0.1", port)).ok()).expect("it listens");
        Self { child, port, authority: None }
    }

    /// One that speaks TLS and nothing else.
    pub(crate) fn start_with_tls(files: &Files) -> Self {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--tls-auth-clients", "no"])
            .args([
                "--tls-ca-cert-file",
                "ca.pem",
                "--tls-cert-file",
                "cert.pem",
                "--tls-key-file",
                "key.pem",
            ])
            .current_dir(&files.directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is there (cargo xtask prepare)");
        until(|| TcpStream::connect(("127.0.0.1", port)).ok()).expect("it listens");
        Self { child, port, authority: Some(files.path("ca.pem")) }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What a command answers, as `redis-cli` writes it.
    pub(crate) fn command(&self, command: &[&str]) -> String {
        let tls = self.authority.iter().flat_map(|authority| ["--tls", "--cacert", authority]);
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "--raw"])
            .args(tls)
            .args(command)
            .output();
        String::from_utf8_lossy(&output.expect("redis-cli is there").stdout).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
