//! What one node asks of the sockets of another, and the result.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{
    Address, MessageTrace, ShardId,
    envelope::{self, Format, Metadata},
};
use signalbox_socketio::{Args, Message};
use signalbox_websocket::Frame;

use super::WireError;
use crate::routing::{SignalReply, SocketOp};

/// Something for a node.
#[derive(Debug)]
pub(crate) enum NodeMessage {
    /// Something for a socket that is there.
    SocketOp { to: Address, namespace: Arc<str>, what: RemoteSocketOp },
    /// A signal found its socket, or not; for the shard that sent it.
    Signalled { shard: ShardId, ticket: u64, found: bool },
    /// The client of a socket that has moved has answered what somebody asked it on this shard, and too much waits for the link.
    Acked { shard: ShardId, socket: Address, id: u64, args: Args },
}

/// What can be done to a socket from another node.
#[derive(Debug)]
pub(crate) enum RemoteSocketOp {
    /// Send it a packet.
    Send { message: Message, volatile: bool },
    /// Relay a `signal`; its sender learns whether the socket exists.
    Signal { message: Message, reply: SignalReply, trace: Option<MessageTrace> },
    /// Disconnect it from its namespace, or close its connection.
    Disconnect { close: bool },
}

/// [`NodeMessage`] as it is written.
#[derive(Serialize, Deserialize)]
enum Encoded<'a> {
    Send { to: Address, namespace: &'a str, volatile: bool, frames: Vec<&'a [u8]> },
    Signal { to: Address, namespace: &'a str, reply: SignalReply, frames: Vec<&'a [u8]> },
    Disconnect { to: Address, namespace: &'a str, close: bool },
    Signalled { shard: ShardId, ticket: u64, found: bool },
    Acked { shard: ShardId, socket: Address, id: u64, json: &'a str, attachments: Vec<&'a [u8]> },
}

fn frames(message: &Message) -> Vec<&[u8]> {
    message.frames().map(|frame| &frame.bytes()[..]).collect()
}

fn message(payload: &Bytes, frames: Vec<&[u8]>) -> Result<Message, WireError> {
    let frames: Option<Vec<Frame>> =
        frames.into_iter().map(|frame| Frame::from_bytes(payload.slice_ref(frame))).collect();
    frames.and_then(Message::from_frames).ok_or(WireError::Malformed)
}

fn micros_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

impl NodeMessage {
    /// Writes it.
    pub(crate) fn encode(&self, format: Format) -> Bytes {
        let mut metadata = Metadata::default();
        let encoded = match self {
            Self::SocketOp { to, namespace, what } => match what {
                RemoteSocketOp::Send { message, volatile } => {
                    Encoded::Send { to: *to, namespace, volatile: *volatile, frames: frames(message) }
                }
                RemoteSocketOp::Signal { message, reply, trace } => {
                    let written = |trace: &MessageTrace| trace.metadata(Instant::now(), micros_since_1970());
                    metadata = trace.as_ref().map(written).unwrap_or_default();
                    Encoded::Signal { to: *to, namespace, reply: *reply, frames: frames(message) }
                }
                RemoteSocketOp::Disconnect { close } => {
                    Encoded::Disconnect { to: *to, namespace, close: *close }
                }
            },
            Self::Signalled { shard, ticket, found } => {
                Encoded::Signalled { shard: *shard, ticket: *ticket, found: *found }
            }
            Self::Acked { shard, socket, id, args } => {
                let attachments = args.attachments().iter().map(|bytes| &bytes[..]).collect();
                Encoded::Acked { shard: *shard, socket: *socket, id: *id, json: args.json(), attachments }
            }
        };
        envelope::encode(format, &metadata, &encoded)
    }

