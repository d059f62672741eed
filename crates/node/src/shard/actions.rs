//! The typed actions, done on events.

use std::{sync::Arc, time::Instant};

use indexmap::IndexMap;
use serde_json::value::RawValue;
use signalbox_cluster::{Address, Command, EventArgs, MemberEvent, Record, RoomName};
use signalbox_socketio::Message;

use super::{
    Shard,
    mailbox::CloseCommand,
    socketio::Incoming,
    tables::{
        PendingRequest,
        pending::{JoinRequest, ReplyTo, Signal},
    },
    tasks::Task,
};
use crate::{
    app::{
        Action,
        action::{Chat, EventTemplate, Join, Profile, TemplateArgs},
    },
    policy::{AccessRequest, Decided, Denial},
    routing::Audience,
};

/// Longest room name in bytes.
const MAX_ROOM_NAME: usize = 255;
/// Largest profile in bytes.
const MAX_PROFILE: usize = 4096;

/// Why an event is refused: a code, and a hint for people.
pub(super) type Refused = (&'static str, &'static str);

const BAD_ROOM: Refused =
    ("bad-room", "a room is named by a number, or a string of 1 to 255 bytes that is not the id of a socket");
const BAD_PROFILE: Refused = (
    "bad-profile",
    "what follows the room is at most 4096 bytes, and a profile is a JSON object without binary",
);
const NOT_A_MEMBER: Refused = ("not-a-member", "join the room first");
const NOT_FOUND: Refused = ("not-found", "no such socket is connected");
const NO_USERS: Refused = ("users-forbidden", "this server does not list its users");
/// The hint for what the policy refuses.
const NOT_GRANTED: &str = "what your token grants does not include it";
const ACK_REQUIRED: Refused = ("ack-required", "the answer is the ack: emit with a callback");

impl Shard {
    /// Does an action on an event.
    pub(super) fn act(&mut self, now: Instant, action: &Action, event: Incoming<'_>) {
        let done = match action {
            Action::Join(join) => match (&join.profile, object_args(&event)) {
                (Profile::Field(_), Some(args)) => args.and_then(|args| {
                    self.act_join(
                        now,
                        join,
                        &Incoming {
                            args: &args,
                            name: event.name.clone(),
                            namespace: event.namespace.clone(),
                            ..event
                        },
                    )
                }),
                _ => self.act_join(now, join, &event),
            },
            Action::Leave => self.act_leave(&event),
            Action::Members => self.act_members(&event),
            Action::Users => self.act_users(&event),
            Action::Broadcast { event: name, chat } => match chat {
                Some(chat) if event.args.len() == 1 => match self.act_chat(chat, &event) {
                    Ok(false) => self.act_broadcast(name, &event),
                    said => said.map(drop),
                },
                _ => self.act_broadcast(name, &event),
            },
            Action::SendTo { event: name } => self.act_send_to(now, name, &event),
        };
        match done {
            Ok(()) => {}
            Err((Denial::FAILED, _)) => self.end(now, event.key, CloseCommand::Close),
            Err((code, hint)) => self.refuse(&event, code, hint),
        }
    }

    /// Whether the policy allows what an event is to do. It is asked for each message, so a verdict that takes a while is a refusal.
    fn permit(&self, event: &Incoming<'_>, ask: AccessRequest<'_>) -> Result<(), Refused> {
        let principal = self.sessions[event.key].principal_of(event.socket);
        match self.context.policy.decide(principal, ask).now() {
            Ok(Decided::Allow(_)) => Ok(()),
            Ok(Decided::Deny(denial)) => Err((denial.code, NOT_GRANTED)),
            Err(_) => Err(("forbidden", NOT_GRANTED)),
        }
    }

    /// Answers an event with one argument.
    pub(super) fn answer(&mut self, key: u32, namespace: &str, id: u64, json: &str) {
        self.send(key, &Message::ack(namespace, id, &[json], &[]), false);
    }

