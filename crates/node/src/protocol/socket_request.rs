//! What is asked of a socket on another node, where somebody waits for the answer. It goes over the node link.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use signalbox_cluster::{Address, Record};
use signalbox_socketio::{Args, Message};
use signalbox_websocket::Frame;

use crate::routing::{AckError, OrderCondition, OrderPart, OrderedOp, Reply, SocketCommand, SocketOp};

/// A request to one socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SocketRequest {
    pub(crate) to: Address,
    pub(crate) namespace: Arc<str>,
    pub(crate) op: AnsweredOp,
    pub(crate) order: RequestOrder,
}

/// The operator's order that a request is part of, if any. It stands last: a node that does not know of orders reads no further, and what
/// such a node has sent ends before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RequestOrder(Option<(OrderPart, OrderCondition)>);

impl<'de> Deserialize<'de> for RequestOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer).unwrap_or_default()))
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AnsweredOp {
    /// Acknowledge an event.
    Ask { event: String, json: String, attachments: Vec<Bytes>, timeout_ms: u64 },
    /// Join a room.
    Join { room: Arc<str>, record: Option<Box<Record>> },
    /// Leave a room.
    Leave { room: Arc<str> },
    /// Its rooms.
    Rooms,
    /// Send it a packet, for an operator.
    Send { frames: Vec<Bytes>, volatile: bool },
    /// Disconnect it from its namespace, or close its connection, for an operator.
    Disconnect { close: bool },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SocketResponse {
    /// An acknowledgement.
    Acked { json: String, attachments: Vec<Bytes> },
    /// It did not come in time.
    TimedOut,
    /// The client has gone.
    Disconnected,
    /// It joined or left, or not.
    YesNo(bool),
    /// Names of rooms.
    Names(Vec<Arc<str>>),
    /// It is done.
    Done,
    /// It is not done: the socket was given this order before, or is not meant any more, or gone.
    NotMeant,
}

/// The way back for the answer to whoever asked.
#[derive(Debug)]
pub(crate) struct AnswerTo {
    /// Whoever gave an order wants to know whether it is done there.
    is_first: Option<Reply<bool>>,
    value: ValueTo,
}

#[derive(Debug)]
enum ValueTo {
    Ack(Reply<Result<Args, AckError>>),
    YesNo(Reply<bool>),
    Names(Reply<Vec<Arc<str>>>),
    Nobody,
}

impl SocketRequest {
    /// What of an operation goes to another node, and the way back for its answer; `None` for one that has no answer.
    pub(crate) fn of(to: Address, namespace: Arc<str>, op: SocketOp) -> Option<(Self, AnswerTo)> {
        let (op, order, is_first) = match op {
            SocketOp::Ordered(ordered) => {
                let OrderedOp { part, condition, op, is_first } = *ordered;
                (op, Some((part, condition)), Some(is_first))
            }
            op => (op, None, None),
        };
        let (op, value) = AnsweredOp::of(op, is_first.is_some())?;
        Some((Self { to, namespace, op, order: RequestOrder(order) }, AnswerTo { is_first, value }))
    }

    /// The answer when the socket is gone; `None`: there is none.
    pub(crate) fn answer_of_nobody(&self) -> Option<SocketResponse> {
        self.order.0.is_some().then_some(SocketResponse::NotMeant)
    }

    /// What is to be done, and what its answer will be; `None` if it cannot be read.
    pub(crate) fn begin(
        self,
    ) -> Option<(SocketCommand, impl Future<Output = Option<SocketResponse>> + Send)> {
        let Self { to, namespace, op, order } = self;
        let (op, value) = op.begin()?;
        let (op, is_first) = match order.0 {
            Some((part, condition)) => {
                let (reply, is_first) = Reply::channel();
                let ordered = OrderedOp { part, condition, op, is_first: reply };
                (SocketOp::Ordered(Box::new(ordered)), Some(is_first))
            }
            None => (op, None),
        };
        let answer = async move {
            let is_first = match is_first {
                Some(is_first) => is_first.await.ok()?,
                None => true,
            };
            if is_first { value.await } else { Some(SocketResponse::NotMeant) }
        };
        Some((SocketCommand { to, namespace, op }, answer))
    }
}

impl AnsweredOp {
    /// As [`SocketRequest::of`]. What is `ordered` has an answer.
    fn of(op: SocketOp, ordered: bool) -> Option<(Self, ValueTo)> {
        Some(match op {
            SocketOp::Ask { event, args, timeout, reply } => {
                let timeout_ms = timeout.as_millis().try_into().unwrap_or(u64::MAX);
                let (json, attachments) = (args.json().to_owned(), args.attachments().to_vec());
                (Self::Ask { event, json, attachments, timeout_ms }, ValueTo::Ack(reply))
            }
            SocketOp::Join { room, record, reply } => (Self::Join { room, record }, ValueTo::YesNo(reply)),
            SocketOp::Leave { room, reply } => (Self::Leave { room }, ValueTo::YesNo(reply)),
            SocketOp::Rooms { reply } => (Self::Rooms, ValueTo::Names(reply)),
            SocketOp::Send { message, volatile } if ordered => {
                let frames = message.frames().map(|frame| frame.bytes().clone()).collect();
                (Self::Send { frames, volatile }, ValueTo::Nobody)
            }
            SocketOp::Disconnect { close } if ordered => (Self::Disconnect { close }, ValueTo::Nobody),
            _ => return None,
        })
    }

    /// The operation, and what its answer will be; `None` if it cannot be read.
    fn begin(self) -> Option<(SocketOp, impl Future<Output = Option<SocketResponse>> + Send)> {
        let (mut acked, mut said, mut named) = (None, None, None);
        let op = match self {
            Self::Ask { event, json, attachments, timeout_ms } => {
                let args = Args::from_raw(&json, attachments).ok()?;
                let (reply, answer) = Reply::channel();
                acked = Some(answer);
                SocketOp::Ask { event, args, timeout: Duration::from_millis(timeout_ms), reply }
            }
            Self::Join { room, record } => {
                let (reply, answer) = Reply::channel();
                said = Some(answer);
                SocketOp::Join { room, record, reply }
            }
            Self::Leave { room } => {
                let (reply, answer) = Reply::channel();
                said = Some(answer);
                SocketOp::Leave { room, reply }
            }
            Self::Rooms => {
                let (reply, answer) = Reply::channel();
                named = Some(answer);
                SocketOp::Rooms { reply }
            }
            Self::Send { frames, volatile } => {
                let frames: Option<Vec<Frame>> = frames.into_iter().map(Frame::from_bytes).collect();
                SocketOp::Send { message: Message::from_frames(frames?)?, volatile }
            }
            Self::Disconnect { close } => SocketOp::Disconnect { close },
        };
        let answer = async move {
            Some(match (acked, said, named) {
                (Some(answer), ..) => match answer.await.unwrap_or(Err(AckError::Disconnected)) {
                    Ok(args) => SocketResponse::Acked {
                        json: args.json().to_owned(),
                        attachments: args.attachments().to_vec(),
                    },
                    Err(AckError::TimedOut) => SocketResponse::TimedOut,
                    Err(_) => SocketResponse::Disconnected,
                },
                (_, Some(answer), _) => SocketResponse::YesNo(answer.await.ok()?),
                (.., Some(answer)) => SocketResponse::Names(answer.await.ok()?),
                _ => SocketResponse::Done,
            })
        };
        Some((op, answer))
    }
}

impl AnswerTo {
    /// Tells whoever asked. An answer to something else is none: the reply ends without one.
    pub(crate) fn send(self, response: SocketResponse) {
        if let Some(is_first) = self.is_first {
            is_first.send(response != SocketResponse::NotMeant);
        }
        match (self.value, response) {
            (ValueTo::Ack(reply), SocketResponse::Acked { json, attachments }) => {
                let args = Args::from_raw(&json, attachments).map_err(|_| AckError::Disconnected);
                let _ = reply.send(args);
            }
            (ValueTo::Ack(reply), SocketResponse::TimedOut) => drop(reply.send(Err(AckError::TimedOut))),
            (ValueTo::YesNo(reply), SocketResponse::YesNo(value)) => drop(reply.send(value)),
            (ValueTo::Names(reply), SocketResponse::Names(names)) => drop(reply.send(names)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_cluster::envelope::{Format, Metadata, decode, encode};

    use super::*;

    fn socket() -> Address {
        Address::from_bytes([3; 15])
    }

    fn condition() -> OrderCondition {
        OrderCondition { in_one_of: vec!["a".into()], in_none_of: vec!["b".into()].into() }
    }

    /// An order to send something, and whether it is done.
    fn order(op: SocketOp) -> (SocketOp, tokio::sync::oneshot::Receiver<bool>) {
        let (is_first, told) = Reply::channel();
        let part = OrderPart { order: u64::MAX, part: 7 };
        (SocketOp::Ordered(Box::new(OrderedOp { part, condition: condition(), op, is_first })), told)
    }

    #[test]
    fn an_order_is_read_back_and_its_answer_says_whether_it_is_done() {
        let message = Message::event("/n", None, "e", &["1"], &[Bytes::from_static(b"x")]);
        for (response, is_done) in [(SocketResponse::Done, true), (SocketResponse::NotMeant, false)] {
            let (op, mut told) = order(SocketOp::Send { message: message.clone(), volatile: true });
            let (request, answer) = SocketRequest::of(socket(), "/n".into(), op).unwrap();
            assert_eq!(request.answer_of_nobody(), Some(SocketResponse::NotMeant));
            let bytes = encode(Format::V2, &Metadata::default(), &request);
            let (_, read) = decode::<SocketRequest>(&bytes).unwrap();
            assert_eq!(read, request);
            let (command, _) = read.begin().unwrap();
            assert_eq!((command.to, &*command.namespace), (socket(), "/n"));
            let SocketOp::Ordered(read) = command.op else { panic!("{:?}", command.op) };
            assert_eq!((read.part.order, read.part.part, &read.condition), (u64::MAX, 7, &condition()));
            let SocketOp::Send { message: sent, volatile: true } = &read.op else { panic!("{:?}", read.op) };
            assert_eq!(*sent, message);
            answer.send(response);
            assert_eq!(told.try_recv(), Ok(is_done));
        }
    }

    #[tokio::test]
    async fn whoever_is_second_is_told_so_and_whoever_is_first_gets_the_answer() {
        for (is_first, expected) in [
            (Some(true), Some(SocketResponse::YesNo(true))),
            (Some(false), Some(SocketResponse::NotMeant)),
            (None, None),
        ] {
            let (op, _told) = order(SocketOp::Leave { room: "a".into(), reply: Reply::new(|_| true) });
            let (request, _) = SocketRequest::of(socket(), "/".into(), op).unwrap();
            let (command, answered) = request.begin().unwrap();
            let SocketOp::Ordered(ordered) = command.op else { panic!("{:?}", command.op) };
            let OrderedOp { op, is_first: reply, .. } = *ordered;
            match is_first {
                Some(is_first) => drop(reply.send(is_first)),
                None => drop(reply),
            }
            if let SocketOp::Leave { reply, .. } = op {
                reply.send(true);
            }
            assert_eq!(answered.await, expected);
        }
    }

    #[test]
    fn what_a_node_sends_that_knows_of_no_orders_is_no_order() {
        let earlier = (socket(), Arc::<str>::from("/"), AnsweredOp::Rooms);
        for format in Format::ALL {
            let read = decode::<SocketRequest>(&encode(format, &Metadata::default(), &earlier));
            let (_, request) = read.unwrap();
            assert_eq!((request.op, &request.order), (AnsweredOp::Rooms, &RequestOrder::default()));
            let (op, _told) = order(SocketOp::Rooms { reply: Reply::new(|_| true) });
            let (request, _) = SocketRequest::of(socket(), "/".into(), op).unwrap();
            let bytes = encode(format, &Metadata::default(), &request);
            let read = decode::<(Address, Arc<str>, AnsweredOp)>(&bytes).unwrap();
            assert_eq!(read.1, earlier);
        }
    }
}
