//! A rule under way.

use std::sync::Arc;

use crate::{
    action::{Action, CallAction, Full, Guarded, JoinAction},
    call::{CallAnswer, MAX_BODY, request_body},
    condition::{Condition, Failed, room_name},
    facts::Facts,
    output::{Output, Refusal, Step},
    perform::{emit_step, join_output, set_output, written},
    rule::Rule,
    state::{MemberList, State},
    template::{Known, Owned, Scope, Template},
    value::Type,
};

/// An answer to a [`Step::Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The socket has joined the room.
    Joined {
        /// The members, the socket itself included, if they were asked for.
        members: MemberList,
        /// How many there were the moment it had joined.
        count: u32,
    },
    /// The room is full.
    Full,
    /// The members of the room.
    Members(MemberList),
    /// The other socket has got the event.
    Sent,
    /// It is done.
    Done,
    /// The application's own server has answered. What is to be done now is done before the rest of the rule.
    Called(Box<CallAnswer>),
    /// It has not, or with what is no answer.
    NotCalled,
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
    Call,
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
    /// The actions of an answer, which come first, and the next of them.
    answered: Option<(Arc<[Guarded]>, usize)>,
    /// What the next step is, since an answer said so.
    refused: Option<Refusal>,
    waiting: Waiting,
}

impl Run {
    pub(crate) fn new(rule: Arc<Rule>, state: State) -> Self {
        Self {
            rule,
            state,
            position: 0,
            instead: None,
            answered: None,
            refused: None,
            waiting: Waiting::Nothing,
        }
    }

    /// The event's name.
    pub fn event_name(&self) -> &str {
        &self.state.event.name
    }

    /// Bytes of the event that it keeps, and that a question about it has.
    pub fn bytes(&self) -> usize {
        let event = self.state.event.bytes();
        if self.waiting == Waiting::Call { 2 * event } else { event }
    }

    /// Where the rule stands in its file.
    pub fn line(&self) -> usize {
        self.rule.line
    }

    /// Goes on to the next action.
    pub fn next(&mut self, facts: &dyn Facts) -> Step {
        let (rule, answered) = (self.rule.clone(), self.answered.clone());
        let answered = answered.as_ref().map_or(&[][..], |(actions, _)| actions);
        loop {
            if let Some(refusal) = self.refused.take() {
                return Step::Refuse(refusal);
            }
            if self.waiting != Waiting::Nothing {
                debug_assert!(false, "a run goes on before its answer is here");
                return Step::End;
            }
            if self.answered.as_ref().is_some_and(|(_, index)| *index >= answered.len()) {
                self.answered = None;
                self.advance();
            }
            let Some(guarded) = self.action(&rule, answered) else { return Step::End };
            let needs = guarded.needs;
            if self.is_idle(&guarded.action) {
                self.advance();
                continue;
            }
            if (needs.members && self.state.members.is_none())
                || (needs.count && self.state.count().is_none())
            {
                let Some(room) = self.state.room.clone() else { return Step::End };
                self.waiting = Waiting::Members;
                return Step::Ask(Output::Members { room, after: self.state.after.clone() });
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
            (Waiting::Call, Answer::Called(answer)) => {
                let CallAnswer { refusal, data, actions } = *answer;
                self.refused = refusal;
                self.state.answer = data;
                self.answered = Some((actions, 0));
            }
            (Waiting::Call, _) => self.refused = Some(self.refusal_of_call()),
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
        match &self.action(&self.rule, self.answered.as_ref().map_or(&[], |(actions, _)| actions))?.action {
            Action::Join(join) => Some(join),
            _ => None,
        }
    }

    fn refusal_of_call(&self) -> Refusal {
        let code = match self.action(&self.rule, &[]).map(|guarded| &guarded.action) {
            Some(Action::Call(CallAction { refusal: Some(code), .. })) => code,
            _ => "call-failed",
        };
        Refusal::new(code, "the application does not answer, try again in a moment")
    }

    /// The present action, of the rule or of an answer.
    fn action<'r>(&self, rule: &'r Rule, answered: &'r [Guarded]) -> Option<&'r Guarded> {
        if let Some((_, index)) = self.answered {
            return answered.get(index);
        }
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
        match (&mut self.answered, &mut self.instead) {
            (Some((_, index)), _) | (None, Some(index)) => *index += 1,
            (None, None) => self.position += 1,
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
            Action::MembersAfter(after) => {
                let after = id_of(after, known)?;
                (self.state.members, self.state.after) = (None, after);
                self.advance();
                return Ok(None);
            }
            Action::Users(after) => {
                let after = id_of(after, known)?;
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
            Action::Call(CallAction { hook, .. }) => {
                let body = request_body(known).filter(|body| body.len() <= MAX_BODY).ok_or_else(|| {
                    Refusal::new(
                        "message-too-large",
                        "what is asked of the application has more than 256 KiB",
                    )
                })?;
                let hook = hook.clone();
                self.waiting = Waiting::Call;
                return Ok(Some(Step::Ask(Output::Call { hook, body })));
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

/// The id of a socket, if there is a value; an empty one, which nobody has, if it is something else.
fn id_of(template: &Template, known: Known<'_>) -> Result<Option<String>, Refusal> {
    let value = template.value(known)?;
    let value = value.as_ref().map(Owned::as_value).filter(|value| value.type_of() != Type::Null);
    Ok(value.map(|value| if value.type_of() == Type::String { value.to_text() } else { String::new() }))
}

/// Whether all of them hold.
pub(crate) fn holds(conditions: &[Condition], known: Known<'_>) -> bool {
    require(conditions, known).is_ok()
}

fn require(conditions: &[Condition], known: Known<'_>) -> Result<(), Failed> {
    conditions.iter().try_for_each(|condition| condition.check(known))
}
