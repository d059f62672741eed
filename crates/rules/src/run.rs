//! A rule under way.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    MAX_DATA, MAX_FIELDS, MAX_PROFILE,
    action::{Action, Emit, EventTemplate, Full, Guarded, JoinAction, Target},
    condition::{Condition, Failed, room_name},
    facts::{Facts, Grant},
    peer_room,
    rule::Rule,
    state::{Member, State},
    subject_room,
    template::{BinaryInText, Known, Owned, Scope, Template, member_json, write_elements},
    value::{Type, Value, Writer, json_string},
};

/// An event to be sent: its name, its arguments as JSON without the array's brackets, its binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOut {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: String,
    /// What placeholders in them name.
    pub attachments: Vec<Bytes>,
}

/// Who gets an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The socket itself.
    Me,
    /// The members of a room.
    Room {
        /// Its name.
        name: String,
        /// But not the socket itself.
        but_me: bool,
        /// The client needs the grant to send there.
        is_guarded: bool,
    },
    /// The whole namespace.
    Everyone {
        /// But not the socket itself.
        but_me: bool,
    },
}

/// A join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The room.
    pub room: String,
    /// A JSON object.
    pub profile: String,
    /// What the others are told when the membership begins.
    pub joined: Option<EventOut>,
    /// What they are told when the profile is replaced.
    pub updated: Option<EventOut>,
    /// What they are told when the membership ends.
    pub farewell: Option<EventOut>,
    /// Most members; 0 is no limit.
    pub limit: u32,
    /// Another profile is another member: the present one leaves first.
    pub rejoins: bool,
    /// The answer is to list the members.
    pub wants_members: bool,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Join a room. Answered by [`Answer::Joined`] or [`Answer::Full`].
    Join(Box<Join>),
    /// Leave a room, of which the socket is a member.
    Leave(String),
    /// Leave all rooms, but hidden ones.
    LeaveAll,
    /// Send an event.
    Emit {
        /// To whom.
        to: To,
        /// The event.
        event: EventOut,
        /// Who is not ready for it may miss it.
        volatile: bool,
    },
    /// Send an event to each of these rooms. The client needs the grant for each; what is not granted in any is refused.
    EmitToRooms {
        /// The rooms, and what is sent there.
        rooms: Vec<(String, EventOut)>,
        /// But not to the socket itself.
        but_me: bool,
        /// Who is not ready for it may miss it.
        volatile: bool,
    },
    /// Send an event to one socket. Answered by [`Answer::Sent`]; if nobody has the id, the event is refused with `not-found`.
    SendTo {
        /// The socket's id.
        socket: String,
        /// The event.
        event: EventOut,
    },
    /// Answer the client's event with one value.
    Ack {
        /// JSON.
        json: String,
        /// What placeholders in it name.
        attachments: Vec<Bytes>,
    },
    /// Answer the client's event with a page of the connected sockets. Answered by [`Answer::Done`].
    Users {
        /// Begin behind this id.
        after: Option<String>,
    },
    /// List the members of a room. Answered by [`Answer::Members`].
    Members(String),
    /// Keep these fields on the socket, as JSON; `None` removes one.
    Set(Vec<(String, Option<String>)>),
    /// The socket goes with this PeerServer id: it joins the [`peer_room`](crate::peer_room). Not answered.
    Peer(String),
    /// Disconnect the client from its namespace, or close its connection.
    Disconnect {
        /// Close the connection.
        close: bool,
    },
}

/// A refusal, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Arc<str>,
    /// For people.
    pub hint: Arc<str>,
}

impl Refusal {
    fn new(code: &str, hint: &str) -> Self {
        Self { code: code.into(), hint: hint.into() }
    }

    fn bad_room() -> Self {
        Self::new(
            "bad-room",
            "a room is named by a number, or a string of 1 to 255 bytes that is not the id of a socket",
        )
    }

    fn bad_profile() -> Self {
        Self::new(
            "bad-profile",
            "what follows the room is at most 4096 bytes, and a profile is a JSON object without binary",
        )
    }

