//! Rules under way: what each step of a rule does, and what it waits for.

use std::sync::Arc;

use signalbox_cluster::{Address, Command, Delivery, RoomName};
use signalbox_rules::{Answer, Event, EventOut, Grant, HIDDEN, Output, Step as RuleStep, To, Trigger};
use signalbox_socketio::Message;
use signalbox_telemetry::traces::{Span, SpanKind};

use crate::{
    routing::{SocketCommand, SocketOp},
    shard::{
        Shard,
        fanout::{self, Outgoing},
        lists::{Crowd, member_list},
        membership, publish_acks,
        replies::{self, NOT_FOUND, Refused},
        requests,
        rules::{self, FactsOf},
        signals, socket_commands,
        socketio::{Connected, Incoming},
        tables::{
            PendingRequest,
            pending::{JoinRequest, ReplyTo, RuleRun, Signal},
        },
        tasks::Task,
    },
};

const FORBIDDEN: Refused = ("forbidden", "what your token grants does not include it");
const NO_USERS: Refused = ("users-forbidden", "this server does not list its users");
const USERS_NOT_GRANTED: Refused = ("users-forbidden", FORBIDDEN.1);
const BUSY: Refused = ("busy", "the server is overloaded, try again in a moment");

impl Shard {
    /// Begins the rule for an event, if there is one.
    pub(super) fn rule_begins(&mut self, event: &Incoming<'_>, slot: usize) -> bool {
        let Some(rules) = self.step.rules.clone() else { return false };
        let args = event.args.iter().map(|arg| arg.get());
        let own = Event::new(&event.name, args, event.attachments, event.id.is_some());
        let facts = FactsOf::new(&self.step.context, &self.sessions[event.key], &self.rooms, slot);
        let Ok(run) = rules.begin(Trigger::Event, own, &facts) else { return false };
        let number = self.sessions[event.key].local.number;
        self.rule_goes_on(Box::new(RuleRun {
            key: event.key,
            number,
            socket: event.socket,
            namespace: event.namespace.clone(),
            id: event.id,
            run,
            is_connection: false,
            has_published: false,
        }));
        true
    }

    /// A socket has connected: what is to be done then, before its first event.
    pub(in crate::shard) fn socket_connected(&mut self, key: u32, connected: Connected) {
        let Connected { socket, auth } = connected;
        let Some(rules) = self.step.rules.clone() else { return };
        let session = &self.sessions[key];
        let Some(slot) = session.slot_of(socket) else { return };
        let joined = &session.connection.sockets()[slot];
        if !joined.socket.app.is_ruled {
            return;
        }
        let (number, namespace) = (session.local.number, joined.namespace.clone());
        let subject = joined.socket.principal.as_ref().map(|principal| principal.subject.clone());
        if let Some(subject) = subject.filter(|_| rules.names_subjects()) {
            self.join_hidden(key, socket, &namespace, signalbox_rules::subject_room(&subject));
        }
        if !rules.is_for(Trigger::Connection) {
            return;
        }
        let facts = FactsOf::new(&self.step.context, &self.sessions[key], &self.rooms, slot);
        let Ok(run) = rules.begin(Trigger::Connection, Event::connection(auth), &facts) else { return };
        self.rule_goes_on(Box::new(RuleRun {
            key,
            number,
            socket,
            namespace,
            id: None,
            run,
            is_connection: true,
            has_published: false,
        }));
    }

