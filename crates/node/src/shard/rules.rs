//! What a rules file has a socket do. The rules are evaluated in `signalbox_rules`; here is what they ask of a shard, and how what they
//! want done becomes messages and records.

use std::{borrow::Cow, sync::Arc};

use ahash::AHashMap;
use signalbox_auth::grants::Limit;
use signalbox_cluster::{Address, EventArgs, MemberEvent, RealmId, Record, RoomName};
use signalbox_rules::{
    Event, EventOut, Facts, Grant, HIDDEN, JoinedRoom, Nobody, Output, Step as RuleStep, To, Trigger,
};
use signalbox_socketio::{Joined, Message};

use super::{
    context::ShardContext,
    json::json_string,
    mailbox::ShardMessage,
    membership,
    step::Step,
    tables::{Rooms, Sessions},
};
use crate::{
    config::MAX_PROFILE,
    policy::{AccessRequest, Decided},
    routing::Audience,
    session::{Session, Socket},
};

/// What a rule may ask of a socket.
pub(super) struct FactsOf<'a> {
    context: &'a ShardContext,
    rooms: &'a Rooms,
    socket: &'a Socket,
    namespace: &'a Arc<str>,
    /// Of the client, as long as there is one.
    session: Option<&'a Session>,
}

impl<'a> FactsOf<'a> {
    pub(super) fn new(
        context: &'a ShardContext,
        session: &'a Session,
        rooms: &'a Rooms,
        slot: usize,
    ) -> Self {
        let joined = &session.connection.sockets()[slot];
        let (socket, namespace) = (&joined.socket, &joined.namespace);
        Self { context, rooms, socket, namespace, session: Some(session) }
    }

    fn room_names(&self) -> impl Iterator<Item = &'a RoomName> {
        let rooms = self.rooms;
        self.socket.rooms.iter().filter_map(|key| rooms.get(*key)).map(|room| &room.name)
    }
}

