//! A Socket.IO session over long-polling: one connection that polls, one that posts, and perhaps a WebSocket to which it
//! upgrades, in the steps of the Engine.IO protocol.

use anyhow::{Result, bail};

use crate::net::{Event, Net};
use crate::protocol::{Dialect, Target};

/// Connections of a session: what polls, what posts, the WebSocket.
pub(super) const CONNECTIONS: usize = 3;
const POLL: usize = 0;
const POST: usize = 1;
const SOCKET: usize = 2;

/// Between the packets of one payload.
const SEPARATOR: char = '\u{1e}';

/// What became of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// Its room is joined.
    Ready,
    Lost(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    No,
    /// The WebSocket was asked whether it works.
    Probing,
    /// It does; polling ends with what is under way.
    Pausing,
    Done,
}

pub(super) struct Session {
    client: usize,
    target: Target,
    room: String,
    dialect: Dialect,
    /// Empty until the handshake is answered.
    sid: String,
    upgrade: Upgrade,
    is_polling: bool,
    is_posting: bool,
    /// What waits until the present POST, or the upgrade, is done.
    outbox: Vec<String>,
    is_lost: bool,
}

impl Session {
    pub(super) fn new(client: usize, target: Target, room: String, dialect: Dialect) -> Self {
        Self {
            client,
            target,
            room,
            dialect,
            sid: String::new(),
            upgrade: Upgrade::No,
            is_polling: false,
            is_posting: false,
            outbox: Vec::new(),
            is_lost: false,
        }
    }

    /// Sends the handshake.
    pub(super) fn open(&mut self, net: &mut Net) -> Result<()> {
        self.is_polling = true;
        net.connect(self.connection(POLL), &self.target.polling())
    }

    /// Says something to the room.
    pub(super) fn say(&mut self, net: &mut Net, data: &str) {
        let mut packet = Vec::new();
        self.dialect.message(&self.room, data, &mut packet);
        self.send(net, String::from_utf8_lossy(&packet).into_owned());
    }

    /// Begins the upgrade.
    pub(super) fn upgrade(&mut self, net: &mut Net) -> Result<()> {
        self.upgrade = Upgrade::Probing;
        net.connect(self.connection(SOCKET), &self.target.upgrading(&self.sid))
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgrade == Upgrade::Done
    }

    /// Something happened to one of its connections; packets of Socket.IO are told to `heard`.
    pub(super) fn event(
        &mut self,
        net: &mut Net,
        connection: usize,
        event: Event<'_>,
        heard: &mut impl FnMut(&mut Net, usize, &str),
    ) -> Result<News> {
        match (connection % CONNECTIONS, event) {
            (POLL, Event::Response { status: 200, body }) => return self.polled(net, body, heard),
            (POST, Event::Response { status: 200, .. }) => {
                self.is_posting = false;
                self.flush(net)?;
                self.finish_upgrade(net);
            }
            (SOCKET, Event::Open { .. }) => net.send_text(connection, b"2probe"),
            (SOCKET, Event::Text("3probe")) => {
                self.upgrade = Upgrade::Pausing;
                self.finish_upgrade(net);
            }
            (SOCKET, Event::Text(packet)) => return self.packet(net, packet, heard),
            (_, Event::Response { status, body }) => {
                return Ok(self.lost(format!("a request was answered with {status}: {body}")));
            }
            // Servers close connections that are not used, and after the upgrade none is but the WebSocket.
            (POST, Event::Closed { .. }) if !self.is_posting => {}
            (POLL, Event::Closed { .. }) if !self.is_polling => {}
            (_, Event::Closed { reason }) => return Ok(self.lost(reason.to_owned())),
            (_, event) => bail!("unexpected on a connection of a polling session: {event:?}"),
        }
        Ok(News::None)
    }

    fn polled(
        &mut self,
        net: &mut Net,
        body: &str,
        heard: &mut impl FnMut(&mut Net, usize, &str),
    ) -> Result<News> {
        self.is_polling = false;
        let mut news = News::None;
        for packet in body.split(SEPARATOR) {
            match self.packet(net, packet, heard)? {
                News::None => {}
                other => news = other,
            }
        }
        match self.upgrade {
            Upgrade::Pausing | Upgrade::Done => self.finish_upgrade(net),
            _ if self.is_lost => {}
            _ => {
                self.is_polling = true;
                net.send_bytes(self.connection(POLL), &self.target.get(Some(&self.sid)));
            }
        }
        Ok(news)
    }

    fn packet(
        &mut self,
        net: &mut Net,
        packet: &str,
        heard: &mut impl FnMut(&mut Net, usize, &str),
    ) -> Result<News> {
        match packet.as_bytes() {
            [b'0', ..] if self.sid.is_empty() => {
                let sid = packet.split_once(r#""sid":""#).and_then(|(_, rest)| rest.split_once('"'));
                let Some((sid, _)) = sid else { bail!("a handshake without a sid: {packet}") };
                self.sid = sid.to_owned();
                self.send(net, "40".to_owned());
            }
            [b'1', ..] => return Ok(self.lost("the server closed the session".to_owned())),
            b"2" => self.send(net, "3".to_owned()),
            // What releases a poll.
            b"6" => {}
            [b'4', b'0', ..] => {
                let mut join = Vec::new();
                self.dialect.join(&self.room, &mut join);
                self.send(net, String::from_utf8_lossy(&join).into_owned());
            }
            _ if self.dialect.is_joined(packet) => return Ok(News::Ready),
            _ => heard(net, self.client, packet),
        }
        Ok(News::None)
    }

    fn send(&mut self, net: &mut Net, packet: String) {
        if self.is_upgraded() {
            net.send_text(self.connection(SOCKET), packet.as_bytes());
        } else {
            self.outbox.push(packet);
            if let Err(error) = self.flush(net) {
                self.lost(error.to_string());
            }
        }
    }

    /// Posts what waits, unless something is under way. While upgrading, a client keeps what it has to say.
    fn flush(&mut self, net: &mut Net) -> Result<()> {
        if self.is_posting || self.outbox.is_empty() || self.upgrade != Upgrade::No {
            return Ok(());
        }
        self.is_posting = true;
        let payload = std::mem::take(&mut self.outbox).join(&SEPARATOR.to_string());
        let connection = self.connection(POST);
        if net.has_connection(connection) {
            net.send_bytes(connection, &self.target.post(&self.sid, payload.as_bytes()));
            Ok(())
        } else {
            net.connect(connection, &self.target.posting(&self.sid, payload.as_bytes()))
        }
    }

    /// The last step, once nothing is under way on the other connections.
    fn finish_upgrade(&mut self, net: &mut Net) {
        if self.upgrade == Upgrade::Pausing && !self.is_polling && !self.is_posting {
            self.upgrade = Upgrade::Done;
            net.send_text(self.connection(SOCKET), b"5");
            for packet in std::mem::take(&mut self.outbox) {
                net.send_text(self.connection(SOCKET), packet.as_bytes());
            }
        }
    }

    fn lost(&mut self, why: String) -> News {
        if std::mem::replace(&mut self.is_lost, true) { News::None } else { News::Lost(why) }
    }

    fn connection(&self, which: usize) -> usize {
        self.client * CONNECTIONS + which
    }
}
