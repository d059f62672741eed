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

/// Longest remaining time to join a namespace that is accepted from a saved connection.
const MAX_REMAINING: Duration = Duration::from_secs(24 * 60 * 60);

/// A namespace that the client has joined or asked to join, with the server's data about the client's socket there.
#[derive(Debug)]
pub struct Joined<S> {
    /// The namespace's name, with its leading slash.
    pub namespace: Arc<str>,
    /// The server's data.
    pub socket: S,
}

/// The Socket.IO connection over one Engine.IO session. `S` is the server's data about each socket.
#[derive(Debug)]
pub struct Connection<S> {
    sockets: SmallVec<[Joined<S>; 1]>,
    /// Until when a namespace must have been joined; `None` once one was.
    connect_by: Option<Instant>,
    /// A binary packet whose attachments have not all arrived.
    partial: Option<Box<PartialPacket>>,
}

/// The state of a connection, its sockets aside, which another process can continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedConnection {
    /// Milliseconds that remain to join a namespace; `None` once one was joined.
    connect_in: Option<u64>,
    partial: Option<PartialPacket>,
}

/// A binary packet with the attachments that have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PartialPacket {
    text: String,
    missing: usize,
    attachments: Vec<Bytes>,
}

/// A binary packet with all its attachments.
#[derive(Debug)]
pub struct BinaryPacket {
    text: String,
    attachments: Vec<Bytes>,
}

/// What a received packet means.
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
        // A time beyond the clock's range never comes.
        Self { sockets: SmallVec::new(), connect_by: now.checked_add(connect_timeout), partial: None }
    }

    /// The state of the connection, its sockets aside.
    pub fn save(&self, now: Instant) -> SavedConnection {
        let remaining = |by: Instant| by.saturating_duration_since(now).as_millis() as u64;
        SavedConnection {
            connect_in: self.connect_by.map(remaining),
            partial: self.partial.as_deref().cloned(),
        }
    }

    /// Continues a connection that was saved; [`Connection::join`] its sockets again. `None` for a state that no connection can have.
    pub fn restore(now: Instant, saved: SavedConnection) -> Option<Self> {
        let SavedConnection { connect_in, partial } = saved;
        let is_good = partial.as_ref().is_none_or(|partial| (1..=MAX_ATTACHMENTS).contains(&partial.missing));
        let by = |remaining| now + Duration::from_millis(remaining).min(MAX_REMAINING);
        let connect_by = connect_in.map(by);
        is_good.then(|| Self { sockets: SmallVec::new(), connect_by, partial: partial.map(Box::new) })
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
        self.partial = None;
        self.connect_by = None;
        std::mem::take(&mut self.sockets)
    }

    /// Bytes held for a binary packet that is not complete.
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            partial.text.len() + partial.attachments.iter().map(Bytes::len).sum::<usize>()
        })
    }

    /// A text message has arrived.
    ///
    /// # Errors
    /// The client broke the protocol: close the connection.
    pub fn receive_text<'a>(&mut self, text: &'a str) -> Result<Event<'a>, ParseError> {
        if self.partial.is_some() {
            return Err(ParseError::Order);
        }
        let packet = Packet::parse(text)?;
        if packet.attachments > 0 {
            self.check_binary(&packet)?;
            self.partial = Some(Box::new(PartialPacket {
                text: text.to_owned(),
                missing: packet.attachments,
                attachments: Vec::with_capacity(packet.attachments),
            }));
            return Ok(Event::Nothing);
        }
        self.interpret(packet, &[])
    }

    /// A binary message has arrived, which is an attachment. `Some` once it completes a packet: pass that to
    /// [`Connection::interpret_binary`].
    ///
    /// # Errors
    /// The client broke the protocol: close the connection.
    pub fn receive_attachment(&mut self, bytes: Bytes) -> Result<Option<BinaryPacket>, ParseError> {
        let partial = self.partial.as_mut().ok_or(ParseError::Order)?;
        partial.attachments.push(bytes);
        partial.missing -= 1;
        if partial.missing > 0 {
            return Ok(None);
        }
        Ok(self
            .partial
            .take()
            .map(|partial| BinaryPacket { text: partial.text, attachments: partial.attachments }))
    }

    /// What a complete binary packet means.
    ///
    /// # Errors
    /// The client broke the protocol: close the connection.
    pub fn interpret_binary<'a>(&mut self, packet: &'a BinaryPacket) -> Result<Event<'a>, ParseError> {
        let header = Packet::parse(&packet.text)?;
        self.interpret(header, &packet.attachments)
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
