//! What `explain` says is what the server does, and both are what a plain reading of the grants says.

mod common;

use common::{authenticator, now, settings, token_with};
use proptest::prelude::*;
use serde_json::{Value, json};
use signalbox_auth::{
    Action, Explanation, GrantsSpec, HmacSecret, Identity, Mint, Mode, Revocations, Settings,
    grants::{Grant, Limit},
};

#[test]
fn it_says_which_grant_pattern_or_limit_decides() {
    let authenticator = authenticator(settings());
    let token = token_with(json!({"signalbox": {
        "namespaces": ["/chat"],
        "rooms": {"join": ["lobby", "team-*", "of-{sub}"]},
        "peer": {"generated": true},
        "admin": ["read"],
        "limits": {"rooms": 2},
    }}));
    let explain = |action: Action<'_>| {
        let explanation = authenticator.explain(Some(&token), &action, &Revocations::default(), now());
        assert_eq!(explanation.subject.as_deref(), Some("alice"));
        assert_eq!(explanation.allowed, explanation.code.is_none());
        format!("{explanation} [{}]", explanation.code.unwrap_or_default())
    };
    let claim = |is_generated| Action::Claim { id: "x", is_generated };
    let amount = |limit, amount, default| Action::Amount { limit, amount, default };
    for (action, expected) in [
        (
            Action::Join { room: "team-1" },
            r#"allowed: rooms.join has the pattern "team-*", which matches []"#,
        ),
        (
            Action::Join { room: "of-alice" },
            r#"allowed: rooms.join has the pattern "of-{sub}", which matches []"#,
        ),
        (
            Action::Join { room: "of-bob" },
            "refused: none of the 3 patterns of rooms.join matches [join-forbidden]",
        ),
        (Action::Send { room: "lobby" }, "refused: rooms.send is not granted [send-forbidden]"),
        (
            Action::Connect { namespace: "/" },
            "refused: none of the 1 patterns of namespaces matches [namespace-forbidden]",
        ),
        (claim(true), "allowed: peer.generated is granted []"),
        (claim(false), "refused: peer.ids is not granted [id-forbidden]"),
        (Action::Discover, "refused: peer.discover is not granted [discover-forbidden]"),
        (Action::ListUsers, "refused: users is not granted [users-forbidden]"),
        (Action::Turn, "refused: turn is not granted [turn-forbidden]"),
        (Action::Admin { scope: "read" }, "allowed: admin is granted []"),
        (Action::Admin { scope: "emit" }, "refused: admin is not granted [admin-forbidden]"),
        (amount(Limit::Rooms, 2, Some(1)), "allowed: the grants limit rooms to 2 []"),
        (amount(Limit::Rooms, 3, Some(9)), "refused: the grants limit rooms to 2 [limit-exceeded]"),
        (amount(Limit::Namespaces, 9, Some(8)), "refused: the server limit namespaces to 8 [limit-exceeded]"),
        (amount(Limit::Namespaces, 9, None), "allowed: nothing limits namespaces []"),
    ] {
        assert_eq!(explain(action), expected);
    }
    let expired = token_with(json!({"exp": 1}));
    let action = Action::Join { room: "team-1" };
    let explanation = authenticator.explain(Some(&expired), &action, &Revocations::default(), now());
    assert_eq!(explanation.to_string(), "refused: the token has expired");
    assert_eq!((explanation.code, explanation.subject), (Some("token-expired"), None));
}

#[test]
fn everything_is_everything_but_the_admin_api() {
    let authenticator = authenticator(Settings { mode: Mode::Off, ..settings() });
    let allowed =
        |action: Action<'_>| authenticator.explain(None, &action, &Revocations::default(), now()).allowed;
    for action in [
        Action::Connect { namespace: "/any" },
        Action::Join { room: "any" },
        Action::Send { room: "any" },
        Action::Claim { id: "any", is_generated: false },
        Action::Discover,
        Action::ListUsers,
        Action::Turn,
    ] {
        assert!(allowed(action), "{action:?}");
    }
    assert!(!allowed(Action::Admin { scope: "read" }));
}

