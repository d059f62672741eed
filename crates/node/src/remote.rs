//! What one node tells another about sockets, and what comes of it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, NodeTag, ShardId};
use signalbox_socketio::Message;
use signalbox_websocket::Frame;

use crate::{
    message::{Directed, ForSocket, Place, SignalReply, ToShard},
    node::NodeShared,
    shard::Outcome,
    wire::{Told, WireError, decode, encode},
};

/// Something for a node.
#[derive(Debug)]
pub(crate) enum Word {
    /// Something for a socket that is there.
    ForSocket { to: Address, namespace: Arc<str>, what: What },
    /// A signal found its socket, or not; for the shard that sent it.
    Signalled { shard: ShardId, ticket: u64, found: bool },
}

/// What can be done to a socket from another node.
#[derive(Debug)]
pub(crate) enum What {
    /// Send it a packet.
    Send { message: Message, volatile: bool },
    /// Relay a `signal`; whoever sent it is told whether the socket is there.
    Signal { message: Message, reply: SignalReply },
    /// Disconnect it from its namespace, or close its connection.
    Disconnect { close: bool },
}

/// [`Word`] as it is written.
#[derive(Serialize, Deserialize)]
enum Form<'a> {
    Send { to: Address, namespace: &'a str, volatile: bool, frames: Vec<&'a [u8]> },
    Signal { to: Address, namespace: &'a str, reply: SignalReply, frames: Vec<&'a [u8]> },
    Disconnect { to: Address, namespace: &'a str, close: bool },
    Signalled { shard: ShardId, ticket: u64, found: bool },
}

fn frames(message: &Message) -> Vec<&[u8]> {
    message.frames().map(|frame| &frame.bytes()[..]).collect()
}

fn message(payload: &Bytes, frames: Vec<&[u8]>) -> Result<Message, WireError> {
    let frames: Option<Vec<Frame>> =
        frames.into_iter().map(|frame| Frame::from_bytes(payload.slice_ref(frame))).collect();
    frames.and_then(Message::from_frames).ok_or(WireError::Malformed)
}

impl Word {
    /// Writes it.
    pub(crate) fn encode(&self) -> Bytes {
        encode(&match self {
            Self::ForSocket { to, namespace, what } => match what {
                What::Send { message, volatile } => {
                    Form::Send { to: *to, namespace, volatile: *volatile, frames: frames(message) }
                }
                What::Signal { message, reply } => {
                    Form::Signal { to: *to, namespace, reply: *reply, frames: frames(message) }
                }
                What::Disconnect { close } => Form::Disconnect { to: *to, namespace, close: *close },
            },
            Self::Signalled { shard, ticket, found } => {
                Form::Signalled { shard: *shard, ticket: *ticket, found: *found }
            }
        })
    }

    /// Reads it.
    pub(crate) fn decode(payload: &Bytes) -> Result<Self, WireError> {
        let (to, namespace, what) = match decode(payload)? {
            Form::Send { to, namespace, volatile, frames } => {
                (to, namespace, What::Send { message: message(payload, frames)?, volatile })
            }
            Form::Signal { to, namespace, reply, frames } => {
                (to, namespace, What::Signal { message: message(payload, frames)?, reply })
            }
            Form::Disconnect { to, namespace, close } => (to, namespace, What::Disconnect { close }),
            Form::Signalled { shard, ticket, found } => return Ok(Self::Signalled { shard, ticket, found }),
        };
        Ok(Self::ForSocket { to, namespace: namespace.into(), what })
    }
}

impl What {
    /// What can be done to a socket of this namespace from another node; what needs an answer of the socket cannot.
    pub(crate) fn of(namespace: &str, what: ForSocket) -> Result<Self, ForSocket> {
        Ok(match what {
            ForSocket::Send { message, volatile } => Self::Send { message, volatile },
            ForSocket::Ack { id, args } => {
                let message = Message::ack(namespace, id, &[args.inner()], args.attachments());
                Self::Send { message, volatile: false }
            }
            ForSocket::Signal { message, reply: Some(reply) } => Self::Signal { message, reply },
            ForSocket::Disconnect { close } => Self::Disconnect { close },
            what => return Err(what),
        })
    }
}

