//! The settings that limit what clients may do.

use clap::Args;
use serde::Serialize;
use signalbox_config::OrOff;
use signalbox_config::serialize::or_off;

use super::parse;

/// How much clients may do. Tokens may grant more, or less. Ten seconds' worth of what is limited by the second may come at once.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// Events that one connection may send in a second; off is any number. More are refused (rate-limited), and whoever goes on
    /// regardless is disconnected.
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub events_per_second: OrOff<u32>,

    /// Bytes of them that one connection may send in a second, likewise; off is any number.
    #[arg(long, value_name = "BYTES", default_value = "10000000", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub bytes_per_second: OrOff<u32>,

    /// Rooms that one connection may ask to join in a second; off is any number. More are refused (rate-limited).
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub joins_per_second: OrOff<u32>,

    /// Maximum number of rooms that one socket is in; joins of more are refused (too-many-rooms).
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = parse::count(1..=65_536))]
    pub max_rooms: usize,

    /// Maximum number of namespaces on one connection; more are refused (too-many-namespaces).
    #[arg(long, value_name = "COUNT", default_value = "64", value_parser = parse::count(1..=4096))]
    pub max_namespaces: usize,

    /// Maximum number of members of a room in the whole cluster; joins of more are refused (room-full). off is any number.
    #[arg(long, value_name = "COUNT", default_value = "off", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub max_room_members: OrOff<u32>,

    /// Up to how many members of a room each is told when one comes, changes or goes (joined, updated, left). Of more they are told
    /// how many there are (presence), at most once a second, until there are less than four fifths of it; lists come in pages. off is
    /// any number.
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub presence_limit: OrOff<u32>,

    /// Maximum number of connections of one address, of IPv6 of one network of 64 bits; more are answered with 429. off is any
    /// number: behind a proxy that is not among --trusted-proxies, all clients have one address.
    #[arg(long, value_name = "COUNT", default_value = "off", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub connections_per_address: OrOff<u32>,

    /// Maximum number of connections of one subject of tokens, of both protocols and in the whole cluster; more are refused
    /// (too-many-connections). off is any number.
    #[arg(long, value_name = "COUNT", default_value = "off", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub connections_per_subject: OrOff<u32>,

    /// Sessions and peers that one such address may begin in a second; more are answered with 429. off is any number.
    #[arg(long, value_name = "COUNT", default_value = "off", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub handshakes_per_address: OrOff<u32>,

    /// The same of all addresses together, on this node; off is any number.
    #[arg(long, value_name = "COUNT", default_value = "off", value_parser = parse::rate)]
    #[serde(serialize_with = "or_off")]
    pub handshakes_per_second: OrOff<u32>,
}
