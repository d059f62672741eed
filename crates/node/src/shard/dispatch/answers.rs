//! Answers: of the cluster, of tasks beside the shard, of other nodes. And what the cluster tells by itself.

use signalbox_cluster::Delivery;
use signalbox_rules::Answer;
use signalbox_socketio::Message;

use crate::shard::{
    Shard, closing, counting,
    fanout::{self, NumberedChange},
    lists::Crowd,
    mailbox::CloseCommand,
    membership, peerserver, publish_acks,
    replies::{self, Refusal},
    signals, socketio,
    tables::{PeerWait, PendingRequest, pending::PublishAck},
    tasks::TaskResult,
    transfer::message::Confirmation,
    transfers::{incoming, outgoing},
};

impl Shard {
    /// The cluster has an answer, or an event.
    pub(in crate::shard) fn cluster_event(&mut self, delivery: Delivery) {
        let Self { step, sessions, rooms, peers, transfers, pending, .. } = self;
        match delivery {
            Delivery::RoomChanged { room, change_id: number, change, count } => {
                if let Some(key) = rooms.find(&room) {
                    let change = NumberedChange { number, change: &change, count };
                    fanout::room_changed(step, sessions, rooms, transfers, key, change);
                }
            }
            Delivery::PeerMessage { to, peer_message } => {
                peerserver::message_arrived(step, peers, to, peer_message)
            }
            Delivery::Superseded(peer) => peerserver::superseded(step, peers, peer),
            Delivery::Waiting { from, realm, src, dst, number } => {
                let wait = PeerWait { from, realm, src, dst, number, is_notified: false };
                peerserver::message_waits(step, peers, wait);
            }
            Delivery::PeerMessageSettled { from, bytes, waits } => {
                peerserver::message_settled(step, peers, from, bytes, waits);
            }
            Delivery::PeerMessagesDropped(count) => peerserver::messages_dropped(&step.context, count),
            Delivery::SentToNode { is_received: true, .. } => {}
            Delivery::SentToNode { ticket, is_received: false } => {
                let done = signals::answered(step, sessions, pending, ticket, false);
                self.signal_done(done);
            }
            Delivery::SocketLocated { ticket, node } => {
                let done = signals::located(step, sessions, pending, ticket, node);
                self.signal_done(done);
            }
            Delivery::Joined { ticket, .. }
            | Delivery::Refused { ticket, .. }
            | Delivery::Members { ticket, .. }
            | Delivery::Users { ticket, .. }
            | Delivery::Claimed { ticket, .. }
            | Delivery::ConnectionCounted { ticket, .. }
            | Delivery::Peers { ticket, .. }
            | Delivery::RoomsSubscribed { ticket, .. }
            | Delivery::OutgoingFlushed { ticket }
            | Delivery::SessionAdopted { ticket } => self.answered(ticket, delivery),
        }
    }

    /// The cluster has answered a request.
    fn answered(&mut self, ticket: u64, answer: Delivery) {
        let Self { step, sessions, rooms, peers, transfers, probes, pending, sequences, .. } = self;
        match (pending.remove(ticket), answer) {
            (Some(PendingRequest::Join { key, number, room, held, join }), answer) => {
                let rule =
                    membership::join_answered(step, sessions, rooms, (key, number, room), *join, answer);
                if let Some(rule) = rule {
                    self.rule_goes_on(rule);
                }
                self.session_request_done(key, number, held);
            }
            (Some(PendingRequest::List { key, number, namespace, id, room }), answer) => {
                if sessions.checked(key, number).is_none() {
                    return;
                }
                match answer {
                    Delivery::Members { members, count, more, .. } => {
                        let limit = step.context.config.limits.presence;
                        let crowd = Crowd::of(limit, count, members.last().filter(|_| more));
                        let ack = |parts: &[&str]| Message::ack(&namespace, id, parts, &[]);
                        let room = room.unwrap_or_default();
                        let ack = step.lists.members(step.now, &room, &members, (None, crowd), ack);
                        step.send(sessions, key, &ack);
                    }
                    Delivery::Users { users, more, .. } => {
                        let ack = |parts: &[&str]| Message::ack(&namespace, id, parts, &[]);
                        let ack = step.lists.users(step.now, &users, more, ack);
                        step.send(sessions, key, &ack);
                    }
                    _ => {
                        let refusal = Refusal { namespace: &namespace, event: "", id: Some(id) };
                        replies::refuse(step, sessions, key, &refusal, ("busy", ""));
                    }
                }
                self.session_request_done(key, number, true);
            }
            (Some(PendingRequest::Rule(rule)), answer) => {
                let (key, number) = (rule.key, rule.number);
                self.rule_answered(rule, answer);
                self.session_request_done(key, number, true);
            }
            (
                Some(PendingRequest::Count { key, number, place, connecting }),
                Delivery::ConnectionCounted { counted, .. },
            ) => {
                let what = (place, connecting);
                let connected =
                    counting::session_counted(step, sessions, pending, (key, number), what, counted);
                if let Some(connected) = connected {
                    self.socket_connected(key, connected);
                }
                self.session_request_done(key, number, true);
            }
            (
                Some(PendingRequest::CountPeer { key, number, place, token }),
                Delivery::ConnectionCounted { counted, .. },
            ) => {
                peerserver::counted(step, peers, pending, (key, number), (place, token), counted);
            }
            (Some(PendingRequest::Claim { key, number, realm, id }), Delivery::Claimed { claimed, .. }) => {
                peerserver::claimed(step, peers, (key, number), (realm, id), claimed);
            }
            (
                Some(PendingRequest::Subscribe { sid, connection }),
                Delivery::RoomsSubscribed { is_live, .. },
            ) => {
                incoming::subscribed(step, rooms, transfers, probes, sid, connection, is_live);
            }
            (Some(PendingRequest::PublishAcks { acks, failures }), Delivery::OutgoingFlushed { .. }) => {
                publish_acks::published(step, sessions, &acks, failures);
                for PublishAck { key, number, is_blocking, .. } in acks {
                    self.session_request_done(key, number, is_blocking);
                }
            }
            (Some(PendingRequest::Flush { sid, connection }), Delivery::OutgoingFlushed { .. })
                if transfers.outgoing_to(sid, connection).is_some() =>
            {
                outgoing::send_session(step, sessions, rooms, transfers, sequences, sid);
            }
            (Some(PendingRequest::Adopt { sid, source, connection }), Delivery::SessionAdopted { .. }) => {
                incoming::confirm(step, source, sid, connection, Confirmation::Taken);
            }
            (Some(PendingRequest::Peers { reply }), Delivery::Peers { ids, .. }) => {
                step.effects.answer(reply, ids);
            }
            _ => {}
        }
    }

