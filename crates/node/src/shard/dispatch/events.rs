//! What an event does: the policy decides, and then an action, a handler or a rule has its turn.

use bytes::Bytes;
use signalbox_auth::grants::Limit;

use super::packets::ArrivedEvent;
use crate::{
    app::{Action, Handler},
    limits::Taken,
    policy::{AccessRequest, Decided, Denial},
    shard::{
        Shard, actions,
        expiry::REFRESH,
        mailbox::CloseCommand,
        membership,
        replies::{self, Refusal, Refused},
        requests,
        socketio::{self, Incoming},
        tables::{
            PendingRequest,
            pending::{HeldEvent, JoinRequest, ReplyTo},
        },
        tasks::Task,
    },
};

const TOO_LARGE: Refused =
    ("message-too-large", "what your token grants does not include messages of this size");

impl Shard {
    /// An event for one of the client's sockets.
    pub(super) fn event(&mut self, key: u32, event: ArrivedEvent<'_>, taken: Taken) {
        let Self { step, sessions, pending, .. } = self;
        let ArrivedEvent { slot, id, body, attachments } = event;
        // The connection has checked the body, so it splits. An empty one is an event without even a name.
        let elements = signalbox_socketio::args::split(body).unwrap_or_default();
        let name = socketio::event_name(&elements);
        let session = &mut sessions[key];
        let joined = &session.connection.sockets()[slot];
        let (socket, namespace) = (joined.socket.id, joined.namespace.clone());
        let is_too_large = joined.socket.principal.as_deref().is_some_and(|principal| {
            let bytes = body.len() + attachments.iter().map(Bytes::len).sum::<usize>();
            principal.grants.limits().get(Limit::MessageBytes).is_some_and(|most| bytes as u64 > most)
        });
        let refusal = Refusal { namespace: &namespace, event: &name, id };
        if let Taken::Over(wait) = taken {
            replies::refuse_for_now(step, sessions, key, &refusal, wait);
            return;
        }
        if is_too_large {
            replies::refuse(step, sessions, key, &refusal, TOO_LARGE);
            return;
        }
        let ask = AccessRequest::Emit { namespace: &namespace, event: &name };
        match step.context.policy.decide(joined.socket.principal.as_ref(), ask).now() {
            Ok(decided) => {
                let args = elements.get(1..).unwrap_or_default();
                self.event_decided(Incoming { key, socket, namespace, name, id, args, attachments }, decided);
            }
            Err(verdict) => {
                let event =
                    HeldEvent { socket, id, body: body.to_owned(), attachments: attachments.to_vec() };
                let number = session.local.number;
                let request = PendingRequest::Emit { key, number, event: Box::new(event) };
                let ticket = requests::hold(step, session, pending, request);
                step.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// A slow verdict on an event has come.
    pub(super) fn held_event_decided(&mut self, key: u32, event: &HeldEvent, decided: Decided) {
        let session = &self.sessions[key];
        let Some(slot) = session.slot_of(event.socket) else { return };
        let namespace = session.connection.sockets()[slot].namespace.clone();
        let elements = signalbox_socketio::args::split(&event.body).unwrap_or_default();
        let name = socketio::event_name(&elements);
        let args = elements.get(1..).unwrap_or_default();
        let attachments = &event.attachments;
        let incoming =
            Incoming { key, socket: event.socket, namespace, name, id: event.id, args, attachments };
        self.event_decided(incoming, decided);
    }

    fn event_decided(&mut self, event: Incoming<'_>, decided: Decided) {
        let Self { step, sessions, .. } = self;
        match decided {
            Decided::Deny(denial) if denial.is_failure() => self.end(event.key, CloseCommand::Close),
            Decided::Deny(denial) => {
                let refused = (denial.code, &*denial.message);
                replies::refuse(step, sessions, event.key, &event.refusal(), refused);
            }
            Decided::Allow(_) => {
                let session = &sessions[event.key];
                let Some(slot) = session.slot_of(event.socket) else { return };
                let app = session.connection.sockets()[slot].socket.app.clone();
                if app.is_ruled {
                    match self.step.builtin_action(&event.name, &event.namespace) {
                        Some(action) => return self.act(action, &event),
                        None if self.rule_begins(&event, slot) => return,
                        None => {}
                    }
                }
                let Self { step, sessions, .. } = self;
                let session = &sessions[event.key];
                match app.handler(&event.name) {
                    Some(Handler::Action(action)) => self.act(action, &event),
                    Some(Handler::Call(handler)) => socketio::start_handler(step, session, handler, event),
                    None if event.name == REFRESH => self.refresh(&event),
                    None => {
                        let refused = ("unknown-event", "nothing is defined for this event");
                        replies::refuse(step, sessions, event.key, &event.refusal(), refused);
                    }
                }
            }
        }
    }

    /// Does an action on an event.
    fn act(&mut self, action: &Action, event: &Incoming<'_>) {
        let Self { step, sessions, rooms, pending, transfers, sequences, .. } = self;
        let done = match action {
            Action::Join(join) => actions::join_request(step, &sessions[event.key], join, event)
                .map(|request| self.join_requested(event.key, request)),
            Action::Leave => actions::leave(step, sessions, rooms, event),
            Action::Members => actions::members(step, sessions, rooms, pending, event),
            Action::Users => actions::users(step, sessions, pending, event),
            Action::Broadcast { event: name, chat } => {
                let said = match chat {
                    Some(chat) if event.args.len() == 1 => {
                        actions::chat(step, sessions, rooms, transfers, sequences, chat, event)
                    }
                    _ => Ok(false),
                };
                match said {
                    Ok(false) => actions::broadcast(step, sessions, rooms, transfers, sequences, name, event),
                    said => said.map(drop),
                }
            }
            Action::SendTo { event: name } => actions::send_to(step, sessions, pending, name, event)
                .map(|here| here.into_iter().for_each(|command| self.socket_command(command))),
        };
        match done {
            Ok(()) => {}
            Err((Denial::FAILED, _)) => self.end(event.key, CloseCommand::Close),
            Err(refused) => {
                replies::refuse(&mut self.step, &mut self.sessions, event.key, &event.refusal(), refused);
            }
        }
    }

    /// A client asks to join a room.
    pub(super) fn join_requested(&mut self, key: u32, join: JoinRequest) {
        let Self { step, sessions, pending, .. } = self;
        let session = &mut sessions[key];
        let taken = session.local.rates.joins(step.nanos());
        let asked = match &join.reply_to {
            ReplyTo::Client { event, id } => Some((event.as_str(), *id)),
            ReplyTo::Rule(rule, _) => Some((rule.run.event_name(), rule.id)),
            ReplyTo::Handler(_) | ReplyTo::Nobody => None,
        };
        if let (Err(wait), Some((event, id))) = (taken, asked) {
            step.context.metrics.rate_limited.with_label_values(&["joins"]).inc();
            let refusal = Refusal { namespace: &join.room.namespace, event, id };
            replies::refuse_for_now(step, sessions, key, &refusal, wait);
            return;
        }
        let ask = AccessRequest::Join { namespace: &join.room.namespace, room: &join.room.name };
        match step.context.policy.decide(session.principal_of(join.socket), ask).now() {
            Ok(decided) => self.join_decided(key, join, decided),
            Err(verdict) => {
                let number = session.local.number;
                let request = PendingRequest::JoinVerdict { key, number, join: Box::new(join) };
                let ticket = requests::hold(step, session, pending, request);
                step.start(Task::Verdict { ticket, verdict });
            }
        }
    }

    /// The policy allows the join, or not.
    pub(super) fn join_decided(&mut self, key: u32, join: JoinRequest, decided: Decided) {
        let Self { step, sessions, rooms, pending, .. } = self;
        match decided {
            Decided::Allow(_) => membership::join(step, sessions, rooms, pending, key, join),
            Decided::Deny(denial) if denial.is_failure() => self.end(key, CloseCommand::Close),
            Decided::Deny(denial) => {
                membership::refuse_join(step, sessions, key, join, (denial.code, &denial.message));
            }
        }
    }
}
