//! Sockets and rooms in memory.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{
    Answer, CallAnswer, Event, EventOut, Facts, Grant, Join, JoinedRoom, Member, MemberList, Nobody, Output,
    RuleSet, Run, Step, To, Trigger,
    example::{ExampleStep, Played},
    peer_room, subject_room,
};

/// A membership.
struct Membership {
    profile: String,
    joined: Option<EventOut>,
    farewell: Option<EventOut>,
}

#[derive(Default)]
struct Socket {
    namespace: String,
    subject: Option<String>,
    data: BTreeMap<String, String>,
    rooms: IndexMap<String, Membership>,
    /// What it was sent and nobody has expected yet.
    inbox: VecDeque<Value>,
}

/// Everything in an example.
pub(super) struct World<'r> {
    rules: &'r RuleSet,
    sockets: IndexMap<String, Socket>,
    /// What hooks answer in the present step.
    answers: Map<String, Value>,
}

/// What a rule sees of a socket.
struct FactsOf<'w> {
    world: &'w World<'w>,
    id: &'w str,
}

impl FactsOf<'_> {
    fn socket(&self) -> Option<&Socket> {
        self.world.sockets.get(self.id)
    }
}

impl Facts for FactsOf<'_> {
    fn id(&self) -> Option<Cow<'_, str>> {
        Some(self.id.into())
    }
    fn namespace(&self) -> Cow<'_, str> {
        self.socket().map_or("/", |socket| &socket.namespace).into()
    }
    fn address(&self) -> Option<String> {
        Some("192.0.2.1".to_owned())
    }
    fn claim(&self, name: &str) -> Option<String> {
        let subject = self.socket()?.subject.as_ref()?;
        (name == "sub").then(|| json!(subject).to_string())
    }
    fn data(&self, name: &str) -> Option<&str> {
        self.socket()?.data.get(name).map(String::as_str)
    }
    fn all_data(&self) -> Vec<(&str, &str)> {
        let data = self.socket().into_iter().flat_map(|socket| &socket.data);
        data.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
    fn is_member(&self, room: &str) -> bool {
        self.socket().is_some_and(|socket| socket.rooms.contains_key(room))
    }
    fn is_socket(&self, name: &str) -> bool {
        self.world.sockets.contains_key(name)
    }
    fn rooms(&self, announced: Option<&str>) -> Vec<JoinedRoom> {
        let rooms = self.socket().into_iter().flat_map(|socket| &socket.rooms);
        let rooms = rooms.filter(|(name, membership)| {
            let told = membership.joined.as_ref().map(|joined| joined.name.as_str());
            !name.starts_with(crate::HIDDEN) && announced.is_none_or(|event| told == Some(event))
        });
        let joined = |(name, membership): (&String, &Membership)| {
            let args = membership.joined.as_ref().map_or("", |joined| &joined.args);
            JoinedRoom { name: name.clone(), announcement: format!("[{args}]") }
        };
        rooms.map(joined).collect()
    }
    fn is_granted(&self, _: Grant<'_>) -> bool {
        true
    }
}

impl<'r> World<'r> {
    pub(super) fn new(rules: &'r RuleSet) -> Self {
        Self { rules, sockets: IndexMap::new(), answers: Map::new() }
    }

