//! What an operator asks of a shard: its part of every list, in order, as much as fits on the page. It reads tables and changes nothing,
//! and costs a look at each session, and a row for each entry of the page: what is beside the page takes no memory.

use signalbox_admin::orders::Audience;
use signalbox_admin::{Member, Membership, Namespace, Peer, Profile, Room, Socket, SocketDetails, Transport};
use signalbox_cluster::{Address, RoomName};
use signalbox_socketio::Joined;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    first_entries::first_entries,
    step::Step,
    tables::{Peers, Rooms, Sessions},
    transfer::table::Transfers,
};
use crate::{
    ledger::OVERHEAD,
    protocol::inquiry::{Answer, Listing, Question, SocketFilter, principal_row},
    session::{self, Session},
};

/// This shard's part of the answer.
pub(super) fn inspect(
    step: &Step,
    sessions: &Sessions,
    rooms: &Rooms,
    peers: &Peers,
    transfers: &Transfers,
    question: &Question,
) -> Answer {
    match question {
        Question::Namespaces(page) => namespaces(sessions, page),
        Question::Rooms { namespace, prefix, page } => list_rooms(rooms, namespace.as_deref(), prefix, page),
        Question::BusiestRooms { namespace, prefix, limit } => {
            busiest_rooms(rooms, namespace.as_deref(), prefix, *limit)
        }
        Question::RoomCounts(names) => room_counts(rooms, names),
        Question::Members { namespace, room, page } => members(step, sessions, rooms, namespace, room, page),
        Question::Sockets { filter, page } => sockets(step, sessions, rooms, filter, page),
        Question::Socket { id } => Answer::Socket(socket(step, sessions, rooms, id).into_iter().collect()),
        Question::Peers { key, prefix, is_whole, page } => {
            list_peers(step, peers, key.as_deref(), prefix, *is_whole, page)
        }
        Question::Select(audience) => Answer::Selected(select(sessions, rooms, transfers, audience)),
        // The node answers the others itself.
        _ => Answer::Busy,
    }
}

impl Listing {
    /// Whether the entry with this key is behind what was given out before.
    fn is_behind(&self, one: &str, other: &str) -> bool {
        self.after.as_ref().is_none_or(|after| (one, other) > (&*after.0, &*after.1))
    }
}

fn namespaces(sessions: &Sessions, page: &Listing) -> Answer {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, session) in sessions.iter() {
        for joined in session.connection.sockets() {
            *counts.entry(&joined.namespace).or_default() += 1;
        }
    }
    let behind = counts.into_iter().filter(|(name, _)| page.is_behind(name, ""));
    let (found, has_more) = first_entries(behind, page.limit);
    let rows = found.into_iter().map(|(name, sockets)| Namespace { name: name.to_owned(), sockets });
    Answer::Namespaces(rows.collect(), has_more)
}

fn list_rooms(rooms: &Rooms, namespace: Option<&str>, prefix: &str, page: &Listing) -> Answer {
    let is_meant = |name: &RoomName| {
        namespace.is_none_or(|namespace| *name.namespace == *namespace)
            && name.name.starts_with(prefix)
            && page.is_behind(&name.namespace, &name.name)
    };
    let meant = rooms.iter().filter(|room| !room.members.is_empty() && is_meant(&room.name));
    let keyed = meant.map(|room| ((&*room.name.namespace, &*room.name.name), room.members.len()));
    let (found, has_more) = first_entries(keyed, page.limit);
    let rows = found.into_iter().map(|((namespace, name), members)| Room {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        members: members as u64,
    });
    Answer::Rooms(rows.collect(), has_more)
}

/// The rooms with the most members on all nodes, as the members here were told of them. A room whose members have all come here from
/// another shard has them counted alone until it changes.
fn busiest_rooms(rooms: &Rooms, namespace: Option<&str>, prefix: &str, limit: usize) -> Answer {
    let is_meant = |name: &RoomName| {
        namespace.is_none_or(|namespace| *name.namespace == *namespace) && name.name.starts_with(prefix)
    };
    let meant = rooms.iter().filter(|room| !room.members.is_empty() && is_meant(&room.name));
    let keyed = meant.map(|room| {
        let members = room.presence.count.max(room.members.len());
        ((Reverse(members), &*room.name.namespace, &*room.name.name), ())
    });
    let (found, _) = first_entries(keyed, limit);
    let rows = found.into_iter().map(|((Reverse(members), namespace, name), ())| Room {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        members: members as u64,
    });
    Answer::BusiestRooms(rows.collect())
}