impl Facts for FactsOf<'_> {
    fn id(&self) -> Option<Cow<'_, str>> {
        Some(self.socket.id.to_string().into())
    }

    fn namespace(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.namespace)
    }

    fn address(&self) -> Option<String> {
        Some(self.session?.address()?.to_string())
    }

    fn claim(&self, name: &str) -> Option<String> {
        let principal = self.socket.principal.as_ref()?;
        match name {
            "sub" => Some(json_string(&principal.subject)),
            "iss" => principal.issuer.as_deref().map(json_string),
            "session" => principal.session.as_deref().map(json_string),
            "jti" => principal.token_id.as_deref().map(json_string),
            "iat" => principal.issued_at.map(|at| at.to_string()),
            "exp" => Some(principal.expires_at.to_string()),
            _ => None,
        }
    }

    fn data(&self, name: &str) -> Option<&str> {
        self.socket.data.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn all_data(&self) -> Vec<(&str, &str)> {
        self.socket.data.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn is_member(&self, room: &str) -> bool {
        self.room_names().any(|known| &*known.name == room)
    }

    fn is_socket(&self, name: &str) -> bool {
        let context = self.context;
        Address::parse(name).is_some_and(|address| context.addresses.is_known(address, &context.cluster))
    }

    fn rooms(&self, announced: Option<&str>) -> Vec<JoinedRoom> {
        let names = self.room_names().filter(|room| !room.name.starts_with(HIDDEN));
        let Some(announced) = announced else {
            let room =
                |room: &RoomName| JoinedRoom { name: room.name.to_string(), announcement: String::new() };
            return names.map(room).collect();
        };
        // One lookup for each room, of which there may be many.
        let kept: AHashMap<&str, &Record> =
            self.socket.records.iter().map(|(name, record)| (&**name, record)).collect();
        let joined = names.filter_map(|room| {
            let record = match kept.get(&*room.name) {
                Some(record) => (*record).clone(),
                None => membership::own_record(self.context, self.socket, room)?,
            };
            let told = record.joined.filter(|told| &*told.event == announced)?;
            // Binary in it would be counted with the binary of what is said.
            let args = told.attachments.is_empty().then(|| told.args.render(&record.profile));
            let announcement = args.map(|args| format!("[{args}]")).unwrap_or_default();
            Some(JoinedRoom { name: room.name.to_string(), announcement })
        });
        joined.collect()
    }

    fn max_profile(&self) -> usize {
        let granted = self.socket.principal.as_ref();
        let granted = granted.and_then(|it| it.grants.limits().get(Limit::ProfileBytes));
        granted.map_or(MAX_PROFILE, |most| usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn is_granted(&self, grant: Grant<'_>) -> bool {
        let namespace = self.namespace;
        let ask = match grant {
            Grant::Join(room) => AccessRequest::Join { namespace, room },
            Grant::Send(room) => AccessRequest::Send { namespace, room },
            Grant::Signal => AccessRequest::Signal { namespace },
            Grant::Users => AccessRequest::Users { namespace },
        };
        matches!(self.context.policy.decide(self.socket.principal.as_ref(), ask).now(), Ok(Decided::Allow(_)))
    }
}

/// An event as a packet.
pub(super) fn message(namespace: &str, event: &EventOut) -> Message {
    Message::event(namespace, None, &event.name, &[&event.args], &event.attachments)
}

/// A membership's record.
pub(super) fn record(socket: Address, join: &signalbox_rules::Join) -> Record {
    let profile: Arc<str> = join.profile.as_str().into();
    let event = |event: &Option<EventOut>| {
        event.as_ref().map(|event| MemberEvent {
            event: event.name.as_str().into(),
            args: EventArgs::new(&event.args, &profile),
            attachments: event.attachments.clone(),
        })
    };
    let (joined, updated, left) = (event(&join.joined), event(&join.updated), event(&join.farewell));
    Record { socket, profile: profile.clone(), joined, updated, left }
}

/// Who gets an event that is not for the socket alone.
pub(super) fn audience(namespace: &Arc<str>, room: Option<&str>, except: Option<Address>) -> Audience {
    Audience {
        namespace: namespace.clone(),
        rooms: room.map(Arc::from).into_iter().collect(),
        except: except.into_iter().collect(),
        except_rooms: Vec::new(),
    }
}

/// A socket is about to be gone: it is in its rooms still.
pub(super) fn disconnecting(
    step: &mut Step,
    sessions: &Sessions,
    rooms: &Rooms,
    joined: &Joined<Socket>,
    reason: &str,
) {
    let Some(rules) =
        step.rules.clone().filter(|rules| joined.socket.app.is_ruled && rules.is_for(Trigger::Disconnecting))
    else {
        return;
    };
    let Joined { socket, namespace } = joined;
    let session = sessions.find_by_socket(socket.id).map(|key| &sessions[key]);
    let context = step.context.clone();
    let facts = FactsOf { context: &context, rooms, socket, namespace, session };
    let Ok(run) = rules.begin(Trigger::Disconnecting, Event::disconnecting(reason), &facts) else { return };
    emit_all(step, run, &facts, namespace, Some(socket.id));
}

/// A PeerServer id was claimed or released on this shard.
pub(super) fn peer_changed(step: &mut Step, trigger: Trigger, (realm, id): (RealmId, &str)) {
    let Some(rules) = step.rules.clone().filter(|rules| rules.is_for(trigger)) else { return };
    let key = step.context.config.peer.keys.get(usize::from(realm)).cloned().unwrap_or_default();
    for name in rules.namespaces_of(trigger) {
        let facts = Nobody { namespace: name };
        if let Ok(run) = rules.begin(trigger, Event::peer(id, &key), &facts) {
            emit_all(step, run, &facts, &Arc::from(name), None);
        }
    }
}

/// Runs a rule that only emits. Its broadcasts begin with the shard's next message.
fn emit_all(
    step: &mut Step,
    mut run: signalbox_rules::Run,
    facts: &dyn Facts,
    namespace: &Arc<str>,
    socket: Option<Address>,
) {
    let mut begin = |event: &EventOut, to: Audience, volatile| {
        let begin = ShardMessage::BeginBroadcast { to, message: message(namespace, event), volatile };
        step.effects.send(step.context.id, begin);
    };
    while let RuleStep::Do(output) = run.next(facts) {
        match output {
            Output::Emit { to: To::Room { name, but_me, .. }, event, volatile } => {
                begin(&event, audience(namespace, Some(&name), socket.filter(|_| but_me)), volatile);
            }
            Output::Emit { to: To::Everyone { but_me }, event, volatile } => {
                begin(&event, audience(namespace, None, socket.filter(|_| but_me)), volatile);
            }
            Output::EmitToRooms { rooms, but_me, volatile } => {
                for (name, event) in rooms {
                    begin(&event, audience(namespace, Some(&name), socket.filter(|_| but_me)), volatile);
                }
            }
            // Nothing else can be done by such a rule.
            _ => {}
        }
    }
}
