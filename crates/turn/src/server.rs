//! The TURN servers that credentials are good at, and which of them an answer names.

use std::str::FromStr;

use crate::uri::{RelayTransport, TurnUri, UriError};

/// What is wrong with the description of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The URI.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// An attribute.
    #[error("{0:?} is not region=NAME, weight=0..1000 or server=NAME")]
    Attribute(String),
}

/// One URI, with what is known of its server: `turn:a.example:3478;region=eu;weight=10;server=a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUri {
    /// The URI.
    pub uri: TurnUri,
    /// Which server it is of. Default: the host.
    pub server: Box<str>,
    /// A label that clients can ask for. Default: none.
    pub region: Option<Box<str>>,
    /// How often the server is chosen, in proportion to the others; 0: never. Default 1.
    pub weight: u32,
}

impl FromStr for ServerUri {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let mut parts = text.split(';');
        let uri: TurnUri = parts.next().unwrap_or_default().parse()?;
        let mut entry = Self { server: uri.host().into(), uri, region: None, weight: 1 };
        for part in parts {
            let bad = || ServerError::Attribute(part.chars().take(80).collect());
            let (name, value) = part.split_once('=').ok_or_else(bad)?;
            let label = || is_label(value).then(|| value.into()).ok_or_else(bad);
            match name.trim() {
                "region" => entry.region = Some(label()?),
                "server" => entry.server = label()?,
                "weight" => {
                    entry.weight = value.parse().ok().filter(|weight| *weight <= 1000).ok_or_else(bad)?;
                }
                _ => return Err(bad()),
            }
        }
        Ok(entry)
    }
}

/// Whether it can name a region or a server: 1 to 64 of `A-Z a-z 0-9 . _ -`.
pub fn is_label(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What metrics call it.
    pub name: Box<str>,
    /// A label that clients can ask for.
    pub region: Option<Box<str>>,
    /// How often it is chosen, in proportion to the others; 0: never.
    pub weight: u32,
    /// Where it is reached, in the order in which clients should try.
    pub uris: Vec<TurnUri>,
}

/// What an answer should name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Only relays that are reached like this.
    pub transport: Option<RelayTransport>,
    /// Only servers of this region. A region that no server has is as good as none: the client knows the world less well than
    /// we do, and a relay far away is better than no relay.
    pub region: Option<&'a str>,
    /// No servers that only answer STUN.
    pub relay_only: bool,
    /// The most URIs in an answer.
    pub max: usize,
}

/// All servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers(Vec<Server>);

impl Servers {
    /// Puts the URIs of each server together. What is said of a server in several places counts where it was said first.
    pub fn new(entries: impl IntoIterator<Item = ServerUri>) -> Self {
        let mut servers: Vec<Server> = Vec::new();
        for entry in entries {
            match servers.iter_mut().find(|server| server.name == entry.server) {
                Some(server) => {
                    if !server.uris.contains(&entry.uri) {
                        server.uris.push(entry.uri);
                    }
                    server.region = server.region.take().or(entry.region);
                    if server.weight == 1 {
                        server.weight = entry.weight;
                    }
                }
                None => servers.push(Server {
                    name: entry.server,
                    region: entry.region,
                    weight: entry.weight,
                    uris: vec![entry.uri],
                }),
            }
        }
        // STUN first, then as clients should try them.
        for server in &mut servers {
            server.uris.sort_by_key(TurnUri::relay);
        }
        Self(servers)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Server> {
        self.0.iter()
    }

    /// The URIs for one answer: of servers in a random order by weight, those that are up. The first server leaves a place for
    /// another one, so that a client has a second try. `random` gives numbers from 0 up to 1.
    pub fn select<'a>(
        &'a self,
        selection: Selection<'_>,
        is_up: impl Fn(&Server, &TurnUri) -> bool,
        mut random: impl FnMut() -> f64,
    ) -> Vec<&'a TurnUri> {
        let knows_region = self.0.iter().any(|server| server.region.as_deref() == selection.region);
        let fits = |server: &Server, uri: &TurnUri| match (uri.relay(), selection.transport) {
            (None, _) if selection.relay_only || selection.transport.is_some() => false,
            (Some(relay), Some(wanted)) if relay != wanted => false,
            _ => is_up(server, uri),
        };
        let mut candidates: Vec<(f64, Vec<&TurnUri>)> = self
            .0
            .iter()
            .filter(|server| server.weight > 0)
            .filter(|server| {
                selection.region.is_none() || !knows_region || server.region.as_deref() == selection.region
            })
            .map(|server| {
                // The smallest of exponentially distributed numbers is each server's in proportion to its weight.
                let order = -(1.0 - random()).ln() / f64::from(server.weight);
                (order, server.uris.iter().filter(|uri| fits(server, uri)).collect::<Vec<_>>())
            })
            .filter(|(_, uris)| !uris.is_empty())
            .collect();
        candidates.sort_by(|(one, _), (other, _)| one.total_cmp(other));

