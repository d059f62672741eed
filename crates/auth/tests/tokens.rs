//! Each token has exactly one outcome, with a code and a sentence of its own, and no sentence repeats anything of a token.

mod common;

use common::{
    NOW, Pair, SECRET, authenticator, good_claims, hmac_key, now, secret, settings, settings_with, sign,
    sign_texts, token_with,
};
use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use serde_json::{Value, json};
use signalbox_auth::{
    Action, Authenticator, GrantsSpec, Identity, Issuer, Key, KeySet, Mode, Outcome, Principal, Refusal,
    Revocation, Revocations, Settings, SetupError,
};

fn judge(authenticator: &Authenticator, token: &str) -> Result<Identity, Refusal> {
    authenticator.authenticate(Some(token), &Revocations::default(), now()).now()
}

fn principal(authenticator: &Authenticator, token: &str) -> Principal {
    let identity = judge(authenticator, token).unwrap();
    Principal::clone(identity.principal().unwrap())
}

/// What is said about a refused token: never anything of it.
#[track_caller]
fn assert_refused(authenticator: &Authenticator, token: &str, code: &str, message: &str) {
    let refusal = judge(authenticator, token).unwrap_err();
    assert_eq!((refusal.code(), refusal.to_string().as_str()), (code, message), "{token}");
    let said = format!("{refusal} {refusal:?}");
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!said.contains(part), "{said}");
    }
    assert!(!said.contains("CANARY"), "{said}");
}

#[test]
fn every_algorithm_is_accepted_from_a_key_of_its_kind() {
    use Algorithm::*;
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA] {
        let pair = Pair::new(algorithm);
        let keys = Key::from_pem(&pair.public_pem()).unwrap();
        let authenticator = authenticator(settings_with(keys, KeySet::None));
        assert_eq!(&*principal(&authenticator, &pair.token("any")).subject, "alice", "{algorithm:?}");
        let mut token = pair.token("any");
        token.replace_range(token.len() - 6..token.len() - 4, "AA");
        assert_eq!(judge(&authenticator, &token), Err(Refusal::SignatureInvalid), "{algorithm:?}");
    }
    for algorithm in [HS256, HS384, HS512] {
        let token = sign(&json!({"alg": algorithm}), &good_claims(), algorithm, &hmac_key(SECRET));
        assert_eq!(&*principal(&authenticator(settings()), &token).subject, "alice", "{algorithm:?}");
    }
}

#[test]
fn the_key_says_which_algorithm_it_is_for_and_never_the_token() {
    let message = "the token's alg does not fit the keys that are configured";
    let pairs = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA].map(Pair::new);
    for of_key in &pairs {
        let pem = of_key.public_pem();
        let keys = Key::from_pem(&pem).unwrap();
        let authenticator = authenticator(settings_with(keys, KeySet::None));
        // The classic: the public key, which everybody has, as an HMAC secret, in each form it could be taken in.
        let der = pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        for bytes in [pem.as_bytes(), pem.trim_end().as_bytes(), der.as_bytes()] {
            let token = sign(&json!({"alg": "HS256"}), &good_claims(), Algorithm::HS256, &hmac_key(bytes));
            assert_refused(&authenticator, &token, "algorithm-mismatch", message);
        }
        for of_token in &pairs {
            if of_token.algorithm != of_key.algorithm {
                assert_refused(&authenticator, &of_token.token("1"), "algorithm-mismatch", message);
            }
        }
    }
    // A key of a set is for the one algorithm that the set names.
    let pair = Pair::new(Algorithm::ES256);
    let mut jwk = pair.jwk("1");
    jwk["alg"] = json!("ES256");
    let set = KeySet::from_file_content(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    let with_set = authenticator(settings_with(Vec::new(), set));
    assert!(judge(&with_set, &pair.token("1")).is_ok());
    let token =
        sign(&json!({"alg": "HS256", "kid": "1"}), &good_claims(), Algorithm::HS256, &hmac_key(SECRET));
    assert_refused(&with_set, &token, "algorithm-mismatch", message);
}