    fn bad_value() -> Self {
        Self::new("bad-value", "binary cannot be part of a text, nor of a name or a field")
    }

    fn of(failed: Failed) -> Self {
        match failed {
            Failed::BadRoom => Self::bad_room(),
            Failed::NotAMember => Self::new("not-a-member", "join the room first"),
            Failed::AckRequired => Self::new("ack-required", "the answer is the ack: emit with a callback"),
            Failed::NotGranted => Self::new("forbidden", "what your token grants does not include it"),
            Failed::Value => Self::new("bad-argument", "an argument is not what this event takes"),
        }
    }
}

impl From<BinaryInText> for Refusal {
    fn from(_: BinaryInText) -> Self {
        Self::bad_value()
    }
}

/// What a run does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Do this, and go on with [`Run::next`].
    Do(Output),
    /// Do this, and go on with [`Run::next`] when [`Run::answer`] has been told the answer.
    Ask(Output),
    /// It ends here: the event is refused.
    Refuse(Refusal),
    /// It has ended.
    End,
}

/// An answer to a [`Step::Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The socket has joined the room.
    Joined {
        /// The members, the socket itself included, if they were asked for.
        members: Vec<Member>,
        /// How many there were the moment it had joined.
        count: u32,
    },
    /// The room is full.
    Full,
    /// The members of the room.
    Members(Vec<Member>),
    /// The other socket has got the event.
    Sent,
    /// It is done.
    Done,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// The action is done when the answer is here.
    Done,
    /// The action needs the members.
    Members,
    Join(String),
}

/// A rule under way. It owns what it needs, so that it can be set aside while something is asked.
#[derive(Debug)]
pub struct Run {
    rule: Arc<Rule>,
    state: State,
    /// The next action.
    position: usize,
    /// In the actions that are done instead of what follows this one, since the room is full: the next of them.
    instead: Option<usize>,
    waiting: Waiting,
}

impl Run {
    pub(crate) fn new(rule: Arc<Rule>, state: State) -> Self {
        Self { rule, state, position: 0, instead: None, waiting: Waiting::Nothing }
    }

    /// The event's name.
    pub fn event_name(&self) -> &str {
        &self.state.event.name
    }

    /// Where the rule stands in its file.
    pub fn line(&self) -> usize {
        self.rule.line
    }

    /// Goes on to the next action.
    pub fn next(&mut self, facts: &dyn Facts) -> Step {
        let rule = self.rule.clone();
        loop {
            if self.waiting != Waiting::Nothing {
                debug_assert!(false, "a run goes on before its answer is here");
                return Step::End;
            }
            let Some(guarded) = self.action(&rule) else { return Step::End };
            let needs = guarded.needs();
            if self.is_idle(&guarded.action) {
                self.advance();
                continue;
            }
            if (needs.members && self.state.members.is_none())
                || (needs.count && self.state.count().is_none())
            {
                let Some(room) = self.state.room.clone() else { return Step::End };
                self.waiting = Waiting::Members;
                return Step::Ask(Output::Members(room));
            }
            if !holds(&guarded.when, self.known(facts)) {
                self.advance();
                continue;
            }
            match self.perform(&guarded.action, facts) {
                Ok(Some(step)) => return step,
                Ok(None) => {}
                Err(refusal) => return Step::Refuse(refusal),
            }
        }
    }

    /// Tells the answer to the last [`Step::Ask`].
    pub fn answer(&mut self, answer: Answer) {
        match (std::mem::replace(&mut self.waiting, Waiting::Nothing), answer) {
            (Waiting::Join(room), Answer::Joined { members, count }) => {
                let wanted = self.join().is_some_and(|join| join.wants_members);
                self.state.room = Some(room);
                self.state.members = wanted.then_some(members);
                self.state.count = Some(count);
                self.state.has_joined = true;
                self.advance();
            }
            (Waiting::Join(_), Answer::Full) => self.instead = Some(0),
            (Waiting::Members, Answer::Members(members)) => {
                self.state.count = None;
                self.state.members = Some(members);
            }
            _ => self.advance(),
        }
    }

