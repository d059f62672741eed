//! What a rule can cost at most: known when it is read, so that no rule and no event can cost more.

use crate::{
    action::{Action, EventTemplate, Full, Guarded, Target},
    call::{MAX_ANSWER, MAX_ANSWER_ACTIONS, MAX_ANSWER_QUESTIONS},
    template::{Needs, constant_bytes},
};

/// Most actions of one rule.
pub(crate) const MAX_ACTIONS: usize = 32;
/// Most questions to the cluster of one rule.
pub(crate) const MAX_QUESTIONS: usize = 8;
/// Most calls of one rule.
pub(crate) const MAX_CALLS: usize = 1;
/// Most values that one rule looks up.
pub(crate) const MAX_VALUES: usize = 256;

/// What a rule can cost at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Actions. One for all rooms of the socket counts as one here.
    pub actions: usize,
    /// Questions to the cluster, each of which the client's next events wait for: joins, lists, sockets elsewhere.
    pub questions: usize,
    /// Values that are looked up and copied: each costs time in proportion to the event, at most.
    pub values: usize,
    /// Bytes of the file that are copied.
    pub constant: usize,
    /// Whether something is said in every room of the socket.
    pub all_rooms: bool,
    /// Calls to servers of the application's own: none, or one.
    pub calls: usize,
}

impl Cost {
    pub(crate) fn of(actions: &[Guarded]) -> Self {
        let mut cost = Self::default();
        cost.add(actions);
        cost
    }

    /// Bytes that one run writes at most, given the bytes of everything its values come from, and the rooms that its socket is in.
    pub fn bytes(&self, known: usize, rooms: usize) -> usize {
        // A character of a text takes two bytes at most where it took one: a quote is escaped. A text of the file may be escaped
        // already, and the names around it are short.
        let once = self.constant + self.values * (2 * known + 8) + self.actions * 1024;
        once.saturating_mul(if self.all_rooms { rooms + 1 } else { 1 })
    }

    fn add(&mut self, actions: &[Guarded]) {
        for guarded in actions {
            self.actions += 1;
            guarded.each(&mut |placeholder| self.values += placeholder.alternatives.len());
            if guarded.needs != Needs::default() {
                self.questions += 1;
            }
            match &guarded.action {
                Action::Join(join) => {
                    self.questions += 1;
                    let events = [&join.joined, &join.updated, &join.farewell];
                    self.constant +=
                        events.into_iter().flatten().map(EventTemplate::constant_bytes).sum::<usize>();
                    self.constant += join.profile.as_ref().map_or(0, |profile| profile.constant_bytes());
                    // Each event may carry the member.
                    self.values += 4;
                    if let Full::Instead(actions) = &join.full {
                        self.add(actions);
                    }
                }
                Action::Emit(emit) => {
                    self.questions += usize::from(matches!(emit.to, Target::Socket(_)));
                    self.all_rooms |= matches!(emit.to, Target::Rooms { .. });
                    self.constant += emit.event.constant_bytes();
                }
                Action::Users(_) => self.questions += 1,
                Action::Ack(value)
                | Action::Leave(value)
                | Action::Peer(value)
                | Action::MembersAfter(value) => {
                    self.constant += value.constant_bytes();
                }
                Action::Set(fields) => {
                    self.constant +=
                        fields.iter().map(|(name, value)| name.len() + value.constant_bytes()).sum::<usize>();
                }
                Action::Call(_) => {
                    self.calls += 1;
                    self.actions += MAX_ANSWER_ACTIONS;
                    self.questions += 1 + MAX_ANSWER_QUESTIONS;
                    // The arguments, what is kept on the socket, the CONNECT payload, and who it is.
                    self.values += 4;
                    self.constant += MAX_ANSWER;
                }
                Action::LeaveAll | Action::Disconnect { .. } | Action::Require { .. } => {}
            }
        }
    }
}

impl EventTemplate {
    fn constant_bytes(&self) -> usize {
        self.name.constant_bytes() + constant_bytes(&self.args)
    }
}
