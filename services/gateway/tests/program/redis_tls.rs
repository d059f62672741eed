//! TLS to Redis whose certificate is signed by an authority of its own (`--redis-ca`): one server, Sentinel, a Redis Cluster.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::harness::certificates::Files;
use crate::harness::{DEADLINE, Server, http::get, until};

/// A `redis-server` that speaks TLS and nothing else.
struct Redis {
    child: Child,
    port: u16,
    authority: String,
}

impl Redis {
    fn start(files: &Files, configuration: Option<&Path>, flags: &[&str]) -> Self {
        let port = signalbox_test_support::free_port();
        let [authority, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| files.path(name));
        let number = port.to_string();
        let mut command = Command::new("redis-server");
        command.args(configuration).args(["--port", "0", "--tls-port", &number, "--bind", "127.0.0.1"]);
        command.args(["--tls-ca-cert-file", &authority, "--tls-cert-file", &certificate]);
        command.args(["--tls-key-file", &key, "--tls-auth-clients", "no", "--tls-replication", "yes"]);
        command.args(flags).current_dir(&files.directory).stdout(Stdio::null());
        let child = command.spawn().expect("redis-server is there (cargo xtask prepare)");
        let redis = Self { child, port, authority };
        until(DEADLINE, || (redis.ask(&["PING"]).trim() == "PONG").then_some(())).expect("it answers");
        redis
    }

    fn ask(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-h", "localhost", "-p", &port, "--tls", "--cacert", &self.authority]).args(words);
        let output = command.stderr(Stdio::null()).output().expect("redis-cli is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn joins(url: &str, flags: &[&str]) -> Server {
    let mut server = Server::bare(&[&["--redis-url", url], flags].concat());
    let is_ready = || (get(server.management(), "/readyz").status == 200).then_some(());
    if until(DEADLINE, is_ready).is_none() {
        panic!("{url}: {:#?}", server.log());
    }
    server
}

#[test]
fn redis_is_reached_with_an_authority_of_its_own() {
    let files = Files::make("redis-tls");
    let authority = ["--redis-ca", &files.path("ca.pem")];
    let redis = Redis::start(&files, None, &["--save", "", "--appendonly", "no"]);
    let url = format!("rediss://localhost:{}", redis.port);
    let _node = joins(&url, &authority);

    // Sentinel, whose own certificate is of that authority too.
    let configuration = files.directory.join("sentinel.conf");
    let monitor = format!(
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel monitor main localhost {} 1\n",
        redis.port
    );
    std::fs::write(&configuration, monitor).expect("written");
    let sentinel = Redis::start(&files, Some(&configuration), &["--sentinel"]);
    let _node = joins(&format!("rediss+sentinel://localhost:{}/main", sentinel.port), &authority);

    let names = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
    let cluster = ["--save", "", "--cluster-enabled", "yes", "--tls-cluster", "yes"];
    let cluster = Redis::start(&files, None, &[&cluster[..], &names].concat());
    cluster.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let _node = joins(&format!("rediss+cluster://localhost:{}", cluster.port), &authority);

    // Browsers do not trust it, so without the setting nobody does.
    let stranger = Server::bare(&["--redis-url", &url]);
    let is_ready = || (get(stranger.management(), "/readyz").status == 200).then_some(());
    assert_eq!(until(Duration::from_secs(2), is_ready), None);
}

#[test]
fn an_authority_that_is_none_keeps_it_from_starting() {
    let files = Files::make("redis-ca");
    let refusal = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox-gateway"));
        command.args(["--redis-url", "rediss://localhost:1", "--port", "0", "--admin-port", "0"]);
        let output = command.args(["--redis-ca", file]).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, error) = refusal(&files.path("key.pem"));
    assert_eq!((code, error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.contains("--redis-ca") && error.contains("there is no certificate"), "{error}");
    let (code, error) = refusal(&files.path("missing.pem"));
    assert_eq!((code, error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.contains("--redis-ca"), "{error}");
}
