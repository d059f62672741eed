//! What the cluster says: answers to questions, and changes.

use std::{sync::Arc, time::Instant};

use signalbox_cluster::{Address, Delivery, RealmId, command::Change};
use signalbox_socketio::Message;
use tokio::sync::oneshot;

use super::{
    State,
    actions::{members_json, users_json},
    membership::JoinRequest,
    packets::HeldEvent,
    rooms::RoomKey,
    signals::Signal,
};
use crate::{app::Namespace, mailbox::ConnectionRef};

/// A question that is not answered yet, and what its answer is for.
pub(crate) enum PendingRequest {
    /// A slow verdict on a namespace.
    Connect { key: u32, number: u64, name: Arc<str>, app: Arc<Namespace>, auth: Option<String> },
    /// Middlewares.
    Middleware {
        key: u32,
        number: u64,
        id: Address,
        name: Arc<str>,
        app: Arc<Namespace>,
        auth: Option<String>,
    },
    /// A slow verdict on an event.
    Emit { key: u32, number: u64, event: Box<HeldEvent> },
    /// A slow verdict on a join.
    JoinVerdict { key: u32, number: u64, join: Box<JoinRequest> },
    /// A join.
    Join { key: u32, number: u64, room: RoomKey, held: bool, join: Box<JoinRequest> },
    /// A list of members (of a room) or users.
    List { key: u32, number: u64, namespace: Arc<str>, id: u64, room: Option<Arc<str>> },
    /// A signal to a socket.
    Signal(Box<Signal>),
    /// A claim of a peer id.
    Claim { key: u32, number: u64, realm: RealmId, id: Arc<str> },
    /// The rooms of a session that is to come from another node.
    Listen { sid: Address, at: ConnectionRef },
    /// What a session that is to go to another node has said.
    Flush { sid: Address, at: ConnectionRef },
    /// The records of a session that came from another node; whoever sent it is told.
    Adopt { answer: oneshot::Sender<()> },
    /// The next turn.
    Yield { key: u32, number: u64 },
    /// The list of peer ids.
    Peers { reply: oneshot::Sender<Vec<Arc<str>>> },
}

impl State {
    /// The cluster speaks.
    pub(super) fn on_cluster_event(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::RoomChanged { room, change_id: number, change } => {
                if let Some(key) = self.rooms.find(&room) {
                    self.room_changed(key, number, &change);
                }
            }
            Delivery::PeerMessage { to, peer_message } => self.letter_for_peer(now, to, peer_message),
            Delivery::Superseded(peer) => self.superseded(now, peer),
            Delivery::Waiting { from, realm, src, dst, number } => {
                self.letter_waits(now, from, realm, src, dst, number);
            }
            Delivery::SentToNode { ticket, is_received } => self.signal_told(now, ticket, is_received),
            Delivery::SocketLocated { ticket, node } => self.located(now, ticket, node),
            Delivery::Joined { ticket, .. }
            | Delivery::Refused { ticket, .. }
            | Delivery::Members { ticket, .. }
            | Delivery::Users { ticket, .. }
            | Delivery::Claimed { ticket, .. }
            | Delivery::Peers { ticket, .. }
            | Delivery::RoomsSubscribed { ticket, .. }
            | Delivery::OutgoingFlushed { ticket }
            | Delivery::SessionAdopted { ticket } => self.answered(now, ticket, delivery),
        }
    }

    fn answered(&mut self, now: Instant, ticket: u64, answer: Delivery) {
        match (self.waiting.remove(&ticket), answer) {
            (Some(PendingRequest::Join { key, number, room, held, join }), answer) => {
                self.join_answered(now, (key, number, room, held), *join, answer);
            }
            (Some(PendingRequest::List { key, number, namespace, id, room }), answer) => {
                if self.session(key, number).is_none() {
                    return;
                }
                match answer {
                    Delivery::Members { members, .. } => {
                        let json = members_json(&room.unwrap_or_default(), &members);
                        self.answer(key, &namespace, id, &json);
                    }
                    Delivery::Users { users, more, .. } => {
                        self.answer(key, &namespace, id, &users_json(&users, more));
                    }
                    _ => {}
                }
                self.request_done(now, key, true);
                self.after_engine(now, key);
            }
            (Some(PendingRequest::Claim { key, number, realm, id }), Delivery::Claimed { claimed, .. }) => {
                self.claimed(now, key, number, (realm, id), claimed);
            }
            (Some(PendingRequest::Listen { sid, at }), Delivery::RoomsSubscribed { is_live, .. }) => {
                self.listening(sid, at, is_live);
            }
            (Some(PendingRequest::Flush { sid, at }), Delivery::OutgoingFlushed { .. }) => {
                self.flushed(now, sid, at)
            }
            (Some(PendingRequest::Adopt { answer }), Delivery::SessionAdopted { .. }) => {
                let _ = answer.send(());
            }
            (Some(PendingRequest::Peers { reply }), Delivery::Peers { ids, .. }) => {
                let _ = reply.send(ids);
            }
            _ => {}
        }
    }

    /// A room has changed: every member here but the subject hears of it.
    pub(super) fn room_changed(&mut self, key: RoomKey, number: u128, change: &Change) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.told = number;
        self.note_change_for_transfers(key, change);
        let Some(room) = self.rooms.get(key) else { return };
        let record = change.record();
        let emission = match change {
            Change::Joined(_) => &record.joined,
            Change::Updated(_) => &record.updated,
            Change::Left(_) => &record.left,
        };
        let Some(emission) = emission else { return };
        let (namespace, is_heard) = (room.name.namespace.clone(), !room.members.is_empty());
        if !is_heard && room.incoming_transfers.is_empty() {
            return;
        }
        let message =
            Message::event(&namespace, None, &emission.event, &[&emission.args], &emission.attachments);
        self.emit_change(key, number, change, &message);
    }
}