    /// What the room's being full is refused with; `None` where the rule does something instead.
    pub fn refusal_of_full_room(&self) -> Option<Refusal> {
        match &self.join()?.full {
            Full::Refuse(code) => Some(Refusal::new(code, "the room is full")),
            Full::Instead(_) => None,
        }
    }

    fn join(&self) -> Option<&JoinAction> {
        match &self.rule.actions.get(self.position)?.action {
            Action::Join(join) => Some(join),
            _ => None,
        }
    }

    fn action<'r>(&self, rule: &'r Rule) -> Option<&'r Guarded> {
        let guarded = rule.actions.get(self.position)?;
        match (self.instead, &guarded.action) {
            (None, _) => Some(guarded),
            (Some(index), Action::Join(join)) => match &join.full {
                Full::Instead(actions) => actions.get(index),
                Full::Refuse(_) => None,
            },
            (Some(_), _) => None,
        }
    }

    fn advance(&mut self) {
        match &mut self.instead {
            Some(index) => *index += 1,
            None => self.position += 1,
        }
    }

    /// Whether nobody would notice the action: an answer that the client does not wait for.
    fn is_idle(&self, action: &Action) -> bool {
        matches!(action, Action::Ack(_)) && !self.state.event.wants_ack
    }

    fn known<'a>(&'a self, facts: &'a dyn Facts) -> Known<'a> {
        Known { facts, state: &self.state, scope: Scope::default() }
    }

    /// Does an action; `None` when there is nothing to do for anybody else.
    fn perform(&mut self, action: &Action, facts: &dyn Facts) -> Result<Option<Step>, Refusal> {
        let known = Known { facts, state: &self.state, scope: Scope::default() };
        let output = match action {
            Action::Join(join) => {
                let join = join_output(join, known)?;
                self.waiting = Waiting::Join(join.room.clone());
                return Ok(Some(Step::Ask(Output::Join(Box::new(join)))));
            }
            Action::Leave(room) => {
                let room = room_name(room, known).map_err(Refusal::of)?;
                if !facts.is_member(&room) {
                    return Err(Refusal::of(Failed::NotAMember));
                }
                self.state.enter(room.clone());
                Output::Leave(room)
            }
            Action::LeaveAll => Output::LeaveAll,
            Action::Emit(emit) => {
                let step = emit_step(emit, known)?;
                if matches!(step, Some(Step::Ask(_))) {
                    self.waiting = Waiting::Done;
                } else {
                    self.advance();
                }
                return Ok(step);
            }
            Action::Ack(value) => {
                let (json, attachments) = written(value, known)?;
                Output::Ack { json, attachments }
            }
            Action::Users(after) => {
                let after = after.value(known)?.filter(|after| after.as_value().type_of() != Type::Null);
                let after = match after.as_ref().map(Owned::as_value) {
                    None => None,
                    Some(value) if value.type_of() == Type::String => Some(value.to_text()),
                    // It is no id of anybody.
                    Some(_) => Some(String::new()),
                };
                if !self.state.event.wants_ack {
                    return Err(Refusal::of(Failed::AckRequired));
                }
                self.waiting = Waiting::Done;
                return Ok(Some(Step::Ask(Output::Users { after })));
            }
            Action::Set(entries) => Output::Set(set_output(entries, known)?),
            Action::Require { conditions, code, hint } => {
                require(conditions, known).map_err(|failed| {
                    let standard = Refusal::of(failed);
                    // What cannot be a room's name is that, whatever else was asked of it.
                    let own = code.clone().filter(|_| failed != Failed::BadRoom);
                    Refusal {
                        code: own.unwrap_or(standard.code),
                        hint: hint.clone().unwrap_or(standard.hint),
                    }
                })?;
                let room = conditions.iter().find_map(Condition::room);
                let room = room.and_then(|room| room_name(room, known).ok());
                if let Some(room) = room {
                    self.state.enter(room);
                }
                self.advance();
                return Ok(None);
            }
            Action::Disconnect { close } => Output::Disconnect { close: *close },
            Action::Peer(id) => {
                let id = id.to_text(known)?.unwrap_or_default();
                if id.is_empty() || id.len() > crate::MAX_ROOM_NAME - 8 {
                    return Err(Refusal::of(Failed::Value));
                }
                Output::Peer(id)
            }
        };
        self.advance();
        Ok(Some(Step::Do(output)))
    }
}