    fn slot(&self, event: &Incoming<'_>) -> Result<usize, Refused> {
        self.sessions[event.key].slot_of(event.socket).ok_or(NOT_FOUND)
    }

    fn act_join(&mut self, now: Instant, join: &Join, event: &Incoming<'_>) -> Result<(), Refused> {
        let name = room_name(event)?;
        if Address::parse(&name)
            .is_some_and(|address| self.context.addresses.is_known(address, &self.context.cluster))
        {
            // Nobody listens in on what is sent to a socket by its id.
            return Err(BAD_ROOM);
        }
        let room = RoomName { namespace: event.namespace.clone(), name: name.into() };
        let record = record(join, &room, event)?;
        let reply_to = ReplyTo::Client { event: event.name.clone(), id: event.id };
        let replaces = matches!(join.profile, Profile::Field(_));
        let joining = JoinRequest { socket: event.socket, room, record, reply_to, replaces };
        let session = &self.sessions[event.key];
        let principal = session.principal_of(event.socket);
        let ask = AccessRequest::Join { namespace: &joining.room.namespace, room: &joining.room.name };
        let context = self.context.clone();
        match context.policy.decide(principal, ask).now() {
            Ok(decided) => self.join_decided(now, event.key, joining, decided),
            Err(verdict) => {
                let number = session.local.number;
                let pending = PendingRequest::JoinVerdict { key: event.key, number, join: Box::new(joining) };
                let ticket = self.hold(event.key, pending);
                self.start(Task::Verdict { ticket, verdict });
            }
        }
        Ok(())
    }

    fn act_leave(&mut self, event: &Incoming<'_>) -> Result<(), Refused> {
        let name = room_name(event)?;
        let slot = self.slot(event)?;
        let room = self.room_of(event.key, slot, &name).ok_or(NOT_A_MEMBER)?;
        self.leave(event.key, slot, room, event.socket);
        if let Some(id) = event.id {
            let answer = format!("{{\"ok\":true,\"room\":{}}}", json_string(&name));
            self.answer(event.key, &event.namespace, id, &answer);
        }
        Ok(())
    }

    fn act_members(&mut self, event: &Incoming<'_>) -> Result<(), Refused> {
        let name = room_name(event)?;
        let slot = self.slot(event)?;
        self.room_of(event.key, slot, &name).ok_or(NOT_A_MEMBER)?;
        let id = event.id.ok_or(ACK_REQUIRED)?;
        let room = RoomName { namespace: event.namespace.clone(), name: name.into() };
        let ticket = self.ask_for(event, id, Some(room.name.clone()));
        self.effects.submit(Command::Members { shard: self.context.id, ticket, room });
        Ok(())
    }

    fn act_users(&mut self, event: &Incoming<'_>) -> Result<(), Refused> {
        let id = event.id.ok_or(ACK_REQUIRED)?;
        let after = match event.args.first().map(|after| after.get()) {
            None | Some("null") => None,
            Some(after) => Some(parse_address(after).ok_or(NOT_FOUND)?),
        };
        let namespace = event.namespace.clone();
        if !self.context.config.list_users {
            return Err(NO_USERS);
        }
        self.permit(event, AccessRequest::Users { namespace: &namespace })?;
        let ticket = self.ask_for(event, id, None);
        self.effects.submit(Command::Users { shard: self.context.id, ticket, namespace, after });
        Ok(())
    }

    /// Remembers an event that the cluster's answer will answer.
    fn ask_for(&mut self, event: &Incoming<'_>, id: u64, room: Option<Arc<str>>) -> u64 {
        let number = self.sessions[event.key].local.number;
        self.request_begins(event.key, true);
        let ticket = self.next_number();
        let namespace = event.namespace.clone();
        self.pending.insert(ticket, PendingRequest::List { key: event.key, number, namespace, id, room });
        ticket
    }

