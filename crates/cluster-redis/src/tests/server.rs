//! Servers of Redis, each for one test.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command as Program, Stdio},
    time::{Duration, Instant},
};

use signalbox_test_support::free_port;

/// Longest that anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A `redis-server` of its own, without persistence.
pub(super) struct Server {
    pub(super) child: Child,
    pub(super) port: u16,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::with(&[])
    }

    pub(super) fn with(flags: &[&str]) -> Self {
        let port = free_port();
        let server = Self { child: Self::spawn(port, flags), port };
        until(|| TcpStream::connect(("127.0.0.1", port)).ok());
        server
    }

    pub(super) fn spawn(port: u16, flags: &[&str]) -> Child {
        let (port, file) = (port.to_string(), format!("{port}.rdb"));
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let mut program = Program::new("redis-server");
        // What a replica writes when it synchronises would be read by the next server that starts in the same directory.
        program.args(["--repl-diskless-load", "swapdb", "--dbfilename", &file]);
        program.args(arguments).args(flags).current_dir(std::env::temp_dir()).stdout(Stdio::null());
        let program = program.spawn();
        program.expect("redis-server (Debian: apt install redis-server)")
    }

    /// A sentinel that watches one master, and decides alone.
    pub(super) fn sentinel(master: u16) -> Self {
        let port = free_port();
        let directory =
            std::env::temp_dir().join(format!("signalbox-sentinel-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", directory.display()),
            format!("sentinel monitor main 127.0.0.1 {master} 1"),
            "sentinel down-after-milliseconds main 500".to_owned(),
            "sentinel failover-timeout main 3000".to_owned(),
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        let mut program = Program::new("redis-server");
        let child = program.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        let sentinel = Self { child, port };
        until(|| TcpStream::connect(("127.0.0.1", port)).ok());
        sentinel
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends one command, and gives the answer back as it is.
    pub(super) fn ask(&self, command: &str) -> String {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        // A sentinel knows no QUIT.
        connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer);
        answer
    }

    /// Shows every command that the server gets from now on, and every message that is published.
    pub(super) fn monitor(&self) -> Monitor<'_> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(b"MONITOR\r\n").unwrap();
        let mut answer = [0; 5];
        connection.read_exact(&mut answer).unwrap();
        Monitor { server: self, connection }
    }

    pub(super) fn signal(&self, signal: &str) {
        let sent = Program::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub(super) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Comes back on the same port, with nothing in it.
    pub(super) fn restart(&mut self) {
        self.stop();
        self.child = Self::spawn(self.port, &[]);
    }
}

/// See [`Server::monitor`].
pub(super) struct Monitor<'a> {
    server: &'a Server,
    connection: TcpStream,
}

impl Monitor<'_> {
    /// All commands up to one that has this word.
    pub(super) fn until(mut self, word: &str) -> String {
        self.server.ask(&format!("ECHO {word}"));
        let (mut log, mut bytes) = (String::new(), [0; 4096]);
        while !log.contains(word) {
            let count = self.connection.read(&mut bytes).expect("the server goes on");
            log.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) fn until<T>(mut refresh: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = refresh() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it did not happen in time");
        // The nodes have threads of their own.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}
