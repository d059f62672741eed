//! Transfers: what their two ends send each other, and their timers.

use std::time::Instant;

use signalbox_cluster::Address;

use crate::{
    protocol::Marker,
    routing::{Broadcast, ConnectionRef},
    shard::{
        Shard, fanout,
        mailbox::ShardMessage,
        transfer::{
            message::{SessionInTransfer, TransferMessage},
            path::Path,
            source::{CATCH_UP_TIMEOUT, PREPARE_TIMEOUT},
        },
        transfers::{
            incoming::{self, Prepare},
            outgoing,
        },
    },
};

impl Shard {
    /// A step of a session's transfer.
    pub(in crate::shard) fn transfer_message(&mut self, message: TransferMessage) {
        let Self { step, sessions, rooms, transfers, probes, pending, sequences, .. } = self;
        match message {
            TransferMessage::Prepare { sid, source, connection, rooms: joined } => {
                let prepare = Prepare { sid, source, connection, joined };
                incoming::prepare(step, rooms, transfers, probes, pending, sequences, prepare);
            }
            TransferMessage::RequestMarker { sid, reply_to, connection } => {
                let marker = TransferMessage::ShardMarker { sid, connection };
                step.effects.send(reply_to, ShardMessage::Transfer(marker));
            }
            TransferMessage::ShardMarker { sid, connection } => self.shard_marker(sid, connection),
            TransferMessage::RoomMarker { marker: Marker { sid, connection, .. }, is_current } => {
                match connection.location() == step.context.location() {
                    true => {
                        let caught_up = incoming::marker_of_source(transfers, sid, connection);
                        self.caught_up(caught_up);
                    }
                    false => self.source_marker(sid, connection, is_current),
                }
            }
            TransferMessage::Ready { sid, connection, received_on_all } => {
                if let Some(transfer) = transfers.outgoing_to(sid, connection) {
                    transfer.ready(received_on_all);
                    self.continue_transfer(sid);
                }
            }
            TransferMessage::Refused { sid, connection } => {
                if transfers.outgoing_to(sid, connection).is_some() {
                    outgoing::give_up(step, sessions, rooms, transfers, sid, "refused");
                }
            }
            TransferMessage::Session { source, connection, session } => {
                let session = match *session {
                    SessionInTransfer::Whole(session) => Some(session),
                    SessionInTransfer::Saved(saved) => {
                        incoming::adopt(step, rooms, transfers, probes, pending, source, saved)
                    }
                };
                if let Some(session) = session {
                    incoming::take_session(step, sessions, rooms, transfers, probes, connection, session);
                }
            }
            TransferMessage::Confirmed { sid, connection, confirmation } => {
                outgoing::confirmed(step, transfers, sid, connection, confirmation);
            }
            TransferMessage::Cancelled { sid, connection } => {
                incoming::cancel(step, rooms, transfers, probes, sid, connection);
            }
        }
    }

    /// A shard of this node says that the destination receives what it sends: to the destination itself when the session comes from
    /// another node, else to the source.
    fn shard_marker(&mut self, sid: Address, connection: ConnectionRef) {
        let incoming = self.transfers.incoming_to(sid, connection);
        match incoming.filter(|transfer| transfer.path == Path::OtherNode) {
            Some(transfer) => {
                transfer.marker();
                incoming::announce_if_ready(&mut self.step, &self.rooms, &mut self.transfers, sid);
            }
            None => self.source_marker(sid, connection, true),
        }
    }

    /// A marker has come to the source. Unless `is_current`, changes of the room were missed here, and the destination does not know
    /// which of them the client was told.
    fn source_marker(&mut self, sid: Address, connection: ConnectionRef, is_current: bool) {
        let Self { step, sessions, rooms, transfers, .. } = self;
        let Some(transfer) = transfers.outgoing_to(sid, connection) else { return };
        transfer.marker();
        if is_current {
            self.continue_transfer(sid);
        } else {
            outgoing::give_up(step, sessions, rooms, transfers, sid, "not_current");
        }
    }

    fn continue_transfer(&mut self, sid: Address) {
        let Self { step, sessions, rooms, transfers, pending, sequences, .. } = self;
        outgoing::continue_transfer(step, sessions, rooms, transfers, pending, sequences, sid);
    }

    /// The client of a session that has moved here, by its key and number, is read from now on.
    fn caught_up(&mut self, session: Option<(u32, u64)>) {
        if let Some((key, number)) = session
            && self.sessions.checked(key, number).is_some()
        {
            self.request_done(key, true);
        }
    }

    /// A transfer between nodes takes long, or too long.
    pub(in crate::shard) fn transfer_timer(&mut self, due: Instant, sid: Address) {
        let Self { step, sessions, rooms, transfers, .. } = self;
        match transfers.outgoing.get(&sid).map(|transfer| transfer.started) {
            Some(started) if started + PREPARE_TIMEOUT <= due => {
                outgoing::give_up(step, sessions, rooms, transfers, sid, "timed_out");
            }
            Some(started) if started + CATCH_UP_TIMEOUT <= due => self.continue_transfer(sid),
            _ => {}
        }
        let Self { step, rooms, transfers, probes, .. } = self;
        incoming::arrival_timed_out(step, rooms, transfers, probes, due, sid);
        let caught_up = incoming::catching_up_timed_out(transfers, due, sid);
        self.caught_up(caught_up);
    }

    /// Goes on with a session's upgrade once nothing of the session is under way on this shard.
    pub(in crate::shard) fn continue_upgrade(&mut self, key: u32) {
        let Self { step, sessions, rooms, transfers, probes, .. } = self;
        outgoing::continue_upgrade(step, sessions, rooms, transfers, probes, key);
    }

    /// A broadcast that began elsewhere has come; a transfer may have waited for it.
    pub(in crate::shard) fn receive_broadcast(&mut self, broadcast: &Broadcast) {
        let Self { step, sessions, rooms, transfers, pending, sequences, .. } = self;
        fanout::deliver_broadcast(step, sessions, rooms, transfers, sequences, broadcast);
        outgoing::continue_after(step, sessions, rooms, transfers, pending, sequences, broadcast);
    }
}
