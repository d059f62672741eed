//! A shard as the source of transfers.

use std::time::Instant;

use signalbox_cluster::{Address, Command, RoomName};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_socketio::Joined;

use crate::{
    protocol::{BusMessage, Marker, SessionTransfer},
    routing::{ConnectionRef, DeliveryCursor, Location, RoomCursor, VersionVector},
    session::Session,
    shard::{
        Shard,
        effects::Effect,
        mailbox::{CloseCommand, ShardMessage},
        tables::{PendingRequest, Timer},
        transfer::{
            message::{Confirmation, MovingSession, TransferMessage, TransferredSession},
            path::Path,
            source::{CATCH_UP_TIMEOUT, PREPARE_TIMEOUT, SourceStep, SourceTransfer, UnconfirmedTransfer},
        },
    },
};

impl Shard {
    /// A WebSocket has sent the upgrade packet for a session that lives here.
    pub(in crate::shard) fn upgrade(&mut self, now: Instant, key: u32, connection: ConnectionRef) {
        let config = &self.context.config.engine;
        let session = &mut self.sessions[key];
        // An upgrade that was given up, because the WebSocket's node seemed to be lost or was slow, goes on: its client has left
        // polling, and would be missed only when it does not answer to heartbeats.
        if session.local.probe.is_none() && session.engine.begin_upgrade(now, config) {
            session.local.probe = Some(connection);
        }
        if session.local.probe != Some(connection) {
            self.effects.push(Effect::CloseProbe(connection));
            return;
        }
        session.local.upgrade_to = Some(connection);
        self.continue_upgrade(now, key);
    }

    /// Goes on with an upgrade once nothing of the session is under way on this shard.
    pub(in crate::shard) fn continue_upgrade(&mut self, now: Instant, key: u32) {
        let here = self.context.location();
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(connection) = session.local.upgrade_to else { return };
        if session.in_flight > 0 || session.local.post.is_some() || session.local.is_moving {
            return;
        }
        if connection.location() == here {
            session.local.upgrade_to = None;
            match self.leave_polling(key) {
                Some(frames) => self.attach(now, key, connection, frames),
                None => self.close_probe(connection),
            }
            return;
        }
        session.local.is_moving = true;
        let sid = session.sid;
        let rooms = session.connection.sockets().iter().flat_map(|joined| joined.socket.rooms.iter());
        let rooms = rooms.filter_map(|room| self.rooms.get(*room));
        let rooms: Vec<_> = rooms.map(|room| (room.name.clone(), room.last_change)).collect();
        let path = Path::between(here, connection.location());
        let markers = match path {
            Path::SameNode => self.context.shards,
            Path::OtherNode => {
                self.timers.add(now + CATCH_UP_TIMEOUT, Timer::Transfer { sid });
                self.timers.add(now + PREPARE_TIMEOUT, Timer::Transfer { sid });
                rooms.len()
            }
        };
        self.transfers.outgoing.insert(sid, SourceTransfer::prepare(now, path, connection, markers));
        let prepare = TransferMessage::Prepare { sid, source: here, connection, rooms };
        self.send_transfer(connection.location(), prepare);
    }

    /// The destination is ready.
    pub(super) fn destination_ready(
        &mut self,
        now: Instant,
        sid: Address,
        connection: ConnectionRef,
        received_on_all: VersionVector,
    ) {
        if let Some(transfer) = self.transfers.outgoing_to(sid, connection) {
            transfer.ready(received_on_all);
            self.continue_outgoing(now, sid);
        }
    }

    /// The destination cannot take the session.
    pub(super) fn transfer_refused(&mut self, now: Instant, sid: Address, connection: ConnectionRef) {
        if self.transfers.outgoing_to(sid, connection).is_some() {
            self.give_up_transfer(now, sid);
        }
    }

    /// A marker has come. Unless `is_current`, changes of the room were missed here, and the destination does not know which of them
    /// the client was told.
    pub(super) fn source_marker(
        &mut self,
        now: Instant,
        sid: Address,
        connection: ConnectionRef,
        is_current: bool,
    ) {
        let Some(transfer) = self.transfers.outgoing_to(sid, connection) else { return };
        transfer.marker();
        if is_current {
            self.continue_outgoing(now, sid);
        } else {
            self.give_up_transfer(now, sid);
        }
    }

