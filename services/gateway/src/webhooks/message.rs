//! The body of a request: events, as the admin API tells them.

use fnv::FnvHasher;
use signalbox_admin::events::{Event, EventKind};
use signalbox_cluster_redis::{HookEntry, WaitingHook};
use std::hash::Hasher as _;

use super::queue::LANES;

/// Most bytes of a body; one event always fits.
const MAX_BODY: usize = 256 << 10;

/// The lane that an event waits in: that of its client.
pub(super) fn lane(event: &Event) -> usize {
    let mut hasher = FnvHasher::default();
    hasher.write(event.client().as_bytes());
    (hasher.finish() % LANES as u64) as usize
}

/// An event as it waits.
pub(super) fn entry(event: &Event) -> HookEntry {
    let node = match event.kind {
        EventKind::NodeUp => Some((event.node.to_string(), true)),
        EventKind::NodeDown => Some((event.node.to_string(), false)),
        _ => None,
    };
    // An event has nothing that is no JSON.
    HookEntry { text: serde_json::to_string(event).unwrap_or_default(), node }
}

/// A request: its id, its body, and the entries that are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: Vec<u8>,
    pub(super) entries: Vec<String>,
}

impl Message {
    /// The first of what waits in a lane, as many as fit; `None` if there are none.
    pub(super) fn of(lane: usize, waiting: Vec<WaitingHook>) -> Option<Self> {
        let first = waiting.first()?.id.clone();
        let mut body = br#"{"type":"events","events":["#.to_vec();
        let mut entries = Vec::new();
        for WaitingHook { id, text } in waiting {
            if !entries.is_empty() {
                if body.len() + text.len() > MAX_BODY {
                    break;
                }
                body.push(b',');
            }
            body.extend_from_slice(text.as_bytes());
            entries.push(id);
        }
        body.extend_from_slice(b"]}");
        let last = entries.last().unwrap_or(&first);
        Some(Self { id: format!("msg_{lane}_{first}_{last}"), body, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: &str, bytes: usize) -> WaitingHook {
        WaitingHook { id: id.to_owned(), text: format!("\"{}\"", "x".repeat(bytes)) }
    }

    #[test]
    fn a_message_has_as_many_events_as_fit_and_an_id_that_says_which() {
        assert_eq!(Message::of(0, Vec::new()), None);
        let message = Message::of(3, vec![waiting("1-0", 1), waiting("1-1", 1)]).unwrap();
        assert_eq!(message.id, "msg_3_1-0_1-1");
        assert_eq!(message.body, br#"{"type":"events","events":["x","x"]}"#);
        let large = Message::of(3, vec![waiting("1-0", MAX_BODY), waiting("1-1", 1)]).unwrap();
        assert_eq!((large.id.as_str(), large.entries.len()), ("msg_3_1-0_1-0", 1));
    }

    #[test]
    fn what_concerns_one_client_is_in_one_lane() {
        let of = |kind, socket: &str| Event { socket: Some(socket.to_owned()), ..Event::of(kind) };
        let lanes: Vec<usize> =
            (0..64).map(|number| lane(&of(EventKind::Connect, &format!("socket {number}")))).collect();
        assert!((0..LANES).all(|lane| lanes.contains(&lane)));
        assert_eq!(lane(&of(EventKind::Connect, "a")), lane(&of(EventKind::Disconnect, "a")));
    }
}
