//! The typed actions, done on events.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::value::RawValue;
use signalbox_auth::grants::Limit;
use signalbox_cluster::{Address, Command, EventArgs, MemberEvent, Record, RoomName};
use signalbox_rules::HIDDEN;
use signalbox_socketio::Message;
use signalbox_telemetry::traces::{Span, SpanKind};

use super::{
    context::ShardContext,
    fanout::{self, Outgoing},
    json::{json_string, spread},
    membership, publish_acks,
    replies::{self, NOT_FOUND, OK, Refused},
    requests, signals,
    socketio::Incoming,
    step::Step,
    tables::{
        PendingRequest, PendingRequests, Rooms, Sequences, Sessions,
        pending::{JoinRequest, ReplyTo, Signal},
    },
    transfer::table::Transfers,
};
use crate::{
    app::action::{Chat, EventTemplate, Join, Profile, TemplateArgs},
    config::MAX_PROFILE,
    policy::{AccessRequest, Decided},
    routing::{Audience, SocketCommand},
    session::Session,
};

/// Longest room name in bytes.
const MAX_ROOM_NAME: usize = 255;

const BAD_ROOM: Refused =
    ("bad-room", "a room is named by a number, or a string of 1 to 255 bytes that is not the id of a socket");
const BAD_PROFILE: Refused = (
    "bad-profile",
    "what follows the room is at most 4096 bytes, and a profile is a JSON object without binary",
);
const NOT_A_MEMBER: Refused = ("not-a-member", "join the room first");
const NO_USERS: Refused = ("users-forbidden", "this server does not list its users");
/// The hint for what the policy refuses.
const NOT_GRANTED: &str = "what your token grants does not include it";
const ACK_REQUIRED: Refused = ("ack-required", "the answer is the ack: emit with a callback");

