//! One client's session: transports, heartbeat, upgrade, close.
//!
//! The session is a plain value without I/O and without a clock. Its methods take what arrived and the time, and return what is to
//! be sent:
//!
//! - Outgoing packets go through [`Session::send`]: it gives a frame back when a WebSocket is to write it at once, else keeps it
//!   for the next poll.
//! - While the transport is polling, ask for [`Session::reply`] after every call: it is the body of the pending GET, once there
//!   is one.
//! - [`Session::deadline`] is the time at which [`Session::tick`] must be called.
//! - Once [`Session::closed`] gives a reason the session is over; a pending GET may still have a last reply.

use std::{borrow::Cow, collections::VecDeque, time::Duration, time::Instant};

use signalbox_websocket::Frame;

use crate::{
    handshake::Transport,
    packet::{self, Packet},
    payload,
};

mod saved;
#[cfg(test)]
mod tests;
mod timers;
mod upgrade;
pub use saved::SavedSession;
pub use timers::TickOutput;
use timers::{Heartbeat, later};
use upgrade::Upgrade;

/// Timings and limits, the same for every session of a server. Defaults are Socket.IO's.
#[derive(Debug, Clone)]
pub struct Config {
    /// Time between heartbeats; default 25 s.
    pub ping_interval: Duration,
    /// How long an answer to a heartbeat may take; default 20 s.
    pub ping_timeout: Duration,
    /// How long an upgrade may take; default 10 s.
    pub upgrade_timeout: Duration,
    /// How long an orderly close waits for the client's next GET; default 30 s.
    pub close_timeout: Duration,
    /// Largest message, and largest POST, in bytes; default 1,000,000.
    pub max_payload: usize,
    /// Transports that are served; default both.
    pub transports: Vec<Transport>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_millis(25_000),
            ping_timeout: Duration::from_millis(20_000),
            upgrade_timeout: Duration::from_millis(10_000),
            close_timeout: Duration::from_secs(30),
            max_payload: 1_000_000,
            transports: vec![Transport::Polling, Transport::WebSocket],
        }
    }
}

impl Config {
    /// Whether a session that starts on `transport` may move to a WebSocket.
    pub fn can_upgrade(&self, transport: Transport) -> bool {
        transport == Transport::Polling && self.transports.contains(&Transport::WebSocket)
    }
}

/// Why a session ended; the names are those Socket.IO reports as disconnect reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseReason {
    /// The client broke a rule of the transport, or its connection failed.
    #[error("transport error")]
    TransportError,
    /// The client closed the transport.
    #[error("transport close")]
    TransportClose,
    /// The server closed the session.
    #[error("forced close")]
    ForcedClose,
    /// A heartbeat went unanswered.
    #[error("ping timeout")]
    PingTimeout,
    /// A packet could not be read.
    #[error("parse error")]
    ParseError,
    /// The server stops.
    #[error("server shutting down")]
    ServerShuttingDown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Closed by the server while polling: waits for the GET that takes the close packet.
    Closing {
        by: Instant,
    },
    Closed(CloseReason),
}

/// What a received packet gives to the layer above, which is Socket.IO.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A text message.
    Message(&'a str),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// Nothing; the session may have closed.
    Nothing,
}

/// Why a polling request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A request of the same method is pending already, and the session is closed for it. Answer 400 with an empty body.
    #[error("overlapping request")]
    Overlap,
    /// The session no longer polls. Answer 400 with code 3.
    #[error("the session does not use polling")]
    NotPolling,
}

/// A session. See the [module](self) for how it is driven.
#[derive(Debug)]
pub struct Session {
    state: State,
    transport: Transport,
    /// A GET is waiting.
    poll: bool,
    /// A POST is being read.
    post: bool,
    upgraded: bool,
    upgrade: Option<Upgrade>,
    heartbeat: Heartbeat,
    /// Packets for the next poll, and their size in bytes.
    buffer: VecDeque<Frame>,
    buffered: usize,
    /// Of these bytes, those of shared frames.
    buffered_shared: usize,
    /// The body of the pending GET's reply when the session is over.
    final_reply: &'static str,
}

impl Session {
    /// Opens a session. On polling, the handshake itself is the first pending GET; send the open packet next.
    pub fn open(now: Instant, transport: Transport, config: &Config) -> Self {
        Self {
            state: State::Open,
            transport,
            poll: transport == Transport::Polling,
            post: false,
            upgraded: false,
            upgrade: None,
            heartbeat: Heartbeat::Ping { at: later(now, config.ping_interval) },
            buffer: VecDeque::new(),
            buffered: 0,
            buffered_shared: 0,
            final_reply: packet::CLOSE,
        }
    }

    /// The transport in use.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The reason, once the session is over.
    pub fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether messages are still accepted: the session is neither closing nor closed.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Bytes waiting for the next poll.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Of these, bytes of frames that others may hold too.
    pub fn buffered_shared(&self) -> usize {
        self.buffered_shared
    }

