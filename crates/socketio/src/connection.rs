//! One client's connection: which namespaces it has joined, and what its packets mean.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    MAX_ATTACHMENTS, args,
    packet::{Kind, Packet, ParseError},
};

/// The longest time to join a namespace that is believed of a saved connection.
const MAX_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// A namespace the client has joined, or asked to join, with whatever the server keeps about its socket there.
#[derive(Debug)]
pub struct Joined<S> {
    /// The namespace's name, with its leading slash.
    pub namespace: Arc<str>,
    /// The server's part.
    pub socket: S,
}

/// The Socket.IO connection over one Engine.IO session. `S` is what the server keeps about each socket.
#[derive(Debug)]
pub struct Connection<S> {
    sockets: SmallVec<[Joined<S>; 1]>,
    /// Until when a namespace must have been joined; `None` once one was.
    connect_by: Option<Instant>,
    /// A binary packet that waits for its attachments.
    half: Option<Box<Half>>,
}

/// What a connection is besides its sockets, as a value that another process can go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Milliseconds that are left to join a namespace.
    connect_in: Option<u64>,
    half: Option<Half>,
}

/// A packet with attachments, as they come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Half {
    text: String,
    missing: usize,
    attachments: Vec<Bytes>,
}

/// A binary packet with all its attachments.
#[derive(Debug)]
pub struct Whole {
    text: String,
    attachments: Vec<Bytes>,
}

/// What a packet means.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The client asks to join a namespace. Answer with CONNECT after [`Connection::join`], or with CONNECT_ERROR.
    Connect {
        /// Its name.
        namespace: &'a str,
        /// The CONNECT payload, a JSON object.
        auth: Option<&'a str>,
    },
    /// The client left the namespace of this slot; remove it with [`Connection::leave`].
    Disconnect {
        /// Index of the socket.
        slot: usize,
    },
    /// An event for the socket in this slot.
    Event {
        /// Index of the socket.
        slot: usize,
        /// The client wants an ack with this id.
        id: Option<u64>,
        /// A JSON array, checked: an event's name and its arguments. Empty for the event without anything (`42`).
        body: &'a str,
        /// Binary attachments.
        attachments: &'a [Bytes],
    },
    /// An answer to an event the server sent.
    Ack {
        /// Index of the socket.
        slot: usize,
        /// The id the server gave.
        id: u64,
        /// A JSON array, checked.
        body: &'a str,
        /// Binary attachments.
        attachments: &'a [Bytes],
    },
    /// Nothing to do (an incomplete binary packet, an ack without an id).
    Nothing,
}

impl<S> Connection<S> {
    /// A connection that must join a namespace within `connect_timeout`.
    pub fn new(now: Instant, connect_timeout: Duration) -> Self {
        Self { sockets: SmallVec::new(), connect_by: Some(now + connect_timeout), half: None }
    }

    /// What the connection is besides its sockets.
    pub fn save(&self, now: Instant) -> Saved {
        let rest = |by: Instant| by.saturating_duration_since(now).as_millis() as u64;
        Saved { connect_in: self.connect_by.map(rest), half: self.half.as_deref().cloned() }
    }

    /// Goes on with a connection that was saved: [`Connection::join`] its sockets again. `None` when nothing can have been saved like
    /// this.
    pub fn restore(now: Instant, saved: Saved) -> Option<Self> {
        let Saved { connect_in, half } = saved;
        let is_good = half.as_ref().is_none_or(|half| (1..=MAX_ATTACHMENTS).contains(&half.missing));
        let by = |rest| now + Duration::from_millis(rest).min(MAX_REST);
        let connect_by = connect_in.map(by);
        is_good.then(|| Self { sockets: SmallVec::new(), connect_by, half: half.map(Box::new) })
    }

    /// When the connection is to be closed, unless it joins a namespace before.
    pub fn deadline(&self) -> Option<Instant> {
        self.connect_by
    }

    /// The sockets; a slot is an index into them.
    pub fn sockets(&self) -> &[Joined<S>] {
        &self.sockets
    }

    /// The socket in `slot`.
    pub fn socket_mut(&mut self, slot: usize) -> Option<&mut Joined<S>> {
        self.sockets.get_mut(slot)
    }

    /// The slot of a namespace.
    pub fn slot(&self, namespace: &str) -> Option<usize> {
        self.sockets.iter().position(|joined| &*joined.namespace == namespace)
    }