    /// Plays a step.
    pub(super) fn play(&mut self, step: &ExampleStep) -> Result<(), String> {
        self.answers = step.answers.clone();
        match &step.played {
            Played::Connect { from, namespace, auth, subject } => {
                if self.sockets.contains_key(from) {
                    return Err(format!("{from} is connected already"));
                }
                self.connect(from, namespace, auth.as_ref(), subject.as_deref())
            }
            Played::Emit { from, namespace, event, ack } => {
                if !self.sockets.contains_key(from) {
                    self.connect(from, namespace, None, None)?;
                }
                let args: Vec<String> = event.iter().skip(1).map(Value::to_string).collect();
                let name = event.first().and_then(Value::as_str).unwrap_or_default();
                let event = Event::new(name, args.iter().map(String::as_str), &[], ack.is_some());
                let answer = self.run(from, Trigger::Event, event);
                match (ack, answer) {
                    (Some(expected), Some(answer)) if *expected == answer => Ok(()),
                    (Some(_), Some(answer)) => Err(format!("the ack was {answer}")),
                    (Some(_), None) => Err("there was no ack".to_owned()),
                    (None, _) => Ok(()),
                }
            }
            Played::Expect { to, event } => {
                let Some(socket) = self.sockets.get_mut(to) else {
                    return Err(format!("{to} is not connected"));
                };
                let expected = Value::Array(event.clone());
                match socket.inbox.pop_front() {
                    Some(got) if got == expected => Ok(()),
                    Some(got) => Err(format!("{to} got {got}")),
                    None => Err(format!("{to} got nothing")),
                }
            }
            Played::Disconnect { from } => {
                if !self.sockets.contains_key(from) {
                    return Err(format!("{from} is not connected"));
                }
                self.disconnect(from, "client namespace disconnect");
                Ok(())
            }
            Played::Peer { id, is_claim } => {
                let trigger = if *is_claim { Trigger::Claim } else { Trigger::Release };
                for namespace in self.rules.namespaces_of(trigger) {
                    let event = Event::peer(id, "peerjs");
                    let facts = Nobody { namespace };
                    let Ok(mut run) = self.rules.begin(trigger, event, &facts) else { continue };
                    while let Step::Do(output) = run.next(&facts) {
                        if let Output::Emit { to, event, .. } = output {
                            self.emit(None, namespace, &to, &event);
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// What somebody got and nobody expected.
    pub(super) fn unexpected(&self) -> Option<String> {
        let mut left = self.sockets.iter().filter_map(|(name, socket)| Some((name, socket.inbox.front()?)));
        left.next().map(|(name, event)| format!("{name} also got {event}"))
    }

    fn connect(
        &mut self,
        id: &str,
        namespace: &str,
        auth: Option<&Value>,
        subject: Option<&str>,
    ) -> Result<(), String> {
        if !self.rules.serves(namespace) {
            return Err(format!("there is no namespace {namespace}"));
        }
        let subject = subject.map(str::to_owned);
        let mut socket = Socket { namespace: namespace.to_owned(), subject, ..Socket::default() };
        if let Some(subject) = &socket.subject {
            socket.rooms.insert(subject_room(subject), Membership::hidden());
        }
        self.sockets.insert(id.to_owned(), socket);
        let event = Event::connection(auth.map(Value::to_string));
        self.run(id, Trigger::Connection, event);
        Ok(())
    }

    fn disconnect(&mut self, id: &str, reason: &str) {
        let event = Event::disconnecting(reason);
        self.run(id, Trigger::Disconnecting, event);
        self.leave_all(id, true);
        self.sockets.shift_remove(id);
    }

    /// Runs what is for an event; the answer, if there is one.
    fn run(&mut self, id: &str, trigger: Trigger, event: Event) -> Option<Value> {
        let wants_ack = event.wants_ack;
        let begun = {
            let facts = FactsOf { world: self, id };
            self.rules.begin(trigger, event, &facts)
        };
        let mut run = match begun {
            Ok(run) => run,
            Err(event) if trigger == Trigger::Event => {
                return self.refuse(id, &event.name, wants_ack, "unknown-event");
            }
            Err(_) => return None,
        };
        let mut answer = None;
        loop {
            let step = {
                let facts = FactsOf { world: self, id };
                run.next(&facts)
            };
            match step {
                Step::End => return answer,
                Step::Refuse(refusal) => {
                    let name = run.event_name().to_owned();
                    if trigger == Trigger::Connection {
                        self.refuse(id, &name, false, &refusal.code);
                        self.disconnect(id, "server namespace disconnect");
                        return None;
                    }
                    return if trigger == Trigger::Event {
                        self.refuse(id, &name, wants_ack, &refusal.code)
                    } else {
                        None
                    };
                }
                Step::Do(Output::Ack { json, .. }) => answer = serde_json::from_str(&json).ok(),
                Step::Do(output) => self.perform(id, output),
                Step::Ask(output) => match self.ask(id, &run, output) {
                    Ok((reply, ack)) => {
                        answer = ack.or(answer);
                        run.answer(reply);
                    }
                    Err(code) => {
                        let name = run.event_name().to_owned();
                        return self.refuse(id, &name, wants_ack, &code);
                    }
                },
            }
            if !self.sockets.contains_key(id) {
                return answer;
            }
        }
    }

    fn refuse(&mut self, id: &str, event: &str, wants_ack: bool, code: &str) -> Option<Value> {
        if wants_ack {
            return Some(json!({"ok": false, "error": code}));
        }
        // The hint is for people.
        let told = json!(["error", {"event": event, "error": code}]);
        self.sockets.get_mut(id)?.inbox.push_back(told);
        None
    }

    fn perform(&mut self, id: &str, output: Output) {
        match output {
            Output::Leave(room) => self.leave(id, &room),
            Output::LeaveAll => self.leave_all(id, false),
            Output::Emit { to, event, .. } => {
                let namespace =
                    self.sockets.get(id).map_or_else(|| "/".to_owned(), |it| it.namespace.clone());
                self.emit(Some(id), &namespace, &to, &event);
            }
            Output::EmitToRooms { rooms, but_me, .. } => {
                let namespace =
                    self.sockets.get(id).map_or_else(|| "/".to_owned(), |it| it.namespace.clone());
                for (name, event) in rooms {
                    let to = To::Room { name, but_me, is_guarded: true };
                    self.emit(Some(id), &namespace, &to, &event);
                }
            }
            Output::Set(entries) => {
                let Some(socket) = self.sockets.get_mut(id) else { return };
                for (name, value) in entries {
                    match value {
                        Some(value) => drop(socket.data.insert(name, value)),
                        None => drop(socket.data.remove(&name)),
                    }
                }
            }
            Output::Peer(peer) => {
                if let Some(socket) = self.sockets.get_mut(id) {
                    // It goes with one id at a time.
                    socket.rooms.retain(|room, _| !room.starts_with(&peer_room("")));
                    socket.rooms.insert(peer_room(&peer), Membership::hidden());
                }
            }
            Output::Disconnect { .. } => self.disconnect(id, "server namespace disconnect"),
            // An ack is taken before, and the others are asked.
            Output::Ack { .. }
            | Output::Join(_)
            | Output::SendTo { .. }
            | Output::Users { .. }
            | Output::Call { .. }
            | Output::Members { .. } => {}
        }
    }

    /// Answers what a rule asks; with an ack, if that is part of it. Or refuses.
    fn ask(&mut self, id: &str, run: &Run, output: Output) -> Result<(Answer, Option<Value>), String> {
        Ok(match output {
            Output::Join(join) => (self.join(id, run, *join)?, None),
            Output::Members { room, after } => {
                let mut list = self.members(id, &room);
                if let Some(after) = after {
                    let at = list.members.iter().position(|member| member.id == after);
                    list.members.drain(..=at.ok_or("not-found")?);
                }
                (Answer::Members(list), None)
            }
            Output::SendTo { socket, event } => match self.sockets.get_mut(&socket) {
                Some(socket) => {
                    socket.inbox.push_back(packet(&event));
                    (Answer::Sent, None)
                }
                None => return Err("not-found".to_owned()),
            },
            Output::Users { .. } => {
                let users: Vec<_> = self.sockets.keys().map(|id| json!({"id": id})).collect();
                (Answer::Done, Some(json!({"ok": true, "users": users})))
            }
            Output::Call { hook, .. } => {
                let answer = self.answers.get(&*hook).map(|answer| CallAnswer::parse(&answer.to_string()));
                match answer {
                    Some(Ok(answer)) => (Answer::Called(Box::new(answer)), None),
                    Some(Err(_)) | None => (Answer::NotCalled, None),
                }
            }
            _ => (Answer::Done, None),
        })
    }

    fn join(&mut self, id: &str, run: &Run, join: Join) -> Result<Answer, String> {
        let members = self.members(id, &join.room);
        let is_member = members.members.iter().any(|member| member.id == id);
        if join.limit > 0 && !is_member && members.count >= join.limit {
            return run.refusal_of_full_room().map_or(Ok(Answer::Full), |full| Err(full.code.to_string()));
        }
        let Join { room, profile, joined, updated, farewell, rejoins, .. } = join;
        let known = self.sockets.get(id).and_then(|socket| socket.rooms.get(&room));
        let known = known.map(|membership| membership.profile.clone());
        let is_update = match known {
            Some(known) if rejoins && known != profile => {
                self.leave(id, &room);
                false
            }
            known => known.is_some(),
        };
        let told = if is_update { updated } else { joined.clone() };
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.rooms.insert(room.clone(), Membership { profile, joined, farewell });
        }
        if let Some(told) = told {
            self.tell_others(id, &room, &told);
        }
        let members = self.members(id, &room);
        let count = members.count;
        Ok(Answer::Joined { members, count })
    }

    fn members(&self, id: &str, room: &str) -> MemberList {
        let namespace = self.sockets.get(id).map(|socket| socket.namespace.as_str());
        let sockets = self.sockets.iter().filter(|(_, socket)| Some(socket.namespace.as_str()) == namespace);
        let member = |(id, socket): (&String, &Socket)| {
            let profile = socket.rooms.get(room)?.profile.as_str().into();
            Some(Member { id: id.clone(), profile })
        };
        let members: Vec<Member> = sockets.filter_map(member).collect();
        let count = members.len() as u32;
        MemberList { members, count, ..MemberList::default() }
    }

    fn leave(&mut self, id: &str, room: &str) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if let Some(farewell) = socket.rooms.shift_remove(room).and_then(|membership| membership.farewell) {
            self.tell_others(id, room, &farewell);
        }
    }

    fn leave_all(&mut self, id: &str, also_hidden: bool) {
        let Some(socket) = self.sockets.get(id) else { return };
        let is_left = |room: &&String| also_hidden || !room.starts_with(crate::HIDDEN);
        for room in socket.rooms.keys().filter(is_left).cloned().collect::<Vec<_>>() {
            self.leave(id, &room);
        }
    }

    fn tell_others(&mut self, id: &str, room: &str, event: &EventOut) {
        let namespace = self.sockets.get(id).map(|it| it.namespace.clone()).unwrap_or_default();
        let to = To::Room { name: room.to_owned(), but_me: true, is_guarded: false };
        self.emit(Some(id), &namespace, &to, event);
    }

    fn emit(&mut self, from: Option<&str>, namespace: &str, to: &To, event: &EventOut) {
        for (id, socket) in &mut self.sockets {
            let is_me = from == Some(id.as_str());
            let is_meant = match to {
                To::Me => is_me,
                To::Room { name, but_me, .. } => socket.rooms.contains_key(name) && !(is_me && *but_me),
                To::Everyone { but_me } => !(is_me && *but_me),
            };
            if is_meant && socket.namespace == namespace {
                socket.inbox.push_back(packet(event));
            }
        }
    }
}

impl Membership {
    fn hidden() -> Self {
        Self { profile: "{}".to_owned(), joined: None, farewell: None }
    }
}

/// An event as it is compared: the name and the arguments.
fn packet(event: &EventOut) -> Value {
    let args = serde_json::from_str::<Vec<Value>>(&format!("[{}]", event.args)).unwrap_or_default();
    Value::Array(std::iter::once(Value::String(event.name.clone())).chain(args).collect())
}