    /// Packets waiting for the next poll.
    pub fn buffered_packets(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a packet sent now would leave at once, as far as the session knows (a WebSocket has a queue of its own).
    pub fn is_writable(&self) -> bool {
        match self.transport {
            Transport::Polling => self.poll && self.buffer.is_empty(),
            Transport::WebSocket => true,
        }
    }

    /// Sends a packet, given as its WebSocket frame. Gives the frame back when a WebSocket is to write it; keeps it for the
    /// next poll otherwise; drops it when the session takes no more.
    pub fn send(&mut self, frame: Frame) -> Option<Frame> {
        if self.state != State::Open {
            return None;
        }
        match self.transport {
            Transport::WebSocket => Some(frame),
            Transport::Polling => {
                self.keep(frame);
                None
            }
        }
    }

    fn keep(&mut self, frame: Frame) {
        self.buffered += frame.len();
        if frame.is_shared() {
            self.buffered_shared += frame.len();
        }
        self.buffer.push_back(frame);
    }

    fn take_buffer(&mut self) -> VecDeque<Frame> {
        self.buffered = 0;
        self.buffered_shared = 0;
        std::mem::take(&mut self.buffer)
    }

    /// A GET has arrived. Ask for [`Session::reply`] next.
    ///
    /// # Errors
    /// [`Refused`] says how to answer.
    pub fn poll(&mut self) -> Result<(), Refused> {
        if self.transport != Transport::Polling {
            return Err(Refused::NotPolling);
        }
        if self.poll {
            self.close_now(CloseReason::TransportError);
            return Err(Refused::Overlap);
        }
        self.poll = true;
        if let State::Closing { .. } = self.state
            && self.buffer.is_empty()
        {
            self.close_now(CloseReason::ForcedClose);
            self.final_reply = "6\x1e1";
        }
        Ok(())
    }

    /// The connection of the pending GET was closed by the client, which closes the session.
    pub fn poll_lost(&mut self) {
        if self.poll && self.transport == Transport::Polling {
            self.poll = false;
            self.close_now(CloseReason::TransportError);
        }
    }

    /// The body of the pending GET, when it is to be answered.
    pub fn reply(&mut self) -> Option<String> {
        if !self.poll {
            return None;
        }
        if let State::Closed(_) = self.state {
            self.poll = false;
            return Some(self.final_reply.to_owned());
        }
        if self.buffer.is_empty() {
            return None;
        }
        self.poll = false;
        Some(payload::encode(self.take_buffer().iter()))
    }

    /// The pending GET is refused by whoever would have to write the answer: what there is to say waits for the next one. `false` if
    /// there is none.
    pub fn refuse_poll(&mut self) -> bool {
        std::mem::take(&mut self.poll)
    }

    /// A POST begins.
    ///
    /// # Errors
    /// [`Refused`] says how to answer.
    pub fn begin_post(&mut self) -> Result<(), Refused> {
        if self.transport != Transport::Polling {
            return Err(Refused::NotPolling);
        }
        if self.post {
            self.close_now(CloseReason::TransportError);
            return Err(Refused::Overlap);
        }
        self.post = true;
        Ok(())
    }

    /// The POST was read to its end, its packets received.
    pub fn end_post(&mut self) {
        self.post = false;
    }

    /// The transport failed or was left: a WebSocket closed, a POST broke off, a body was refused.
    pub fn transport_lost(&mut self, reason: CloseReason) {
        self.close_now(reason);
    }

    /// A packet has arrived on the session's transport.
    pub fn receive<'a>(&mut self, now: Instant, config: &Config, packet: Packet<'a>) -> Received<'a> {
        if self.state != State::Open {
            return Received::Nothing;
        }
        if !matches!(packet, Packet::Pong(_)) {
            self.postpone_pong(now, config);
        }
        match packet {
            Packet::Message(text) => return Received::Message(text),
            Packet::Binary(bytes) => return Received::Binary(bytes),
            Packet::Pong(_) => self.heartbeat = Heartbeat::Ping { at: later(now, config.ping_interval) },
            // In v4 the server pings.
            Packet::Ping(_) => self.close_now(CloseReason::TransportError),
            Packet::Close => {
                self.final_reply = packet::NOOP;
                self.close_now(CloseReason::TransportClose);
            }
            Packet::Open | Packet::Upgrade | Packet::Noop => {}
        }
        Received::Nothing
    }

    /// A text has arrived that is not a packet.
    pub fn receive_invalid(&mut self) {
        if self.state == State::Open {
            self.close_now(CloseReason::ParseError);
        }
    }

    /// Closes from the server's side. On a WebSocket the session is over at once (write what is queued, then close it); on
    /// polling the client first fetches what is buffered and the close packet.
    pub fn close(&mut self, now: Instant, config: &Config) {
        if self.state != State::Open {
            return;
        }
        let waits = self.transport == Transport::Polling && !(self.poll && self.buffer.is_empty());
        if waits {
            self.state = State::Closing { by: later(now, config.close_timeout) };
        } else {
            self.close_now(CloseReason::ForcedClose);
        }
    }

    fn close_now(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(reason);
            self.upgrade = None;
            self.take_buffer();
        }
    }
}