    /// Reads it.
    pub(crate) fn decode(payload: &Bytes) -> Result<Self, WireError> {
        let (metadata, encoded) = envelope::decode(payload)?;
        let (to, namespace, what) = match encoded {
            Encoded::Send { to, namespace, volatile, frames } => {
                (to, namespace, RemoteSocketOp::Send { message: message(payload, frames)?, volatile })
            }
            Encoded::Signal { to, namespace, reply, frames } => {
                let trace = MessageTrace::read(&metadata, Instant::now(), micros_since_1970());
                (to, namespace, RemoteSocketOp::Signal { message: message(payload, frames)?, reply, trace })
            }
            Encoded::Disconnect { to, namespace, close } => {
                (to, namespace, RemoteSocketOp::Disconnect { close })
            }
            Encoded::Signalled { shard, ticket, found } => {
                return Ok(Self::Signalled { shard, ticket, found });
            }
            Encoded::Acked { shard, socket, id, json, attachments } => {
                let attachments = attachments.into_iter().map(|bytes| payload.slice_ref(bytes)).collect();
                let args = Args::from_raw(json, attachments).map_err(|_| WireError::Malformed)?;
                return Ok(Self::Acked { shard, socket, id, args });
            }
        };
        Ok(Self::SocketOp { to, namespace: namespace.into(), what })
    }
}

impl RemoteSocketOp {
    /// What can be done to a socket of this namespace from another node; what needs an answer of the socket cannot.
    pub(crate) fn of(namespace: &str, what: SocketOp) -> Result<Self, SocketOp> {
        Ok(match what {
            SocketOp::Send { message, volatile } => Self::Send { message, volatile },
            SocketOp::Ack { id, args } => {
                let message = Message::ack(namespace, id, &[args.inner()], args.attachments());
                Self::Send { message, volatile: false }
            }
            SocketOp::Signal { message, reply: Some(reply), trace } => Self::Signal { message, reply, trace },
            SocketOp::Disconnect { close } => Self::Disconnect { close },
            // The only end that another node knows.
            SocketOp::Close => Self::Disconnect { close: true },
            what => return Err(what),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use signalbox_cluster::NodeTag;

    use super::*;

    #[test]
    fn words_are_read_back() {
        let (to, namespace) = (Address::random(NodeTag(1), 2), Arc::<str>::from("/n"));
        let message = Message::event("/n", None, "signal", &["1"], &[Bytes::from_static(b"x")]);
        let reply = SignalReply { node: NodeTag(5), shard: 3, ticket: 4 };
        let what = RemoteSocketOp::Signal {
            message: message.clone(),
            reply,
            trace: Some(MessageTrace {
                parent: "00-trace-span-01".into(),
                sent: Instant::now() - Duration::from_millis(250),
            }),
        };
        let read = NodeMessage::decode(
            &NodeMessage::SocketOp { to, namespace: namespace.clone(), what }.encode(Format::V2),
        );
        let Ok(NodeMessage::SocketOp { to: of, namespace: within, what }) = read else { panic!("{read:?}") };
        assert_eq!((of, within), (to, namespace));
        let RemoteSocketOp::Signal { message: read, reply: answer, trace } = what else { panic!("{what:?}") };
        assert_eq!((read, answer), (message, reply));
        let trace = trace.unwrap();
        assert_eq!(&*trace.parent, "00-trace-span-01");
        assert!(trace.sent.elapsed() >= Duration::from_millis(249), "it was sent before it was read");
    }

    #[test]
    fn an_answer_follows_a_socket_that_has_moved() {
        let args = signalbox_socketio::Args::from_raw("[1,2]", Vec::new()).unwrap_or_default();
        let what = RemoteSocketOp::of("/n", SocketOp::Ack { id: 7, args });
        let Ok(RemoteSocketOp::Send { message, volatile: false }) = what else { panic!("it stays behind") };
        assert_eq!(message.text(), "3/n,7[1,2]");
    }

    #[test]
    fn the_answer_of_a_client_is_read_back_with_its_attachments() {
        let json = r#"[1,{"_placeholder":true,"num":0}]"#;
        let args = Args::from_raw(json, vec![Bytes::from_static(b"x\0y")]).unwrap();
        let socket = Address::random(NodeTag(1), 2);
        let written = NodeMessage::Acked { shard: 3, socket, id: 7, args: args.clone() }.encode(Format::V2);
        let read = NodeMessage::decode(&written);
        let Ok(NodeMessage::Acked { shard: 3, socket: of, id: 7, args: read }) = read else {
            panic!("{read:?}")
        };
        assert_eq!((of, read.json(), read.attachments()), (socket, args.json(), args.attachments()));
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_node_are_read_or_refused(bytes: Vec<u8>, is_ours: bool) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut().filter(|_| is_ours) {
                *first = Format::V2.byte();
            }
            let _ = NodeMessage::decode(&bytes.into());
        }
    }
}
