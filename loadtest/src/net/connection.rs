//! One connection: what it has to send, what of its input is incomplete, and what its protocol expects next.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Result, bail};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::sources::Sources;
use super::{frame, response};

/// What is spoken on a connection, and thereby when it counts as open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Socket.IO over a WebSocket: open once the namespace `/` is joined.
    SocketIo,
    /// PeerServer: open with its OPEN.
    PeerServer,
    /// A WebSocket and nothing else: open after its handshake.
    WebSocket,
    /// HTTP/1.1 with keep-alive, which has no session.
    Http,
}

/// Where to connect to, and what to say first.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) server: SocketAddr,
    pub(crate) protocol: Protocol,
    /// The first request, shared by all clients that send the same.
    pub(crate) request: Rc<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    /// The handshake is done, the session is not yet open.
    Opening,
    /// The namespace was asked for.
    Joining,
    Open,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Nothing,
    Open(&'a str),
    Text(&'a str),
    Response(u16, &'a str),
    End(&'a str),
}

pub(super) struct Connection {
    stream: TcpStream,
    protocol: Protocol,
    stage: Stage,
    request: Rc<[u8]>,
    /// What of the input is not complete yet.
    partial: Vec<u8>,
    /// What the socket did not take yet.
    outbox: Vec<u8>,
    stalled: bool,
}

impl Connection {
    pub(super) fn start(
        endpoint: &Endpoint,
        sources: &mut Sources,
        registry: &Registry,
        token: Token,
    ) -> Result<Self> {
        let mut stream = sources.connect(endpoint.server)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            protocol: endpoint.protocol,
            stage: Stage::Connecting,
            request: Rc::clone(&endpoint.request),
            partial: Vec::new(),
            outbox: Vec::new(),
            stalled: false,
        })
    }

    /// Whether it has a session; a connection for requests has none of its own.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open && self.protocol != Protocol::Http
    }

    pub(super) fn stall(&mut self) {
        self.stalled = true;
    }

    pub(super) fn writable(&mut self) -> io::Result<()> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            if let Err(error) = self.stream.peer_addr() {
                // An event of an earlier connection in this slot.
                return if error.kind() == ErrorKind::NotConnected { Ok(()) } else { Err(error) };
            }
            self.stage = if self.protocol == Protocol::Http { Stage::Open } else { Stage::Upgrading };
            let request = std::mem::take(&mut self.request);
            self.write(&request);
        }
        if !self.outbox.is_empty() {
            let waiting = std::mem::take(&mut self.outbox);
            self.write(&waiting);
        }
        Ok(())
    }

    /// Sends, or keeps what the socket does not take. A broken connection is found when it is read.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.outbox.is_empty() && self.stage != Stage::Connecting && !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.outbox.extend_from_slice(rest);
    }

    /// Fills `buffer` with what is to be parsed next: how much that is, and whether the socket is empty for now. `None`
    /// if nothing has arrived.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<(usize, bool)>> {
        if self.stalled || self.stage == Stage::Connecting {
            return Ok(None);
        }
        let kept = self.partial.len();
        if buffer.len() < kept * 2 {
            buffer.resize(kept * 2, 0);
        }
        buffer[..kept].copy_from_slice(&self.partial);
        let room = buffer.len() - kept;
        loop {
            match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the server")),
                Ok(read) => {
                    self.partial.clear();
                    return Ok(Some((kept + read, read < room)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what was read and not used.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            // A client that once got a large frame does not hold its memory.
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(rest);
        }
    }

    /// What stands at the front of `bytes`, and how long it is.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Input<'a>, usize)>> {
        if self.protocol == Protocol::Http {
            let Some(response) = response::parse(bytes)? else { return Ok(None) };
            let body = std::str::from_utf8(response.body)?;
            return Ok(Some((Input::Response(response.status, body), response.length)));
        }
        if self.stage == Stage::Upgrading {
            let Some(response) = response::parse(bytes)? else { return Ok(None) };
            if response.status != 101 {
                let body = String::from_utf8_lossy(response.body);
                bail!("the handshake was answered with {}: {body}", response.status);
            }
            self.stage = Stage::Opening;
            let input = if self.protocol == Protocol::WebSocket { self.opened("") } else { Input::Nothing };
            return Ok(Some((input, response.length)));
        }
        let Some((opcode, payload, length)) = frame::parse(bytes)? else { return Ok(None) };
        let input = match opcode {
            frame::TEXT => self.text(std::str::from_utf8(payload)?)?,
            frame::PING => {
                self.send(frame::PONG, payload);
                Input::Nothing
            }
            frame::CLOSE => Input::End("closed by the server"),
            frame::BINARY | frame::PONG => Input::Nothing,
            other => bail!("the server sent a frame of unknown kind {other}"),
        };
        Ok(Some((input, length)))
    }

    fn text<'a>(&mut self, text: &'a str) -> Result<Input<'a>> {
        let input = match (self.protocol, self.stage) {
            (Protocol::SocketIo, Stage::Open) if text == "2" => {
                self.send(frame::TEXT, b"3");
                Input::Nothing
            }
            (_, Stage::Open) => Input::Text(text),
            (Protocol::SocketIo, Stage::Opening) if text.starts_with("0{") => {
                self.send(frame::TEXT, b"40");
                self.stage = Stage::Joining;
                Input::Nothing
            }
            (Protocol::SocketIo, Stage::Joining) if text == "2" => {
                self.send(frame::TEXT, b"3");
                Input::Nothing
            }
            (Protocol::SocketIo, Stage::Joining) if text.starts_with("40") => self.opened(socket_id(text)),
            (Protocol::PeerServer, Stage::Opening) if text == r#"{"type":"OPEN"}"# => self.opened(""),
            _ => bail!("the session was not opened but answered with {text:?}"),
        };
        Ok(input)
    }

    fn opened<'a>(&mut self, id: &'a str) -> Input<'a> {
        self.stage = Stage::Open;
        Input::Open(id)
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut wire = Vec::with_capacity(payload.len() + 8);
        frame::mask(opcode, payload, &mut wire);
        self.write(&wire);
    }
}

/// The id in `40{"sid":"..."}`; a server without ids has none.
fn socket_id(text: &str) -> &str {
    text.split_once(r#""sid":""#).and_then(|(_, rest)| rest.split_once('"')).map_or("", |(id, _)| id)
}
