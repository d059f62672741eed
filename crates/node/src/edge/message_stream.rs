//! A WebSocket of `actix-ws` as a stream of bytes: its messages become frames again for the parser that all connections have, and frames
//! of the outbox become messages.

use std::{
    io::{self, IoSlice},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use actix_ws::{CloseCode, CloseReason, Item, Message, MessageStream, ProtocolError, Session};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream, task::AtomicWaker};

use crate::transport::ByteStream;

/// Bytes that may be on their way between an outbox and the connection: there nobody counts them. A single frame always may.
const MAX_UNDER_WAY: usize = 64 * 1024;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The two halves of a WebSocket.
pub(super) struct WebSocketStream {
    session: Session,
    messages: MessageStream,
    /// What of a frame was not read yet: its head, and its payload.
    head: Bytes,
    payload: Bytes,
    max_payload: usize,
    under_way: Arc<UnderWay>,
}

/// What was handed over to be sent, and is not encoded yet.
#[derive(Default)]
struct UnderWay {
    bytes: AtomicUsize,
    waker: AtomicWaker,
}

/// A payload that is counted until it is encoded, or dropped.
struct Counted {
    bytes: Box<[u8]>,
    under_way: Arc<UnderWay>,
}

impl Counted {
    fn payload(bytes: &[u8], under_way: &Arc<UnderWay>) -> Bytes {
        under_way.bytes.fetch_add(bytes.len(), Relaxed);
        Bytes::from_owner(Self { bytes: bytes.into(), under_way: under_way.clone() })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.under_way.bytes.fetch_sub(self.bytes.len(), Relaxed);
        self.under_way.waker.wake();
    }
}

impl WebSocketStream {
    /// A client may send messages of so many bytes.
    pub(super) fn new(session: Session, messages: MessageStream, max_payload: usize) -> Self {
        Self {
            session,
            messages: messages.max_frame_size(max_payload),
            head: Bytes::new(),
            payload: Bytes::new(),
            max_payload,
            under_way: Arc::default(),
        }
    }

    fn has_room(&self, cx: &Context<'_>) -> bool {
        let is_free = || self.under_way.bytes.load(Relaxed) < MAX_UNDER_WAY;
        if is_free() {
            return true;
        }
        self.under_way.waker.register(cx.waker());
        is_free()
    }
}

impl ByteStream for WebSocketStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.head.is_empty() && self.payload.is_empty() {
            match pin!(&mut self.messages).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                // The parser says to the client what is wrong with it, as it sees the head.
                Poll::Ready(Some(Err(ProtocolError::Overflow))) => {
                    self.head = head_of(FIN | BINARY, self.max_payload + 1);
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                Poll::Ready(Some(Ok(message))) => {
                    if let Some((opcode, payload)) = frame_of(message) {
                        (self.head, self.payload) = (head_of(opcode, payload.len()), payload);
                    }
                }
            }
        }
        let mut read = 0;
        for part in [&mut self.head, &mut self.payload] {
            let length = part.len().min(buffer.len() - read);
            part.copy_to_slice(&mut buffer[read..read + length]);
            read += length;
        }
        Poll::Ready(Ok(read))
    }

    /// Each slice is a whole frame, since no part of one is ever taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for slice in slices {
            if !self.has_room(cx) {
                break;
            }
            match pin!(&mut self.session).poll_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Ready(Ok(())) => {}
            }
            let message = message_of(slice, &self.under_way).ok_or(io::ErrorKind::InvalidData)?;
            let sent = pin!(&mut self.session).start_send(message);
            sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
            written += slice.len();
        }
        if written == 0 { Poll::Pending } else { Poll::Ready(Ok(written)) }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.session).poll_flush(cx).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.session).poll_close(cx).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The first byte of a frame, and its payload, for a message of a client.
fn frame_of(message: Message) -> Option<(u8, Bytes)> {
    Some(match message {
        Message::Text(text) => (FIN | TEXT, text.into_bytes()),
        Message::Binary(bytes) => (FIN | BINARY, bytes),
        Message::Ping(bytes) => (FIN | PING, bytes),
        Message::Pong(bytes) => (FIN | PONG, bytes),
        Message::Continuation(Item::FirstText(bytes)) => (TEXT, bytes),
        Message::Continuation(Item::FirstBinary(bytes)) => (BINARY, bytes),
        Message::Continuation(Item::Continue(bytes)) => (CONTINUATION, bytes),
        Message::Continuation(Item::Last(bytes)) => (FIN | CONTINUATION, bytes),
        Message::Close(reason) => {
            let payload = reason.map(|CloseReason { code, description }| {
                let description = description.unwrap_or_default();
                [&u16::from(code).to_be_bytes(), description.as_bytes()].concat()
            });
            (FIN | CLOSE, payload.unwrap_or_default().into())
        }
        Message::Nop => return None,
    })
}