/// How many members these rooms have here.
fn room_counts(rooms: &Rooms, names: &[(String, String)]) -> Answer {
    let count = |(namespace, name): &(String, String)| {
        let room = rooms.get(rooms.find(&room_name(namespace, name))?)?;
        let members = room.members.len() as u64;
        Some(Room { namespace: namespace.clone(), name: name.clone(), members })
    };
    Answer::RoomCounts(names.iter().filter_map(count).collect())
}

/// The sockets that are meant, each once. Of those that were sent to another node, which has not confirmed them, nobody else may know yet:
/// what is for them follows them.
fn select(sessions: &Sessions, rooms: &Rooms, transfers: &Transfers, audience: &Audience) -> Vec<Address> {
    let members =
        |name: &String| rooms.find(&room_name(&audience.namespace, name)).and_then(|key| rooms.get(key));
    let mut found: BTreeSet<Address> = BTreeSet::new();
    for room in audience.rooms.iter().filter_map(members) {
        found.extend(room.members.keys());
    }
    let is_of_subject =
        |joined: &Joined<session::Socket>| {
            joined.socket.principal.as_ref().is_some_and(|principal| {
                audience.subjects.iter().any(|subject| *subject == *principal.subject)
            })
        };
    let is_in_namespace = |joined: &Joined<session::Socket>| *joined.namespace == *audience.namespace;
    let named: Vec<Address> = audience.sockets.iter().filter_map(|id| Address::parse(id)).collect();
    for socket in &named {
        let session = sessions.find_by_socket(*socket).and_then(|key| sessions.get(key));
        let is_there =
            |joined: &Joined<session::Socket>| joined.socket.id == *socket && is_in_namespace(joined);
        if session.is_some_and(|session| session.connection.sockets().iter().any(is_there)) {
            found.insert(*socket);
        }
    }
    if audience.everyone || !audience.subjects.is_empty() {
        for (_, session) in sessions.iter() {
            let sockets = session.connection.sockets().iter().filter(|joined| is_in_namespace(joined));
            let meant = sockets.filter(|joined| audience.everyone || is_of_subject(joined));
            found.extend(meant.map(|joined| joined.socket.id));
        }
    }
    let mut going: Vec<(&RoomName, Address)> = Vec::new();
    for transfer in transfers.unconfirmed.values() {
        let memberships = transfer.memberships.iter().map(|(room, socket)| (room, *socket));
        going.extend(memberships.filter(|(room, _)| *room.namespace == *audience.namespace));
        let sockets = transfer.sockets.iter().filter(|joined| is_in_namespace(joined));
        let meant = sockets
            .filter(|joined| audience.everyone || named.contains(&joined.socket.id) || is_of_subject(joined));
        found.extend(meant.map(|joined| joined.socket.id));
    }
    let is_in = |names: &[String], room: &RoomName| names.iter().any(|name| **name == *room.name);
    let gone = going.iter().filter(|(room, _)| is_in(&audience.rooms, room));
    found.extend(gone.map(|(_, socket)| *socket));
    let excluded: Vec<_> = audience.except.iter().filter_map(members).collect();
    let except: Vec<_> = audience.except.iter().filter_map(|id| Address::parse(id)).collect();
    found.retain(|socket| {
        let is_member = excluded.iter().any(|room| room.members.contains_key(socket))
            || going.iter().any(|(room, of)| of == socket && is_in(&audience.except, room));
        !except.contains(socket) && !is_member
    });
    found.into_iter().collect()
}

fn room_name(namespace: &str, room: &str) -> RoomName {
    RoomName { namespace: namespace.into(), name: room.into() }
}

fn members(
    step: &Step,
    sessions: &Sessions,
    rooms: &Rooms,
    namespace: &str,
    room: &str,
    page: &Listing,
) -> Answer {
    let known = rooms.find(&room_name(namespace, room)).and_then(|key| rooms.get(key));
    let Some(room) = known else { return Answer::Members(Vec::new(), false) };
    let members = room.members.iter().map(|(id, key)| (id.written(), (*id, *key)));
    let behind = members.filter(|(written, _)| page.is_behind(written, ""));
    let (found, has_more) = first_entries(behind, page.limit);
    let rows = found.into_iter().filter_map(|(written, (id, key))| {
        let session = sessions.get(key)?;
        Some(Member {
            id: written.to_string(),
            node: step.context.node.to_string(),
            subject: session.principal_of(id).map(|principal| principal.subject.to_string()),
            profile: Profile::default(),
        })
    });
    Answer::Members(rows.collect(), has_more)
}

