//! Opens sessions and joins rooms, as fast as the server allows.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::measure::Tally;
use crate::net::{Endpoint, Event, Handler, Net};
use crate::protocol::Dialect;
use crate::run::{Load, Phase};

const CHECK: usize = 0;

/// Opens the sessions of all clients.
pub(crate) struct Setup<'a> {
    load: &'a Load,
    endpoint: Box<dyn Fn(usize) -> Endpoint + 'a>,
    room: Box<dyn Fn(usize) -> Option<String> + 'a>,
    clients: usize,
    next: usize,
    /// The socket id of each client, once it has one.
    ids: Vec<String>,
    tally: Tally,
    /// How many were ready at the last look, to see that it goes on.
    seen: u64,
}

impl<'a> Setup<'a> {
    /// Connects each client to its endpoint.
    pub(crate) fn new(clients: usize, load: &'a Load, endpoint: impl Fn(usize) -> Endpoint + 'a) -> Self {
        Self {
            load,
            endpoint: Box::new(endpoint),
            room: Box::new(|_| None),
            clients,
            next: 0,
            ids: vec![String::new(); clients],
            tally: Tally::default(),
            seen: 0,
        }
    }

    /// Socket.IO clients, spread over the targets.
    pub(crate) fn socketio(clients: usize, load: &'a Load) -> Self {
        let endpoints: Vec<_> = load.targets.iter().map(|target| target.socketio()).collect();
        Self::new(clients, load, move |client| endpoints[client % endpoints.len()].clone())
    }

    /// Each client is in this room before it counts as ready.
    pub(crate) fn in_rooms(mut self, room: impl Fn(usize) -> String + 'a) -> Self {
        self.room = Box::new(move |client| Some(room(client)));
        self
    }

    /// The socket ids of the clients.
    pub(crate) fn into_ids(self) -> Vec<String> {
        self.ids
    }

    fn connect_next(&mut self, net: &mut Net) -> Result<()> {
        if self.next < self.clients {
            let client = self.next;
            self.next += 1;
            net.connect(client, &(self.endpoint)(client))?;
        }
        Ok(())
    }

    fn ready(&mut self, net: &mut Net) -> Result<()> {
        self.tally.connects += 1;
        if self.tally.connects == self.clients as u64 {
            net.stop();
        }
        self.connect_next(net)
    }

    fn dialect(&self) -> Dialect {
        self.load.dialect
    }
}

impl Phase for Setup<'_> {
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        for _ in 0..self.load.window {
            self.connect_next(net)?;
        }
        net.at(now + self.load.patience.duration(), CHECK);
        if self.clients == 0 {
            net.stop();
        }
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Handler for Setup<'_> {
    fn event(&mut self, net: &mut Net, client: usize, event: Event<'_>) -> Result<()> {
        match event {
            Event::Open { id } => {
                self.ids[client] = id.to_owned();
                let Some(room) = (self.room)(client) else { return self.ready(net) };
                let mut packet = Vec::new();
                self.dialect().join(&room, &mut packet);
                net.send_text(client, &packet);
            }
            Event::Text(packet) if self.dialect().is_joined(packet) => self.ready(net)?,
            Event::Text(packet) if packet.starts_with("430[{\"ok\":false") => {
                bail!("the server refused to let a client join: {packet}")
            }
            Event::Text(_) | Event::Response { .. } => {}
            Event::Closed { reason } => bail!(
                "connection {} of {} failed: {reason} (is the server up, and allowed that many open files and clients?)",
                self.tally.connects + 1,
                self.clients
            ),
        }
        Ok(())
    }

    fn timer(&mut self, net: &mut Net, _: usize, due: Instant) -> Result<()> {
        let ready = self.tally.connects;
        if ready == self.seen {
            bail!(
                "{ready} of {} clients were ready when nothing more happened for {} s (is --dialect the server's? more --patience?)",
                self.clients,
                self.load.patience.get()
            );
        }
        self.seen = ready;
        net.at(due + self.load.patience.duration(), CHECK);
        Ok(())
    }
}