/// Whether all of them hold.
pub(crate) fn holds(conditions: &[Condition], known: Known<'_>) -> bool {
    require(conditions, known).is_ok()
}

fn require(conditions: &[Condition], known: Known<'_>) -> Result<(), Failed> {
    conditions.iter().try_for_each(|condition| condition.check(known))
}

fn written(value: &Template, known: Known<'_>) -> Result<(String, Vec<Bytes>), Refusal> {
    let mut writer = Writer::default();
    value.write(known, &mut writer)?;
    Ok((writer.json, writer.attachments))
}

fn join_output(join: &JoinAction, known: Known<'_>) -> Result<Join, Refusal> {
    let room = room_name(&join.room, known).map_err(Refusal::of)?;
    if known.facts.is_socket(&room) {
        // Nobody listens in on what is sent to a socket by its id.
        return Err(Refusal::bad_room());
    }
    let profile = match &join.profile {
        Some(profile) => profile_of(profile, known)?,
        None => "{}".to_owned(),
    };
    let shown = without(&profile, "room").ok_or_else(Refusal::bad_profile)?;
    let member = member_json(&known.facts.id().unwrap_or_default(), &room, &shown);
    let known = Known { scope: Scope { member: Some(&member), joined: None }, ..known };
    let event = |template: &Option<EventTemplate>| {
        let Some(template) = template else { return Ok(None) };
        let event = event_out(template, known)?;
        let attached: usize = event.attachments.iter().map(Bytes::len).sum();
        // The record keeps it for as long as the membership lasts. The profile is kept once.
        if event.args.len().saturating_sub(template.members * member.len()) + attached > MAX_PROFILE {
            return Err(Refusal::bad_profile());
        }
        Ok(Some(event))
    };
    Ok(Join {
        joined: event(&join.joined)?,
        updated: event(&join.updated)?,
        farewell: event(&join.farewell)?,
        room,
        profile,
        limit: join.limit,
        rejoins: join.rejoins,
        wants_members: join.wants_members,
    })
}

/// A profile: an object without binary and without an id, the text of its values kept. Nothing and null are an empty one.
fn profile_of(profile: &Template, known: Known<'_>) -> Result<String, Refusal> {
    let Some(value) = profile.value(known)? else { return Ok("{}".to_owned()) };
    let value = value.as_value();
    if value.type_of() == Type::Null {
        return Ok("{}".to_owned());
    }
    if value.has_binary() || value.json.len() > MAX_PROFILE {
        return Err(Refusal::bad_profile());
    }
    let profile = without(&value.json, "id").ok_or_else(Refusal::bad_profile)?;
    if profile.len() > MAX_PROFILE { Err(Refusal::bad_profile()) } else { Ok(profile) }
}

/// An object without one of its fields, the order of its keys and the text of its values kept; `None` if it is no object.
fn without(object: &str, field: &str) -> Option<String> {
    let entries: indexmap::IndexMap<String, &serde_json::value::RawValue> =
        serde_json::from_str(object).ok()?;
    if !entries.contains_key(field) {
        return Some(object.trim().to_owned());
    }
    let rest = entries.iter().filter(|(name, _)| *name != field);
    let rest: Vec<_> = rest.map(|(name, value)| format!("{}:{}", json_string(name), value.get())).collect();
    Some(format!("{{{}}}", rest.join(",")))
}

fn event_out(template: &EventTemplate, known: Known<'_>) -> Result<EventOut, Refusal> {
    let name = template.name.to_text(known)?.unwrap_or_default();
    if name.is_empty() || signalbox_socketio::args::is_reserved(&name) {
        return Err(Refusal::new("bad-event", "no event can have this name"));
    }
    let mut writer = Writer::default();
    write_elements(&template.args, known, &mut writer)?;
    Ok(EventOut { name, args: writer.json, attachments: writer.attachments })
}

