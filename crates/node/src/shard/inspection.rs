//! What an operator asks of a shard: its part of every list, in order, as much as fits on the page. It reads tables and changes nothing,
//! and costs a look at each session, and a row for each entry of the page: what is beside the page takes no memory.

use signalbox_admin::{
    Member, Membership, Namespace, Peer, Profile, Room, Socket, SocketDetails, SocketRates, Transport,
};
use signalbox_cluster::{Address, RoomName};
use signalbox_socketio::Joined;
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    first_entries::first_entries,
    selection::{room_name, select},
    step::Step,
    tables::{Peers, Rooms, Sessions},
    transfer::{source::UnconfirmedTransfer, table::Transfers},
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
        Question::Members { namespace, room, page } => {
            members(step, sessions, rooms, transfers, (namespace, room), page)
        }
        Question::Sockets { filter, page } => sockets(step, sessions, rooms, transfers, filter, page),
        Question::Socket { id } => {
            Answer::Socket(socket(step, sessions, rooms, transfers, id).into_iter().collect())
        }
        Question::Peers { key, prefix, is_whole, page } => {
            list_peers(step, peers, key.as_deref(), prefix, *is_whole, page)
        }
        Question::Select(audience) => {
            Answer::Selected(select(step.now, sessions, rooms, transfers, audience))
        }
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

/// A member, as the shard knows it.
enum Known<'a> {
    Here(Address, u32),
    /// Its session was sent to another node, which has not said yet that it has it.
    Going(&'a UnconfirmedTransfer, Address),
}

fn members(
    step: &Step,
    sessions: &Sessions,
    rooms: &Rooms,
    transfers: &Transfers,
    (namespace, room): (&str, &str),
    page: &Listing,
) -> Answer {
    let name = room_name(namespace, room);
    let known = rooms.find(&name).and_then(|key| rooms.get(key));
    let here = known.into_iter().flat_map(|room| room.members.iter());
    let here = here.map(|(id, key)| (id.written(), Known::Here(*id, *key)));
    let going = transfers.unconfirmed.values().flat_map(|transfer| {
        let in_room = transfer.memberships.iter().filter(|(room, _)| *room == name);
        in_room.map(move |(_, id)| (id.written(), Known::Going(transfer, *id)))
    });
    let behind = here.chain(going).filter(|(written, _)| page.is_behind(written, ""));
    let (found, has_more) = first_entries(behind, page.limit);
    let rows = found.into_iter().filter_map(|(written, known)| {
        let (principal, profile) = match known {
            Known::Here(id, key) => (sessions.get(key)?.principal_of(id), Profile::default()),
            Known::Going(transfer, id) => (transfer.principal_of(id), transfer.profile(&name, id)),
        };
        Some(Member {
            id: written.to_string(),
            node: step.context.node.to_string(),
            subject: principal.map(|principal| principal.subject.to_string()),
            profile,
        })
    });
    Answer::Members(rows.collect(), has_more)
}