/// The head of a client's frame. Its mask is of zeros, so that the payload stands as it is.
fn head_of(first: u8, length: usize) -> Bytes {
    let mut head = vec![first];
    match length {
        0..=125 => head.push(MASKED | length as u8),
        126..=0xFFFF => {
            head.push(MASKED | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(MASKED | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head.into()
}

/// The message that a frame of the server is; `None` for what is no whole frame.
fn message_of(frame: &[u8], under_way: &Arc<UnderWay>) -> Option<Message> {
    let (&first, &second) = (frame.first()?, frame.get(1)?);
    let head = match second {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let payload = frame.get(head..)?;
    let counted = || Counted::payload(payload, under_way);
    Some(match first {
        0x81 => Message::Text(counted().try_into().ok()?),
        0x82 => Message::Binary(counted()),
        0x88 => {
            Message::Close(payload.first_chunk().map(|code| CloseReason {
                code: CloseCode::from(u16::from_be_bytes(*code)),
                description: None,
            }))
        }
        0x89 => Message::Ping(counted()),
        0x8A => Message::Pong(counted()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use signalbox_websocket::{Frame, Message as Parsed, Parser};

    use super::*;

    /// What the parser that all connections have makes of a message.
    fn parsed(messages: Vec<Message>) -> Vec<String> {
        let mut bytes = Vec::new();
        for (first, payload) in messages.into_iter().filter_map(frame_of) {
            bytes.extend_from_slice(&head_of(first, payload.len()));
            bytes.extend_from_slice(&payload);
        }
        let (mut parser, mut rest, mut seen) = (Parser::new(1 << 20), &mut bytes[..], Vec::new());
        while let Ok(Some(message)) = parser.next(&mut rest) {
            seen.push(match message {
                Parsed::Text(text) => format!("text {text}"),
                Parsed::Binary(bytes) => format!("binary {}", bytes.len()),
                Parsed::Ping(bytes) => format!("ping {}", bytes.len()),
                Parsed::Pong(bytes) => format!("pong {}", bytes.len()),
                Parsed::Close(code) => format!("close {code:?}"),
            });
        }
        seen
    }

    #[test]
    fn messages_of_clients_are_frames_again() {
        let text = |text: &'static str| Message::Text(text.into());
        let part = |item: fn(Bytes) -> Item, text: &'static str| Message::Continuation(item(text.into()));
        let messages = vec![
            text("one"),
            Message::Binary(vec![0; 70_000].into()),
            part(Item::FirstText, "he"),
            Message::Ping(Bytes::from_static(b"?")),
            part(Item::Continue, "ll"),
            part(Item::Last, "o"),
            Message::Nop,
            text(""),
            Message::Pong(Bytes::new()),
        ];
        assert_eq!(parsed(messages), ["text one", "binary 70000", "ping 1", "text hello", "text ", "pong 0"]);
    }

    proptest! {
        /// Whatever the node sends, `actix-ws` is given the same; and it counts until it is gone.
        #[test]
        fn frames_of_the_node_are_messages(text in ".{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let under_way = Arc::<UnderWay>::default();
            let message = |frame: &Frame| message_of(frame.bytes(), &under_way);
            let (one, other) = (message(&Frame::text(&text)), message(&Frame::binary(&bytes)));
            prop_assert_eq!(under_way.bytes.load(Relaxed), text.len() + bytes.len());
            prop_assert!(matches!(&one, Some(Message::Text(said)) if **said == *text));
            prop_assert!(matches!(&other, Some(Message::Binary(said)) if said[..] == bytes[..]));
            drop((one, other));
            prop_assert_eq!(under_way.bytes.load(Relaxed), 0);
            let closed = message(&Frame::close(Some(1001)));
            let is_away = matches!(closed, Some(Message::Close(Some(reason))) if reason.code == CloseCode::Away);
            prop_assert!(is_away);
            prop_assert!(matches!(message(&Frame::close(None)), Some(Message::Close(None))));
            prop_assert!(matches!(message(&Frame::ping()), Some(Message::Ping(_))));
        }
    }
}
