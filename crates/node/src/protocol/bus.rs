//! What a node publishes, in a room or to all nodes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, NodeTag, ShardId, envelope::Format};
use signalbox_socketio::Message;
use signalbox_websocket::Frame;

use super::{WireError, decode_traced, encode_traced};
use crate::routing::{Audience, Broadcast, ConnectionRef, Origin};

/// A message on the channel of a room, or on that of all nodes.
#[derive(Debug, Clone)]
pub(crate) enum BusMessage {
    /// A broadcast.
    Broadcast(Broadcast),
    /// A session is about to move: its destination receives everything that comes behind this on the channel.
    Marker(Marker),
}

/// Published by the destination of a session's transfer, for its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The session.
    pub(crate) sid: Address,
    /// The source; every other shard ignores the marker.
    pub(crate) source: Origin,
    /// The WebSocket it moves to.
    pub(crate) connection: ConnectionRef,
}

/// [`BusMessage`] as it is written. Fields are only ever added behind the last one, under a new version.
#[derive(Serialize, Deserialize)]
enum Encoded<'a> {
    Broadcast {
        to: std::borrow::Cow<'a, Audience>,
        volatile: bool,
        shard: ShardId,
        sequence: u64,
        /// Whole frames, so that a receiver copies nothing.
        #[serde(borrow)]
        frames: Vec<&'a [u8]>,
    },
    Marker(Marker),
}

impl BusMessage {
    /// Writes it.
    pub(crate) fn encode(&self, format: Format) -> Bytes {
        let mut trace = None;
        let encoded = match self {
            Self::Broadcast(broadcast) => {
                trace = broadcast.trace.as_deref();
                Encoded::Broadcast {
                    to: std::borrow::Cow::Borrowed(&broadcast.to),
                    volatile: broadcast.volatile,
                    shard: broadcast.origin.shard,
                    sequence: broadcast.sequence,
                    frames: broadcast.message.frames().map(|frame| &frame.bytes()[..]).collect(),
                }
            }
            Self::Marker(marker) => Encoded::Marker(*marker),
        };
        encode_traced(format, trace, &encoded)
    }

    /// Reads what `from` published.
    pub(crate) fn decode(from: NodeTag, payload: &Bytes) -> Result<Self, WireError> {
        let (trace, encoded) = decode_traced(payload)?;
        Ok(match encoded {
            Encoded::Broadcast { to, volatile, shard, sequence, frames } => {
                let frames: Option<Vec<Frame>> =
                    frames.into_iter().map(|frame| Frame::from_bytes(payload.slice_ref(frame))).collect();
                let message = frames.and_then(Message::from_frames).ok_or(WireError::Malformed)?;
                let origin = Origin { node: from, shard };
                let to = to.into_owned().into();
                Self::Broadcast(Broadcast { to, message, volatile, origin, sequence, published: None, trace })
            }
            Encoded::Marker(marker) => Self::Marker(marker),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use signalbox_cluster::NodeTag;

    use super::*;

    fn audience() -> impl Strategy<Value = Audience> {
        let name = || "[a-z]{0,8}".prop_map(Arc::<str>::from);
        let address = any::<[u8; 15]>().prop_map(Address::from_bytes);
        let rooms = || prop::collection::vec(name(), 0..4);
        (name(), rooms(), prop::collection::vec(address, 0..4), rooms()).prop_map(
            |(namespace, rooms, except, except_rooms)| Audience { namespace, rooms, except, except_rooms },
        )
    }

    proptest! {
        #[test]
        fn broadcasts_are_read_as_they_were_written(
            to in audience(),
            args in "[0-9]{0,4}",
            attachments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..3),
            volatile: bool,
            shard: u8,
            sequence: u64,
        ) {
            let attachments: Vec<Bytes> = attachments.into_iter().map(Bytes::from).collect();
            let message = Message::event(&to.namespace, None, "event", &[&args], &attachments);
            let origin = Origin { node: NodeTag(7), shard };
            let broadcast = Broadcast { to: to.clone().into(), message: message.clone(), volatile, origin, sequence, published: None, trace: None };
            for format in Format::ALL {
                let bytes = BusMessage::Broadcast(broadcast.clone()).encode(format);
                let Ok(BusMessage::Broadcast(read)) = BusMessage::decode(NodeTag(7), &bytes) else { panic!("not a broadcast") };
                prop_assert_eq!(&*read.to, &to);
                prop_assert_eq!(&read.message, &message);
                prop_assert_eq!((read.volatile, read.origin, read.sequence), (volatile, origin, sequence));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, is_ours: bool) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut().filter(|_| is_ours) {
                *first = Format::V2.byte();
            }
            let _ = BusMessage::decode(NodeTag(7), &bytes.into());
        }
    }

    #[test]
    fn another_format_is_refused() {
        let connection = ConnectionRef { node: NodeTag(1), shard: 0, key: 1, number: 2 };
        let marker = Marker {
            sid: Address::from_bytes([3; 15]),
            source: Origin { node: NodeTag(2), shard: 1 },
            connection,
        };
        let mut bytes = BusMessage::Marker(marker).encode(Format::V2).to_vec();
        assert!(
            matches!(BusMessage::decode(NodeTag(1), &bytes.clone().into()), Ok(BusMessage::Marker(read)) if read == marker)
        );
        bytes[0] = Format::V2.byte() + 1;
        assert_eq!(BusMessage::decode(NodeTag(1), &bytes.into()).unwrap_err(), WireError::Format);
    }
}