fn sockets(
    step: &Step,
    sessions: &Sessions,
    rooms: &Rooms,
    transfers: &Transfers,
    filter: &SocketFilter,
    page: &Listing,
) -> Answer {
    let is_of = |joined: &Joined<session::Socket>, address| {
        let of_subject = |subject: &str| {
            joined.socket.principal.as_ref().is_some_and(|principal| *principal.subject == *subject)
        };
        filter.namespace.as_deref().is_none_or(|namespace| *joined.namespace == *namespace)
            && filter.subject.as_deref().is_none_or(of_subject)
            && filter.address.is_none_or(|wanted| address == Some(wanted))
            && page.is_behind(&joined.socket.id.written(), "")
    };
    let is_room = |room: &RoomName| filter.room.as_deref().is_none_or(|name| *room.name == *name);
    let here = sessions.iter().flat_map(|(_, session)| {
        let meant = session.connection.sockets().iter().filter(|joined| {
            let mut rooms = joined.socket.rooms.iter().filter_map(|room| rooms.get(*room));
            is_of(joined, session.address())
                && (filter.room.is_none() || rooms.any(|room| is_room(&room.name)))
        });
        meant.map(move |joined| (joined.socket.id.written(), (Ok(session), joined)))
    });
    let going = transfers.unconfirmed.values().flat_map(|transfer| {
        let meant = transfer.sockets.iter().filter(|joined| {
            let mut rooms = transfer.memberships.iter().filter(|(_, id)| *id == joined.socket.id);
            is_of(joined, transfer.client.address)
                && (filter.room.is_none() || rooms.any(|(room, _)| is_room(room)))
        });
        meant.map(move |joined| (joined.socket.id.written(), (Err(transfer), joined)))
    });
    let (found, has_more) = first_entries(here.chain(going), page.limit);
    let rows = found.into_iter().map(|(_, (known, joined))| match known {
        Ok(session) => row(step, session, joined),
        Err(transfer) => going_row(step, transfer, joined),
    });
    Answer::Sockets(rows.collect(), has_more)
}

/// A socket whose session was sent to another node, which has not said yet that it has it: that node may not know it, either.
fn going_row(step: &Step, transfer: &UnconfirmedTransfer, joined: &Joined<session::Socket>) -> Socket {
    Socket {
        id: joined.socket.id.to_string(),
        namespace: joined.namespace.to_string(),
        node: step.context.node.to_string(),
        transport: Transport::Websocket,
        address: transfer.client.address.map(|address| address.to_string()),
        subject: joined.socket.principal.as_ref().map(|principal| principal.subject.to_string()),
        rooms: transfer.memberships.iter().filter(|(_, id)| *id == joined.socket.id).count() as u64,
        waiting_bytes: 0,
        connected_at: unix_millis(step.now, transfer.opened),
    }
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
fn socket(
    step: &Step,
    sessions: &Sessions,
    rooms: &Rooms,
    transfers: &Transfers,
    id: &str,
) -> Option<SocketDetails> {
    let is_meant = |joined: &&Joined<session::Socket>| *joined.socket.id.written() == *id;
    let session = sessions.find_by_socket(Address::parse(id)?).and_then(|key| sessions.get(key));
    let Some(session) = session else {
        let mut going = transfers.unconfirmed.values();
        return going.find_map(|transfer| {
            let joined = transfer.sockets.iter().find(is_meant)?;
            Some(going_details(step, transfer, joined))
        });
    };
    let joined = session.connection.sockets().iter().find(is_meant)?;
    let names = joined.socket.rooms.iter().filter_map(|room| rooms.get(*room));
    let memberships =
        names.map(|room| Membership { room: room.name.name.to_string(), profile: Profile::default() });
    let principal = joined.socket.principal.as_ref().map(|principal| principal_row(principal));
    Some(SocketDetails {
        socket: row(step, session, joined),
        shard: u32::from(step.context.id),
        is_moving: session.local.is_transferring,
        pending_acks: joined.socket.pending_acks.len() as u64,
        rates: session.local.rates.row(step.nanos()),
        memberships: memberships.collect(),
        principal,
    })
}

/// The same of one whose session was sent to another node.
fn going_details(
    step: &Step,
    transfer: &UnconfirmedTransfer,
    joined: &Joined<session::Socket>,
) -> SocketDetails {
    let id = joined.socket.id;
    let memberships = transfer.memberships.iter().filter(|(_, of)| *of == id);
    let memberships = memberships
        .map(|(room, _)| Membership { room: room.name.to_string(), profile: transfer.profile(room, id) });
    SocketDetails {
        socket: going_row(step, transfer, joined),
        shard: u32::from(step.context.id),
        is_moving: true,
        pending_acks: 0,
        rates: SocketRates::default(),
        memberships: memberships.collect(),
        principal: joined.socket.principal.as_ref().map(|principal| principal_row(principal)),
    }
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