#[test]
fn what_is_minted_is_accepted_and_allows_what_it_says() {
    let secret = HmacSecret::new([7; 32]).unwrap();
    let mut mint = Mint::new("alice");
    mint.session = Some("tab".to_owned());
    mint.grants = Some(GrantsSpec::from_setting(r#"{"rooms":{"join":["team-*"]}}"#).unwrap());
    let keys = vec![signalbox_auth::Key::hmac(&secret).unwrap()];
    let mut settings = common::settings_with(keys, signalbox_auth::KeySet::None);
    settings.issuers[0].name = Some("https://id".to_owned());
    settings.audiences = vec!["chat".to_owned()];
    let authenticator = authenticator(settings);
    let explain = |mint: &Mint, room| {
        let token = mint.sign(&secret, common::NOW).unwrap();
        authenticator.explain(Some(&token), &Action::Join { room }, &Revocations::default(), now())
    };
    assert_eq!(explain(&mint, "team-1").code, Some("issuer-missing"));
    mint.issuer = Some("https://id".to_owned());
    mint.audience = Some("chat".to_owned());
    assert!(explain(&mint, "team-1").allowed);
    assert!(!explain(&mint, "lobby").allowed);
    let ids = [(); 2].map(|()| mint.sign(&secret, common::NOW).unwrap());
    assert_ne!(ids[0], ids[1], "each has an id of its own");
    let error = |mint: &Mint| mint.sign(&secret, common::NOW).unwrap_err().to_string();
    assert_eq!(error(&Mint::new("")), "a token needs a subject (--sub)");
    mint.lifetime = 0;
    assert_eq!(error(&mint), "a token needs a lifetime of a second or more (--ttl)");
}

/// A plain reading of the JSON, written without a look at the code.
mod model {
    use super::*;

    fn glob(pattern: &[char], name: &[char]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some('*'), _) => glob(&pattern[1..], name) || (!name.is_empty() && glob(pattern, &name[1..])),
            (Some(one), Some(other)) => one == other && glob(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    fn any(list: &Value, name: &str) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        list.as_array()
            .into_iter()
            .flatten()
            .any(|pattern| glob(&chars(&pattern.as_str().unwrap().replace("{sub}", "alice")), &chars(name)))
    }

    pub(super) fn allows(grants: &Value, action: &Action<'_>) -> bool {
        match *action {
            Action::Connect { namespace } => match grants.get("namespaces") {
                None => namespace == "/",
                Some(list) => any(list, namespace),
            },
            Action::Join { room } => any(&grants["rooms"]["join"], room),
            Action::Send { room } => any(&grants["rooms"]["send"], room),
            Action::Claim { id, is_generated } => {
                any(&grants["peer"]["ids"], id) || is_generated && grants["peer"]["generated"] == true
            }
            Action::Discover => grants["peer"]["discover"] == true,
            Action::ListUsers => grants["users"] == true,
            Action::Turn => grants["turn"] == true,
            Action::Admin { scope } => {
                grants["admin"].as_array().into_iter().flatten().any(|held| held == scope)
            }
            Action::Amount { limit, amount, default } => {
                let most = grants["limits"][limit.name()].as_u64().or(default);
                most.is_none_or(|most| amount <= most)
            }
        }
    }
}

fn patterns() -> impl Strategy<Value = Value> {
    let part =
        prop_oneof!["[ab]{1,2}", Just("*".to_owned()), Just("{sub}".to_owned()), Just("alice".to_owned())];
    let pattern = proptest::collection::vec(part, 1..4).prop_map(|parts| parts.concat());
    proptest::collection::vec(pattern, 0..3).prop_map(|list| json!(list))
}

fn grants() -> impl Strategy<Value = Value> {
    let namespaces = proptest::option::of(patterns().prop_map(|list| {
        json!(
            list.as_array()
                .unwrap()
                .iter()
                .map(|text| format!("/{}", text.as_str().unwrap()))
                .collect::<Vec<_>>()
        )
    }));
    let flags = any::<[bool; 4]>();
    let limit = proptest::option::of(1_u64..5);
    (namespaces, patterns(), patterns(), patterns(), flags, limit).prop_map(
        |(namespaces, join, send, ids, [generated, discover, users, turn], limit)| {
            let mut grants = json!({
                "rooms": {"join": join, "send": send},
                "peer": {"ids": ids, "generated": generated, "discover": discover},
                "users": users, "turn": turn, "admin": ["read"],
            });
            if let Some(namespaces) = namespaces {
                grants["namespaces"] = namespaces;
            }
            if let Some(limit) = limit {
                grants["limits"] = json!({"rooms": limit});
            }
            grants
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn it_says_what_the_server_does_and_what_the_grants_say(
        grants in grants(),
        name in "[ab*]{0,3}(alice)?[ab]{0,2}",
        kind in 0_usize..9,
        is_generated: bool,
        amount in 0_u64..6,
        is_good in prop::bool::weighted(0.9),
    ) {
        let namespace = format!("/{name}");
        let action = [
            Action::Connect { namespace: &namespace },
            Action::Join { room: &name },
            Action::Send { room: &name },
            Action::Claim { id: &name, is_generated },
            Action::Discover,
            Action::ListUsers,
            Action::Turn,
            Action::Admin { scope: if is_generated { "read" } else { "emit" } },
            Action::Amount { limit: Limit::Rooms, amount, default: Some(3) },
        ][kind];
        let expires = if is_good { common::NOW + 60 } else { common::NOW - 60 };
        let token = token_with(json!({"signalbox": grants, "exp": expires}));
        let authenticator = authenticator(settings());
        let revocations = Revocations::default();

        let explained = authenticator.explain(Some(&token), &action, &revocations, now());
        let verdict = authenticator
            .authenticate(Some(&token), &revocations, now())
            .now()
            .is_ok_and(|identity| identity.grants().allows(&action));
        prop_assert_eq!(explained.allowed, verdict);
        prop_assert_eq!(verdict, is_good && model::allows(&grants, &action), "{:?}", explained);
        prop_assert_eq!(explained.code.is_none(), verdict);
    }
}

#[test]
fn an_answer_borrows_what_it_names() {
    fn is_copied<T: Copy>(_: &T) {}
    let everything = signalbox_auth::Grants::new(std::sync::Arc::new(GrantsSpec::everything()), "");
    let decision = everything.decide(&Action::Join { room: "any" });
    // What is copied owns nothing on the heap: no question on the hot path allocates.
    is_copied(&decision);
    assert_eq!(Grant::RoomsJoin.name(), "rooms.join");
    let identity = Identity::Anonymous(std::sync::Arc::new(everything));
    assert!(Explanation::of(&identity, &Action::Turn).allowed);
}