    /// Everything that the client has sent is published.
    pub(in crate::shard) fn transfer_flushed(
        &mut self,
        now: Instant,
        sid: Address,
        connection: ConnectionRef,
    ) {
        if self.transfers.outgoing_to(sid, connection).is_some() {
            self.send_session(now, sid);
        }
    }

    /// Goes on with a transfer, if there is nothing to wait for.
    pub(super) fn continue_outgoing(&mut self, now: Instant, sid: Address) {
        let (here, received) = (self.context.node, &self.received_on_all);
        let Some(transfer) = self.transfers.outgoing.get_mut(&sid) else { return };
        let connection = transfer.connection;
        match transfer.next(now, here, received) {
            SourceStep::Wait => {}
            SourceStep::Flush => {
                self.publish_markers(sid, connection);
                // The answer comes between two versions of a room, never within one.
                let ticket = self.next_number();
                self.pending.insert(ticket, PendingRequest::Flush { sid, connection });
                self.effects.submit(Command::FlushOutgoing { shard: self.context.id, ticket });
            }
            SourceStep::SendSession => self.send_session(now, sid),
        }
    }

    /// Publishes a marker for the destination in each room of a session, behind everything that its client has said there.
    fn publish_markers(&mut self, sid: Address, connection: ConnectionRef) {
        let Some(key) = self.sessions.find(sid) else { return };
        let marker = Marker { sid, source: connection.location(), connection };
        let marker = BusMessage::Marker(marker).encode(self.context.cluster.write_format());
        let joined = self.sessions[key].connection.sockets().iter();
        for room in joined.flat_map(|joined| &joined.socket.rooms).filter_map(|room| self.rooms.get(*room)) {
            let (room, message) = (Some(room.name.clone()), marker.clone());
            self.effects.push(Effect::Publish { room, message });
        }
    }

    /// The session cannot go where its client waits for it. The client has left polling, so it has to begin anew.
    pub(super) fn give_up_transfer(&mut self, now: Instant, sid: Address) {
        self.context.metrics.upgrades.with_label_values(&["failed"]).inc();
        match self.sessions.find(sid) {
            Some(key) => self.end(now, key, CloseCommand::Lost(CloseReason::TransportError)),
            None => drop(self.transfers.outgoing.remove(&sid)),
        }
    }

    /// The session will not move. What waited for the end of its transfer goes on here.
    pub(in crate::shard) fn stop_transfer(&mut self, key: u32) {
        let session = &mut self.sessions[key];
        let sid = session.sid;
        let Some(connection) = session.local.upgrade_to.take() else { return };
        let deferred = std::mem::take(&mut session.local.deferred);
        if std::mem::take(&mut session.local.is_moving) {
            self.transfers.outgoing.remove(&sid);
            self.send_transfer(connection.location(), TransferMessage::Cancelled { sid, connection });
        }
        for command in deferred {
            self.effects.send(self.context.id, ShardMessage::SocketCommand(command));
        }
    }