    /// A request of the session with this key and number was answered.
    fn session_request_done(&mut self, key: u32, number: u64, blocking: bool) {
        if self.sessions.checked(key, number).is_some() {
            self.request_done(key, blocking);
            let Self { step, sessions, rooms, transfers, .. } = self;
            closing::after_engine(step, sessions, rooms, transfers, key);
        }
    }

    /// The session's signal was answered, if there is a session.
    fn signal_done(&mut self, answered: signals::Answered) {
        let Some((key, is_blocking, rule)) = answered else { return };
        if let Some(mut rule) = rule {
            rule.run.answer(Answer::Sent);
            self.rule_goes_on(rule);
        }
        self.request_done(key, is_blocking);
    }

    /// Nobody has answered for the socket that a signal is for.
    pub(in crate::shard) fn signal_timed_out(&mut self, ticket: u64) {
        let done = signals::timed_out(&mut self.step, &mut self.sessions, &mut self.pending, ticket);
        self.signal_done(done);
    }

    /// A task beside the shard has come to an end, or another shard or node has answered a signal.
    pub(in crate::shard) fn task_done(&mut self, ticket: u64, result: TaskResult) {
        let Self { step, sessions, pending, .. } = self;
        match result {
            TaskResult::Signalled(found) => {
                let done = signals::answered(step, sessions, pending, ticket, found);
                self.signal_done(done);
                return;
            }
            TaskResult::SignalRefused => {
                let done = signals::refused(step, sessions, pending, ticket);
                self.signal_done(done);
                return;
            }
            _ => {}
        }
        let Some(request) = pending.remove(ticket) else { return };
        let Some((key, number)) = request.session_of_task() else { return };
        if sessions.checked(key, number).is_none() {
            return;
        }
        match (request, result) {
            (_, TaskResult::Failed) => self.end(key, CloseCommand::Close),
            (PendingRequest::Connect { connecting, .. }, TaskResult::Decided(decided)) => {
                self.connect_decided(key, connecting, decided);
            }
            (PendingRequest::Middleware { id, connecting, .. }, TaskResult::Middlewares(result)) => {
                if let Some(connected) =
                    socketio::middlewares_done(step, sessions, key, id, connecting, result)
                {
                    self.socket_connected(key, connected);
                }
            }
            (PendingRequest::Refresh { socket, namespace, id, .. }, TaskResult::Decided(decided)) => {
                self.refresh_decided(key, (socket, &namespace, id), decided);
            }
            (PendingRequest::Emit { event, .. }, TaskResult::Decided(decided)) => {
                self.held_event_decided(key, &event, decided);
            }
            (PendingRequest::JoinVerdict { join, .. }, TaskResult::Decided(decided)) => {
                self.join_decided(key, *join, decided);
            }
            (PendingRequest::Rule(mut rule), TaskResult::Called(answer)) => {
                rule.run.answer(answer.map_or(Answer::NotCalled, Answer::Called));
                self.rule_goes_on(rule);
            }
            _ => {}
        }
        self.session_request_done(key, number, true);
    }
}