/// What a client's join asks for. An object instead of a room's name stands for all arguments.
pub(super) fn join_request(
    step: &Step,
    session: &Session,
    join: &Join,
    event: &Incoming<'_>,
) -> Result<JoinRequest, Refused> {
    let context = &step.context;
    let of_object = match &join.profile {
        Profile::Field(_) => object_args(event).transpose()?,
        Profile::Object => None,
    };
    let args = of_object.as_deref().unwrap_or(event.args);
    let name = room_name(args)?;
    if Address::parse(&name).is_some_and(|address| context.addresses.is_known(address, &context.cluster)) {
        // Nobody listens in on what is sent to a socket by its id.
        return Err(BAD_ROOM);
    }
    let room = RoomName { namespace: event.namespace.clone(), name: name.into() };
    let own = session.principal_of(event.socket).and_then(|it| it.grants.limits().get(Limit::ProfileBytes));
    let most = own.map_or(MAX_PROFILE, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let record = record(join, &room, event, (args, most))?;
    let reply_to = ReplyTo::Client { event: event.name.clone(), id: event.id };
    let replaces = matches!(join.profile, Profile::Field(_));
    Ok(JoinRequest { socket: event.socket, room, record, reply_to, replaces, limit: 0, asked: step.now })
}

/// The slot of the event's socket.
fn slot(session: &Session, event: &Incoming<'_>) -> Result<usize, Refused> {
    session.slot_of(event.socket).ok_or(NOT_FOUND)
}

/// Whether the policy allows what an event is to do. It is asked for each message, so a verdict that takes a while is a refusal.
fn permit(
    context: &ShardContext,
    session: &Session,
    event: &Incoming<'_>,
    ask: AccessRequest<'_>,
) -> Result<(), Refused> {
    match context.policy.decide(session.principal_of(event.socket), ask).now() {
        Ok(Decided::Allow(_)) => Ok(()),
        Ok(Decided::Deny(denial)) => Err((denial.code, NOT_GRANTED)),
        Err(_) => Err(("forbidden", NOT_GRANTED)),
    }
}

/// The socket leaves a room.
pub(super) fn leave(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    event: &Incoming<'_>,
) -> Result<(), Refused> {
    let name = room_name(event.args)?;
    let session = &mut sessions[event.key];
    let slot = slot(session, event)?;
    let room = membership::room_of(session, rooms, slot, &name).ok_or(NOT_A_MEMBER)?;
    membership::leave(step, session, rooms, slot, room);
    if let Some(id) = event.id {
        let answer = format!("{{\"ok\":true,\"room\":{}}}", json_string(&name));
        replies::answer(step, sessions, event.key, (&event.namespace, id), &answer);
    }
    Ok(())
}

/// Asks for the members of a room.
pub(super) fn members(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &Rooms,
    pending: &mut PendingRequests,
    event: &Incoming<'_>,
) -> Result<(), Refused> {
    let name = room_name(event.args)?;
    let session = &mut sessions[event.key];
    let slot = slot(session, event)?;
    membership::room_of(session, rooms, slot, &name).ok_or(NOT_A_MEMBER)?;
    let id = event.id.ok_or(ACK_REQUIRED)?;
    let after = page_after(event, 1)?;
    let room = RoomName { namespace: event.namespace.clone(), name: name.into() };
    let ticket = ask_for(step, session, pending, event, (id, Some(room.name.clone())));
    step.effects.submit(Command::Members { shard: step.context.id, ticket, room, after });
    Ok(())
}

/// Asks for the users of the namespace.
pub(super) fn users(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    event: &Incoming<'_>,
) -> Result<(), Refused> {
    let id = event.id.ok_or(ACK_REQUIRED)?;
    let after = page_after(event, 0)?;
    if !step.context.config.list_users {
        return Err(NO_USERS);
    }
    let session = &mut sessions[event.key];
    let namespace = event.namespace.clone();
    permit(&step.context, session, event, AccessRequest::Users { namespace: &namespace })?;
    let ticket = ask_for(step, session, pending, event, (id, None));
    step.effects.submit(Command::Users { shard: step.context.id, ticket, namespace, after });
    Ok(())
}

/// Behind which socket the page begins that an argument asks for.
fn page_after(event: &Incoming<'_>, argument: usize) -> Result<Option<Address>, Refused> {
    match event.args.get(argument).map(|after| after.get()) {
        None | Some("null") => Ok(None),
        Some(after) => parse_address(after).map(Some).ok_or(NOT_FOUND),
    }
}

/// Remembers an event that the cluster's answer will answer, by its id; the answer names the room, if there is one.
fn ask_for(
    step: &mut Step,
    session: &mut Session,
    pending: &mut PendingRequests,
    event: &Incoming<'_>,
    (id, room): (u64, Option<Arc<str>>),
) -> u64 {
    let (key, number) = (event.key, session.local.number);
    let namespace = event.namespace.clone();
    requests::hold(step, session, pending, PendingRequest::List { key, number, namespace, id, room })
}

/// Sends the event to the other members of a room.
pub(super) fn broadcast(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sequences: &mut Sequences,
    name: &Arc<str>,
    event: &Incoming<'_>,
) -> Result<(), Refused> {
    let room_name = room_name(event.args)?;
    let session = &sessions[event.key];
    let slot = slot(session, event)?;
    let key = membership::room_of(session, rooms, slot, &room_name).ok_or(NOT_A_MEMBER)?;
    let ask = AccessRequest::Send { namespace: &event.namespace, room: &room_name };
    permit(&step.context, session, event, ask)?;
    let data = event.args.get(1).map_or("null", |data| data.get());
    let room_json = json_string(&room_name);
    let from = event.socket.written();
    let args = [data, ",{\"room\":", &room_json, ",\"from\":\"", &from, "\"}"];
    let message = Message::event(&event.namespace, None, name, &args, event.attachments);
    if let Some(room) = rooms.get(key) {
        let to = Audience {
            namespace: event.namespace.clone(),
            rooms: vec![room.name.name.clone()],
            except: vec![event.socket],
            except_rooms: Vec::new(),
        };
        let outgoing = Outgoing { sender: Some(event.key), to, message, volatile: false };
        fanout::begin_broadcast(step, sessions, rooms, transfers, sequences, outgoing);
    }
    acknowledge(step, sessions, event);
    Ok(())
}

/// Answers an event that was said to rooms.
fn acknowledge(step: &mut Step, sessions: &mut Sessions, event: &Incoming<'_>) {
    if let Some(id) = event.id {
        let ack = Message::ack(&event.namespace, id, &[OK], &[]);
        publish_acks::acknowledge(step, sessions, event.key, event.socket, (&event.namespace, id), ack);
    }
}

/// Says something in the rooms that the socket has joined as in the tutorials; `false` if there are none. It may be allowed in some of
/// them only, and is refused if it is allowed in none.
pub(super) fn chat(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sequences: &mut Sequences,
    chat: &Chat,
    event: &Incoming<'_>,
) -> Result<bool, Refused> {
    let slot = slot(&sessions[event.key], event)?;
    let joined = sessions[event.key].connection.sockets()[slot].socket.rooms.iter();
    let joined: Vec<_> = joined.filter_map(|room| rooms.get(*room)).map(|room| room.name.clone()).collect();
    let (mut said, mut refused) = (false, None);
    for room in joined {
        let socket = &sessions[event.key].connection.sockets()[slot].socket;
        let record = membership::own_record(&step.context, socket, &room);
        let Some(record) = record else { continue };
        let Some(joined) = record.joined.filter(|joined| joined.event == chat.joined) else { continue };
        let ask = AccessRequest::Send { namespace: &event.namespace, room: &room.name };
        if let Err(why) = permit(&step.context, &sessions[event.key], event, ask) {
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
        let to = Audience {
            namespace: event.namespace.clone(),
            rooms: vec![room.name],
            except: Vec::new(),
            except_rooms: Vec::new(),
        };
        let outgoing = Outgoing { sender: Some(event.key), to, message, volatile: false };
        fanout::begin_broadcast(step, sessions, rooms, transfers, sequences, outgoing);
        said = true;
    }
    if let Some(refused) = refused.filter(|_| !said) {
        return Err(refused);
    }
    if said {
        acknowledge(step, sessions, event);
    }
    Ok(said)
}

/// Sends the event to one socket. Gives back what is for a socket of this shard.
pub(super) fn send_to(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    name: &Arc<str>,
    event: &Incoming<'_>,
) -> Result<Option<SocketCommand>, Refused> {
    let to = event.args.first().and_then(|to| parse_address(to.get())).ok_or(NOT_FOUND)?;
    let ask = AccessRequest::Signal { namespace: &event.namespace };
    permit(&step.context, &sessions[event.key], event, ask)?;
    let data = event.args.get(1).map_or("null", |data| data.get());
    let from = event.socket.written();
    let args = [data, ",{\"from\":\"", &from, "\"}"];
    let message = Message::event(&event.namespace, None, name, &args, event.attachments);
    let signal = Signal {
        key: event.key,
        number: sessions[event.key].local.number,
        namespace: event.namespace.clone(),
        name: event.name.clone(),
        id: event.id,
        to,
        message,
        asked: step.now,
        span: Span::begin("signal", SpanKind::Producer, "socketio", sessions[event.key].trace.as_deref()),
        tried: None,
        is_located: false,
        is_blocking: false,
        rule: None,
    };
    signals::begin(step, sessions, pending, signal)
}

fn parse_address(json: &str) -> Option<Address> {
    serde_json::from_str::<String>(json).ok().as_deref().and_then(Address::parse)
}

/// The room that argument 0 names: a string, or the text of a number.
fn room_name(args: &[&RawValue]) -> Result<String, Refused> {
    let room = args.first().ok_or(BAD_ROOM)?.get();
    let is_number = room.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    let name = if is_number { room.to_owned() } else { serde_json::from_str(room).map_err(|_| BAD_ROOM)? };
    // Nobody joins a hidden room by name: those of subjects and peers, which rules send to.
    let is_good = !name.is_empty() && name.len() <= MAX_ROOM_NAME && !name.starts_with(HIDDEN);
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
fn record(
    join: &Join,
    room: &RoomName,
    event: &Incoming<'_>,
    (args, most): (&[&RawValue], usize),
) -> Result<Record, Refused> {
    let profile = match &join.profile {
        Profile::Object => {
            let profile = args.get(1).map_or("{}", |profile| profile.get());
            let is_absent =
                profile == "null" || profile.contains("\"_placeholder\"") && !event.attachments.is_empty();
            match (profile, is_absent) {
                ("null", _) => "{}".to_owned(),
                (_, true) => return Err(BAD_PROFILE),
                (profile, false) => without(profile, "id", most)?,
            }
        }
        Profile::Field(field) => {
            let value = args.get(1).map_or("null", |value| value.get());
            if value.contains("\"_placeholder\"") && !event.attachments.is_empty() {
                return Err(BAD_PROFILE);
            }
            format!("{{{}:{value}}}", json_string(field))
        }
    };
    if profile.len() > most {
        return Err(BAD_PROFILE);
    }
    let member: Arc<str> = {
        // The room is the one that was joined, whatever the profile says.
        let shown = without(&profile, "room", most)?;
        let (comma, rest) = spread(&shown);
        let id = event.socket.written();
        format!("{{\"id\":\"{}\",\"room\":{}{comma}{rest}}}", &*id, json_string(&room.name)).into()
    };
    let rest: Arc<str> = {
        let rest: Vec<&str> = args.iter().skip(1).map(|arg| arg.get()).collect();
        rest.join(",").into()
    };
    let attached: usize = event.attachments.iter().map(bytes::Bytes::len).sum();
    if rest.len() + attached > most {
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
fn without(profile: &str, field: &str, most: usize) -> Result<String, Refused> {
    if profile.len() > most {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_a_profile_is_dropped_and_the_rest_is_kept_as_it_is() {
        assert_eq!(
            without(r#"{"b":1.0,"id":"forged","a":[1, 2]}"#, "id", MAX_PROFILE).unwrap(),
            r#"{"b":1.0,"a":[1, 2]}"#
        );
        assert_eq!(without(r#" {"b":1.0} "#, "id", MAX_PROFILE).unwrap(), r#"{"b":1.0}"#);
        assert_eq!(without(r#"{"\u0069d":1}"#, "id", MAX_PROFILE).unwrap(), "{}");
        for profile in ["[]", "1", "\"x\"", "{"] {
            assert!(without(profile, "id", MAX_PROFILE).is_err(), "{profile}");
        }
    }
}
