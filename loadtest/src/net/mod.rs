//! Many clients on one thread, at a cost per message that leaves the server the slower of the two.
//!
//! - [`Net`]: the event loop; slots for connections, timers, one read buffer for all.
//! - [`connection`]: one connection and what its protocol expects next.
//! - [`frame`], [`response`]: parsers over borrowed bytes.
//! - [`sources`]: local addresses to connect from.
//! - [`alarm`]: timers that are more precise than the poll.

mod alarm;
mod connection;
mod frame;
mod response;
mod sources;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mio::{Events, Poll, Token};

use alarm::Alarm;
use connection::{Connection, Input};
pub(crate) use connection::{Endpoint, Protocol};
pub(crate) use sources::Sources;

const ALARM: Token = Token(usize::MAX);
/// So few that a due message does not wait long behind arrivals.
const EVENTS: usize = 128;
/// What is read at once; it grows for larger frames.
const READ: usize = 256 * 1024;
/// How often a run reports its progress.
const WATCH: Duration = Duration::from_millis(250);

/// What happens to a client.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Its session stands: the namespace is joined (with this socket id), the PeerServer said OPEN, or the handshake of
    /// a bare WebSocket is done.
    Open { id: &'a str },
    /// A text message after that; the protocol's own pings are answered already.
    Text(&'a str),
    /// The response to a request.
    Response { status: u16, body: &'a str },
    /// The connection is gone, and not because we closed it.
    Closed { reason: &'a str },
}

/// What clients do when something happens.
pub(crate) trait Handler {
    /// Something happened to a client.
    fn event(&mut self, net: &mut Net, client: usize, event: Event<'_>) -> Result<()>;

    /// The timer with this key is due; `due` is when it should have been.
    fn timer(&mut self, net: &mut Net, key: usize, due: Instant) -> Result<()>;
}

/// The event loop.
pub(crate) struct Net {
    poll: Poll,
    alarm: Alarm,
    sources: Sources,
    /// The connection of each client, and how many it has had: a number tells an old one from a new one.
    slots: Vec<(u32, Option<Connection>)>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    open: u64,
    stopped: bool,
}

impl Net {
    /// A loop with room for this many clients.
    pub(crate) fn new(clients: usize, sources: Sources) -> Result<Self> {
        sources::raise_open_files(clients)?;
        let poll = Poll::new().context("cannot make an event queue")?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let slots = std::iter::repeat_with(|| (0, None)).take(clients).collect();
        Ok(Self {
            poll,
            alarm,
            sources,
            slots,
            timers: BinaryHeap::new(),
            buffer: vec![0; READ],
            scratch: Vec::new(),
            open: 0,
            stopped: false,
        })
    }

    /// How many clients have a session.
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    /// Begins to connect a client; an earlier connection of it is closed.
    pub(crate) fn connect(&mut self, client: usize, endpoint: &Endpoint) -> Result<()> {
        self.close(client);
        let connection = Connection::start(endpoint, &mut self.sources, self.poll.registry(), Token(client))?;
        self.slots[client].1 = Some(connection);
        Ok(())
    }

    /// Closes a client's connection without a word; no event follows.
    pub(crate) fn close(&mut self, client: usize) {
        let (generation, slot) = &mut self.slots[client];
        if let Some(connection) = slot.take() {
            *generation += 1;
            self.open -= u64::from(connection.is_open());
        }
    }

    /// Whether the client has a connection, complete or not.
    pub(crate) fn has_connection(&self, client: usize) -> bool {
        self.slots[client].1.is_some()
    }

    /// The client stops reading.
    pub(crate) fn stall(&mut self, client: usize) {
        if let Some(connection) = &mut self.slots[client].1 {
            connection.stall();
        }
    }

    /// Sends a text message. To a client without a connection it is lost, as it would be to a real one.
    pub(crate) fn send_text(&mut self, client: usize, payload: &[u8]) {
        self.scratch.clear();
        frame::mask(frame::TEXT, payload, &mut self.scratch);
        if let Some(connection) = &mut self.slots[client].1 {
            connection.write(&self.scratch);
        }
    }

    /// Sends bytes as they are: a request.
    pub(crate) fn send_bytes(&mut self, client: usize, bytes: &[u8]) {
        if let Some(connection) = &mut self.slots[client].1 {
            connection.write(bytes);
        }
    }

    /// Has [`Handler::timer`] called with `key` at `due`.
    pub(crate) fn at(&mut self, due: Instant, key: usize) {
        self.timers.push(Reverse((due, key)));
    }

    /// Makes the present [`Net::run`] return, and forgets its timers.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Serves the clients until [`Net::stop`]; `watch` is called now and then.
    pub(crate) fn run<H: Handler>(
        &mut self,
        handler: &mut H,
        mut watch: impl FnMut(&H, &Self),
    ) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut next_watch = Instant::now() + WATCH;
        self.stopped = false;
        while !self.stopped {
            let now = Instant::now();
            if now >= next_watch {
                watch(handler, self);
                next_watch = now + WATCH;
            }
            self.ring(handler, now)?;
            let next = self.timers.peek().map_or(next_watch, |Reverse((due, _))| next_watch.min(*due));
            self.alarm.arm(next, now)?;
            if let Err(error) = self.poll.poll(&mut events, None)
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(error.into());
            }
            for event in &events {
                if event.token() == ALARM {
                    self.alarm.rang();
                    continue;
                }
                let client = event.token().0;
                if event.is_writable() {
                    self.writable(client, handler)?;
                }
                if event.is_readable() || event.is_error() || event.is_read_closed() {
                    self.readable(client, event.is_read_closed() || event.is_error(), handler)?;
                }
            }
        }
        self.timers.clear();
        Ok(())
    }

    fn ring(&mut self, handler: &mut impl Handler, now: Instant) -> Result<()> {
        while let Some(&Reverse((due, key))) = self.timers.peek()
            && due <= now
            && !self.stopped
        {
            self.timers.pop();
            handler.timer(self, key, due)?;
        }
        Ok(())
    }

    fn writable(&mut self, client: usize, handler: &mut impl Handler) -> Result<()> {
        match self.slots[client].1.as_mut().map(Connection::writable) {
            Some(Err(error)) => self.lost(client, handler, &error.to_string()),
            _ => Ok(()),
        }
    }

    fn readable(&mut self, client: usize, ended: bool, handler: &mut impl Handler) -> Result<()> {
        // Taken out, so that a handler can be given the loop while it looks at what was read.
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.read(client, ended, &mut buffer, handler);
        self.buffer = buffer;
        match outcome? {
            Some(reason) => self.lost(client, handler, &reason),
            None => Ok(()),
        }
    }

    /// Reads what there is; gives back why the connection ended, if it did. A read that leaves room has emptied the
    /// socket, except that the end of the stream may follow, of which no other event would tell.
    fn read(
        &mut self,
        client: usize,
        ended: bool,
        buffer: &mut Vec<u8>,
        handler: &mut impl Handler,
    ) -> Result<Option<String>> {
        loop {
            let (generation, Some(connection)) = &mut self.slots[client] else { return Ok(None) };
            let generation = *generation;
            let (filled, drained) = match connection.read(buffer) {
                Ok(Some(read)) => read,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error.to_string())),
            };
            let mut used = 0;
            loop {
                let Some(connection) = &mut self.slots[client].1 else { return Ok(None) };
                let (input, length) = match connection.next(&buffer[used..filled]) {
                    Ok(Some(next)) => next,
                    Ok(None) => break,
                    Err(error) => return Ok(Some(error.to_string())),
                };
                used += length;
                match input {
                    Input::Nothing => {}
                    Input::Open(id) => {
                        self.open += 1;
                        handler.event(self, client, Event::Open { id })?;
                    }
                    Input::Text(text) => handler.event(self, client, Event::Text(text))?,
                    Input::Response(status, body) => {
                        handler.event(self, client, Event::Response { status, body })?;
                    }
                    Input::End(reason) => return Ok(Some(reason.to_owned())),
                }
                // The handler may have closed it, or connected the client anew.
                if self.slots[client].0 != generation {
                    return Ok(None);
                }
            }
            if let Some(connection) = &mut self.slots[client].1 {
                connection.keep(&buffer[used..filled]);
            }
            if drained && !ended {
                return Ok(None);
            }
        }
    }

    fn lost(&mut self, client: usize, handler: &mut impl Handler, reason: &str) -> Result<()> {
        if self.has_connection(client) {
            self.close(client);
            handler.event(self, client, Event::Closed { reason })?;
        }
        Ok(())
    }
}
