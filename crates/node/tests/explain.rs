//! What `explain` says is what the policy does, for any grants and anything that is asked.

use std::sync::Arc;

use proptest::prelude::*;
use signalbox_auth::{
    Action, Authenticator, GrantsSpec, HmacSecret, Issuer, Key, Mint, Mode, Now, Revocations, Settings,
};
use signalbox_node::policy::{AccessRequest, Handshake, Policy as _, TokenPolicy, Verdict, WithoutRedis};

const SECRET: &str = "a secret of the tests, of more than 32 bytes";

fn authenticator() -> Authenticator {
    let key = Key::hmac(&HmacSecret::new(SECRET).unwrap()).unwrap();
    let issuer = Issuer { keys: vec![key], ..Issuer::default() };
    Authenticator::new(Settings { mode: Mode::Required, issuers: vec![issuer], ..Settings::default() })
        .unwrap()
}

/// Names, and patterns that match some of them.
fn name() -> impl Strategy<Value = String> {
    "[ab]{1,3}"
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab*]{1,3}|\\{sub\\}", 0..3)
}

prop_compose! {
    fn grants()(namespaces in patterns(), join in patterns(), send in patterns(), ids in patterns(), discover: bool, users: bool)
        -> GrantsSpec {
        let namespaces = namespaces.iter().map(|pattern| format!("/{pattern}")).collect();
        let mut spec = GrantsSpec { namespaces, ..GrantsSpec::default() };
        spec.rooms.join = join;
        spec.rooms.send = send;
        spec.peer.ids = ids;
        spec.peer.discover = discover;
        spec.users = users;
        spec
    }
}

/// Whether a verdict allows, and the code where it does not.
fn outcome(verdict: Verdict) -> (bool, Option<&'static str>) {
    match verdict {
        Verdict::Allow | Verdict::AllowAs(_) => (true, None),
        Verdict::Deny(denial) => (false, Some(denial.code)),
        Verdict::Later(_) => panic!("no keys are fetched"),
    }
}

proptest! {
    #[test]
    fn what_is_explained_is_what_is_done(
        spec in grants(), subject in name(), room in name(), id in name(), is_expired in proptest::bool::weighted(0.1),
    ) {
        let now = Now::read();
        let mut mint = Mint::new(subject);
        mint.grants = Some(spec);
        let issued = if is_expired { now.unix - 7200 } else { now.unix };
        let token = mint.sign(&HmacSecret::new(SECRET).unwrap(), issued).unwrap();
        let judge = authenticator();
        let explained = |action: &Action<'_>| {
            let explanation = judge.explain(Some(&token), action, &Revocations::default(), now);
            (explanation.allowed, explanation.code)
        };
        let policy = TokenPolicy::new(authenticator(), None, WithoutRedis::Allow);
        let handshake = Handshake::default();
        let namespace = format!("/{room}");
        let auth = format!("{{\"token\":\"{token}\"}}");

        let connect = AccessRequest::Namespace { handshake: Some(&handshake), namespace: &namespace, auth: Some(&auth) };
        prop_assert_eq!(outcome(policy.decide(None, connect)), explained(&Action::Connect { namespace: &namespace }));
        let claim = AccessRequest::Claim { handshake: &handshake, key: "peerjs", id: &id, token: &token };
        prop_assert_eq!(outcome(policy.decide(None, claim)), explained(&Action::Claim { id: &id, is_generated: false }));
        let bearer = Handshake { headers: vec![("authorization".to_owned(), format!("Bearer {token}"))], ..Handshake::default() };
        let discover = AccessRequest::Discover { handshake: &bearer, key: "peerjs" };
        prop_assert_eq!(outcome(policy.decide(None, discover)), explained(&Action::Discover));

        // What is asked of a principal, once it is known.
        let Verdict::AllowAs(principal) = policy.decide(None, AccessRequest::Handshake(&bearer)) else {
            prop_assert!(is_expired);
            return Ok(());
        };
        let known = Some(&Arc::clone(&principal));
        let (room, namespace) = (room.as_str(), "/");
        prop_assert_eq!(
            outcome(policy.decide(known, AccessRequest::Join { namespace, room })),
            explained(&Action::Join { room })
        );
        prop_assert_eq!(
            outcome(policy.decide(known, AccessRequest::Send { namespace, room })),
            explained(&Action::Send { room })
        );
        prop_assert_eq!(outcome(policy.decide(known, AccessRequest::Users { namespace })), explained(&Action::ListUsers));
    }
}
