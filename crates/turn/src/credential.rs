//! A user name that says when it ends, and the password that proves that somebody with the secret made it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use crate::{secret::Secret, subject::UserPart};

/// Between the time and the user; coturn's default (`rest-api-separator`).
pub const SEPARATOR: char = ':';

/// A credential. TURN servers check the time when an allocation is made, and not afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `<seconds since 1970>:<user>`
    pub username: String,
    /// base64 of the HMAC-SHA1 of the user name.
    pub password: String,
    /// When it ends, in seconds since 1970.
    pub expires_at: u64,
}

/// Makes a credential that ends at `expires_at`, in seconds since 1970.
pub fn sign(secret: &Secret, user: &UserPart, expires_at: u64) -> Credential {
    let username = format!("{expires_at}{SEPARATOR}{user}");
    let password = password(secret.expose().as_bytes(), &username);
    Credential { username, password, expires_at }
}

/// The subject of a user name; `None` if it is none of ours.
pub fn user_of(username: &str) -> Option<UserPart> {
    let (expires_at, user) = username.split_once(SEPARATOR)?;
    expires_at.parse::<u64>().ok()?;
    UserPart::parse(user)
}

fn password(secret: &[u8], username: &str) -> String {
    // HMAC takes keys of every length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else { return String::new() };
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::SubjectKey;

    /// RFC 2202, section 3: test cases 1, 2 and 6, whose key is longer than a block.
    #[test]
    fn passwords_are_hmac_sha1() {
        for (key, data, digest) in [
            (vec![0x0b; 20], "Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
            (b"Jefe".to_vec(), "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (
                vec![0xaa; 80],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "aa4ae5e15272d00e95705637ce8a3b55ed402112",
            ),
        ] {
            let bytes: Vec<u8> = (0..digest.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digest[at..at + 2], 16).unwrap())
                .collect();
            assert_eq!(password(&key, data), STANDARD.encode(bytes));
        }
    }

    #[test]
    fn a_credential_names_its_end_and_its_subject() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        let user = SubjectKey::new(b"key").user_part(None, "alice");
        let credential = sign(&secret, &user, 1_700_000_000);
        assert_eq!(credential.username, format!("1700000000:{user}"));
        assert_eq!(user_of(&credential.username), Some(user.clone()));
        let other = Secret::new("fedcba9876543210").unwrap();
        assert_ne!(credential.password, sign(&other, &user, 1_700_000_000).password);
        assert_ne!(credential.password, sign(&secret, &user, 1_700_000_001).password);
        for foreign in ["alice", "1700000000:alice", "x:abcdefghijklmnopqrst", "1700000000"] {
            assert_eq!(user_of(foreign), None, "{foreign}");
        }
    }
}