fn emit_step(emit: &Emit, known: Known<'_>) -> Result<Option<Step>, Refusal> {
    let (event, volatile) = (&emit.event, emit.volatile);
    let id = |value: &Template| -> Result<String, Refusal> {
        let text = value.to_text(known)?.unwrap_or_default();
        if text.is_empty() { Err(Refusal::new("not-found", "no such socket is connected")) } else { Ok(text) }
    };
    let to_hidden = |name| To::Room { name, but_me: false, is_guarded: false };
    let signal = || match known.facts.is_granted(Grant::Signal) {
        true => Ok(()),
        false => Err(Refusal::of(Failed::NotGranted)),
    };
    let to = match &emit.to {
        Target::Me => To::Me,
        Target::Everyone { but_me } => To::Everyone { but_me: *but_me },
        Target::Room { room, but_me } => {
            let own = known.state.room.clone();
            let name = match room {
                Some(room) => room_name(room, known).map_err(Refusal::of)?,
                None => own.clone().ok_or_else(Refusal::bad_room)?,
            };
            let is_guarded = !(known.state.has_joined && own.as_ref() == Some(&name));
            To::Room { name, but_me: *but_me, is_guarded }
        }
        Target::Rooms { announced, but_me } => {
            let rooms = known.facts.rooms(announced.as_deref()).into_iter().map(|room| {
                let scope = Scope { member: None, joined: Some(&room.announcement) };
                let scope = if room.announcement.is_empty() { Scope::default() } else { scope };
                Ok((room.name.clone(), event_out(event, Known { scope, ..known })?))
            });
            let rooms = rooms.collect::<Result<Vec<_>, Refusal>>()?;
            return Ok(Some(Step::Do(Output::EmitToRooms { rooms, but_me: *but_me, volatile })));
        }
        Target::Socket(socket) => {
            let value = socket.value(known)?;
            let value = value.as_ref().map(Owned::as_value);
            let socket = value.filter(|value| value.type_of() == Type::String).map(|value| value.to_text());
            let event = event_out(event, known)?;
            return Ok(Some(Step::Ask(Output::SendTo { socket: socket.unwrap_or_default(), event })));
        }
        Target::Subject(subject) => {
            signal()?;
            to_hidden(subject_room(&id(subject)?))
        }
        Target::Peer(peer) => {
            signal()?;
            to_hidden(peer_room(&id(peer)?))
        }
    };
    Ok(Some(Step::Do(Output::Emit { to, event: event_out(event, known)?, volatile })))
}

/// What is kept on the socket, within its bounds.
fn set_output(
    entries: &[(String, Template)],
    known: Known<'_>,
) -> Result<Vec<(String, Option<String>)>, Refusal> {
    let too_much = || {
        Refusal::new(
            "bad-value",
            "what is kept on a socket is at most 32 fields and 4096 bytes, without binary",
        )
    };
    let mut set = Vec::with_capacity(entries.len());
    for (name, template) in entries {
        let value = template.value(known)?;
        let value = value.as_ref().map(Owned::as_value).filter(|value| value.type_of() != Type::Null);
        if value.as_ref().is_some_and(Value::has_binary) {
            return Err(too_much());
        }
        set.push((name.clone(), value.map(|value| value.json.into_owned())));
    }
    let kept = known.facts.all_data();
    let kept = kept.iter().filter(|(name, _)| !entries.iter().any(|(new, _)| new == name));
    let (mut count, mut bytes) = (0, 0);
    let kept = kept.map(|(name, value)| (*name, *value));
    let new = set.iter().filter_map(|(name, value)| Some((&**name, value.as_deref()?)));
    for (name, value) in kept.chain(new) {
        count += 1;
        bytes += name.len() + value.len();
    }
    if count > MAX_FIELDS || bytes > MAX_DATA { Err(too_much()) } else { Ok(set) }
}
