//! What is asked of a socket on another node, where somebody waits for the answer. It goes over the node link.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, Record};
use signalbox_socketio::Args;

use crate::routing::{AckError, Reply, SocketOp};

/// A request to one socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SocketRequest {
    pub(crate) to: Address,
    pub(crate) namespace: Arc<str>,
    pub(crate) op: AnsweredOp,
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
}

/// The way back for the answer to whoever asked.
#[derive(Debug)]
pub(crate) enum AnswerTo {
    Ack(Reply<Result<Args, AckError>>),
    YesNo(Reply<bool>),
    Names(Reply<Vec<Arc<str>>>),
}

impl AnsweredOp {
    /// What of an operation goes to another node, and the way back for its answer; `None` for one that has no answer.
    pub(crate) fn of(op: SocketOp) -> Option<(Self, AnswerTo)> {
        Some(match op {
            SocketOp::Ask { event, args, timeout, reply } => {
                let timeout_ms = timeout.as_millis().try_into().unwrap_or(u64::MAX);
                let (json, attachments) = (args.json().to_owned(), args.attachments().to_vec());
                (Self::Ask { event, json, attachments, timeout_ms }, AnswerTo::Ack(reply))
            }
            SocketOp::Join { room, record, reply } => (Self::Join { room, record }, AnswerTo::YesNo(reply)),
            SocketOp::Leave { room, reply } => (Self::Leave { room }, AnswerTo::YesNo(reply)),
            SocketOp::Rooms { reply } => (Self::Rooms, AnswerTo::Names(reply)),
            _ => return None,
        })
    }

    /// The operation, and what its answer will be; `None` if its arguments cannot be read.
    pub(crate) fn begin(self) -> Option<(SocketOp, impl Future<Output = Option<SocketResponse>> + Send)> {
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
                _ => return None,
            })
        };
        Some((op, answer))
    }
}

impl AnswerTo {
    /// Tells whoever asked. An answer to something else is none: the reply ends without one.
    pub(crate) fn send(self, response: SocketResponse) {
        match (self, response) {
            (Self::Ack(reply), SocketResponse::Acked { json, attachments }) => {
                let args = Args::from_raw(&json, attachments).map_err(|_| AckError::Disconnected);
                let _ = reply.send(args);
            }
            (Self::Ack(reply), SocketResponse::TimedOut) => drop(reply.send(Err(AckError::TimedOut))),
            (Self::YesNo(reply), SocketResponse::YesNo(value)) => drop(reply.send(value)),
            (Self::Names(reply), SocketResponse::Names(names)) => drop(reply.send(names)),
            _ => {}
        }
    }
}
