//! Credentials at a real TURN server: those that are issued relay, and no others do.

mod harness;

use signalbox_turn::{Secret, SubjectKey, sign};

use harness::{SECRET, Service, coturn::Coturn};

fn now() -> u64 {
    signalbox_auth::Now::read().unix
}

#[test]
fn an_issued_credential_relays_over_udp_and_tcp() {
    let coturn = Coturn::start(&[]);
    let service =
        Service::start(&["--secret", SECRET, "--uri", &coturn.uri("udp"), "--uri", &coturn.uri("tcp")]);
    let (username, password) = service.credential("alice");
    assert!(coturn.relays((&username, &password), &[]), "UDP");
    assert!(coturn.relays((&username, &password), &["-t"]), "TCP");
}

#[test]
fn an_expired_a_forged_and_a_foreign_credential_do_not() {
    let coturn = Coturn::start(&[]);
    let service = Service::start(&["--secret", SECRET, "--uri", &coturn.uri("udp")]);
    let user = SubjectKey::new(b"any").user_part(None, "mallory");
    let ours = Secret::new(SECRET).unwrap();

    let good = sign(&ours, &user, now() + 60);
    let expired = sign(&ours, &user, now() - 1);
    let rotated_out = sign(&Secret::new("a-secret-of-last-year").unwrap(), &user, now() + 60);
    let (username, foreign) = service.credential("alice");
    for (why, username, password) in [
        ("expired", &expired.username, &expired.password),
        ("rotated out", &rotated_out.username, &rotated_out.password),
        ("forged: it would end later", &format!("{}:{user}", now() + 600), &good.password),
        ("foreign", &good.username, &foreign),
        ("foreign, the other way round", &username, &good.password),
    ] {
        assert!(!coturn.relays((username, password), &["-t"]), "{why}");
    }
    assert!(coturn.relays((&good.username, &good.password), &["-t"]), "the server itself works");
}
