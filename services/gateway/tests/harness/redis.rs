//! A `redis-server` of a test's own.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use signalbox_test_support::free_port;

/// Without persistence; ended with the test.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    password: Option<&'static str>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_on(free_port())
    }

    /// One that wants a password.
    pub(crate) fn start_with_password(password: &'static str) -> Self {
        Self::spawn(free_port(), Some(password))
    }

    /// At this port, where there may have been another.
    pub(crate) fn start_on(port: u16) -> Self {
        Self::spawn(port, None)
    }

    fn spawn(port: u16, password: Option<&'static str>) -> Self {
        let number = port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(password.iter().flat_map(|password| ["--requirepass", password]))
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is there (cargo xtask prepare)");
        let redis = Self { child, port, password };
        super::until(super::DEADLINE, || TcpStream::connect(("127.0.0.1", port)).ok()).expect("it listens");
        redis
    }

    /// Stops it where it is, or lets it go on: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success(), "kill -{name} failed");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let user = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{user}127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
