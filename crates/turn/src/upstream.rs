//! Providers that relay for others, and hand out credentials over an API of their own: how they are asked, and what they answer.
//!
//! Sources: developers.cloudflare.com/realtime/turn/generate-credentials, twilio.com/docs/stun-turn/api.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{
    credential::Credential,
    server::{ServerUri, Servers},
    uri::TurnUri,
};

/// The most bytes of an answer that are read.
pub const MAX_ANSWER: usize = 64 * 1024;
/// The most URIs of an answer that are looked at.
const MAX_URIS: usize = 64;
/// The most bytes of a user name or a password.
const MAX_WORD: usize = 1024;

/// Who relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Cloudflare Realtime's TURN service.
    Cloudflare,
    /// Twilio's Network Traversal Service.
    Twilio,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Cloudflare, Self::Twilio];

    /// As settings and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloudflare => "cloudflare",
            Self::Twilio => "twilio",
        }
    }

    /// Where its API is.
    pub fn url(self) -> &'static str {
        match self {
            Self::Cloudflare => "https://rtc.live.cloudflare.com",
            Self::Twilio => "https://api.twilio.com",
        }
    }

    /// The longest lifetime that it gives to a credential, in seconds.
    pub fn max_ttl(self) -> u64 {
        match self {
            Self::Cloudflare => 48 * 3600,
            Self::Twilio => 24 * 3600,
        }
    }
}

/// Whose account it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Who relays.
    pub provider: Provider,
    /// The id of the TURN key at Cloudflare, the SID of the account at Twilio.
    pub id: String,
    /// The API token of that TURN key at Cloudflare; at Twilio the account's auth token, or an API key as `SID:SECRET`.
    pub key: String,
}

/// Leaves the key out.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("provider", &self.provider)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A POST that asks for a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Behind the URL of the API.
    pub path: String,
    /// The header `Authorization`.
    pub authorization: String,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// Leaves the key out.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("path", &self.path).field("body", &self.body).finish_non_exhaustive()
    }
}

impl Account {
    /// Asks for a credential that is good for `ttl` seconds.
    pub fn request(&self, ttl: u64) -> Request {
        let Self { provider, id, key } = self;
        match provider {
            Provider::Cloudflare => Request {
                path: format!("/v1/turn/keys/{id}/credentials/generate-ice-servers"),
                authorization: format!("Bearer {key}"),
                content_type: "application/json",
                body: format!("{{\"ttl\":{ttl}}}"),
            },
            Provider::Twilio => {
                let pair = if key.contains(':') { key.clone() } else { format!("{id}:{key}") };
                Request {
                    path: format!("/2010-04-01/Accounts/{id}/Tokens.json"),
                    authorization: format!("Basic {}", STANDARD.encode(pair)),
                    content_type: "application/x-www-form-urlencoded",
                    body: format!("Ttl={ttl}"),
                }
            }
        }
    }
}

/// What a provider answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamAnswer {
    /// The credential.
    pub credential: Credential,
    /// For how long it is good, in seconds.
    pub ttl: u64,
    /// Where it is good, as one server.
    pub servers: Servers,
}

/// The answer is none that we can use. Nothing of it is shown: it has credentials in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has no relay with a user name and a password")]
pub struct BadAnswer;

/// Both shapes: each provider has one of the two names, and `ttl` or not.
#[derive(Deserialize)]
struct Body {
    #[serde(alias = "iceServers")]
    ice_servers: Vec<Entry>,
    ttl: Option<Seconds>,
}