    /// Goes on with a rule until it ends, or waits for something.
    pub(in crate::shard) fn rule_goes_on(&mut self, mut rule: Box<RuleRun>) {
        loop {
            let Self { step, sessions, rooms, .. } = self;
            let Some(session) = sessions.checked(rule.key, rule.number) else { return };
            let Some(slot) = session.slot_of(rule.socket) else { return };
            let next = rule.run.next(&FactsOf::new(&step.context, session, rooms, slot));
            match next {
                RuleStep::End => return,
                RuleStep::Refuse(refusal) => {
                    replies::refuse_rule(step, sessions, &rule, (&refusal.code, &refusal.hint));
                    return;
                }
                RuleStep::Do(output) => {
                    if let Err(refused) = self.perform(&mut rule, slot, output) {
                        replies::refuse_rule(&mut self.step, &mut self.sessions, &rule, refused);
                        return;
                    }
                }
                RuleStep::Ask(output) => {
                    self.ask(rule, slot, output);
                    return;
                }
            }
        }
    }

    /// The cluster has answered what a rule asked.
    pub(in crate::shard) fn rule_answered(&mut self, mut rule: Box<RuleRun>, answer: Delivery) {
        let Self { step, sessions, .. } = self;
        if sessions.checked(rule.key, rule.number).is_none() {
            return;
        }
        match answer {
            Delivery::Members { members, count, more, .. } => {
                let limit = step.context.config.limits.presence;
                let crowd = Crowd::of(limit, count, members.last().filter(|_| more));
                rule.run.answer(Answer::Members(member_list(&members, count, crowd)));
            }
            Delivery::Users { users, more, .. } => {
                if let Some(id) = rule.id.take() {
                    let ack = |parts: &[&str]| Message::ack(&rule.namespace, id, parts, &[]);
                    let ack = step.lists.users(step.now, &users, more, ack);
                    step.send(sessions, rule.key, &ack);
                }
                rule.run.answer(Answer::Done);
            }
            _ => {
                replies::refuse_rule(step, sessions, &rule, BUSY);
                return;
            }
        }
        self.rule_goes_on(rule);
    }

    /// Does something that has no answer.
    fn perform(&mut self, rule: &mut RuleRun, slot: usize, output: Output) -> Result<(), Refused> {
        let Self { step, sessions, rooms, .. } = self;
        let (key, socket) = (rule.key, rule.socket);
        match output {
            Output::Leave(name) => {
                let session = &mut sessions[key];
                if let Some(room) = membership::room_of(session, rooms, slot, &name) {
                    membership::leave(step, session, rooms, slot, room);
                }
            }
            Output::LeaveAll => {
                let session = &mut sessions[key];
                let joined = session.connection.sockets()[slot].socket.rooms.clone();
                let is_named = |name: &RoomName| !name.name.starts_with(HIDDEN);
                for room in joined {
                    if rooms.get(room).is_some_and(|room| is_named(&room.name)) {
                        membership::leave(step, session, rooms, slot, room);
                    }
                }
            }
            Output::Emit { to: To::Me, event, volatile } => {
                let message = rules::message(&rule.namespace, &event);
                step.outboxes.send(key, &mut sessions[key], &message, volatile);
            }
            Output::Emit { to: To::Everyone { but_me }, event, volatile } => {
                self.broadcast_of_rule(rule, (None, but_me), &event, volatile);
            }
            Output::Emit { to: To::Room { name, but_me, is_guarded }, event, volatile } => {
                if is_guarded {
                    self.permit(rule, slot, Grant::Send(&name))?;
                    rule.has_published = true;
                }
                self.broadcast_of_rule(rule, (Some(&name), but_me), &event, volatile);
            }
            Output::EmitToRooms { rooms, but_me, volatile } => {
                let (mut said, mut refused) = (false, None);
                for (name, event) in &rooms {
                    match self.permit(rule, slot, Grant::Send(name)) {
                        Ok(()) => {
                            rule.has_published = true;
                            self.broadcast_of_rule(rule, (Some(name), but_me), event, volatile);
                            said = true;
                        }
                        Err(why) => refused = Some(why),
                    }
                }
                if let Some(refused) = refused.filter(|_| !said) {
                    return Err(refused);
                }
            }
            Output::Ack { json, attachments } => {
                let Some(id) = rule.id.take() else { return Ok(()) };
                let ack = Message::ack(&rule.namespace, id, &[&json], &attachments);
                match rule.has_published {
                    true => {
                        publish_acks::acknowledge(step, sessions, key, socket, (&rule.namespace, id), ack)
                    }
                    false => step.send(sessions, key, &ack),
                }
            }
            Output::Set(entries) => {
                let Some(joined) = sessions[key].connection.socket_mut(slot) else { return Ok(()) };
                let data = &mut joined.socket.data;
                for (name, value) in entries {
                    data.retain(|(known, _)| *known != name);
                    data.extend(value.map(|value| (name, value)));
                }
                sessions[key].update_charge();
            }
            Output::Peer(id) => {
                let namespace = rule.namespace.clone();
                let session = &mut sessions[key];
                let (any, new) = (signalbox_rules::peer_room(""), signalbox_rules::peer_room(&id));
                for room in session.connection.sockets()[slot].socket.rooms.clone() {
                    // It goes with one id at a time.
                    let is_other = |name: &RoomName| name.name.starts_with(&any) && *name.name != *new;
                    if rooms.get(room).is_some_and(|room| is_other(&room.name)) {
                        membership::leave(step, session, rooms, slot, room);
                    }
                }
                self.join_hidden(key, socket, &namespace, signalbox_rules::peer_room(&id));
            }
            Output::Disconnect { close: false } => {
                socket_commands::disconnect(step, sessions, rooms, (key, slot), None)
            }
            Output::Disconnect { close: true } => {
                let op = SocketOp::Disconnect { close: true };
                self.socket_command(SocketCommand { to: socket, namespace: rule.namespace.clone(), op });
            }
            // These are asked.
            Output::Join(_)
            | Output::SendTo { .. }
            | Output::Users { .. }
            | Output::Members { .. }
            | Output::Call { .. } => {}
        }
        Ok(())
    }