fn sockets(step: &Step, sessions: &Sessions, rooms: &Rooms, filter: &SocketFilter, page: &Listing) -> Answer {
    let is_in_room = |joined: &Joined<session::Socket>| {
        filter.room.as_deref().is_none_or(|name| {
            let names = joined.socket.rooms.iter().filter_map(|room| rooms.get(*room));
            names.into_iter().any(|room| *room.name.name == *name)
        })
    };
    let is_meant = |session: &Session, joined: &Joined<session::Socket>| {
        let of_subject = |subject: &str| {
            joined.socket.principal.as_ref().is_some_and(|principal| *principal.subject == *subject)
        };
        filter.namespace.as_deref().is_none_or(|namespace| *joined.namespace == *namespace)
            && filter.subject.as_deref().is_none_or(of_subject)
            && filter.address.is_none_or(|address| session.address() == Some(address))
            && is_in_room(joined)
            && page.is_behind(&joined.socket.id.written(), "")
    };
    let keyed = sessions.iter().flat_map(|(_, session)| {
        let meant = session.connection.sockets().iter().filter(|joined| is_meant(session, joined));
        meant.map(move |joined| (joined.socket.id.written(), (session, joined)))
    });
    let (found, has_more) = first_entries(keyed, page.limit);
    let rows = found.into_iter().map(|(_, (session, joined))| row(step, session, joined));
    Answer::Sockets(rows.collect(), has_more)
}

/// A socket as lists have it.
fn row(step: &Step, session: &Session, joined: &Joined<session::Socket>) -> Socket {
    let waiting = match &session.local.conn {
        Some(conn) => conn.queued(),
        None => session.engine.buffered() + OVERHEAD * session.engine.buffered_packets(),
    };
    Socket {
        id: joined.socket.id.to_string(),
        namespace: joined.namespace.to_string(),
        node: step.context.node.to_string(),
        transport: match session.local.conn {
            Some(_) => Transport::Websocket,
            None => Transport::Polling,
        },
        address: session.address().map(|address| address.to_string()),
        subject: joined.socket.principal.as_ref().map(|principal| principal.subject.to_string()),
        rooms: joined.socket.rooms.len() as u64,
        waiting_bytes: waiting as u64,
        connected_at: unix_millis(step.now, session.opened),
    }
}

/// Everything about one socket.
fn socket(step: &Step, sessions: &Sessions, rooms: &Rooms, id: &str) -> Option<SocketDetails> {
    let session = sessions.get(sessions.find_by_socket(Address::parse(id)?)?)?;
    let joined = session.connection.sockets().iter().find(|joined| *joined.socket.id.written() == *id)?;
    let names = joined.socket.rooms.iter().filter_map(|room| rooms.get(*room));
    let memberships =
        names.map(|room| Membership { room: room.name.name.to_string(), profile: Profile::default() });
    let principal = joined.socket.principal.as_ref().map(|principal| principal_row(principal));
    Some(SocketDetails {
        socket: row(step, session, joined),
        shard: u32::from(step.context.id),
        is_moving: session.local.is_transferring,
        pending_acks: joined.socket.pending_acks.len() as u64,
        memberships: memberships.collect(),
        principal,
    })
}

fn list_peers(
    step: &Step,
    peers: &Peers,
    key: Option<&str>,
    prefix: &str,
    is_whole: bool,
    page: &Listing,
) -> Answer {
    let keys = &step.context.config.peer.keys;
    let is_named = |id: &str| if is_whole { id == prefix } else { id.starts_with(prefix) };
    let holders = peers.iter().filter(|(_, peer)| peer.claim.is_some() && is_named(&peer.id));
    let keyed = holders.filter_map(|(_, peer)| {
        let realm = keys.get(usize::from(peer.realm))?;
        let is_meant = key.is_none_or(|key| key == realm) && page.is_behind(realm, &peer.id);
        is_meant.then_some(((realm.as_str(), &*peer.id), peer))
    });
    let (found, has_more) = first_entries(keyed, page.limit);
    let found = found.into_iter().map(|((realm, id), peer)| Peer {
        id: id.to_owned(),
        key: realm.to_owned(),
        node: step.context.node.to_string(),
        address: peer.conn.address().map(|address| address.to_string()),
        subject: peer.principal.as_ref().map(|principal| principal.subject.to_string()),
        waiting_bytes: peer.conn.queued() as u64,
        connected_at: unix_millis(step.now, peer.opened.unwrap_or(step.now)),
    });
    Answer::Peers(found.collect(), has_more)
}

/// A moment as operators read it. Nothing depends on it, so it need not be the shard's clock.
fn unix_millis(now: Instant, at: Instant) -> u64 {
    let ago = now.saturating_duration_since(at);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(ago).as_millis() as u64
}
