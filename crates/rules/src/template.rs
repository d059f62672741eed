//! Values made from what is known when an event comes. Compiled when the file is read.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use crate::{
    facts::Facts,
    state::State,
    value::{Key, Type, Value, Writer, fields, json_string},
};

/// A value with placeholders in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Template {
    /// JSON.
    Constant(Arc<str>),
    /// A placeholder alone: its value keeps its type.
    Value(Placeholder),
    /// A text with placeholders in it.
    Text(Vec<Piece>),
    Array(Vec<Element>),
    /// Keys as JSON. What is missing is left out.
    Object(Vec<(Arc<str>, Template)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Text(Arc<str>),
    Value(Placeholder),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Element {
    /// What is missing is null.
    Item(Template),
    /// What is missing is left out.
    Optional(Placeholder),
    /// The elements of an array; anything else is one element, and what is missing is none.
    Spread(Placeholder),
}

/// What stands between braces: the first alternative that there is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placeholder {
    pub(crate) alternatives: Vec<Origin>,
    pub(crate) as_text: bool,
}

/// Where a value comes from, and which part of it is meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// JSON that stands in the file.
    Constant(Arc<str>),
    /// An argument, counted from 0 behind the event's name.
    Arg(usize, Vec<Key>),
    /// The arguments from this one on.
    Args(usize, Vec<Key>),
    Event,
    SocketId,
    Namespace,
    Address,
    Data(String, Vec<Key>),
    Auth(Vec<Key>),
    Subject,
    Claim(String),
    Members,
    Others,
    Count,
    /// How many there are in a room with more members than are told of each other.
    CrowdCount,
    /// Behind whom the next page of members begins.
    CrowdNext,
    Reason,
    PeerId,
    PeerKey,
    /// The member that joins: `{id, room, ...profile}`.
    Member,
    /// What the others in a room were told when this socket joined it.
    Joined(Vec<Key>),
    /// What a call was answered with.
    Answer(Vec<Key>),
}

/// What a value may need that must be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) members: bool,
    pub(crate) count: bool,
}

impl Needs {
    pub(crate) fn or(self, other: Self) -> Self {
        Self { members: self.members || other.members, count: self.count || other.count }
    }
}

/// What is known besides facts and arguments, for one place of a rule.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope<'a> {
    /// JSON of the member that joins.
    pub(crate) member: Option<&'a str>,
    /// JSON array of what was told of the socket in a room.
    pub(crate) joined: Option<&'a str>,
}

/// Everything values are made from.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) facts: &'a dyn Facts,
    pub(crate) state: &'a State,
    pub(crate) scope: Scope<'a>,
}

/// A text had binary in it, or a part of a template was deeper than texts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BinaryInText;

impl Placeholder {
    pub(crate) fn resolve<'a>(&'a self, known: Known<'a>) -> Option<Value<'a>> {
        let value = self.alternatives.iter().find_map(|origin| origin.resolve(known))?;
        if self.as_text && value.type_of() != Type::String {
            if value.type_of() == Type::Binary {
                return None;
            }
            return Some(Value::text(&value.to_text()));
        }
        Some(value)
    }

    /// The arguments that it names, where it names a list of them and nothing else.
    pub(crate) fn args<'a>(&self, known: Known<'a>) -> Option<&'a [Box<str>]> {
        match &self.alternatives[..] {
            [Origin::Args(from, path)] if path.is_empty() && !self.as_text => {
                Some(known.state.event.args().get(*from..).unwrap_or_default())
            }
            _ => None,
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        self.alternatives.iter().fold(Needs::default(), |needs, origin| {
            needs.or(match origin {
                Origin::Members | Origin::Others | Origin::CrowdCount | Origin::CrowdNext => {
                    Needs { members: true, count: false }
                }
                Origin::Count => Needs { members: false, count: true },
                _ => Needs::default(),
            })
        })
    }
}

