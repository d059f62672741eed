//! Who is followed.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use signalbox_cluster::Address;

/// Longest subject or id in bytes.
const MAX_LENGTH: usize = 255;

/// One client, or all of one subject or address: the subject of a token, an IP address, the id of a session, a socket or a peer.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSelector {
    text: Arc<str>,
    address: Option<IpAddr>,
    id: Option<Address>,
}

/// A client, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Who<'a> {
    pub(crate) address: Option<IpAddr>,
    /// The id of its session.
    pub(crate) session: Option<Address>,
    /// Its id as a PeerServer client.
    pub(crate) peer: Option<&'a str>,
    /// The subject of its token.
    pub(crate) subject: Option<&'a str>,
    /// One of its sockets; then the subject is that of the socket's token.
    pub(crate) socket: Option<Address>,
}

/// What is no selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a client is named by 1 to 255 bytes without control characters: a subject, an IP address, or the id of a session, a socket or a peer"
)]
pub struct NoSelector;

impl FromStr for ClientSelector {
    type Err = NoSelector;

    fn from_str(text: &str) -> Result<Self, NoSelector> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_LENGTH || text.chars().any(char::is_control) {
            return Err(NoSelector);
        }
        let address = text.parse().ok().map(|address: IpAddr| address.to_canonical());
        let shown = address.map_or_else(|| text.into(), |address| address.to_string().into());
        Ok(Self { text: shown, address, id: Address::parse(text) })
    }
}

impl ClientSelector {
    /// As it was written; an address in its usual form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, who: &Who<'_>) -> bool {
        if let Some(address) = self.address {
            return who.address.is_some_and(|known| known.to_canonical() == address);
        }
        let is_id = |id: Option<Address>| self.id.is_some() && id == self.id;
        let is_named = |name: Option<&str>| name == Some(&*self.text);
        is_id(who.session) || is_id(who.socket) || is_named(who.peer) || is_named(who.subject)
    }
}

impl fmt::Debug for ClientSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for ClientSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_nobody_is_refused() {
        for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"a".repeat(256)] {
            assert_eq!(bad.parse::<ClientSelector>(), Err(NoSelector), "{bad:?}");
        }
        assert_eq!("::ffff:10.0.0.7".parse::<ClientSelector>().unwrap().as_str(), "10.0.0.7");
    }

    #[test]
    fn an_id_is_that_of_a_session_or_a_socket() {
        let id = Address::from_bytes([7; 15]);
        let selector: ClientSelector = id.written().parse().unwrap();
        assert!(selector.matches(&Who { session: Some(id), ..Who::default() }));
        assert!(selector.matches(&Who { socket: Some(id), ..Who::default() }));
        assert!(!selector.matches(&Who::default()));
        assert!(!selector.matches(&Who { session: Some(Address::from_bytes([8; 15])), ..Who::default() }));
    }
}
