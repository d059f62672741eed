//! The client's URL: `{path}peerjs?key=KEY&id=ID&token=TOKEN&version=VERSION`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use signalbox_websocket::Frame;

/// Longest id in bytes. A generated id has 36; ids are keys in the registry of every node, so they are bounded.
pub const MAX_ID: usize = 256;
/// Longest token in bytes; a JWT fits.
pub const MAX_TOKEN: usize = 8192;

/// The parameters of a client's handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// The realm.
    pub key: String,
    /// The id it claims.
    pub id: String,
    /// Proves that a client that claims the id again is the one that had it.
    pub token: String,
}

/// Why a client is refused. It receives [`Refusal::frame`], then the server closes the connection without a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A parameter is missing or empty.
    #[error("No id, token, or key supplied to websocket server")]
    Missing,
    /// There is no such realm.
    #[error("Invalid key provided")]
    InvalidKey,
    /// Another client holds the id.
    #[error("ID is taken")]
    IdTaken,
    /// The limit of ids held at the same time is reached.
    #[error("Server has reached its concurrent user limit")]
    LimitReached,
    /// The id is longer than [`MAX_ID`].
    #[error("id is longer than {MAX_ID} bytes (use a shorter one)")]
    IdTooLong,
    /// The token is longer than [`MAX_TOKEN`].
    #[error("token is longer than {MAX_TOKEN} bytes (use a shorter one)")]
    TokenTooLong,
    /// The policy refuses; the text is the policy's.
    #[error("{0}")]
    Policy(String),
}

impl Refusal {
    /// The frame that the client receives: ID-TAKEN, or ERROR with the reason.
    pub fn frame(&self) -> Frame {
        #[derive(Serialize)]
        struct Message {
            r#type: &'static str,
            payload: Payload,
        }
        #[derive(Serialize)]
        struct Payload {
            msg: String,
        }
        let r#type = if *self == Self::IdTaken { "ID-TAKEN" } else { "ERROR" };
        let message = Message { r#type, payload: Payload { msg: self.to_string() } };
        // A struct of strings always serializes.
        Frame::text(&serde_json::to_string(&message).unwrap_or_default())
    }
}

/// OPEN, `{"type":"OPEN"}`: the client holds the id it asked for.
pub fn open_frame() -> Frame {
    Frame::text("{\"type\":\"OPEN\"}")
}

impl Params {
    /// Reads a raw query string as `URLSearchParams` does: percent-encoding, `+` as a space, the last of a repeated parameter
    /// wins. `realms` are the keys that are served.
    ///
    /// # Errors
    /// The first [`Refusal`] of: a missing parameter, an unknown key, an id or a token that is too long.
    pub fn parse(query: &str, realms: &[impl AsRef<str>]) -> Result<Self, Refusal> {
        let (mut key, mut id, mut token) = (String::new(), String::new(), String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let target = match &*name {
                "key" => &mut key,
                "id" => &mut id,
                "token" => &mut token,
                _ => continue,
            };
            *target = value.into_owned();
        }
        if key.is_empty() || id.is_empty() || token.is_empty() {
            return Err(Refusal::Missing);
        }
        if !realms.iter().any(|realm| realm.as_ref() == key) {
            return Err(Refusal::InvalidKey);
        }
        if id.len() > MAX_ID {
            return Err(Refusal::IdTooLong);
        }
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TokenTooLong);
        }
        Ok(Self { key, id, token })
    }
}

/// The key in the path of an HTTP request, percent-decoded. Unlike in a query, `+` stands for itself.
pub fn key_of_path(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<(String, String, String), Refusal> {
        Params::parse(query, &["peerjs"]).map(|params| (params.key, params.id, params.token))
    }

    #[test]
    fn queries_are_read_as_a_browser_writes_them() {
        let params = |id: &str, token: &str| Ok(("peerjs".into(), id.into(), token.into()));
        assert_eq!(parse("key=peerjs&id=a&token=t&version=1.5.5"), params("a", "t"));
        assert_eq!(parse("key=peerjs&id=a%20b+c&token=%C3%A9"), params("a b c", "é"));
        assert_eq!(parse("key=peerjs&id=a&id=b&token=t"), params("b", "t"));
        assert_eq!(parse("key=peerjs&id=100%&token=%zz"), params("100%", "%zz"));
    }

    #[test]
    fn refusals_come_in_order() {
        assert_eq!(parse("key=wrong&id=a"), Err(Refusal::Missing));
        assert_eq!(parse("key=wrong&id=&token=t"), Err(Refusal::Missing));
        assert_eq!(parse("key=wrong&id=a&token=t"), Err(Refusal::InvalidKey));
        assert_eq!(parse(&format!("key=peerjs&id={}&token=t", "x".repeat(257))), Err(Refusal::IdTooLong));
        assert_eq!(parse(&format!("key=peerjs&id=x&token={}", "x".repeat(8193))), Err(Refusal::TokenTooLong));
    }

    #[test]
    fn frames_are_exact() {
        let text = |refusal: Refusal| String::from_utf8(refusal.frame().payload().to_vec()).unwrap();
        assert_eq!(text(Refusal::IdTaken), r#"{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}"#);
        assert_eq!(text(Refusal::InvalidKey), r#"{"type":"ERROR","payload":{"msg":"Invalid key provided"}}"#);
    }

    #[test]
    fn keys_are_decoded_in_paths_too() {
        assert_eq!(key_of_path("peerjs"), "peerjs");
        assert_eq!(key_of_path("%C3%A4%2B+"), "ä++");
        assert_eq!(key_of_path("100%"), "100%");
    }
}
