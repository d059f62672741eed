//! The client of a request: its address, its account, and whether its `Origin` is allowed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use actix_http::header::HeaderMap;
use actix_web::HttpRequest;
use ipnet::IpNet;
use signalbox_telemetry::CLIENT_EVENTS;

use super::http1::Exchange;
use crate::{
    config::Config,
    ledger::{Charge, EvictAt, Hangup},
    policy::Handshake,
    shared::NodeShared,
};

/// The request as the access policy gets it.
pub(crate) fn handshake(
    headers: &HeaderMap,
    query: &str,
    peer: Option<SocketAddr>,
    config: &Config,
) -> Handshake {
    let text =
        |value: &actix_http::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let address = address_of(headers, peer, config);
    let headers = headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let handshake = Handshake { address, query: query.to_owned(), headers };
    if let Some(address) = handshake.address {
        tracing::debug!(target: CLIENT_EVENTS, %address, "handshake");
    }
    handshake
}

/// The address of a request's client, behind the proxies that are trusted.
pub(crate) fn address_of(headers: &HeaderMap, peer: Option<SocketAddr>, config: &Config) -> Option<IpAddr> {
    let forwarded: Vec<&[u8]> = match config.trusted_proxies.is_empty() {
        true => Vec::new(),
        false => headers.get_all("x-forwarded-for").map(|value| value.as_bytes()).collect(),
    };
    Some(address(peer?.ip(), forwarded.into_iter(), &config.trusted_proxies))
}

/// A charge to the client of a request, whose connection is closed if that client is to be cut off.
pub(crate) fn charge(node: &NodeShared, request: &HttpRequest) -> Charge {
    let hangup = request.conn_data::<Arc<Hangup>>().cloned().unwrap_or_default();
    let address = address_of(request.headers(), request.peer_addr(), &node.config);
    Charge::new(node.ledger.account(address, EvictAt::Connection(hangup)))
}

/// Whether the client speaks TLS, to this node or to a trusted proxy that says so.
pub(crate) fn is_secure(request: &HttpRequest, config: &Config) -> bool {
    let says_https = || {
        let header = request.headers().get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        header.is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("https"))
    };
    let is_trusted = || {
        let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
        peer.is_some_and(|peer| config.trusted_proxies.iter().any(|range| range.contains(&peer)))
    };
    Exchange::is_secure(request) || is_trusted() && says_https()
}

/// The client's address: the last one in the chain of `X-Forwarded-For` and the peer that is not a trusted proxy's. The lines of that
/// header are one chain, in their order.
fn address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(&address));
    let mut address = peer.to_canonical();
    // As bytes: what a client has written to the left of what its proxy adds need not even be text.
    let hops = forwarded.rev().flat_map(|line| line.rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let hops = hops.filter(|hop| !hop.is_empty());
    for hop in hops {
        if !is_trusted(address) {
            break;
        }
        let Some(hop) = str::from_utf8(hop).ok().and_then(hop_address) else { break };
        address = hop.to_canonical();
    }
    address
}

/// The address of a hop. Some proxies write the port as well, and an IPv6 address in brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
}

/// Whether a request is answered: it has no `Origin`, or one that is allowed.
pub(crate) fn origin_allowed(origin: Option<&[u8]>, config: &Config) -> bool {
    match (origin, &config.origins) {
        (Some(origin), Some(allowed)) => allowed.contains(origin),
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
            address(peer.parse().unwrap(), forwarded.lines().map(str::as_bytes), trusted).to_string()
        };
        let line = [&b"\xff, 1.2.3.4"[..]].into_iter();
        assert_eq!(super::address("10.0.0.1".parse().unwrap(), line, &proxies).to_string(), "1.2.3.4");
        assert_eq!(address("9.9.9.9", "1.2.3.4", &proxies), "9.9.9.9");
        assert_eq!(address("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", &proxies), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "1.2.3.4", &[]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", "nonsense", &proxies), "10.0.0.1");
        assert_eq!(address("10.0.0.1", "9.9.9.9\n6.6.6.6,1.2.3.4\n10.0.0.3, 10.0.0.2", &proxies), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "1.2.3.4, , 10.0.0.2\n\n", &proxies), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "9.9.9.9, 1.2.3.4:5678", &proxies), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "9.9.9.9, [2001:db8::7]:443, 10.0.0.9:80", &proxies), "2001:db8::7");
        assert_eq!(address("10.0.0.1", "[2001:db8::7]", &proxies), "2001:db8::7");
        assert_eq!(address("10.0.0.1", "2001:db8::7", &proxies), "2001:db8::7");
        assert_eq!(address("10.0.0.1", "9.9.9.9, unknown", &proxies), "10.0.0.1");
        assert_eq!(address("10.0.0.1", "9.9.9.9, _hidden, 10.0.0.2", &proxies), "10.0.0.2");
        assert_eq!(address("::ffff:10.0.0.1", "1.2.3.4", &proxies), "1.2.3.4");

        let everybody = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        assert_eq!(address("9.9.9.9", "1.2.3.4", &everybody), "1.2.3.4");
        assert_eq!(address("fd12::1", "1.2.3.4", &everybody), "1.2.3.4");
        assert_eq!(address("fd12::1", "1.2.3.4", &everybody[..1]), "fd12::1");
    }
}
