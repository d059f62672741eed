//! One node's view of the cluster: what its shards asked, and what its clients were told.

mod rooms;

use std::{collections::VecDeque, sync::Arc};

use crate::{
    address::ShardId,
    command::{Claimed, Command, Delivery, Letter, PeerAt, RealmId, Refused, Ticket},
    record::RoomName,
    route::Route,
    store::{Call, Reply, RoomDelta},
};

/// What the machine waits for, with each call it makes.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Nobody waits.
    Nobody,
    Claim {
        at: PeerAt,
        ticket: Ticket,
        realm: RealmId,
        id: Arc<str>,
    },
    Release {
        realm: RealmId,
        id: Arc<str>,
        generation: u64,
    },
    Letter,
    Expire {
        realm: RealmId,
        src: Arc<str>,
        dst: Arc<str>,
    },
    Peers {
        shard: ShardId,
        ticket: Ticket,
    },
    Join {
        shard: ShardId,
        ticket: Ticket,
        room: RoomName,
        socket: crate::Address,
        list: bool,
    },
    Members {
        shard: ShardId,
        ticket: Ticket,
    },
    Users {
        shard: ShardId,
        ticket: Ticket,
    },
}

/// What comes out of the machine, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Make this call, and give its reply back together with what it answers.
    Call(Call, Pending),
    /// Put this into a shard's inbox.
    Deliver(ShardId, Delivery),
    /// A letter for a connection of this node; it may be dropped if the inbox is full.
    Offer(PeerAt, Letter),
    /// An id is held by a connection now.
    Held { realm: RealmId, id: Arc<str>, at: PeerAt },
    /// A claim of an id ended.
    Freed { realm: RealmId, id: Arc<str>, generation: u64 },
    /// A letter was dropped because too much waits; counted.
    Overflow,
}

pub(crate) type Outputs = VecDeque<Output>;

/// The machine. `congested` in its methods tells whether a shard is too far behind to be told more.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    rooms: rooms::Replicas,
}

impl Machine {
    /// The route of a room, made if there is none.
    pub(crate) fn route(&mut self, room: &RoomName) -> Arc<Route> {
        self.rooms.route(room)
    }

    /// The route of a room that has members on this node.
    pub(crate) fn find_route(&self, room: &RoomName) -> Option<Arc<Route>> {
        self.rooms.find_route(room)
    }

    /// A shard let go of a room's route.
    pub(crate) fn forget_route(&mut self, room: &RoomName) {
        self.rooms.forget_if_unused(room);
    }

    /// A shard asks.
    pub(crate) fn command(
        &mut self,
        command: Command,
        congested: &dyn Fn(ShardId) -> bool,
        out: &mut Outputs,
    ) {
        let (call, pending) = match command {
            Command::Claim { at, ticket, realm, id, token } => {
                (Call::Claim { at, realm, id: id.clone(), token }, Pending::Claim { at, ticket, realm, id })
            }
            Command::Release { realm, id, generation } => (
                Call::Release { realm, id: id.clone(), generation },
                Pending::Release { realm, id, generation },
            ),
            Command::Expire { realm, src, dst, number } => (
                Call::Expire { realm, src: src.clone(), dst: dst.clone(), number },
                Pending::Expire { realm, src, dst },
            ),
            Command::Peers { shard, ticket, realm } => {
                (Call::Peers { realm }, Pending::Peers { shard, ticket })
            }
            Command::Join { shard, ticket, room, record, list } => {
                if self.rooms.is_congested(&room, congested) {
                    let refused = Delivery::Refused { ticket, why: Refused::Busy };
                    out.push_back(Output::Deliver(shard, refused));
                    return;
                }
                let record = Arc::new(record);
                let (namespace, socket) = (room.namespace.clone(), record.socket);
                let profile = record.profile.clone();
                let known = self.rooms.version(&room);
                out.push_back(Output::Call(
                    Call::Put { room: room.clone(), record, known },
                    Pending::Join { shard, ticket, room, socket, list },
                ));
                (Call::SetProfile { namespace, socket, profile }, Pending::Nobody)
            }
            Command::Leave { room, socket } => (Call::Remove { room, socket }, Pending::Nobody),
            Command::Members { shard, ticket, room } => {
                // The replica is what this node's clients were told; a member asking hears the same.
                if let Some(members) = self.rooms.members(&room) {
                    out.push_back(Output::Deliver(shard, Delivery::Members { ticket, members }));
                    return;
                }
                (Call::Records { room }, Pending::Members { shard, ticket })
            }
            Command::Connected { namespace, socket } => {
                (Call::AddUser { namespace, socket }, Pending::Nobody)
            }
            Command::Disconnected { namespace, socket } => {
                (Call::RemoveUser { namespace, socket }, Pending::Nobody)
            }
            Command::Users { shard, ticket, namespace, after } => {
                (Call::Users { namespace, after }, Pending::Users { shard, ticket })
            }
        };
        out.push_back(Output::Call(call, pending));
    }

