//! Memberships of rooms.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::address::Address;

/// A room of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoomName {
    /// The namespace, with its leading slash.
    pub namespace: Arc<str>,
    /// The room.
    pub name: Arc<str>,
}

/// An event to be emitted: a name, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEvent {
    /// The event's name.
    pub event: Arc<str>,
    /// Its arguments.
    pub args: EventArgs,
    /// Binary attachments that placeholders in `args` name.
    pub attachments: Vec<Bytes>,
}

/// The arguments of an event about a member: JSON, the elements behind the event's name without brackets. Where the member's
/// profile is part of them, they are a template, so that a record holds its profile once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventArgs {
    /// What comes before the profile's fields; all of it, if they are no part of the arguments.
    head: Arc<str>,
    /// What comes behind them.
    tail: Option<Arc<str>>,
}

impl EventArgs {
    /// Finds the fields of a profile in the arguments.
    pub fn new(args: &str, profile: &str) -> Self {
        match Some(fields(profile)).filter(|fields| !fields.is_empty()).and_then(|it| args.split_once(it)) {
            Some((head, tail)) => Self { head: head.into(), tail: Some(tail.into()) },
            None => Self { head: args.into(), tail: None },
        }
    }

    /// The arguments, with the profile from which they were made.
    pub fn render(&self, profile: &str) -> Cow<'_, str> {
        match &self.tail {
            Some(tail) => Cow::Owned([&self.head, fields(profile), tail].concat()),
            None => Cow::Borrowed(&self.head),
        }
    }
}

/// What stands between an object's braces.
fn fields(object: &str) -> &str {
    let inner = object.trim().strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    inner.unwrap_or_default().trim()
}

/// A membership: the socket, its profile, and the events that the other members get. The record carries the leave event, so that
/// any node can send it: when the member's node has died, another one ends the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The member.
    pub socket: Address,
    /// A JSON object.
    pub profile: Arc<str>,
    /// The event that the others get when the membership begins.
    pub joined: Option<MemberEvent>,
    /// The event that they get when the profile is replaced.
    pub updated: Option<MemberEvent>,
    /// The event that they get when the membership ends, however it ends.
    pub left: Option<MemberEvent>,
}

/// A record as format 1 has it, with every event written out; and as it is part of a session that moves, in any format.
#[derive(Serialize, Deserialize)]
struct PlainRecord<'a> {
    socket: Address,
    profile: Cow<'a, str>,
    joined: Option<PlainEvent<'a>>,
    updated: Option<PlainEvent<'a>>,
    left: Option<PlainEvent<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PlainEvent<'a> {
    event: Cow<'a, str>,
    args: Cow<'a, str>,
    attachments: Cow<'a, [Bytes]>,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = |event: &'_ Option<MemberEvent>| {
            event.as_ref().map(|MemberEvent { event, args, attachments }| PlainEvent {
                event: Cow::Owned(event.to_string()),
                args: Cow::Owned(args.render(&self.profile).into_owned()),
                attachments: Cow::Owned(attachments.clone()),
            })
        };
        let (joined, updated, left) = (plain(&self.joined), plain(&self.updated), plain(&self.left));
        let profile = Cow::Borrowed(&*self.profile);
        PlainRecord { socket: self.socket, profile, joined, updated, left }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PlainRecord { socket, profile, joined, updated, left } = PlainRecord::deserialize(deserializer)?;
        let template = |event: Option<PlainEvent<'_>>| {
            event.map(|PlainEvent { event, args, attachments }| MemberEvent {
                event: event.into(),
                args: EventArgs::new(&args, &profile),
                attachments: attachments.into_owned(),
            })
        };
        let (joined, updated, left) = (template(joined), template(updated), template(left));
        Ok(Self { socket, profile: profile.into(), joined, updated, left })
    }
}

/// A record as format 2 has it: the profile stands in it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactRecord {
    socket: Address,
    profile: Arc<str>,
    joined: Option<MemberEvent>,
    updated: Option<MemberEvent>,
    left: Option<MemberEvent>,
}

impl From<&Record> for CompactRecord {
    fn from(record: &Record) -> Self {
        let Record { socket, profile, joined, updated, left } = record.clone();
        Self { socket, profile, joined, updated, left }
    }
}

impl From<CompactRecord> for Record {
    fn from(record: CompactRecord) -> Self {
        let CompactRecord { socket, profile, joined, updated, left } = record;
        Self { socket, profile, joined, updated, left }
    }
}

/// What the store has of a session, taken along when the session moves to another node; as [`Command::AdoptSession`](crate::Command::AdoptSession) takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecords {
    /// The rooms its sockets are in, and their records there.
    pub memberships: Vec<(RoomName, Record)>,
    /// Its sockets: namespace, id, profile.
    pub sockets: Vec<(Arc<str>, Address, Arc<str>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_stands_once_in_a_record_and_is_told_where_it_stood() {
        let profile = "{\"peerId\":\"ann\"}";
        let member = "{\"id\":\"x\",\"room\":\"r\",\"peerId\":\"ann\"}";
        let args = EventArgs::new(member, profile);
        assert_eq!(args.tail.as_deref(), Some("}"));
        assert_eq!(args.render(profile), member);
        for (args, profile) in [(member, "{}"), ("", "{}"), ("1,2", profile), ("\"ann\"", profile)] {
            assert_eq!(EventArgs::new(args, profile).render(profile), args);
        }
    }

    #[test]
    fn both_forms_of_a_record_are_read_back_and_the_compact_one_is_small() {
        let profile: Arc<str> = format!("{{\"name\":\"{}\"}}", "x".repeat(1_000)).into();
        let event = |name: &str| {
            let args = EventArgs::new(&format!("{{\"id\":\"1\",{}}}", fields(&profile)), &profile);
            Some(MemberEvent { event: name.into(), args, attachments: vec![Bytes::from_static(b"\0")] })
        };
        let (joined, updated, left) = (event("joined"), event("updated"), event("left"));
        let socket = Address::from_bytes([7; 15]);
        let record = Record { socket, profile: profile.clone(), joined, updated, left };
        let plain = postcard::to_stdvec(&record).unwrap();
        assert_eq!(postcard::from_bytes::<Record>(&plain).as_ref(), Ok(&record));
        let compact = postcard::to_stdvec(&CompactRecord::from(&record)).unwrap();
        let read: CompactRecord = postcard::from_bytes(&compact).unwrap();
        assert_eq!(Record::from(read), record);
        assert!(plain.len() > 4_000 && compact.len() < 1_200, "{} and {}", plain.len(), compact.len());
    }
}
