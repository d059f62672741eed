//! `deploy/coturn/turnserver.conf` as it is shipped: the relay reaches nobody inside the network that it stands in.

mod harness;

use harness::{SECRET, Service, coturn::Coturn, free_port};

#[test]
fn private_peers_are_refused_and_others_are_not() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/coturn/turnserver.conf");
    let secret = format!("--static-auth-secret={SECRET}");
    let coturn = Coturn::start_at(free_port(), &["-c", file, &secret, "--relay-ip", "::1"]);
    let service = Service::start(&["--secret", SECRET, "--uri", &coturn.uri("udp"), "--probe", "off"]);
    let (username, password) = service.credential("alice");
    let tried = |peer: &str| {
        let output = coturn.relay((&username, &password), &["-t", "-e", peer]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    for peer in
        ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1"]
    {
        let (has_succeeded, text) = tried(peer);
        assert!(!has_succeeded && text.contains("403"), "{peer}: {text}");
    }
    // The same in IPv6, IPv4 in disguise among it: a relay that has an IPv6 address must not be the way round.
    for peer in [
        "::1",
        "::ffff:10.1.2.3",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a01:203",
        "2002:a01:203::1",
        "fd00::1",
        "fe80::1",
    ] {
        let output = coturn.relay((&username, &password), &["-t", "-x", "-e", peer]);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && text.contains("403"), "{peer}: {text}");
    }
    // The relay stands on the loopback here, so that nothing gets to this address; but it would be let through.
    let (_, text) = tried("1.1.1.1");
    assert!(!text.contains("403"), "{text}");
    assert!(
        !coturn.relays((&username, &password), &["-t"]),
        "nor is the other end of the test, on the loopback"
    );
}
