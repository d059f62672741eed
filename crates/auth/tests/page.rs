//! `docs/auth.md` says what the code does: each refusal, each grant, each limit, and its examples.

mod common;

use std::collections::BTreeMap;

use common::{authenticator, now, settings, token_with};
use serde_json::{Value, json};
use signalbox_auth::{
    Action, GrantsSpec, Refusal, Revocations,
    grants::{Grant, GrantsError, GrantsProblem, Limit},
    jwks::JwksUrl,
};

const PAGE: &str = include_str!("../../../docs/auth.md");

/// The rows under a heading of which the first cell is code: that, and the other cells.
fn rows(heading: &str) -> BTreeMap<&'static str, Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let cells = |line: &'static str| -> Vec<_> { line.trim_matches('|').split('|').map(str::trim).collect() };
    let is_row = |line: &&str| line.starts_with("| `");
    let row = |cells: Vec<&'static str>| (cells[0].trim_matches('`'), cells[1..].to_vec());
    section.lines().filter(is_row).map(|line| row(cells(line))).collect()
}

fn every_refusal() -> Vec<Refusal> {
    use Refusal::*;
    let grants =
        GrantsError { at: "rooms.join[0]".to_owned(), problem: GrantsProblem::WrongType("a list of texts") };
    let all = vec![
        TokenMissing,
        TokenTooLarge,
        TokenMalformed,
        AlgorithmNone,
        AlgorithmUnsupported,
        AlgorithmMismatch,
        CriticalHeader,
        KeyUnknown,
        KeysUnavailable,
        SignatureInvalid,
        ClaimMalformed("exp"),
        ExpiryMissing,
        Expired,
        NotYetValid,
        LifetimeTooLong,
        IssuerMissing,
        IssuerMismatch,
        AudienceMismatch,
        SubjectMissing,
        GrantsMalformed(grants),
        Revoked,
        RevocationsUnknown,
        SubjectChanged,
    ];
    // Whoever adds one is led here by the compiler.
    for refusal in &all {
        match refusal {
            TokenMissing | TokenTooLarge | TokenMalformed | AlgorithmNone | AlgorithmUnsupported => {}
            AlgorithmMismatch | CriticalHeader | KeyUnknown | KeysUnavailable | SignatureInvalid => {}
            ClaimMalformed(_) | ExpiryMissing | Expired | NotYetValid | LifetimeTooLong => {}
            IssuerMissing | IssuerMismatch | AudienceMismatch | SubjectMissing => {}
            GrantsMalformed(_) | Revoked | RevocationsUnknown | SubjectChanged => {}
        }
    }
    all
}

#[test]
fn the_page_has_each_refusal_with_its_message() {
    let rows = rows("Refusals");
    let refusals = every_refusal();
    assert_eq!(rows.len(), refusals.len());
    for refusal in refusals {
        assert_eq!(rows[refusal.code()][0], refusal.to_string(), "{}", refusal.code());
    }
    let transient: Vec<_> = every_refusal().into_iter().filter(Refusal::is_transient).collect();
    let named: Vec<_> = transient.iter().map(|refusal| format!("`{}`", refusal.code())).collect();
    assert!(PAGE.contains(&format!("{}, {}, {} and {} pass", named[0], named[1], named[2], named[3])));
    assert_eq!(named.len(), 4);
}

#[test]
fn the_page_has_each_grant_with_its_code_and_each_limit() {
    // Two of them have the names of limits, which have a table of their own behind this one.
    let (grants, limits) = PAGE.split_once("\n`limits` take the place").unwrap();
    for grant in [
        Grant::Namespaces,
        Grant::RoomsJoin,
        Grant::RoomsSend,
        Grant::PeerIds,
        Grant::PeerGenerated,
        Grant::PeerDiscover,
        Grant::Users,
        Grant::Turn,
        Grant::Admin,
    ] {
        let line = |line: &&str| line.starts_with(&format!("| `{}` |", grant.name()));
        let row = grants.lines().find(line).unwrap();
        assert!(row.ends_with(&format!("| `{}` |", grant.code())), "{row}");
    }
    for limit in Limit::ALL {
        assert!(limits.contains(&format!("\n| `{}` |", limit.name())), "{}", limit.name());
    }
}

#[test]
fn the_example_of_the_page_is_good() {
    let json = PAGE.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let claims: Value = serde_json::from_str(json).unwrap();
    let spec = GrantsSpec::from_setting(&claims["signalbox"].to_string()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&spec.to_json()).unwrap(), claims["signalbox"]);
}

#[test]
fn the_patterns_of_the_page_match_what_it_says() {
    let section = PAGE.split("\n### ").find(|section| section.starts_with("Patterns")).unwrap();
    let mut count = 0;
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        let names =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let pattern = &names(cells[0])[0];
        let token = token_with(json!({"signalbox": {"rooms": {"join": [pattern]}}}));
        let authenticator = authenticator(settings());
        for (cell, expected) in [(cells[1], true), (cells[2], false)] {
            for room in names(cell) {
                let action = Action::Join { room: &room };
                let explanation =
                    authenticator.explain(Some(&token), &action, &Revocations::default(), now());
                assert_eq!(explanation.allowed, expected, "{pattern} {room}: {explanation}");
                count += 1;
            }
        }
    }
    assert_eq!(count, 9);
}

#[test]
fn the_urls_of_the_page_are_accepted() {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("Identity providers")).unwrap();
    let urls: Vec<_> =
        section.lines().filter(|line| line.starts_with("| ") && line.contains("https://")).collect();
    assert_eq!(urls.len(), 4);
    for line in urls {
        let url = line.split('`').nth(1).unwrap();
        assert!(JwksUrl::new(url).is_ok(), "{url}");
    }
}
