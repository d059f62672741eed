//! The TURN credentials service beside the nodes, and a coturn whose statistics it reads.
#![allow(dead_code, reason = "the harness of the service's own tests has more than is used here")]

#[path = "../../../turn-credentials/tests/harness/coturn.rs"]
mod coturn;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use signalbox_test_support::free_port;

use super::harness::{
    self,
    http::{self, Response, request},
    redis::Redis,
};
use coturn::Coturn;

/// What the service and coturn share.
const SECRET: &str = "a-secret-of-the-tests";
/// An API key.
pub(crate) const KEY: &str = "sbt_test";

fn until<T>(ask: impl FnMut() -> Option<T>) -> Option<T> {
    harness::until(harness::DEADLINE, ask)
}

/// The service; ended with the test, as are coturn and the Redis in which coturn tells of allocations.
pub(crate) struct Turn {
    child: Child,
    pub(crate) public: String,
    pub(crate) management: String,
    coturn: Coturn,
    _redis: Redis,
}

impl Turn {
    pub(crate) fn start() -> Self {
        let redis = Redis::start();
        let stats = format!("--redis-statsdb=ip=127.0.0.1 port={} dbname=0 connect_timeout=5", redis.port());
        let coturn = Coturn::start_with_secret_at(free_port(), &[&stats]);
        let hash: String = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
        let (key, udp, tcp, url) =
            (format!("app:issue:{hash}"), coturn.uri("udp"), coturn.uri("tcp"), redis.url());
        let flags = [
            ["--host", "127.0.0.1"],
            ["--port", "0"],
            ["--admin-port", "0"],
            ["--workers", "1"],
            ["--api-key", &key],
            ["--secret", SECRET],
            ["--uri", &udp],
            ["--uri", &tcp],
            ["--redis-url", &url],
            ["--coturn-stats-url", &url],
            ["--subject-limit", "0"],
            ["--address-limit", "0"],
        ];
        let mut command = Command::new(harness::turn_program());
        command.args(flags.as_flattened()).env_clear().stdout(Stdio::piped());
        let mut child = command.spawn().expect("the service starts");
        let mut lines =
            BufReader::new(child.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains(" listening public=")).expect("it says where it listens");
        // Somebody has to read on, or the service would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| {
            line.split(' ').find_map(|word| word.strip_prefix(name)).expect("an address").to_owned()
        };
        let (public, management) = (address("public="), address("management="));
        Self { child, public, management, coturn, _redis: redis }
    }

    /// Asks for Alice's credential, with this key.
    pub(crate) fn ask(&self, key: &str) -> Response {
        let header = format!("Bearer {key}");
        request(&self.public, "GET", "/v1/ice-servers?subject=alice", &[("Authorization", &header)], "")
    }

    /// Alice relays a little.
    pub(crate) fn relay(&self) {
        let answer: Value = serde_json::from_str(&self.ask(KEY).body).expect("JSON");
        let servers = answer["iceServers"].as_array().expect("a list");
        let server = servers.iter().find(|server| server["username"].is_string()).expect("a TURN server");
        let text = |name: &str| server[name].as_str().expect("a text").to_owned();
        assert!(self.coturn.relays((&text("username"), &text("credential")), &["-t"]));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