#[test]
fn a_token_that_is_badly_made_has_a_code_of_its_own() {
    let authenticator = authenticator(settings());
    let key = hmac_key(SECRET);
    let with_header = |header: Value| sign(&header, &good_claims(), Algorithm::HS256, &key);
    let good = token_with(json!({}));
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let payload = good_claims().to_string();

    let malformed = "the token is not a signed JSON Web Token in compact form";
    for token in [
        "CANARY".to_owned(),
        "CANARY.CANARY.CANARY".to_owned(),
        unsigned.to_owned(),
        format!("{good}.{}", encode("fourth")),
        format!("{good}="),
        format!(" {good}"),
        format!("{}.{}.x", encode("[]"), encode(&payload)),
        format!("{}.{}.x", encode(r#"{"typ":"JWT"}"#), encode(&payload)),
        format!("{}.{}.x", encode(r#"{"alg":"HS256","alg":"none"}"#), encode(&payload)),
        sign_texts(r#"{"alg":"HS256"}"#, r#"["CANARY"]"#, Algorithm::HS256, &key),
        sign_texts(r#"{"alg":"HS256"}"#, "CANARY", Algorithm::HS256, &key),
        // Unencoded payloads (RFC 7797), announced without crit.
        with_header(json!({"alg": "HS256", "b64": false})),
    ] {
        assert_refused(&authenticator, &token, "token-malformed", malformed);
    }

    let none = "the token is not signed: its alg is none";
    for alg in ["none", "None", "NONE", "nOnE"] {
        let header = encode(&json!({"alg": alg}).to_string());
        for signature in ["", "CANARYCANARY"] {
            let token = format!("{header}.{}.{signature}", encode(&payload));
            assert_refused(&authenticator, &token, "algorithm-none", none);
        }
    }
    let unsupported = "the token's alg is not supported (use HS, RS, PS, ES256, ES384 or EdDSA)";
    for alg in ["", "hs256", "HS1", "ES512", "ES256K", "CANARY", "dir"] {
        assert_refused(
            &authenticator,
            &with_header(json!({"alg": alg})),
            "algorithm-unsupported",
            unsupported,
        );
    }
    let critical = "the token's header has a crit parameter, and no extension is supported";
    for crit in [json!(["CANARY"]), json!(["b64"]), json!(["exp"]), json!([]), json!("CANARY")] {
        let token = with_header(json!({"alg": "HS256", "crit": crit, "b64": true, "CANARY": 1}));
        assert_refused(&authenticator, &token, "critical-header", critical);
    }
    let wrong = "the token's signature is wrong";
    for token in [
        sign(&json!({"alg": "HS256"}), &good_claims(), Algorithm::HS256, &hmac_key(&[7; 32])),
        sign(&json!({"alg": "HS384"}), &good_claims(), Algorithm::HS256, &key),
        format!("{unsigned}."),
        format!("{unsigned}.AAAA"),
    ] {
        assert_refused(&authenticator, &token, "signature-invalid", wrong);
    }
    let large = "the token is longer than 8192 bytes (put less into it)";
    let fill = |count: usize| token_with(json!({"fill": "x".repeat(count)}));
    assert!(judge(&authenticator, &fill(5900)).is_ok(), "a long one is fine");
    assert_refused(&authenticator, &fill(8192), "token-too-large", large);
    assert_refused(&authenticator, &"CANARY".repeat(2000), "token-too-large", large);
}

#[test]
fn each_claim_that_is_not_right_has_a_code_of_its_own() {
    let mut settings = settings();
    settings.issuers[0].name = Some("https://id".to_owned());
    settings.audiences = vec!["chat".to_owned(), "talk".to_owned()];
    settings.max_lifetime = Some(86_400);
    let authenticator = authenticator(settings);
    let right = |more: Value| {
        let mut claims = json!({"iss": "https://id", "aud": "chat"});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        token_with(claims)
    };
    for fine in [
        json!({}),
        json!({"aud": ["other", "talk"]}),
        json!({"exp": NOW - 9}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"nbf": NOW + 10, "iat": NOW + 10}),
        json!({"iat": null}),
        json!({"exp": NOW + 86_410}),
        json!({"sub": "é".repeat(128)}),
    ] {
        assert!(judge(&authenticator, &right(fine.clone())).is_ok(), "{fine}");
    }

    let wrong_type = |claim: &str| format!("the token's claim {claim} has a wrong type, or is too long");
    let audience = "the token is not for this audience".to_owned();
    let early = "the token is not valid yet".to_owned();
    let issuer = "the token is from an issuer that is not trusted here".to_owned();
    let no_subject = "the token has no sub claim: it does not say whose it is".to_owned();
    for (changes, code, message) in [
        (json!({"iss": null}), "issuer-missing", "the token has no iss claim, and an issuer is required".to_owned()),
        (json!({"iss": "https://CANARY"}), "issuer-mismatch", issuer.clone()),
        (json!({"iss": "https://id/"}), "issuer-mismatch", issuer),
        (json!({"iss": ["https://id"]}), "claim-malformed", wrong_type("iss")),
        (json!({"exp": null}), "expiry-missing", "the token has no exp claim: it would never expire".to_owned()),
        (json!({"exp": "CANARY"}), "claim-malformed", wrong_type("exp")),
        (json!({"exp": NOW - 10}), "token-expired", "the token has expired".to_owned()),
        (json!({"exp": 0}), "token-expired", "the token has expired".to_owned()),
        (json!({"nbf": NOW + 11}), "not-yet-valid", early.clone()),
        (json!({"iat": NOW + 11}), "not-yet-valid", early),
        (json!({"nbf": "soon"}), "claim-malformed", wrong_type("nbf")),
        (json!({"iat": -5}), "claim-malformed", wrong_type("iat")),
        (json!({"exp": NOW + 86_411}), "lifetime-too-long", "the token lives longer than is allowed here".to_owned()),
        (json!({"aud": null}), "audience-mismatch", audience.clone()),
        (json!({"aud": "CANARY"}), "audience-mismatch", audience.clone()),
        (json!({"aud": []}), "audience-mismatch", audience),
        (json!({"aud": ["chat", 1]}), "claim-malformed", wrong_type("aud")),
        (json!({"aud": {"chat": 1}}), "claim-malformed", wrong_type("aud")),
        (json!({"sub": null}), "subject-missing", no_subject.clone()),
        (json!({"sub": ""}), "subject-missing", no_subject),
        (json!({"sub": 7}), "claim-malformed", wrong_type("sub")),
        (json!({"sub": "x".repeat(257)}), "claim-malformed", wrong_type("sub")),
        (json!({"sub": "CANARY\n"}), "claim-malformed", wrong_type("sub")),
        (json!({"session": 1}), "claim-malformed", wrong_type("session")),
        (json!({"jti": 1}), "claim-malformed", wrong_type("jti")),
        (
            json!({"signalbox": {"rooms": {"join": ["ok", "{CANARY}"]}}}),
            "grants-malformed",
            "the token's grants are not readable: rooms.join[1]: the pattern has a brace that is not that of {sub}, the only placeholder".to_owned(),
        ),
        (
            json!({"signalbox": "CANARY"}),
            "grants-malformed",
            "the token's grants are not readable: grants: this is not JSON".to_owned(),
        ),
    ] {
        assert_refused(&authenticator, &right(changes), code, &message);
    }
}

#[test]
fn an_audience_is_for_nobody_else_where_none_is_configured() {
    let authenticator = authenticator(settings());
    assert!(judge(&authenticator, &token_with(json!({}))).is_ok());
    assert_eq!(
        judge(&authenticator, &token_with(json!({"aud": "another service"}))),
        Err(Refusal::AudienceMismatch)
    );
}

#[test]
fn a_kid_names_a_key_of_the_set_and_a_key_of_one_issuer_is_not_one_of_another() {
    let (old, new, other) =
        (Pair::new(Algorithm::ES256), Pair::new(Algorithm::ES256), Pair::new(Algorithm::ES256));
    let set = |pairs: &[(&Pair, &str)]| {
        let keys: Vec<_> = pairs.iter().map(|(pair, kid)| pair.jwk(kid)).collect();
        KeySet::from_file_content(json!({"keys": keys}).to_string().as_bytes()).unwrap()
    };
    let issuer = |name: &str, set| Issuer { name: Some(name.to_owned()), keys: Vec::new(), set };
    let authenticator = authenticator(Settings {
        mode: Mode::Required,
        issuers: vec![
            issuer("https://one", set(&[(&old, "old"), (&new, "new")])),
            // The same kid by chance, or on purpose.
            issuer("https://two", set(&[(&other, "new")])),
        ],
        ..Settings::default()
    });
    let token = |pair: &Pair, kid: Option<&str>, issuer: &str| {
        let mut header = json!({"alg": "ES256"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        let mut claims = good_claims();
        claims["iss"] = json!(issuer);
        sign(&header, &claims, Algorithm::ES256, &pair.signing_key())
    };
    for (pair, kid) in [(&old, Some("old")), (&new, Some("new")), (&new, None)] {
        assert!(judge(&authenticator, &token(pair, kid, "https://one")).is_ok(), "{kid:?}");
    }
    assert!(judge(&authenticator, &token(&other, Some("new"), "https://two")).is_ok());
    let wrong = "the token's signature is wrong";
    assert_refused(&authenticator, &token(&other, Some("new"), "https://one"), "signature-invalid", wrong);
    assert_refused(&authenticator, &token(&new, Some("new"), "https://two"), "signature-invalid", wrong);
    assert_refused(&authenticator, &token(&new, Some("old"), "https://one"), "signature-invalid", wrong);
    let unknown = "the token's kid names a key that is not known";
    assert_refused(&authenticator, &token(&new, Some("CANARY"), "https://one"), "key-unknown", unknown);
    assert_refused(&authenticator, &token(&old, Some("old"), "https://two"), "key-unknown", unknown);
}

#[test]
fn secrets_rotate_and_a_kid_does_not_matter_to_them() {
    let other = signalbox_auth::HmacSecret::new([9; 40]).unwrap();
    let keys = vec![Key::hmac(&other).unwrap(), Key::hmac(&secret()).unwrap()];
    let authenticator = authenticator(settings_with(keys, KeySet::None));
    for bytes in [SECRET, &[9; 40]] {
        let header = json!({"alg": "HS256", "kid": "whatever"});
        let token = sign(&header, &good_claims(), Algorithm::HS256, &hmac_key(bytes));
        assert!(judge(&authenticator, &token).is_ok());
    }
}

#[test]
fn what_becomes_of_a_token_depends_on_the_mode() {
    let good = token_with(json!({}));
    let bad = token_with(json!({"exp": 1}));
    let unsigned = "eyJhbGciOiJub25lIn0.e30.";
    let made_up = "k2j1q9x0z7d";
    let outcome = |mode, token: Option<&str>| {
        let settings = Settings { mode, anonymous_grants: Some(GrantsSpec::default()), ..settings() };
        let authenticator = authenticator(settings);
        match authenticator.authenticate(token, &Revocations::default(), now()) {
            Outcome::Accepted(Identity::Known(principal)) => principal.subject.to_string(),
            Outcome::Accepted(Identity::Anonymous(grants)) => {
                let room = Action::Join { room: "any" };
                if grants.allows(&room) { "anybody".to_owned() } else { "anonymous".to_owned() }
            }
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            Outcome::AwaitKeys(_) => "await".to_owned(),
        }
    };
    let tokens = [None, Some(""), Some(made_up), Some(unsigned), Some(&bad), Some(&good)];
    let outcomes = |mode| tokens.map(|token| outcome(mode, token));
    assert_eq!(outcomes(Mode::Off), ["anybody"; 6]);
    assert_eq!(
        outcomes(Mode::Optional),
        ["anonymous", "anonymous", "anonymous", "algorithm-none", "token-expired", "alice"]
    );
    assert_eq!(
        outcomes(Mode::Required),
        ["token-missing", "token-missing", "token-malformed", "algorithm-none", "token-expired", "alice"]
    );
    let missing = Refusal::TokenMissing.to_string();
    assert_eq!(
        missing,
        "a token is required (send it as auth.token, in an Authorization header, or as the parameter token)"
    );
}

#[test]
fn a_token_says_who_and_what() {
    let token = token_with(json!({
        "sub": "alice", "jti": "1", "session": "tab",
        "https://app.example/signalbox": {"rooms": {"join": ["of-{sub}"]}, "limits": {"rooms": 2}},
        "signalbox": {"users": true},
    }));
    let mut settings = settings();
    settings.grants_claim = "https://app.example/signalbox".to_owned();
    let principal = principal(&authenticator(settings), &token);
    assert_eq!(&*principal.subject, "alice");
    assert_eq!(principal.token_id.as_deref(), Some("1"));
    assert_eq!(principal.session.as_deref(), Some("tab"));
    assert_eq!((principal.issued_at, principal.expires_at), (Some(NOW - 10), NOW + 600));
    assert!(principal.grants.allows(&Action::Join { room: "of-alice" }));
    assert!(!principal.grants.allows(&Action::ListUsers), "that is another claim");
}

#[test]
fn a_token_without_grants_has_the_default_ones() {
    let rooms = |spec: Option<&str>, subject: &str| {
        let mut settings = settings();
        settings.default_grants = spec.map(|json| GrantsSpec::from_setting(json).unwrap());
        let principal = principal(&authenticator(settings), &token_with(json!({"sub": subject})));
        ["of-alice", "of-bob", "any"].map(|room| principal.grants.allows(&Action::Join { room }))
    };
    assert_eq!(rooms(None, "alice"), [true; 3]);
    assert_eq!(rooms(Some("{}"), "alice"), [false; 3]);
    assert_eq!(rooms(Some(r#"{"rooms":{"join":["any"]}}"#), "alice"), [false, false, true]);
    assert_eq!(rooms(Some(r#"{"rooms":{"join":["of-{sub}"]}}"#), "bob"), [false, true, false]);
    let empty = principal(&authenticator(settings()), &token_with(json!({"signalbox": {}})));
    assert!(!empty.grants.allows(&Action::Join { room: "any" }), "a claim that grants nothing");
}

#[test]
fn a_revoked_token_is_refused() {
    let authenticator = authenticator(settings());
    let token = token_with(json!({"jti": "1"}));
    let revocations = Revocations::from_iter([Revocation::of_token("1", Some(NOW + 600), 10)]);
    let outcome = authenticator.authenticate(Some(&token), &revocations, now());
    assert_eq!(outcome, Outcome::Refused(Refusal::Revoked));
    assert_eq!(Refusal::Revoked.to_string(), "the token has been revoked");
    let fresh = token_with(json!({"jti": "2"}));
    assert!(authenticator.authenticate(Some(&fresh), &revocations, now()).now().is_ok());
}

#[test]
fn nothing_that_is_printed_shows_a_secret() {
    let settings = settings();
    let minted = signalbox_auth::Mint::new("alice").sign(&secret(), NOW).unwrap();
    let printed = format!("{settings:?} {:?} {:?}", authenticator(settings.clone()), secret());
    let text = std::str::from_utf8(SECRET).unwrap();
    assert!(!printed.contains(text) && !printed.contains(&format!("{SECRET:?}")), "{printed}");
    let identity = judge(&authenticator(settings), &minted).unwrap();
    let signature = minted.rsplit('.').next().unwrap();
    assert!(!format!("{identity:?}").contains(signature));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let error = |settings: Settings| Authenticator::new(settings).unwrap_err().to_string();
    let nothing = Settings { mode: Mode::Optional, ..Settings::default() };
    assert_eq!(
        error(nothing),
        "auth is on, but there is no key to check tokens with (set --jwt-secret, --jwt-public-key or --jwks)"
    );
    assert!(Authenticator::new(Settings::default()).is_ok(), "off needs none");
    let mut twice = settings();
    twice.issuers.push(twice.issuers[0].clone());
    assert_eq!(Authenticator::new(twice).unwrap_err(), SetupError::IssuerTwice(String::new()));
    let unnamed = Settings { grants_claim: String::new(), ..settings() };
    assert_eq!(Authenticator::new(unnamed).unwrap_err(), SetupError::EmptyClaimName("grants"));
    let mut of_subject = GrantsSpec::default();
    of_subject.rooms.join = vec!["of-{sub}".to_owned()];
    let anonymous = Settings { anonymous_grants: Some(of_subject), ..settings() };
    assert_eq!(
        error(anonymous),
        "anonymous grants: rooms.join[0]: the pattern has {sub}, but an anonymous client has no subject, so it can never match"
    );
}

/// RFC 7515 appendix A: its keys and tokens, published for this. They have expired, and have no subject.
#[test]
fn the_vectors_of_rfc_7515_are_verified() {
    const PAYLOAD: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let vectors = [
        (
            json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}),
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ];
    for (jwk, header, signature) in vectors {
        let set = KeySet::from_file_content(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        let authenticator = authenticator(settings_with(Vec::new(), set));
        let at = |unix| signalbox_auth::Now { unix, ..now() };
        let token = format!("{header}.{PAYLOAD}.{signature}");
        let outcome = |token: &str, unix| {
            authenticator.authenticate(Some(token), &Revocations::default(), at(unix)).now().unwrap_err()
        };
        assert_eq!(outcome(&token, 1_300_819_379), Refusal::SubjectMissing, "past the signature");
        assert_eq!(outcome(&token, 1_300_819_390), Refusal::Expired);
        let other = token.replacen("eyJpc3MiOiJqb2Ui", "eyJpc3MiOiJKb2Ui", 1);
        assert_eq!(outcome(&other, 1_300_819_379), Refusal::SignatureInvalid);
    }
}

proptest! {
    /// Whatever is changed in a good token, nobody gets in with it; and nothing panics.
    #[test]
    fn no_changed_token_is_accepted(at in any::<prop::sample::Index>(), character in "[A-Za-z0-9_.-]") {
        let authenticator = authenticator(settings());
        let good = token_with(json!({}));
        let at = at.index(good.len());
        let mut changed = good.clone();
        changed.replace_range(at..=at, &character);
        prop_assume!(changed != good);
        prop_assert!(judge(&authenticator, &changed).is_err(), "{}", changed);
    }

    #[test]
    fn no_text_at_all_is_accepted(text in ".{0,200}") {
        prop_assert!(judge(&authenticator(settings()), &text).is_err());
    }
}
