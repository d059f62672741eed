//! The client of a request: its address, and whether its `Origin` may open sessions.

use std::net::{IpAddr, SocketAddr};

use actix_http::header::HeaderMap;
use ipnet::IpNet;

use crate::{config::Config, policy::Handshake};

/// The request as the access policy gets it.
pub(crate) fn handshake(
    headers: &HeaderMap,
    query: &str,
    peer: Option<SocketAddr>,
    config: &Config,
) -> Handshake {
    let text =
        |value: &actix_http::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let mut handshake = Handshake { address: None, query: query.to_owned(), headers };
    handshake.address = peer.map(|peer| {
        let forwarded = handshake.header("x-forwarded-for").unwrap_or_default();
        address(peer.ip(), forwarded, &config.trusted_proxies)
    });
    if let Some(address) = handshake.address {
        tracing::debug!(%address, "handshake");
    }
    handshake
}

/// The client's address: the last one in the chain of `X-Forwarded-For` and the peer that is not a trusted proxy's.
fn address(peer: IpAddr, forwarded: &str, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(&address));
    let mut address = peer.to_canonical();
    for hop in forwarded.rsplit(',') {
        if !is_trusted(address) {
            break;
        }
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        address = hop.to_canonical();
    }
    address
}

/// The address of a request's client, whom it is charged to.
pub(crate) fn client_address(
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    config: &Config,
) -> Option<IpAddr> {
    if config.trusted_proxies.is_empty() {
        return peer.map(|peer| peer.ip().to_canonical());
    }
    handshake(headers, "", peer, config).address
}

/// Whether a request may open a session: it has no `Origin`, or one that is allowed.
pub(crate) fn origin_allowed(origin: Option<&[u8]>, config: &Config) -> bool {
    match (origin, &config.origins) {
        (Some(origin), Some(allowed)) => allowed.iter().any(|allowed| allowed.as_bytes() == origin),
        _ => true,
    }
}

/// Whether an `Origin` holds only characters that a header may hold, as the reference checks it.
pub(crate) fn origin_valid(origin: Option<&[u8]>) -> bool {
    origin.is_none_or(|origin| origin.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let address = |peer: &str, forwarded: &str, trusted: &[IpNet]| {
            address(peer.parse().unwrap(), forwarded, trusted).to_string()
        };
        assert_eq!(address("9.9.9.9", "1.2.3.4", &proxies), "9.9.9.9");
        assert_eq!(address("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", &proxies), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "1.2.3.4", &[]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", "nonsense", &proxies), "10.0.0.1");
        assert_eq!(address("::ffff:10.0.0.1", "1.2.3.4", &proxies), "1.2.3.4");

        let everybody = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        assert_eq!(address("9.9.9.9", "1.2.3.4", &everybody), "1.2.3.4");
        assert_eq!(address("fd12::1", "1.2.3.4", &everybody), "1.2.3.4");
        assert_eq!(address("fd12::1", "1.2.3.4", &everybody[..1]), "fd12::1");
    }
}