#[derive(Deserialize)]
struct Entry {
    urls: OneOrMore,
    username: Option<String>,
    credential: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Provider {
    /// Reads an answer to a request for `asked` seconds, made at `now` in seconds since 1970. URIs that browsers do not connect to, such as
    /// those with port 53, are left out; so are those of a second credential, where there is one.
    ///
    /// # Errors
    /// It is none that we can use.
    pub fn read(self, body: &[u8], asked: u64, now: u64) -> Result<UpstreamAnswer, BadAnswer> {
        let body: Body = serde_json::from_slice(body).map_err(|_| BadAnswer)?;
        let is_word =
            |text: &String| !text.is_empty() && text.len() <= MAX_WORD && !text.chars().any(char::is_control);
        let pair = body.ice_servers.iter().find_map(|entry| {
            Some((entry.username.clone().filter(is_word)?, entry.credential.clone().filter(is_word)?))
        });
        let (username, password) = pair.ok_or(BadAnswer)?;
        let ttl = match body.ttl {
            None => asked,
            Some(Seconds::Number(ttl)) => ttl.min(asked),
            Some(Seconds::Text(text)) => text.parse::<u64>().map_err(|_| BadAnswer)?.min(asked),
        };
        let is_ours = |entry: &&Entry| match &entry.username {
            Some(name) => *name == username && entry.credential.as_ref() == Some(&password),
            None => true,
        };
        let texts = body.ice_servers.iter().filter(is_ours).flat_map(|entry| match &entry.urls {
            OneOrMore::One(url) => std::slice::from_ref(url),
            OneOrMore::More(urls) => urls,
        });
        let uris = texts.take(MAX_URIS).filter_map(|text| text.parse::<TurnUri>().ok());
        let entries = uris.map(|uri| ServerUri { uri, server: self.name().into(), region: None, weight: 1 });
        let servers = Servers::new(entries);
        let has_relay = servers.iter().any(|server| server.uris.iter().any(|uri| uri.relay().is_some()));
        if ttl == 0 || !has_relay {
            return Err(BadAnswer);
        }
        let credential = Credential { username, password, expires_at: now.saturating_add(ttl) };
        Ok(UpstreamAnswer { credential, ttl, servers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(answer: &UpstreamAnswer) -> Vec<String> {
        answer.servers.iter().flat_map(|server| &server.uris).map(ToString::to_string).collect()
    }

    #[test]
    fn cloudflare_is_asked_and_read() {
        let account =
            Account { provider: Provider::Cloudflare, id: "key-id".to_owned(), key: "token".to_owned() };
        let request = account.request(3600);
        assert_eq!(request.path, "/v1/turn/keys/key-id/credentials/generate-ice-servers");
        assert_eq!((&*request.authorization, &*request.body), ("Bearer token", r#"{"ttl":3600}"#));
        let body = br#"{"iceServers":[
            {"urls":["stun:stun.cloudflare.com:3478","stun:stun.cloudflare.com:53"]},
            {"urls":["turn:turn.cloudflare.com:3478?transport=udp","turn:turn.cloudflare.com:53?transport=udp",
                     "turns:turn.cloudflare.com:443?transport=tcp"],"username":"u","credential":"c"}]}"#;
        let answer = Provider::Cloudflare.read(body, 3600, 1000).unwrap();
        assert_eq!(
            uris(&answer),
            [
                "stun:stun.cloudflare.com:3478",
                "turn:turn.cloudflare.com:3478?transport=udp",
                "turns:turn.cloudflare.com:443?transport=tcp"
            ]
        );
        let credential = Credential { username: "u".to_owned(), password: "c".to_owned(), expires_at: 4600 };
        assert_eq!((answer.credential, answer.ttl), (credential, 3600));
    }

    #[test]
    fn twilio_is_asked_and_read() {
        let mut account =
            Account { provider: Provider::Twilio, id: "AC1".to_owned(), key: "secret".to_owned() };
        let request = account.request(60);
        assert_eq!(request.path, "/2010-04-01/Accounts/AC1/Tokens.json");
        assert_eq!(request.authorization, format!("Basic {}", STANDARD.encode("AC1:secret")));
        assert_eq!((request.content_type, &*request.body), ("application/x-www-form-urlencoded", "Ttl=60"));
        account.key = "SK2:other".to_owned();
        assert_eq!(account.request(60).authorization, format!("Basic {}", STANDARD.encode("SK2:other")));
        let body = br#"{"username":"u","password":"c","ttl":"30","account_sid":"AC1","ice_servers":[
            {"url":"stun:global.stun.twilio.com:3478","urls":"stun:global.stun.twilio.com:3478"},
            {"url":"turn:global.turn.twilio.com:3478?transport=udp","urls":"turn:global.turn.twilio.com:3478?transport=udp",
             "username":"u","credential":"c"},
            {"url":"turn:other.example","urls":"turn:other.example","username":"v","credential":"d"}]}"#;
        let answer = Provider::Twilio.read(body, 60, 0).unwrap();
        assert_eq!(
            uris(&answer),
            ["stun:global.stun.twilio.com:3478", "turn:global.turn.twilio.com:3478?transport=udp"]
        );
        assert_eq!((answer.ttl, answer.credential.expires_at), (30, 30));
    }

    #[test]
    fn answers_that_cannot_be_used_are_refused() {
        for body in [
            "",
            "[]",
            r#"{"iceServers":[]}"#,
            r#"{"iceServers":[{"urls":"turn:a"}]}"#,
            r#"{"iceServers":[{"urls":"stun:a","username":"u","credential":"c"}]}"#,
            r#"{"iceServers":[{"urls":"turn:a:53","username":"u","credential":"c"}]}"#,
            r#"{"iceServers":[{"urls":"turn:a","username":"u\n","credential":"c"}]}"#,
            r#"{"iceServers":[{"urls":"turn:a","username":"u","credential":"c"}],"ttl":"x"}"#,
            r#"{"iceServers":[{"urls":"turn:a","username":"u","credential":"c"}],"ttl":0}"#,
        ] {
            assert_eq!(Provider::Cloudflare.read(body.as_bytes(), 60, 0), Err(BadAnswer), "{body}");
        }
        let account =
            Account { provider: Provider::Twilio, id: "AC1".to_owned(), key: "hidden-key".to_owned() };
        assert!(!format!("{account:?} {:?}", account.request(1)).contains("hidden"));
    }
}
