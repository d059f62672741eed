//! What `when` and `require` test.

use std::sync::Arc;

use regex_lite::Regex;

use crate::{
    facts::Grant,
    template::{BinaryInText, Known, Needs, Placeholder, Template},
    value::{Type, Value, string},
};

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// The socket is in this room.
    Member(Template),
    /// The socket is in a room whose members were told this event of it.
    Announced(Arc<str>),
    /// The client wants an ack, or not.
    Ack(bool),
    Grant(GrantTest),
    Value(Placeholder, Vec<Test>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GrantTest {
    Join(Template),
    Send(Template),
    Signal,
    Users,
}

/// A test of one value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Type(Vec<Type>),
    Min(f64),
    Max(f64),
    Bytes(usize),
    OneOf(Vec<Scalar>),
    Not(Vec<Scalar>),
    Present(bool),
    Plain,
    Pattern(TextPattern),
}

/// A regular expression; two are the same where they are written the same.
#[derive(Debug, Clone)]
pub(crate) struct TextPattern(pub(crate) Regex);

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A constant that values are compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Text(String),
    Number(f64),
    Boolean(bool),
}

/// Why a condition does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It names a room that cannot be one.
    BadRoom,
    NotAMember,
    AckRequired,
    NotGranted,
    /// Another test.
    Value,
}

impl Condition {
    pub(crate) fn check(&self, known: Known<'_>) -> Result<(), Failed> {
        let holds = |holds, failed| if holds { Ok(()) } else { Err(failed) };
        match self {
            Self::Member(room) => {
                let room = room_name(room, known)?;
                holds(known.facts.is_member(&room), Failed::NotAMember)
            }
            Self::Announced(event) => holds(!known.facts.rooms(Some(event)).is_empty(), Failed::NotAMember),
            Self::Ack(wanted) => holds(known.state.event.wants_ack == *wanted, Failed::AckRequired),
            Self::Grant(grant) => {
                let is_granted = match grant {
                    GrantTest::Join(room) => known.facts.is_granted(Grant::Join(&room_name(room, known)?)),
                    GrantTest::Send(room) => known.facts.is_granted(Grant::Send(&room_name(room, known)?)),
                    GrantTest::Signal => known.facts.is_granted(Grant::Signal),
                    GrantTest::Users => known.facts.is_granted(Grant::Users),
                };
                holds(is_granted, Failed::NotGranted)
            }
            Self::Value(placeholder, tests) => {
                // How many arguments there are is asked for each event of many rules: the list need not be written for it.
                let sizes = placeholder.args(known).map(<[_]>::len);
                if let Some(size) = sizes
                    && tests.iter().all(Test::is_of_size)
                {
                    return holds(tests.iter().all(|test| test.holds_for(size as f64)), Failed::Value);
                }
                let value = placeholder.resolve(known);
                holds(tests.iter().all(|test| test.holds(value.as_ref())), Failed::Value)
            }
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        match self {
            Self::Value(placeholder, _) => placeholder.needs(),
            _ => Needs::default(),
        }
    }

    /// The room whose member the socket is, where the condition holds.
    pub(crate) fn room(&self) -> Option<&Template> {
        match self {
            Self::Member(room) => Some(room),
            _ => None,
        }
    }

    pub(crate) fn each(&self, visit: &mut dyn FnMut(&Placeholder)) {
        match self {
            Self::Member(room) | Self::Grant(GrantTest::Join(room) | GrantTest::Send(room)) => {
                room.each(visit)
            }
            Self::Value(placeholder, tests) => tests.iter().for_each(|_| visit(placeholder)),
            Self::Announced(_) | Self::Ack(_) | Self::Grant(_) => {}
        }
    }
}

/// The room that a template names.
pub(crate) fn room_name(room: &Template, known: Known<'_>) -> Result<String, Failed> {
    let value = room.value(known).map_err(|BinaryInText| Failed::BadRoom)?;
    value.and_then(|value| value.as_value().room_name()).ok_or(Failed::BadRoom)
}

impl Test {
    fn is_of_size(&self) -> bool {
        matches!(self, Self::Min(_) | Self::Max(_))
    }

    /// Of a size; other tests do not hold of one.
    fn holds_for(&self, size: f64) -> bool {
        match self {
            Self::Min(min) => size >= *min,
            Self::Max(max) => size <= *max,
            _ => false,
        }
    }

    fn holds(&self, value: Option<&Value<'_>>) -> bool {
        let Some(value) = value else { return matches!(self, Self::Present(false) | Self::Not(_)) };
        match self {
            Self::Present(present) => *present,
            Self::Type(types) => types.contains(&value.type_of()),
            Self::Min(_) | Self::Max(_) => value.size().is_some_and(|size| self.holds_for(size)),
            Self::Bytes(max) => value.bytes() <= *max,
            Self::OneOf(scalars) => scalars.iter().any(|scalar| scalar.is(value)),
            Self::Not(scalars) => !scalars.iter().any(|scalar| scalar.is(value)),
            Self::Plain => !value.has_binary(),
            Self::Pattern(pattern) => string(&value.json).is_some_and(|text| pattern.0.is_match(&text)),
        }
    }
}

impl Scalar {
    fn is(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Text(text) => string(&value.json).is_some_and(|content| content == text.as_str()),
            Self::Number(number) => {
                value.type_of() == Type::Number && value.json.trim().parse() == Ok(*number)
            }
            Self::Boolean(boolean) => value.json.trim() == if *boolean { "true" } else { "false" },
        }
    }
}