    /// Begins something that has an answer. The rule goes on when that is here.
    fn ask(&mut self, rule: Box<RuleRun>, slot: usize, output: Output) {
        let (key, socket) = (rule.key, rule.socket);
        match output {
            Output::Join(join) => {
                let room = RoomName { namespace: rule.namespace.clone(), name: join.room.as_str().into() };
                let request = JoinRequest {
                    socket,
                    room,
                    record: rules::record(socket, &join),
                    replaces: join.rejoins,
                    limit: join.limit,
                    asked: self.step.now,
                    reply_to: ReplyTo::Rule(rule, join.wants_members),
                };
                self.join_requested(key, request);
            }
            Output::Members { room: name, after } => {
                let Self { step, sessions, pending, .. } = self;
                let after = match after.as_deref().map(Address::parse) {
                    Some(None) => return replies::refuse_rule(step, sessions, &rule, NOT_FOUND),
                    after => after.flatten(),
                };
                let room = RoomName { namespace: rule.namespace.clone(), name: name.into() };
                let request = PendingRequest::Rule(rule);
                let ticket = requests::hold(step, &mut sessions[key], pending, request);
                step.effects.submit(Command::Members { shard: step.context.id, ticket, room, after });
            }
            Output::Users { after } => self.list_users(rule, slot, after.as_deref()),
            Output::SendTo { socket: to, event } => self.send_to(rule, slot, &to, &event),
            Output::Call { hook, body } => {
                let Self { step, sessions, pending, .. } = self;
                let called = match &step.context.app.hooks {
                    Some(hooks) => hooks.call(&hook, body),
                    None => Box::pin(std::future::ready(None)),
                };
                let ticket = requests::hold(step, &mut sessions[key], pending, PendingRequest::Rule(rule));
                step.start(Task::Call { ticket, called });
            }
            _ => {
                debug_assert!(false, "it has no answer");
            }
        }
    }