    /// Adds a namespace; from now on its packets are accepted. Returns the slot.
    pub fn join(&mut self, namespace: Arc<str>, socket: S) -> usize {
        debug_assert!(self.slot(&namespace).is_none());
        self.connect_by = None;
        self.sockets.push(Joined { namespace, socket });
        self.sockets.len() - 1
    }

    /// Removes a namespace. The slots behind it move up by one.
    pub fn leave(&mut self, slot: usize) -> Option<Joined<S>> {
        (slot < self.sockets.len()).then(|| self.sockets.remove(slot))
    }

    /// Removes every namespace: the connection is over.
    pub fn leave_all(&mut self) -> SmallVec<[Joined<S>; 1]> {
        self.half = None;
        self.connect_by = None;
        std::mem::take(&mut self.sockets)
    }

    /// Bytes held for a binary packet that is not complete.
    pub fn buffered(&self) -> usize {
        self.half
            .as_ref()
            .map_or(0, |half| half.text.len() + half.attachments.iter().map(Bytes::len).sum::<usize>())
    }

    /// A text message has arrived.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn text<'a>(&mut self, text: &'a str) -> Result<Event<'a>, ParseError> {
        if self.half.is_some() {
            return Err(ParseError::Order);
        }
        let packet = Packet::parse(text)?;
        if packet.attachments > 0 {
            self.check_binary(&packet)?;
            self.half = Some(Box::new(Half {
                text: text.to_owned(),
                missing: packet.attachments,
                attachments: Vec::with_capacity(packet.attachments),
            }));
            return Ok(Event::Nothing);
        }
        self.interpret(packet, &[])
    }

    /// A binary message has arrived. When it completes a packet, ask [`Connection::whole`] what it means.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn binary(&mut self, bytes: Bytes) -> Result<Option<Whole>, ParseError> {
        let half = self.half.as_mut().ok_or(ParseError::Order)?;
        half.attachments.push(bytes);
        half.missing -= 1;
        if half.missing > 0 {
            return Ok(None);
        }
        Ok(self.half.take().map(|half| Whole { text: half.text, attachments: half.attachments }))
    }

    /// What a completed binary packet means.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn whole<'a>(&mut self, whole: &'a Whole) -> Result<Event<'a>, ParseError> {
        let packet = Packet::parse(&whole.text)?;
        self.interpret(packet, &whole.attachments)
    }

    /// A binary packet is checked before its attachments are waited for.
    fn check_binary(&self, packet: &Packet<'_>) -> Result<(), ParseError> {
        let elements = args::split(packet.body)?;
        if packet.kind == Kind::BinaryEvent && !args::is_event(&elements) {
            return Err(ParseError::Payload);
        }
        self.slot(packet.namespace).ok_or(ParseError::Order)?;
        args::check_placeholders(packet.body, packet.attachments)
    }

    fn interpret<'a>(
        &mut self,
        packet: Packet<'a>,
        attachments: &'a [Bytes],
    ) -> Result<Event<'a>, ParseError> {
        let slot = self.slot(packet.namespace);
        let Packet { kind, namespace, id, body, .. } = packet;
        match kind {
            Kind::Connect => {
                if slot.is_some() {
                    return Err(ParseError::Order);
                }
                let auth = match body.trim_start().as_bytes().first() {
                    None => None,
                    Some(b'{') => {
                        serde_json::from_str::<&serde_json::value::RawValue>(body)
                            .map_err(|_| ParseError::Payload)?;
                        Some(body)
                    }
                    Some(_) => return Err(ParseError::Payload),
                };
                Ok(Event::Connect { namespace, auth })
            }
            Kind::Disconnect => match (slot, body) {
                (Some(slot), "") => Ok(Event::Disconnect { slot }),
                (None, "") => Err(ParseError::Order),
                _ => Err(ParseError::Payload),
            },
            Kind::Event | Kind::BinaryEvent => {
                if !body.is_empty() && !args::is_event(&args::split(body)?) {
                    return Err(ParseError::Payload);
                }
                let slot = slot.ok_or(ParseError::Order)?;
                Ok(Event::Event { slot, id, body, attachments })
            }
            Kind::Ack | Kind::BinaryAck => {
                if !body.is_empty() {
                    args::split(body)?;
                }
                let slot = slot.ok_or(ParseError::Order)?;
                match id {
                    Some(id) if !body.is_empty() => Ok(Event::Ack { slot, id, body, attachments }),
                    _ => Ok(Event::Nothing),
                }
            }
            Kind::ConnectError => Err(ParseError::Order),
        }
    }
}

#[cfg(test)]
mod tests;