    fn act_broadcast(&mut self, name: &Arc<str>, event: &Incoming<'_>) -> Result<(), Refused> {
        let room_name = room_name(event)?;
        let slot = self.slot(event)?;
        let key = self.room_of(event.key, slot, &room_name).ok_or(NOT_A_MEMBER)?;
        self.permit(event, AccessRequest::Send { namespace: &event.namespace, room: &room_name })?;
        let data = event.args.get(1).map_or("null", |data| data.get());
        let room_json = json_string(&room_name);
        let from = event.socket.written();
        let args = [data, ",{\"room\":", &room_json, ",\"from\":\"", &from, "\"}"];
        let message = Message::event(&event.namespace, None, name, &args, event.attachments);
        if let Some(room) = self.rooms.get(key) {
            let audience = Audience {
                namespace: event.namespace.clone(),
                rooms: vec![room.name.name.clone()],
                except: vec![event.socket],
                except_rooms: Vec::new(),
            };
            self.begin_broadcast(Some(event.key), audience, message, false);
        }
        if let Some(id) = event.id {
            // The members here have been told all the same.
            let is_told = self.context.cluster.can_publish();
            let answer = if is_told { "{\"ok\":true}" } else { "{\"ok\":false,\"error\":\"degraded\"}" };
            self.answer(event.key, &event.namespace, id, answer);
        }
        Ok(())
    }

    /// Says something in the rooms that the socket has joined as in the tutorials; `false` if there are none. It may be allowed in some of
    /// them only, and is refused if it is allowed in none.
    fn act_chat(&mut self, chat: &Chat, event: &Incoming<'_>) -> Result<bool, Refused> {
        let slot = self.slot(event)?;
        let rooms = self.sessions[event.key].connection.sockets()[slot].socket.rooms.clone();
        let (mut said, mut refused) = (false, None);
        for room in rooms
            .iter()
            .filter_map(|room| self.rooms.get(*room))
            .map(|room| room.name.clone())
            .collect::<Vec<_>>()
        {
            let Some(record) = self.own_record(event.key, slot, &room) else { continue };
            let Some(joined) = record.joined.filter(|joined| joined.event == chat.joined) else { continue };
            let ask = AccessRequest::Send { namespace: &event.namespace, room: &room.name };
            if let Err(why) = self.permit(event, ask) {
                refused = Some(why);
                continue;
            }
            let name = joined.args.render(&record.profile);
            let list = format!("[{name}]");
            let rest = signalbox_socketio::args::split(&list).unwrap_or_default();
            // Binary in it would be counted with the binary of the message.
            let name = rest.get(1).map(|name| name.get()).filter(|_| joined.attachments.is_empty());
            let args = [event.args[0].get(), ",", name.unwrap_or("null")];
            let message = Message::event(&event.namespace, None, &chat.event, &args, event.attachments);
            let audience = Audience {
                namespace: event.namespace.clone(),
                rooms: vec![room.name],
                except: Vec::new(),
                except_rooms: Vec::new(),
            };
            self.begin_broadcast(Some(event.key), audience, message, false);
            said = true;
        }
        if let Some(refused) = refused.filter(|_| !said) {
            return Err(refused);
        }
        if let Some(id) = event.id.filter(|_| said) {
            self.answer(event.key, &event.namespace, id, "{\"ok\":true}");
        }
        Ok(said)
    }

    fn act_send_to(&mut self, now: Instant, name: &Arc<str>, event: &Incoming<'_>) -> Result<(), Refused> {
        let to = event.args.first().and_then(|to| parse_address(to.get())).ok_or(NOT_FOUND)?;
        self.permit(event, AccessRequest::Signal { namespace: &event.namespace })?;
        let data = event.args.get(1).map_or("null", |data| data.get());
        let from = event.socket.written();
        let args = [data, ",{\"from\":\"", &from, "\"}"];
        let message = Message::event(&event.namespace, None, name, &args, event.attachments);
        let number = self.sessions[event.key].local.number;
        let signal = Signal {
            key: event.key,
            number,
            namespace: event.namespace.clone(),
            name: event.name.clone(),
            id: event.id,
            to,
            message,
            tried: None,
            is_located: false,
            is_blocking: false,
        };
        self.signal(now, signal)
    }