    /// A letter whose addressee is not known to be on this node.
    pub(crate) fn letter(&mut self, letter: Letter, out: &mut Outputs) {
        out.push_back(Output::Call(Call::DeliverOrQueue(letter), Pending::Letter));
    }

    /// The store answers.
    pub(crate) fn reply(&mut self, pending: Pending, reply: Reply, out: &mut Outputs) {
        match (pending, reply) {
            (Pending::Claim { at, ticket, realm, id }, reply) => {
                let claimed = match reply {
                    Reply::Granted { generation, superseded, waiting } => {
                        if let Some(old) = superseded {
                            out.push_back(Output::Deliver(old.shard, Delivery::Superseded(old)));
                        }
                        let at = PeerAt { generation, ..at };
                        // The answer goes into the inbox before the directory shows the id, so that what waited comes
                        // before what is sent from now on.
                        let claimed = Claimed::Granted { generation, waiting };
                        out.push_back(Output::Deliver(at.shard, Delivery::Claimed { ticket, claimed }));
                        out.push_back(Output::Held { realm, id, at });
                        return;
                    }
                    Reply::LimitReached => Claimed::LimitReached,
                    _ => Claimed::Taken,
                };
                out.push_back(Output::Deliver(at.shard, Delivery::Claimed { ticket, claimed }));
            }
            (Pending::Release { realm, id, generation }, _) => {
                out.push_back(Output::Freed { realm, id, generation });
            }
            (Pending::Letter, Reply::Holder(at, letter)) => out.push_back(Output::Offer(at, letter)),
            (Pending::Letter, Reply::Queued { letter, opened, kept }) => {
                if !kept {
                    out.push_back(Output::Overflow);
                }
                if let Some(number) = opened {
                    let Letter { from, realm, src, dst, .. } = letter;
                    let waiting = Delivery::Waiting { from, realm, src, dst, number };
                    out.push_back(Output::Deliver(from.shard, waiting));
                }
            }
            (Pending::Letter, Reply::Dropped { overflow: true }) => out.push_back(Output::Overflow),
            (Pending::Expire { realm, src, dst }, Reply::Expired { sender: Some(at) }) => {
                let frame = signalbox_peerserver::message::expire_frame(&dst, &src);
                let kind = signalbox_peerserver::Kind::Expire;
                let letter = Letter { from: at, realm, kind, src: dst, dst: src, frame, hops: 0 };
                out.push_back(Output::Offer(at, letter));
            }
            (Pending::Peers { shard, ticket }, Reply::Peers(ids)) => {
                out.push_back(Output::Deliver(shard, Delivery::Peers { ticket, ids }));
            }
            (Pending::Join { shard, ticket, room, socket, list }, Reply::Put { version, records }) => {
                let number = self.rooms.joined(&room, version, records, out);
                let mut members =
                    if list { self.rooms.members(&room).unwrap_or_default() } else { Vec::new() };
                members.retain(|record| record.socket != socket);
                out.push_back(Output::Deliver(shard, Delivery::Joined { ticket, number, members }));
            }
            (Pending::Members { shard, ticket }, Reply::Records { records }) => {
                out.push_back(Output::Deliver(shard, Delivery::Members { ticket, members: records }));
            }
            (Pending::Users { shard, ticket }, Reply::Users(users, more)) => {
                out.push_back(Output::Deliver(shard, Delivery::Users { ticket, users, more }));
            }
            _ => {}
        }
    }

    /// The bus speaks.
    pub(crate) fn bus(&mut self, delta: RoomDelta, out: &mut Outputs) {
        self.rooms.apply(delta, out);
    }
}
