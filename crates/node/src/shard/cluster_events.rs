//! Answers and events of the cluster.

use std::time::Instant;

use signalbox_cluster::{Delivery, command::Change};
use signalbox_socketio::Message;

use super::{
    Shard,
    actions::{members_json, users_json},
    socketio::Refusal,
    tables::PendingRequest,
};
use crate::session::RoomKey;

impl Shard {
    /// The cluster speaks.
    pub(super) fn on_cluster_event(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::RoomChanged { room, change_id: number, change } => {
                if let Some(key) = self.rooms.find(&room) {
                    self.room_changed(key, number, &change);
                }
            }
            Delivery::PeerMessage { to, peer_message } => self.peer_message_arrived(now, to, peer_message),
            Delivery::Superseded(peer) => self.superseded(peer),
            Delivery::Waiting { from, realm, src, dst, number } => {
                self.peer_message_waits(now, from, realm, src, dst, number);
            }
            Delivery::PeerMessageSettled { from, bytes, waits } => {
                self.peer_message_settled(from, bytes, waits);
            }
            Delivery::PeerMessagesDropped(count) => self.peer_messages_dropped(count),
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
        match (self.pending.remove(ticket), answer) {
            (Some(PendingRequest::Join { key, number, room, held, join }), answer) => {
                self.join_answered(now, (key, number, room, held), *join, answer);
            }
            (Some(PendingRequest::List { key, number, namespace, id, room }), answer) => {
                if self.sessions.checked(key, number).is_none() {
                    return;
                }
                match answer {
                    Delivery::Members { members, .. } => {
                        let json = members_json(&room.unwrap_or_default(), members.iter());
                        self.answer(key, &namespace, id, &json);
                    }
                    Delivery::Users { users, more, .. } => {
                        self.answer(key, &namespace, id, &users_json(&users, more));
                    }
                    _ => {
                        self.context.metrics.refusals.with_label_values(&["busy"]).inc();
                        let refusal = Refusal { namespace: &namespace, event: "", id: Some(id) };
                        self.send(key, &refusal.message("busy", ""), false);
                    }
                }
                self.request_done(now, key, true);
                self.after_engine(now, key);
            }
            (Some(PendingRequest::Claim { key, number, realm, id }), Delivery::Claimed { claimed, .. }) => {
                self.claimed(now, key, number, (realm, id), claimed);
            }
            (
                Some(PendingRequest::Subscribe { sid, connection }),
                Delivery::RoomsSubscribed { is_live, .. },
            ) => {
                self.transfer_subscribed(sid, connection, is_live);
            }
            (Some(PendingRequest::Flush { sid, connection }), Delivery::OutgoingFlushed { .. }) => {
                self.transfer_flushed(now, sid, connection)
            }
            (Some(PendingRequest::Adopt { sid, source, connection }), Delivery::SessionAdopted { .. }) => {
                self.session_adopted(sid, source, connection);
            }
            (Some(PendingRequest::Peers { reply }), Delivery::Peers { ids, .. }) => {
                self.effects.answer(reply, ids);
            }
            _ => {}
        }
    }

    /// A room has changed: every member here but the subject gets the event.
    pub(super) fn room_changed(&mut self, key: RoomKey, number: u128, change: &Change) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.last_change = number;
        self.transfers.note_change(key, change);
        let Some(room) = self.rooms.get(key) else { return };
        if room.members.is_empty() && room.incoming_transfers.is_empty() {
            return;
        }
        if let Some(message) = change_message(&room.name.namespace, change) {
            self.emit_change(key, number, change, &message);
        }
    }
}

/// The event about a change of a room; `None` when there is none for such a change.
pub(super) fn change_message(namespace: &str, change: &Change) -> Option<Message> {
    let record = change.record();
    let emission = match change {
        Change::Joined(_) => &record.joined,
        Change::Updated(_) => &record.updated,
        Change::Left(_) => &record.left,
    };
    let emission = emission.as_ref()?;
    let args = emission.args.render(&record.profile);
    Some(Message::event(namespace, None, &emission.event, &[&args], &emission.attachments))
}
