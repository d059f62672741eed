//! A `redis-server` of a test's own.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

/// Without persistence; ended with the test.
pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        Self::start_on(free.expect("a free port").port())
    }

    /// At this port, where there may have been another.
    pub(crate) fn start_on(port: u16) -> Self {
        let number = port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is there (cargo xtask prepare)");
        let redis = Self { child, port };
        super::until(super::DEADLINE, || TcpStream::connect(("127.0.0.1", port)).ok()).expect("it listens");
        redis
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