    pub(super) fn not_found() -> Refused {
        NOT_FOUND
    }
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn parse_address(json: &str) -> Option<Address> {
    serde_json::from_str::<String>(json).ok().as_deref().and_then(Address::parse)
}

/// The room that argument 0 names: a string, or the text of a number.
fn room_name(event: &Incoming<'_>) -> Result<String, Refused> {
    let room = event.args.first().ok_or(BAD_ROOM)?.get();
    let is_number = room.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    let name = if is_number { room.to_owned() } else { serde_json::from_str(room).map_err(|_| BAD_ROOM)? };
    let is_good = !name.is_empty() && name.len() <= MAX_ROOM_NAME;
    if is_good { Ok(name) } else { Err(BAD_ROOM) }
}

/// The arguments that an object instead of a room's name stands for; `None` where there is none.
fn object_args<'a>(event: &Incoming<'a>) -> Option<Result<Vec<&'a RawValue>, Refused>> {
    let object = event.args.first()?.get();
    if !object.starts_with('{') {
        return None;
    }
    let Ok(fields) = serde_json::from_str::<IndexMap<String, &'a RawValue>>(object) else {
        return Some(Err(BAD_ROOM));
    };
    if !event.attachments.is_empty() {
        return Some(Err(BAD_PROFILE));
    }
    let field = |names: [&str; 2]| names.into_iter().find_map(|name| fields.get(name).copied());
    let Some(room) = field(["roomId", "room"]) else { return Some(Err(BAD_ROOM)) };
    let Some(peer) = field(["peerId", "userId"]) else { return Some(Err(BAD_PROFILE)) };
    Some(Ok([Some(room), Some(peer), field(["userName", "name"])].into_iter().flatten().collect()))
}

/// The membership that a join asks for.
fn record(join: &Join, room: &RoomName, event: &Incoming<'_>) -> Result<Record, Refused> {
    let profile = match &join.profile {
        Profile::Object => {
            let profile = event.args.get(1).map_or("{}", |profile| profile.get());
            let is_absent =
                profile == "null" || profile.contains("\"_placeholder\"") && !event.attachments.is_empty();
            match (profile, is_absent) {
                ("null", _) => "{}".to_owned(),
                (_, true) => return Err(BAD_PROFILE),
                (profile, false) => without(profile, "id")?,
            }
        }
        Profile::Field(field) => {
            let value = event.args.get(1).map_or("null", |value| value.get());
            if value.contains("\"_placeholder\"") && !event.attachments.is_empty() {
                return Err(BAD_PROFILE);
            }
            format!("{{{}:{value}}}", json_string(field))
        }
    };
    if profile.len() > MAX_PROFILE {
        return Err(BAD_PROFILE);
    }
    let member: Arc<str> = {
        // The room is the one that was joined, whatever the profile says.
        let shown = without(&profile, "room")?;
        let (comma, rest) = spread(&shown);
        let id = event.socket.written();
        format!("{{\"id\":\"{}\",\"room\":{}{comma}{rest}}}", &*id, json_string(&room.name)).into()
    };
    let rest: Arc<str> = {
        let rest: Vec<&str> = event.args.iter().skip(1).map(|arg| arg.get()).collect();
        rest.join(",").into()
    };
    let attached: usize = event.attachments.iter().map(bytes::Bytes::len).sum();
    if rest.len() + attached > MAX_PROFILE {
        // The record keeps it for as long as the membership lasts.
        return Err(BAD_PROFILE);
    }
    let profile: Arc<str> = profile.into();
    let emission = |told: &EventTemplate| {
        let (args, attachments) = match told.args {
            TemplateArgs::Member => (member.clone(), Vec::new()),
            TemplateArgs::Rest => (rest.clone(), event.attachments.to_vec()),
        };
        Some(MemberEvent { event: told.event.clone(), args: EventArgs::new(&args, &profile), attachments })
    };
    Ok(Record {
        socket: event.socket,
        profile: profile.clone(),
        joined: emission(&join.joined),
        updated: emission(&join.updated),
        left: emission(&join.left),
    })
}