    /// The session goes.
    fn send_session(&mut self, now: Instant, sid: Address) {
        let Some(transfer) = self.transfers.outgoing.remove(&sid) else { return };
        let Some(key) = self.sessions.find(sid) else { return };
        debug_assert!(self.sessions[key].in_flight == 0 && self.sessions[key].held_post.is_none());
        let saved = match transfer.path {
            Path::SameNode => None,
            Path::OtherNode => self.sessions[key].save(now),
        };
        let frames = self.leave_polling(key);
        let (connection, to) = (transfer.connection, transfer.connection.location());
        let (session, deferred) = match (transfer.path, frames, saved) {
            (Path::SameNode, Some(frames), _) => {
                let (mut session, rooms, cursor) = self.detach(key, to);
                let deferred = std::mem::take(&mut session.local.deferred);
                let session = TransferredSession { session: session.state, frames, rooms, cursor };
                (MovingSession::Whole(session), deferred)
            }
            (Path::OtherNode, Some(frames), Some(saved)) => {
                let changes: Vec<_> = transfer
                    .changes
                    .into_iter()
                    .filter_map(|(room, subject, digest)| {
                        Some((self.rooms.get(room)?.name.clone(), subject, digest))
                    })
                    .collect();
                self.client_gone();
                self.count_session(Transport::Polling, -1);
                let (mut session, rooms, mut cursor) = self.detach(key, to);
                for room_cursor in &mut cursor.rooms {
                    let of_room = changes.iter().filter(|(room, ..)| *room == room_cursor.room);
                    room_cursor.changes = of_room.map(|(_, subject, digest)| (*subject, *digest)).collect();
                }
                let memberships: Vec<_> = rooms.iter().map(|(id, room)| (room.clone(), *id)).collect();
                let sockets: Vec<_> = session.state.connection.leave_all().into_iter().collect();
                let ids: Vec<_> =
                    sockets.iter().map(|joined| (joined.namespace.clone(), joined.socket.id)).collect();
                let records = self.context.cluster.session_records(&memberships, &ids);
                let disowned = Effect::Disown { memberships: memberships.clone(), sockets: ids };
                self.effects.push(disowned);
                let unconfirmed = UnconfirmedTransfer { memberships, sockets };
                self.transfers.unconfirmed.insert(sid, unconfirmed);
                let frames = frames.iter().map(|frame| frame.bytes().clone()).collect();
                let deferred = std::mem::take(&mut session.local.deferred);
                let principals = session.principals();
                let saved = SessionTransfer {
                    connection,
                    session: saved,
                    frames,
                    rooms,
                    cursor,
                    records,
                    principals,
                };
                (MovingSession::Saved(saved), deferred)
            }
            _ => {
                // The server has closed the session meanwhile, or the upgrade was given up.
                self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
                return;
            }
        };
        let (source, session) = (self.context.location(), Box::new(session));
        self.send_transfer(to, TransferMessage::Session { source, connection, session });
        for command in deferred {
            self.effects.push(Effect::Forward { to, command });
        }
    }

    /// Takes a session out of everything here; what is for it is forwarded from now on. Gives back its rooms, and what it was told.
    fn detach(&mut self, key: u32, to: Location) -> (Session, Vec<(Address, RoomName)>, DeliveryCursor) {
        let mut session = self.sessions.remove(key);
        self.forwarding.insert(session.sid, to);
        let (mut rooms, mut cursors) = (Vec::new(), Vec::new());
        for slot in 0..session.connection.sockets().len() {
            let Some(joined) = session.connection.socket_mut(slot) else { continue };
            let id = joined.socket.id;
            self.forwarding.insert(id, to);
            for room_key in std::mem::take(&mut joined.socket.rooms) {
                let Some(room) = self.rooms.get_mut(room_key) else { continue };
                room.members.swap_remove(&id);
                rooms.push((id, room.name.clone()));
                cursors.push(RoomCursor {
                    room: room.name.clone(),
                    broadcasts: room.received.clone(),
                    last_change: room.last_change,
                    changes: Vec::new(),
                });
                self.rooms.check_later(room_key);
            }
        }
        let cursor = DeliveryCursor {
            node: self.context.node,
            sequences: self.received.to_vec(),
            on_all: self.received_on_all.clone(),
            rooms: cursors,
        };
        (session, rooms, cursor)
    }

    /// The other node has the session, or not, or nobody knows. What is its own by now is not removed by this node.
    pub(super) fn transfer_confirmed(
        &mut self,
        sid: Address,
        connection: ConnectionRef,
        confirmation: Confirmation,
    ) {
        let Some(transfer) = self.transfers.unconfirmed.remove(&sid) else { return };
        let UnconfirmedTransfer { memberships, sockets } = transfer;
        if confirmation == Confirmation::Taken {
            return;
        }
        // A node that is only slow has the session in the end. What is forwarded to one that does not is refused there.
        let is_known = confirmation == Confirmation::Refused;
        self.send_transfer(connection.location(), TransferMessage::Cancelled { sid, connection });
        if is_known {
            self.forwarding.remove(&sid);
        }
        let reason = CloseReason::TransportError.to_string();
        self.context.metrics.disconnects.with_label_values(&["socketio", &reason]).inc();
        for (room, socket) in memberships {
            self.effects.submit(Command::Leave { room, socket });
        }
        for Joined { namespace, socket } in sockets {
            if is_known {
                self.forwarding.remove(&socket.id);
            }
            self.disconnected(&namespace, &socket, &reason);
        }
    }
}