        let mut chosen = Vec::new();
        let count = candidates.len();
        for (at, (_, uris)) in candidates.into_iter().enumerate() {
            let is_last = at + 1 == count;
            let room = selection.max.saturating_sub(chosen.len());
            let share = if is_last || room < 2 { room } else { room - 1 };
            chosen.extend(uris.into_iter().take(share));
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(entries: &[&str]) -> Servers {
        Servers::new(entries.iter().map(|entry| entry.parse().unwrap()))
    }

    fn chosen(servers: &Servers, selection: Selection<'_>, random: f64) -> Vec<String> {
        servers.select(selection, |_, _| true, || random).into_iter().map(ToString::to_string).collect()
    }

    const ALL: Selection<'static> = Selection { transport: None, region: None, relay_only: false, max: 4 };

    #[test]
    fn a_server_is_all_its_uris_in_the_order_to_try() {
        let servers = servers(&[
            "turns:a.example:443?transport=tcp",
            "turn:a.example;weight=3;region=eu",
            "stun:a.example",
        ]);
        assert_eq!(servers.iter().count(), 1);
        let server = servers.iter().next().unwrap();
        assert_eq!((server.weight, server.region.as_deref()), (3, Some("eu")));
        let uris = ["stun:a.example", "turn:a.example", "turns:a.example:443?transport=tcp"];
        assert_eq!(chosen(&servers, ALL, 0.5), uris);
        let relays = Selection { relay_only: true, ..ALL };
        assert_eq!(chosen(&servers, relays, 0.5), uris[1..]);
        let tls = Selection { transport: Some(RelayTransport::Tls), ..ALL };
        assert_eq!(chosen(&servers, tls, 0.5), uris[2..]);
        assert_eq!(chosen(&servers, Selection { max: 1, ..relays }, 0.5), uris[1..2]);
    }

    #[test]
    fn a_region_is_chosen_where_some_server_has_it() {
        let servers =
            servers(&["turn:eu.example;region=eu", "turn:us.example;region=us", "turn:any.example"]);
        let of = |region| chosen(&servers, Selection { region: Some(region), ..ALL }, 0.5);
        assert_eq!(of("eu"), ["turn:eu.example"]);
        assert_eq!(of("mars").len(), 3);
    }

    #[test]
    fn servers_are_chosen_by_weight_and_never_with_weight_0() {
        let servers =
            servers(&["turn:a.example;weight=3", "turn:b.example;weight=1", "turn:c.example;weight=0"]);
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut first = [0; 2];
        for _ in 0..4000 {
            let chosen = servers.select(ALL, |_, _| true, &mut random);
            assert_eq!(chosen.len(), 2);
            first[usize::from(chosen[0].host() == "b.example")] += 1;
        }
        assert!((2850..3150).contains(&first[0]), "{first:?}");
    }

    #[test]
    fn the_first_server_leaves_a_place_for_another_and_a_dead_one_is_not_named() {
        let of = |name: &str| {
            ["turn:{}", "turn:{}?transport=tcp", "turns:{}:443", "turns:{}:8443"]
                .map(|uri| uri.replace("{}", name))
        };
        let entries: Vec<String> = [of("a.example"), of("b.example")].concat();
        let servers = servers(&entries.iter().map(String::as_str).collect::<Vec<_>>());
        let hosts = |dead: &str| -> Vec<String> {
            let chosen = servers.select(ALL, |server, _| &*server.name != dead, || 0.5);
            chosen.into_iter().map(|uri| uri.host().to_owned()).collect()
        };
        assert_eq!(hosts(""), ["a.example", "a.example", "a.example", "b.example"]);
        assert_eq!(hosts("a.example"), ["b.example"; 4]);
    }

    #[test]
    fn slips_are_refused() {
        for text in [
            "turn:a;weight=-1",
            "turn:a;weight=1001",
            "turn:a;region=",
            "turn:a;area=eu",
            "turn:a;eu",
            "a;b=c",
        ] {
            assert!(text.parse::<ServerUri>().is_err(), "{text}");
        }
    }
}
