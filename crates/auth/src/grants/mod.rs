//! Grants: what somebody may do. They are made ready once, and answer questions without allocating.

mod action;
mod limits;
mod pattern;
mod spec;

use std::sync::Arc;

pub use action::{Action, Because, Decision, Grant};
pub use limits::{Limit, Limits};
use pattern::Pattern;
pub use pattern::PatternError;
pub use spec::{GrantsError, GrantsProblem, GrantsSpec, PeerGrants, RoomGrants};

/// Grants of one subject, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    spec: Arc<GrantsSpec>,
    namespaces: Box<[Pattern]>,
    join: Box<[Pattern]>,
    send: Box<[Pattern]>,
    ids: Box<[Pattern]>,
}

impl Grants {
    /// Makes grants ready. `subject` is what `{sub}` stands for.
    pub fn new(spec: Arc<GrantsSpec>, subject: &str) -> Self {
        let patterns =
            |texts: &[String]| texts.iter().map(|text| Pattern::new(text, subject)).collect::<Box<[_]>>();
        Self {
            namespaces: patterns(&spec.namespaces),
            join: patterns(&spec.rooms.join),
            send: patterns(&spec.rooms.send),
            ids: patterns(&spec.peer.ids),
            spec,
        }
    }

    /// As they were written.
    pub fn spec(&self) -> &GrantsSpec {
        &self.spec
    }

    /// The limits that they set.
    pub fn limits(&self) -> &Limits {
        &self.spec.limits
    }

    /// Whether an action is allowed: what [`Self::decide`] says.
    pub fn allows(&self, action: &Action<'_>) -> bool {
        self.decide(action).allowed
    }

    /// Decides, and says by what. The answer borrows: nothing is allocated.
    pub fn decide(&self, action: &Action<'_>) -> Decision<'_> {
        match *action {
            Action::Connect { namespace } => first_match(Grant::Namespaces, &self.namespaces, namespace),
            Action::Join { room } => first_match(Grant::RoomsJoin, &self.join, room),
            Action::Send { room } => first_match(Grant::RoomsSend, &self.send, room),
            Action::Claim { id, is_generated } => {
                let by_pattern = first_match(Grant::PeerIds, &self.ids, id);
                if !by_pattern.allowed && is_generated && self.spec.peer.generated {
                    Decision::flag(Grant::PeerGenerated, true)
                } else {
                    by_pattern
                }
            }
            Action::Discover => Decision::flag(Grant::PeerDiscover, self.spec.peer.discover),
            Action::ListUsers => Decision::flag(Grant::Users, self.spec.users),
            Action::Turn => Decision::flag(Grant::Turn, self.spec.turn),
            Action::Admin { scope } => {
                Decision::flag(Grant::Admin, self.spec.admin.iter().any(|held| held == scope))
            }
            Action::Amount { limit, amount, default } => {
                let own = self.limits().get(limit);
                let Some(most) = own.or(default) else {
                    return Decision { allowed: true, because: Because::NoLimit(limit) };
                };
                let because = Because::Limit { limit, most, is_own: own.is_some() };
                Decision { allowed: amount <= most, because }
            }
        }
    }
}

fn first_match<'g>(grant: Grant, patterns: &'g [Pattern], name: &str) -> Decision<'g> {
    match patterns.iter().find(|pattern| pattern.matches(name)) {
        Some(pattern) => {
            Decision { allowed: true, because: Because::Pattern { grant, pattern: pattern.text() } }
        }
        None => Decision { allowed: false, because: Because::NoPattern { grant, tried: patterns.len() } },
    }
}