/// A profile as a JSON object without one of its fields, the order of its keys and the text of its values kept.
fn without(profile: &str, field: &str) -> Result<String, Refused> {
    if profile.len() > MAX_PROFILE {
        return Err(BAD_PROFILE);
    }
    let fields: IndexMap<String, &RawValue> = serde_json::from_str(profile).map_err(|_| BAD_PROFILE)?;
    if !fields.contains_key(field) {
        return Ok(profile.trim().to_owned());
    }
    let fields: Vec<String> = fields
        .iter()
        .filter(|(name, _)| *name != field)
        .map(|(name, value)| format!("{}:{}", json_string(name), value.get()))
        .collect();
    Ok(format!("{{{}}}", fields.join(",")))
}

/// What stands between an object's braces, and the comma that belongs before it.
fn spread(object: &str) -> (&'static str, &str) {
    let inner = object.trim();
    let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or_default().trim();
    if inner.is_empty() { ("", "") } else { (",", inner) }
}

fn push_member(json: &mut String, socket: Address, profile: &str) {
    let (comma, rest) = spread(profile);
    json.extend(["{\"id\":\"", &socket.written(), "\"", comma, rest, "}"]);
}

/// `{ok:true, room, members:[{id, ...profile}]}`
pub(super) fn members_json<'a>(room: &str, members: impl Iterator<Item = &'a Arc<Record>>) -> String {
    let mut json = format!("{{\"ok\":true,\"room\":{},\"members\":[", json_string(room));
    for (index, record) in members.enumerate() {
        json.push_str(if index > 0 { "," } else { "" });
        push_member(&mut json, record.socket, &record.profile);
    }
    json.push_str("]}");
    json
}

/// `{ok:true, users:[{id, ...profile}], next?}`
pub(super) fn users_json(users: &[(Address, Arc<str>)], more: bool) -> String {
    let mut json = "{\"ok\":true,\"users\":[".to_owned();
    for (index, (socket, profile)) in users.iter().enumerate() {
        json.push_str(if index > 0 { "," } else { "" });
        push_member(&mut json, *socket, profile);
    }
    json.push(']');
    if let Some((last, _)) = users.last().filter(|_| more) {
        json.extend([",\"next\":\"", &last.written(), "\""]);
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_a_profile_is_dropped_and_the_rest_is_kept_as_it_is() {
        assert_eq!(
            without(r#"{"b":1.0,"id":"forged","a":[1, 2]}"#, "id").unwrap(),
            r#"{"b":1.0,"a":[1, 2]}"#
        );
        assert_eq!(without(r#" {"b":1.0} "#, "id").unwrap(), r#"{"b":1.0}"#);
        assert_eq!(without(r#"{"\u0069d":1}"#, "id").unwrap(), "{}");
        for profile in ["[]", "1", "\"x\"", "{"] {
            assert!(without(profile, "id").is_err(), "{profile}");
        }
    }

    #[test]
    fn lists_are_valid_json() {
        let socket = Address::random(signalbox_cluster::NodeTag(1), 0);
        let json = users_json(&[(socket, "{}".into()), (socket, r#"{"name":"é"}"#.into())], true);
        let value: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&json).unwrap();
        assert_eq!(value["next"], socket.to_string());
        assert_eq!(value["users"][1]["name"], "é");
    }
}