impl Origin {
    fn resolve<'a>(&'a self, known: Known<'a>) -> Option<Value<'a>> {
        let Known { facts, state, scope } = known;
        let event = &state.event;
        match self {
            Self::Constant(json) => Some(Value::plain(&**json)),
            Self::Arg(index, path) => {
                Value { json: event.arg(*index)?.into(), attachments: &event.attachments }.at(path)
            }
            Self::Args(from, path) => match path.split_first() {
                // The list need not be written to look into it.
                Some((Key { index: Some(index), .. }, path)) => {
                    let json = event.arg(from.checked_add(*index)?)?.into();
                    Value { json, attachments: &event.attachments }.at(path)
                }
                Some(_) => None,
                None => Some(Value { json: event.args_from(*from).into(), attachments: &event.attachments }),
            },
            Self::Event => Some(Value::text(&event.name)),
            Self::SocketId => Some(Value::text(&facts.id()?)),
            Self::Namespace => Some(Value::text(&facts.namespace())),
            Self::Address => Some(Value::text(&facts.address()?)),
            Self::Data(name, path) => Value::plain(facts.data(name)?).at(path),
            Self::Auth(path) => Value::plain(state.event.auth.as_deref()?).at(path),
            Self::Subject => facts.claim("sub").map(Value::plain),
            Self::Claim(name) => facts.claim(name).map(Value::plain),
            Self::Members => Some(Value::plain(state.members_json(None)?)),
            Self::Others => Some(Value::plain(state.members_json(facts.id().as_deref())?)),
            Self::Count => Some(Value::plain(state.count()?.to_string())),
            Self::CrowdCount => {
                let list = state.members.as_ref().filter(|list| list.is_large)?;
                Some(Value::plain(list.count.to_string()))
            }
            Self::CrowdNext => Some(Value::text(state.members.as_ref()?.next.as_deref()?)),
            Self::Reason => Some(Value::text(event.reason.as_deref()?)),
            Self::PeerId => Some(Value::text(&event.peer.as_ref()?.0)),
            Self::PeerKey => Some(Value::text(&event.peer.as_ref()?.1)),
            Self::Member => Some(Value::plain(scope.member?)),
            Self::Joined(path) => Value::plain(scope.joined?).at(path),
            Self::Answer(path) => Value::plain(state.answer.as_deref()?).at(path),
        }
    }
}

impl Template {
    /// The value alone; `None` where it is missing.
    pub(crate) fn value<'a>(&'a self, known: Known<'a>) -> Result<Option<Owned<'a>>, BinaryInText> {
        Ok(match self {
            Self::Constant(json) => Some(Owned::Borrowed(Value::plain(&**json))),
            Self::Value(placeholder) => placeholder.resolve(known).map(Owned::Borrowed),
            _ => {
                let mut writer = Writer::default();
                self.write(known, &mut writer)?;
                Some(Owned::Written { json: writer.json, attachments: writer.attachments })
            }
        })
    }

    /// Writes the value; null where it is missing.
    pub(crate) fn write(&self, known: Known<'_>, to: &mut Writer) -> Result<(), BinaryInText> {
        match self {
            Self::Constant(json) => to.json.push_str(json),
            Self::Value(placeholder) => match placeholder.resolve(known) {
                Some(value) => to.value(&value),
                None => to.json.push_str("null"),
            },
            Self::Text(pieces) => to.json.push_str(&json_string(&text(pieces, known)?)),
            Self::Array(elements) => {
                to.json.push('[');
                write_elements(elements, known, to)?;
                to.json.push(']');
            }
            Self::Object(entries) => {
                to.json.push('{');
                let mut is_first = true;
                for (key, value) in entries {
                    let resolved = match value {
                        Self::Value(placeholder) => match placeholder.resolve(known) {
                            Some(value) => Some(value),
                            None => continue,
                        },
                        _ => None,
                    };
                    to.json.push_str(if is_first { "" } else { "," });
                    is_first = false;
                    to.json.push_str(key);
                    to.json.push(':');
                    match resolved {
                        Some(value) => to.value(&value),
                        None => value.write(known, to)?,
                    }
                }
                to.json.push('}');
            }
        }
        Ok(())
    }

    /// The value as a text.
    pub(crate) fn to_text(&self, known: Known<'_>) -> Result<Option<String>, BinaryInText> {
        let Some(value) = self.value(known)? else { return Ok(None) };
        let value = value.as_value();
        if value.has_binary() { Err(BinaryInText) } else { Ok(Some(value.to_text())) }
    }

