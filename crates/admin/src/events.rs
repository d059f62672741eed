//! What happens in a cluster, as it is told to those who listen.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What has happened.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A Socket.IO client has entered a namespace.
    #[default]
    Connect,
    /// It has left the namespace, or is gone.
    Disconnect,
    /// A socket has joined a room.
    Join,
    /// It has left the room.
    Leave,
    /// A PeerServer client has its id.
    Claim,
    /// The id is free again, or another connection has it.
    Release,
    /// A client was cut off because of the bytes that waited for it.
    Evict,
    /// A client was refused something.
    Refuse,
    /// A socket has moved to another node, with its client's WebSocket.
    Transfer,
    /// A node has joined the cluster.
    NodeUp,
    /// A node is not part of the cluster any more; so are its clients.
    NodeDown,
    /// A node serves its clients without Redis.
    Degraded,
    /// It has Redis again.
    Online,
    /// A node sends its clients away.
    Drain,
    /// Marker: what the listener has missed is not known any more. It should ask for the present state.
    Resync,
    /// Marker: events of a node were dropped.
    Dropped,
    /// Marker: a node does not answer, so its events are missing.
    Missing,
    /// Marker: the node answers again.
    Back,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Connect,
        Self::Disconnect,
        Self::Join,
        Self::Leave,
        Self::Claim,
        Self::Release,
        Self::Evict,
        Self::Refuse,
        Self::Transfer,
        Self::NodeUp,
        Self::NodeDown,
        Self::Degraded,
        Self::Online,
        Self::Drain,
        Self::Resync,
        Self::Dropped,
        Self::Missing,
        Self::Back,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Claim => "claim",
            Self::Release => "release",
            Self::Evict => "evict",
            Self::Refuse => "refuse",
            Self::Transfer => "transfer",
            Self::NodeUp => "node-up",
            Self::NodeDown => "node-down",
            Self::Degraded => "degraded",
            Self::Online => "online",
            Self::Drain => "drain",
            Self::Resync => "resync",
            Self::Dropped => "dropped",
            Self::Missing => "missing",
            Self::Back => "back",
        }
    }

    /// Whether it tells of the stream itself. Such a one passes every filter.
    pub fn is_marker(self) -> bool {
        matches!(self, Self::Resync | Self::Dropped | Self::Missing | Self::Back)
    }

    /// A bit of its own, for sets.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EventKind {
    type Err = String;

    /// Reads a kind that can be asked for: no marker.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut told = Self::ALL.into_iter().filter(|kind| !kind.is_marker());
        told.find(|kind| kind.name() == text).ok_or_else(|| {
            let told = Self::ALL.into_iter().filter(|kind| !kind.is_marker()).map(Self::name);
            format!("is none of {}", told.collect::<Vec<_>>().join(", "))
        })
    }
}

/// A protocol of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Socket.IO.
    Socketio,
    /// PeerServer.
    Peerserver,
}

/// Something that has happened. What does not apply is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Unlike that of any other event: whoever gets the same id twice got the same event twice.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// When, by the clock of the node that tells it.
    pub at: u64,
    /// What.
    pub kind: EventKind,
    /// The id of the node that it happened on, or to.
    #[schema(value_type = String)]
    pub node: Arc<str>,
    /// The node's name.
    #[schema(value_type = String)]
    pub node_name: Arc<str>,
    /// The client's protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<Arc<str>>,
    /// The socket's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub room: Option<Arc<str>>,
    /// The key of the PeerServer client's realm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The PeerServer client's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub peer: Option<Arc<str>>,
    /// Counts who holds the id: later holders have greater numbers. A release with a smaller one than the last claim is that of an
    /// earlier holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Whose token the client has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub subject: Option<Arc<str>>,
    /// The client's address, behind the proxies that are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The event that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Why: the reason of a disconnect, the code of a refusal, how far a drain is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many: clients that a drain has still to send away, events that were dropped, milliseconds without Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Event {
    /// One of this kind, of which nothing is known yet.
    pub fn of(kind: EventKind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let shared = [&self.namespace, &self.room, &self.peer, &self.subject].into_iter().flatten();
        let own = [&self.socket, &self.key, &self.event, &self.reason].into_iter().flatten();
        size_of::<Self>()
            + self.id.len()
            + shared.map(|text| text.len()).sum::<usize>()
            + own.map(String::len).sum::<usize>()
    }

    /// Whom it concerns: events with the same are told in their order.
    pub fn client(&self) -> &str {
        self.socket.as_deref().or(self.peer.as_deref()).unwrap_or(&self.node)
    }
}

/// An event with its place in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToldEvent {
    /// From where a listener goes on behind it, at the node that has told it.
    pub position: String,
    /// What has happened.
    #[serde(flatten)]
    #[schema(value_type = Event)]
    pub event: Arc<Event>,
}

/// Which events are wanted: those that fit everything that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of one of these kinds; of any, if there is none.
    pub kinds: Vec<EventKind>,
    /// In this namespace.
    pub namespace: Option<String>,
    /// In this room.
    pub room: Option<String>,
    /// Of clients that have shown a token of this subject.
    pub subject: Option<String>,
    /// Of this socket.
    pub socket: Option<String>,
    /// Of this PeerServer client.
    pub peer: Option<String>,
    /// Of the node with this id, or name.
    pub node: Option<String>,
}

impl EventFilter {
    /// Whether an event is wanted. Markers always are.
    pub fn admits(&self, event: &Event) -> bool {
        if event.kind.is_marker() {
            return true;
        }
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        let is_of_node = |node: &String| **node == *event.node || **node == *event.node_name;
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && is(&self.namespace, event.namespace.as_deref())
            && is(&self.room, event.room.as_deref())
            && is(&self.subject, event.subject.as_deref())
            && is(&self.socket, event.socket.as_deref())
            && is(&self.peer, event.peer.as_deref())
            && self.node.as_ref().is_none_or(is_of_node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_a_bit_of_its_own() {
        let bits = EventKind::ALL.into_iter().fold(0, |bits, kind| {
            assert_eq!(bits & kind.bit(), 0);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert_eq!(
                kind.name().parse(),
                if kind.is_marker() { Err(kind.name().parse::<EventKind>().unwrap_err()) } else { Ok(kind) }
            );
            bits | kind.bit()
        });
        assert_eq!(bits.count_ones() as usize, EventKind::ALL.len());
    }

    #[test]
    fn a_filter_lets_through_what_fits_all_of_it_and_every_marker() {
        let join = Event {
            namespace: Some("/".into()),
            room: Some("a".into()),
            node: "01".into(),
            node_name: "one".into(),
            ..Event::of(EventKind::Join)
        };
        let of = |room: &str| EventFilter { room: Some(room.to_owned()), ..EventFilter::default() };
        assert!(EventFilter::default().admits(&join) && of("a").admits(&join) && !of("b").admits(&join));
        assert!(
            !of("a").admits(&Event::of(EventKind::Connect)) && of("a").admits(&Event::of(EventKind::Missing))
        );
        for (node, fits) in [("01", true), ("one", true), ("two", false)] {
            let filter = EventFilter { node: Some(node.to_owned()), ..EventFilter::default() };
            assert_eq!(filter.admits(&join), fits);
        }
        let kinds = EventFilter { kinds: vec![EventKind::Leave], ..EventFilter::default() };
        assert!(!kinds.admits(&join));
    }
}
