//! What the clients of a node do.

use std::{collections::BTreeMap, time::Instant};

use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::{
    node::{Asked, Client, Node, Peer, Room},
    world::{World, room},
};
use crate::{
    Address, Record,
    command::{Command, Delivery, PeerAt, PeerMessage},
    machine::Charge,
};

impl Node {
    pub(super) fn connect(&mut self, world: &mut World, random: usize) {
        let mut bytes = [0; 15];
        bytes[..4].copy_from_slice(&self.tag.0.to_be_bytes());
        bytes[5..13].copy_from_slice(&(self.number() << 20 | random as u64).to_be_bytes());
        let socket = Address::from_bytes(bytes);
        self.clients.push(Client { socket, rooms: BTreeMap::new() });
        self.submit(world, Command::Connected { namespace: "/".into(), socket });
    }

    pub(super) fn join(&mut self, world: &mut World, random: usize, name: &str) {
        if self.clients.is_empty() {
            self.connect(world, random);
        }
        let index = random % self.clients.len();
        let socket = self.clients[index].socket;
        let is_joining = self
            .asked
            .values()
            .any(|(_, asked)| matches!(asked, Asked::Join { socket: other, .. } if *other == socket));
        if is_joining || self.clients[index].rooms.contains_key(name) {
            return;
        }
        let machine = &mut self.machine;
        let entry = self.rooms.entry(name.to_owned());
        let local = entry.or_insert_with(|| Room { route: machine.route(&room(name)), expected: 0 });
        local.route.add(0);
        local.expected += 1;
        let ticket = self.number();
        self.asked.insert(ticket, (world.now, Asked::Join { socket, room: name.to_owned() }));
        let record = Record { socket, profile: "{}".into(), joined: None, updated: None, left: None };
        world.trace(|| format!("node {}: {socket} joins {name}", self.tag));
        self.submit(
            world,
            Command::Join {
                shard: 0,
                ticket,
                room: room(name),
                record: record.into(),
                list: true,
                most: None,
            },
        );
    }

    pub(super) fn leave(&mut self, world: &mut World, random: usize) {
        let Some(index) = (!self.clients.is_empty()).then(|| random % self.clients.len()) else { return };
        if let Some((name, _)) = self.clients[index].rooms.pop_first() {
            self.left(world, &name, self.clients[index].socket);
        }
    }

    pub(super) fn left(&mut self, world: &mut World, name: &str, socket: Address) {
        world.trace(|| format!("node {}: {socket} leaves {name}", self.tag));
        self.close_room_if_unused(world.now, name);
        self.submit(world, Command::Leave { room: room(name), socket });
    }

    pub(super) fn close_room_if_unused(&mut self, now: Instant, name: &str) {
        let is_used = self.clients.iter().any(|client| client.rooms.contains_key(name));
        if is_used || self.rooms.get(name).is_none_or(|room| room.expected > 0) {
            return;
        }
        if let Some(local) = self.rooms.remove(name) {
            local.route.remove(0);
            drop(local);
            self.machine.forget_route(&room(name), now);
        }
    }

    pub(super) fn disconnect(&mut self, world: &mut World, random: usize) {
        let Some(index) = (!self.clients.is_empty()).then(|| random % self.clients.len()) else { return };
        let client = self.clients.swap_remove(index);
        for name in client.rooms.keys() {
            self.left(world, name, client.socket);
        }
        self.submit(world, Command::Disconnected { namespace: "/".into(), socket: client.socket });
    }

    pub(super) fn claim(&mut self, world: &mut World, id: &str, token: &str) {
        let key = self.number() as u32;
        let at = PeerAt { shard: 0, key, generation: 0 };
        let ticket = self.number();
        self.peers.insert(key, Peer { id: id.into(), at, claim: None });
        self.asked.insert(ticket, (world.now, Asked::Claim { key }));
        self.submit(world, Command::Claim { at, ticket, realm: 0, id: id.into(), token: token.into() });
    }

    pub(super) fn release(&mut self, world: &mut World, random: usize) {
        let held: Vec<u32> =
            self.peers.iter().filter(|(_, peer)| peer.claim.is_some()).map(|(key, _)| *key).collect();
        if let Some(key) = held.get(random % held.len().max(1)) {
            self.end_peer(world, *key);
        }
    }

    pub(super) fn end_peer(&mut self, world: &mut World, key: u32) {
        let Some(peer) = self.peers.remove(&key) else { return };
        if let Some(generation) = peer.claim {
            self.submit(world, Command::Release { realm: 0, id: peer.id, generation });
        }
    }

    pub(super) fn send(&mut self, world: &mut World, random: usize, to: &str, text: String) {
        let held: Vec<&Peer> = self.peers.values().filter(|peer| peer.claim.is_some()).collect();
        let Some(peer) = held.get(random % held.len().max(1)) else { return };
        let peer_message = PeerMessage {
            from: PeerAt { generation: peer.claim.unwrap_or_default(), ..peer.at },
            realm: 0,
            kind: Kind::Offer,
            src: peer.id.clone(),
            dst: to.into(),
            frame: Frame::text(&text),
            hops: 0,
            sender: None,
            trace: None,
        };
        self.post(world, peer_message);
    }

    /// As `Cluster::send` does it.
    pub(super) fn post(&mut self, world: &mut World, peer_message: PeerMessage) {
        let holds = |at: &PeerAt| at.generation == peer_message.from.generation;
        if peer_message.hops == 0 && !self.directory.get(&peer_message.src).is_some_and(holds) {
            return;
        }
        match self.directory.get(&peer_message.dst).filter(|_| peer_message.hops < 2).copied() {
            Some(to) => self.mailbox.push_back(Delivery::PeerMessage { to, peer_message }),
            None => {
                let charge = Charge::of(&peer_message);
                self.machine.route_peer_message(world.now, 0, peer_message, charge, &mut self.out);
                self.outputs(world);
            }
        }
    }
}
