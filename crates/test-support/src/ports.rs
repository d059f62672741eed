//! Ports for servers that tests start.
//!
//! Port 0 will not do for a program that is told its port before it listens: until then, the kernel may give that port to any connection
//! of any other test. So these lie below what the kernel gives away, and below what the load generator connects from (20,000 and more).
//! Each of the tests that run at once has a range of its own, by the slot that nextest gives it; in it, tests in JavaScript
//! (`services/gateway/tests/js/cluster/setup.mjs`) have the upper half.

use std::{
    net::{TcpListener, UdpSocket},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

const FIRST: u16 = 10_000;
/// Ports of a test.
const EACH: u16 = 250;
/// Tests that run at once, at most.
const SLOTS: u16 = 40;
/// Those of a test that this gives away.
const OWN: u16 = EACH / 2;

/// A port of 127.0.0.1 that nobody listens on, with TCP or UDP. No other test is given it meanwhile, and this one not again soon.
///
/// # Panics
/// All ports of the test are in use.
pub fn free_port() -> u16 {
    static TAKEN: OnceLock<AtomicU16> = OnceLock::new();
    // One that ended a moment ago may have left something behind.
    let taken = TAKEN.get_or_init(|| AtomicU16::new(std::process::id() as u16 % OWN));
    let first = FIRST + slot() % SLOTS * EACH;
    let ports = (0..OWN).map(|_| first + taken.fetch_add(1, Ordering::Relaxed) % OWN);
    ports.into_iter().find(is_free).expect("a test has 125 ports")
}

fn slot() -> u16 {
    let given = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|slot| slot.parse::<u64>().ok());
    // Without nextest, the tests of a program share its ports, and programs run one after the other.
    (given.unwrap_or_else(|| u64::from(std::process::id())) % u64::from(SLOTS)) as u16
}

fn is_free(port: &u16) -> bool {
    TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_another_each_time() {
        let ports: Vec<u16> = (0..20).map(|_| free_port()).collect();
        for (index, port) in ports.iter().enumerate() {
            assert!(is_free(port) && !ports[..index].contains(port), "{ports:?}");
        }
        let listener = TcpListener::bind(("127.0.0.1", ports[0])).unwrap();
        assert!((0..OWN).all(|_| free_port() != ports[0]));
        drop(listener);
    }
}