    /// Every placeholder in it.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(&Placeholder)) {
        match self {
            Self::Constant(_) => {}
            Self::Value(placeholder) => visit(placeholder),
            Self::Text(pieces) => {
                for piece in pieces {
                    if let Piece::Value(placeholder) = piece {
                        visit(placeholder);
                    }
                }
            }
            Self::Array(elements) => each_of(elements, visit),
            Self::Object(entries) => entries.iter().for_each(|(_, value)| value.each(visit)),
        }
    }

    /// Bytes that stand in the file.
    pub(crate) fn constant_bytes(&self) -> usize {
        match self {
            Self::Constant(json) => json.len(),
            Self::Value(_) => 4,
            Self::Text(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => json_string(text).len(),
                    Piece::Value(_) => 2,
                })
                .sum(),
            Self::Array(elements) => 2 + constant_bytes(elements),
            Self::Object(entries) => {
                2 + entries.iter().map(|(key, value)| key.len() + 2 + value.constant_bytes()).sum::<usize>()
            }
        }
    }
}

pub(crate) fn each_of(elements: &[Element], visit: &mut dyn FnMut(&Placeholder)) {
    for element in elements {
        match element {
            Element::Item(template) => template.each(visit),
            Element::Optional(placeholder) | Element::Spread(placeholder) => visit(placeholder),
        }
    }
}

pub(crate) fn constant_bytes(elements: &[Element]) -> usize {
    let of = |element: &Element| match element {
        Element::Item(template) => template.constant_bytes(),
        Element::Optional(_) | Element::Spread(_) => 4,
    };
    elements.iter().map(|element| of(element) + 1).sum()
}

/// Writes elements with commas between them.
pub(crate) fn write_elements(
    elements: &[Element],
    known: Known<'_>,
    to: &mut Writer,
) -> Result<(), BinaryInText> {
    let mut is_first = true;
    let mut comma = |to: &mut Writer| {
        if !std::mem::replace(&mut is_first, false) {
            to.json.push(',');
        }
    };
    for element in elements {
        match element {
            Element::Item(template) => {
                comma(to);
                template.write(known, to)?;
            }
            Element::Optional(placeholder) => {
                if let Some(value) = placeholder.resolve(known) {
                    comma(to);
                    to.value(&value);
                }
            }
            Element::Spread(placeholder) => {
                let Some(value) = placeholder.resolve(known) else { continue };
                if value.type_of() == Type::Array {
                    let json = value.json.trim();
                    let inner = json.get(1..json.len() - 1).unwrap_or_default().trim();
                    if !inner.is_empty() {
                        comma(to);
                        to.value(&Value { json: inner.into(), attachments: value.attachments });
                    }
                } else {
                    comma(to);
                    to.value(&value);
                }
            }
        }
    }
    Ok(())
}

fn text(pieces: &[Piece], known: Known<'_>) -> Result<String, BinaryInText> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(constant) => text.push_str(constant),
            Piece::Value(placeholder) => {
                let Some(value) = placeholder.resolve(known) else { continue };
                if value.has_binary() {
                    return Err(BinaryInText);
                }
                text.push_str(&value.to_text());
            }
        }
    }
    Ok(text)
}

/// A value that was written, or that stands somewhere already.
pub(crate) enum Owned<'a> {
    Borrowed(Value<'a>),
    Written { json: String, attachments: Vec<Bytes> },
}

impl Owned<'_> {
    pub(crate) fn as_value(&self) -> Value<'_> {
        match self {
            Self::Borrowed(value) => value.clone(),
            Self::Written { json, attachments } => Value { json: Cow::Borrowed(json), attachments },
        }
    }
}

/// `{id, room, ...profile}`, whatever the profile says of both.
pub(crate) fn member_json(id: &str, room: &str, profile: &str) -> String {
    let rest = fields(profile);
    let comma = if rest.is_empty() { "" } else { "," };
    format!("{{\"id\":{},\"room\":{}{comma}{rest}}}", json_string(id), json_string(room))
}
