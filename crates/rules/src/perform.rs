//! How an action becomes something to be done: its values are made, and checked.

use bytes::Bytes;

use crate::{
    MAX_DATA, MAX_FIELDS,
    action::{Emit, EventTemplate, JoinAction, Target},
    condition::{Failed, room_name},
    facts::Grant,
    output::{EventOut, Join, Output, Refusal, Step, To},
    peer_room, subject_room,
    template::{Known, Owned, Scope, Template, member_json, write_elements},
    value::{Type, Value, Writer, json_string},
};

pub(crate) fn written(value: &Template, known: Known<'_>) -> Result<(String, Vec<Bytes>), Refusal> {
    let mut writer = Writer::default();
    value.write(known, &mut writer)?;
    Ok((writer.json, writer.attachments))
}

pub(crate) fn join_output(join: &JoinAction, known: Known<'_>) -> Result<Join, Refusal> {
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
        if event.args.len().saturating_sub(template.members * member.len()) + attached
            > known.facts.max_profile()
        {
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
    let most = known.facts.max_profile();
    let Some(value) = profile.value(known)? else { return Ok("{}".to_owned()) };
    let value = value.as_value();
    if value.type_of() == Type::Null {
        return Ok("{}".to_owned());
    }
    if value.has_binary() || value.json.len() > most {
        return Err(Refusal::bad_profile());
    }
    let profile = without(&value.json, "id").ok_or_else(Refusal::bad_profile)?;
    if profile.len() > most { Err(Refusal::bad_profile()) } else { Ok(profile) }
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
    // Mostly it is about what the event has.
    let mut writer = Writer::with_capacity(known.state.event.bytes() + 64);
    write_elements(&template.args, known, &mut writer)?;
    Ok(EventOut { name, args: writer.json, attachments: writer.attachments })
}

pub(crate) fn emit_step(emit: &Emit, known: Known<'_>) -> Result<Option<Step>, Refusal> {
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
pub(crate) fn set_output(
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