    fn list_users(&mut self, rule: Box<RuleRun>, slot: usize, after: Option<&str>) {
        let allowed = match after.map(Address::parse) {
            Some(None) => Err(NOT_FOUND),
            _ if !self.step.context.config.list_users => Err(NO_USERS),
            after => match self.permit(&rule, slot, Grant::Users) {
                Ok(()) => Ok(after.flatten()),
                Err(_) => Err(USERS_NOT_GRANTED),
            },
        };
        let Self { step, sessions, pending, .. } = self;
        match allowed {
            Err(refused) => replies::refuse_rule(step, sessions, &rule, refused),
            Ok(after) => {
                let (key, namespace) = (rule.key, rule.namespace.clone());
                let ticket = requests::hold(step, &mut sessions[key], pending, PendingRequest::Rule(rule));
                step.effects.submit(Command::Users { shard: step.context.id, ticket, namespace, after });
            }
        }
    }

    fn send_to(&mut self, rule: Box<RuleRun>, slot: usize, to: &str, event: &EventOut) {
        let to = Address::parse(to).ok_or(NOT_FOUND);
        let to = to.and_then(|to| self.permit(&rule, slot, Grant::Signal).map(|()| to));
        let Self { step, sessions, pending, .. } = self;
        let to = match to {
            Ok(to) => to,
            Err(refused) => return replies::refuse_rule(step, sessions, &rule, refused),
        };
        let refusal = (rule.namespace.clone(), rule.run.event_name().to_owned(), rule.id);
        let key = rule.key;
        let signal = Signal {
            key,
            number: rule.number,
            namespace: rule.namespace.clone(),
            name: refusal.1.clone(),
            id: rule.id,
            to,
            message: rules::message(&rule.namespace, event),
            asked: step.now,
            tried: None,
            is_located: false,
            is_blocking: false,
            span: Span::begin("signal", SpanKind::Producer, "socketio", sessions[key].trace.as_deref()),
            rule: Some(rule),
        };
        match signals::begin(step, sessions, pending, signal) {
            Ok(here) => here.into_iter().for_each(|command| self.socket_command(command)),
            Err(refused) => {
                let (namespace, event, id) = refusal;
                let refusal = replies::Refusal { namespace: &namespace, event: &event, id };
                replies::refuse(step, sessions, key, &refusal, refused);
            }
        }
    }

    fn broadcast_of_rule(
        &mut self,
        rule: &RuleRun,
        (room, but_me): (Option<&str>, bool),
        event: &EventOut,
        volatile: bool,
    ) {
        let Self { step, sessions, rooms, transfers, sequences, .. } = self;
        let to = rules::audience(&rule.namespace, room, Some(rule.socket).filter(|_| but_me));
        let message = rules::message(&rule.namespace, event);
        let outgoing = Outgoing { sender: Some(rule.key), to, message, volatile };
        fanout::begin_broadcast(step, sessions, rooms, transfers, sequences, outgoing);
    }

    /// Whether the client may do this. What a rule does when a client has connected is not the client's doing.
    fn permit(&self, rule: &RuleRun, slot: usize, grant: Grant<'_>) -> Result<(), Refused> {
        let session = &self.sessions[rule.key];
        let facts = FactsOf::new(&self.step.context, session, &self.rooms, slot);
        let is_granted = rule.is_connection || signalbox_rules::Facts::is_granted(&facts, grant);
        if is_granted { Ok(()) } else { Err(FORBIDDEN) }
    }

    /// A socket joins a room that nobody joins by name; nobody is told.
    fn join_hidden(&mut self, key: u32, socket: Address, namespace: &Arc<str>, room: String) {
        let Self { step, sessions, rooms, pending, .. } = self;
        let request = JoinRequest {
            socket,
            room: RoomName { namespace: namespace.clone(), name: room.into() },
            record: socket_commands::bare_record(socket),
            reply_to: ReplyTo::Nobody,
            replaces: false,
            limit: 0,
            asked: step.now,
        };
        membership::join(step, sessions, rooms, pending, key, request);
    }
}
