//! Readiness, reads, and one `send()` for each recipient.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    frame::{self, CLOSE, TEXT},
    handshake,
    packet::{self, Packet},
    rooms::{Key, Rooms},
};

const LISTENER: Token = Token(usize::MAX);
/// Connections that wait to be accepted; the usual limit of the system.
const BACKLOG: i32 = 4096;
/// Bytes read at once, into a buffer that all connections share.
const SCRATCH: usize = 64 * 1024;
/// Readiness taken from the kernel at once.
const EVENTS: usize = 1024;
/// A request's head may have this many bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Nothing here is kept for a message: an idle connection is this and what the kernel has of it.
struct Connection {
    stream: TcpStream,
    /// The bytes of a request or frame of which the rest is missing. Empty, and without memory, nearly always.
    rest: Vec<u8>,
    /// To leave them when it goes.
    rooms: Vec<Box<[u8]>>,
    /// The WebSocket handshake was answered.
    is_open: bool,
}

/// The connection is over.
struct Gone;

pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    rooms: Rooms,
    /// The frame that is being sent.
    frame: Vec<u8>,
    /// Connections that did not take a frame whole.
    cut_off: Vec<Key>,
    /// Numbers the sockets.
    last_sid: u64,
}

impl Server {
    /// Listens at a port of 127.0.0.1.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: Slab::new(),
            rooms: Rooms::default(),
            frame: Vec::new(),
            cut_off: Vec::new(),
            last_sid: 0,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is killed.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut scratch = vec![0; SCRATCH];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(key) => {
                        let is_over = event.is_read_closed();
                        if self.read(key, is_over, &mut scratch).is_err() {
                            self.drop_connection(key);
                        }
                    }
                }
            }
            while let Some(key) = self.cut_off.pop() {
                self.drop_connection(key);
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // It has gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let entry = self.connections.vacant_entry();
            self.poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE)?;
            entry.insert(Connection { stream, rest: Vec::new(), rooms: Vec::new(), is_open: false });
        }
    }

    fn drop_connection(&mut self, key: Key) {
        let Some(connection) = self.connections.try_remove(key) else { return };
        for room in &connection.rooms {
            self.rooms.leave(room, key);
        }
    }

    /// Reads what a connection has. Less than a full buffer is all of it, and what comes later is another event; only the end
    /// of the stream may come with the data before it.
    fn read(&mut self, key: Key, is_over: bool, scratch: &mut [u8]) -> Result<(), Gone> {
        loop {
            // It may have gone since the kernel told of it.
            let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
            let read = match connection.stream.read(scratch) {
                Ok(0) => return Err(Gone),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Gone),
            };
            if connection.rest.is_empty() {
                let used = self.take_in(key, &mut scratch[..read])?;
                if used < read {
                    self.connections[key].rest = scratch[used..read].to_vec();
                }
            } else {
                let mut input = std::mem::take(&mut connection.rest);
                input.extend_from_slice(&scratch[..read]);
                let used = self.take_in(key, &mut input)?;
                if used < input.len() {
                    input.drain(..used);
                    self.connections[key].rest = input;
                }
            }
            if read < scratch.len() && !is_over {
                return Ok(());
            }
        }
    }

    /// Does what the input asks for; returns how much of it was complete.
    fn take_in(&mut self, key: Key, input: &mut [u8]) -> Result<usize, Gone> {
        let mut used = 0;
        if !self.connections[key].is_open {
            let Some(len) = handshake::head_len(input) else {
                return if input.len() > MAX_HEAD { Err(Gone) } else { Ok(0) };
            };
            self.open(key, &input[..len])?;
            used = len;
        }
        while let Some(frame) = frame::read(&mut input[used..]).map_err(|_| Gone)? {
            let payload = &input[used..][frame.payload.clone()];
            match frame.opcode {
                TEXT => self.packet(key, payload)?,
                CLOSE => {
                    self.send(key, CLOSE, &[payload])?;
                    return Err(Gone);
                }
                _ => {}
            }
            used += frame.payload.end;
        }
        Ok(used)
    }

    /// Answers the handshake and opens the Engine.IO session.
    fn open(&mut self, key: Key, head: &[u8]) -> Result<(), Gone> {
        let connection = &mut self.connections[key];
        let Some(answer) = handshake::answer(head) else {
            // Whether it reads this is its own affair: the connection ends either way.
            let _ = send_whole(&connection.stream, handshake::REFUSAL);
            return Err(Gone);
        };
        send_whole(&connection.stream, answer.as_bytes())?;
        connection.is_open = true;
        let sid = self.next_sid();
        // A day between pings: it sends none.
        let open = br#"","upgrades":[],"pingInterval":86400000,"pingTimeout":20000,"maxPayload":1000000}"#;
        self.send(key, TEXT, &[br#"0{"sid":""#, sid.as_bytes(), open])
    }

    fn packet(&mut self, key: Key, text: &[u8]) -> Result<(), Gone> {
        match packet::read(text) {
            Packet::Message { room, data } => {
                self.tell(key, room, data);
                Ok(())
            }
            Packet::Echo => self.send(key, TEXT, &[text]),
            Packet::Join { id, room } => {
                if self.rooms.join(room, key) {
                    self.connections[key].rooms.push(room.into());
                }
                if id.is_empty() {
                    return Ok(());
                }
                self.send(key, TEXT, &[b"43", id, br#"[{"ok":true}]"#])
            }
            Packet::Connect => {
                let sid = self.next_sid();
                self.send(key, TEXT, &[br#"40{"sid":""#, sid.as_bytes(), br#""}"#])
            }
            Packet::Other => Ok(()),
        }
    }

    /// The heart of it: one frame, made once, and one `send()` for each other member.
    fn tell(&mut self, from: Key, room: &[u8], data: &[u8]) {
        frame::write(&mut self.frame, TEXT, &[br#"42["message","#, data]);
        for member in self.rooms.members(room) {
            if *member != from && send_whole(&self.connections[*member].stream, &self.frame).is_err() {
                self.cut_off.push(*member);
            }
        }
    }

    fn send(&mut self, key: Key, opcode: u8, parts: &[&[u8]]) -> Result<(), Gone> {
        frame::write(&mut self.frame, opcode, parts);
        send_whole(&self.connections[key].stream, &self.frame)
    }

    /// An id of 20 characters, as Socket.IO's are.
    fn next_sid(&mut self) -> String {
        self.last_sid += 1;
        format!("{:020}", self.last_sid)
    }
}

/// Sends everything with one system call. Who does not take it all would need a buffer, and there is none.
fn send_whole(mut stream: &TcpStream, bytes: &[u8]) -> Result<(), Gone> {
    match stream.write(bytes) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        _ => Err(Gone),
    }
}