impl NodeShared {
    /// Another node tells this one something.
    pub(crate) fn told(&self, payload: &Bytes) {
        match Word::decode(payload) {
            Ok(Word::ForSocket { to, namespace, what }) => {
                let what = match what {
                    What::Send { message, volatile } => ForSocket::Send { message, volatile },
                    What::Signal { message, reply } => ForSocket::Signal { message, reply: Some(reply) },
                    What::Disconnect { close } => ForSocket::Disconnect { close },
                };
                let directed = Directed { to, namespace, what };
                match self.shard_of(to) {
                    Some(shard) => self.inboxes.push(shard, ToShard::Directed(directed)),
                    None => self.for_nobody(directed.what),
                }
            }
            Ok(Word::Signalled { shard, ticket, found }) => {
                self.inboxes.push(shard, ToShard::Verdict(ticket, Outcome::Signalled(found)));
            }
            Err(_) => self.metrics.bus_refused.inc(),
        }
    }

    /// Tells whoever sent a signal what became of it.
    pub(crate) fn signalled(&self, reply: SignalReply, found: bool) {
        let SignalReply { node, shard, ticket } = reply;
        if node == self.tag {
            self.inboxes.push(shard, ToShard::Verdict(ticket, Outcome::Signalled(found)));
        } else {
            self.tell(node, &Word::Signalled { shard, ticket, found });
        }
    }

    /// The socket is nowhere. Whoever waits for an answer of the socket is told by the end of its channel.
    pub(crate) fn for_nobody(&self, what: ForSocket) {
        if let ForSocket::Signal { reply: Some(reply), .. } = what {
            self.signalled(reply, false);
        }
    }

    /// Hands something to the place that a socket has moved to. To another node it goes over the link, behind the socket.
    pub(crate) fn forward(&self, place: Place, directed: Directed) {
        if place.node == self.tag {
            self.inboxes.push(place.shard, ToShard::Directed(directed));
            return;
        }
        let Directed { to, namespace, what } = directed;
        match What::of(&namespace, what) {
            Ok(what) => {
                let reply = if let What::Signal { reply, .. } = &what { Some(*reply) } else { None };
                let word = Word::ForSocket { to, namespace, what }.encode();
                if !self.link_tell(place.node, &Told::Word(&word))
                    && let Some(reply) = reply
                {
                    self.signalled(reply, false);
                }
            }
            Err(what) => self.for_nobody(what),
        }
    }

    /// Tells another node something, at most once; `false` if that cannot be done now.
    pub(crate) fn tell(&self, node: NodeTag, word: &Word) -> bool {
        self.cluster.tell(std::time::Instant::now(), node, word.encode())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_read_back() {
        let (to, namespace) = (Address::random(NodeTag(1), 2), Arc::<str>::from("/n"));
        let message = Message::event("/n", None, "signal", &["1"], &[Bytes::from_static(b"x")]);
        let reply = SignalReply { node: NodeTag(5), shard: 3, ticket: 4 };
        let what = What::Signal { message: message.clone(), reply };
        let read = Word::decode(&Word::ForSocket { to, namespace: namespace.clone(), what }.encode());
        let Ok(Word::ForSocket { to: of, namespace: within, what }) = read else { panic!("{read:?}") };
        assert_eq!((of, within), (to, namespace));
        let What::Signal { message: read, reply: answer } = what else { panic!("{what:?}") };
        assert_eq!((read, answer), (message, reply));
    }

    #[test]
    fn an_answer_follows_a_socket_that_has_moved() {
        let args = signalbox_socketio::Args::from_raw("[1,2]", Vec::new()).unwrap_or_default();
        let what = What::of("/n", ForSocket::Ack { id: 7, args });
        let Ok(What::Send { message, volatile: false }) = what else { panic!("it stays behind") };
        assert_eq!(message.text(), "3/n,7[1,2]");
    }

    proptest! {
        #[test]
        fn whatever_a_node_says_is_read_or_refused(bytes: Vec<u8>, is_ours: bool) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut().filter(|_| is_ours) {
                *first = crate::wire::FORMAT;
            }
            let _ = Word::decode(&bytes.into());
        }
    }
}
