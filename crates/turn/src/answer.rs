//! The two shapes of an answer.

use serde::Serialize;

use crate::{credential::Credential, uri::TurnUri};

/// As the draft has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestAnswer<'a> {
    /// The user name.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
    /// Seconds for which they are good.
    pub ttl: u64,
    /// Where.
    pub uris: &'a [&'a TurnUri],
}

/// An entry of `RTCConfiguration.iceServers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IceServer<'a> {
    /// Where.
    pub urls: Vec<&'a TurnUri>,
    /// The user name; STUN servers have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<&'a str>,
    /// The password; STUN servers have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<&'a str>,
}

/// As `RTCPeerConnection` and `new Peer(id, {config})` take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IceServers<'a> {
    /// The servers.
    #[serde(rename = "iceServers")]
    pub ice_servers: Vec<IceServer<'a>>,
    /// Seconds for which the credentials are good.
    pub ttl: u64,
    /// `relay` where it was asked for.
    #[serde(rename = "iceTransportPolicy", skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'static str>,
}

/// A credential, and the servers that it is good at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The credential.
    pub credential: &'a Credential,
    /// Seconds for which it is good.
    pub ttl: u64,
    /// Where.
    pub uris: Vec<&'a TurnUri>,
}

impl Answer<'_> {
    /// As the draft has it.
    pub fn rest(&self) -> RestAnswer<'_> {
        RestAnswer {
            username: &self.credential.username,
            password: &self.credential.password,
            ttl: self.ttl,
            uris: &self.uris,
        }
    }

    /// As `RTCPeerConnection` takes it.
    pub fn ice_servers(&self, is_relay_only: bool) -> IceServers<'_> {
        let (relays, others): (Vec<&TurnUri>, Vec<&TurnUri>) =
            self.uris.iter().partition(|uri| uri.relay().is_some());
        let mut ice_servers = Vec::new();
        if !others.is_empty() {
            ice_servers.push(IceServer { urls: others, username: None, credential: None });
        }
        if !relays.is_empty() {
            ice_servers.push(IceServer {
                urls: relays,
                username: Some(&self.credential.username),
                credential: Some(&self.credential.password),
            });
        }
        IceServers { ice_servers, ttl: self.ttl, policy: is_relay_only.then_some("relay") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_shapes_are_as_clients_expect_them() {
        let credential = Credential { username: "1:u".to_owned(), password: "p".to_owned(), expires_at: 1 };
        let uris: Vec<TurnUri> =
            ["stun:a.example", "turn:a.example?transport=udp"].map(|uri| uri.parse().unwrap()).into();
        let answer = Answer { credential: &credential, ttl: 60, uris: uris.iter().collect() };
        assert_eq!(
            serde_json::to_value(answer.rest()).unwrap(),
            json!({"username": "1:u", "password": "p", "ttl": 60, "uris": ["stun:a.example", "turn:a.example?transport=udp"]})
        );
        assert_eq!(
            serde_json::to_value(answer.ice_servers(false)).unwrap(),
            json!({"iceServers": [
                {"urls": ["stun:a.example"]},
                {"urls": ["turn:a.example?transport=udp"], "username": "1:u", "credential": "p"},
            ], "ttl": 60})
        );
    }
}
