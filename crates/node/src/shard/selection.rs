//! Which sockets an operator's order is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use signalbox_admin::orders::Audience;
use signalbox_cluster::{Address, RoomName};
use signalbox_engineio::Transport;
use signalbox_socketio::Joined;

use super::{
    tables::{Rooms, Sessions},
    transfer::table::Transfers,
};
use crate::{
    protocol::inquiry::{Selected, Standing},
    routing::OrderCondition,
    session::{self, Session},
};

/// The sockets that are meant, each once. Those that have just gone to another node are among them: it may have been asked before they came.
pub(super) fn select(
    now: Instant,
    sessions: &Sessions,
    rooms: &Rooms,
    transfers: &Transfers,
    audience: &Audience,
) -> Vec<Selected> {
    let mut found = select_here(now, sessions, rooms, transfers, audience);
    select_departed(now, transfers, audience, &mut found);
    let except: BTreeSet<Address> = audience.except.iter().filter_map(|id| Address::parse(id)).collect();
    let selected = found.into_iter().filter(|(socket, _)| !except.contains(socket));
    selected.map(|(socket, standing)| Selected { socket, standing }).collect()
}

/// Those that are here.
fn select_here(
    now: Instant,
    sessions: &Sessions,
    rooms: &Rooms,
    transfers: &Transfers,
    audience: &Audience,
) -> BTreeMap<Address, Standing> {
    let standing = |session: Option<&Session>, socket: Address| {
        let is_settled = session.is_some_and(|session| session.engine.transport() == Transport::WebSocket)
            && !transfers.orders.has(now, socket);
        if is_settled { Standing::Settled } else { Standing::Moving }
    };
    let members =
        |name: &String| rooms.find(&room_name(&audience.namespace, name)).and_then(|key| rooms.get(key));
    let mut found: BTreeMap<Address, Standing> = BTreeMap::new();
    for room in audience.rooms.iter().filter_map(members) {
        let of_room = room.members.iter();
        found.extend(of_room.map(|(socket, key)| (*socket, standing(sessions.get(*key), *socket))));
    }
    let is_of_subject =
        |joined: &Joined<session::Socket>| {
            joined.socket.principal.as_ref().is_some_and(|principal| {
                audience.subjects.iter().any(|subject| *subject == *principal.subject)
            })
        };
    let is_in_namespace = |joined: &Joined<session::Socket>| *joined.namespace == *audience.namespace;
    for socket in audience.sockets.iter().filter_map(|id| Address::parse(id)) {
        let session = sessions.find_by_socket(socket).and_then(|key| sessions.get(key));
        let is_there =
            |joined: &Joined<session::Socket>| joined.socket.id == socket && is_in_namespace(joined);
        if session.is_some_and(|session| session.connection.sockets().iter().any(is_there)) {
            found.insert(socket, standing(session, socket));
        }
    }
    if audience.everyone || !audience.subjects.is_empty() {
        for (_, session) in sessions.iter() {
            let sockets = session.connection.sockets().iter().filter(|joined| is_in_namespace(joined));
            let meant = sockets.filter(|joined| audience.everyone || is_of_subject(joined));
            let ids = meant.map(|joined| joined.socket.id);
            found.extend(ids.map(|socket| (socket, standing(Some(session), socket))));
        }
    }
    let excluded: Vec<_> = audience.except.iter().filter_map(members).collect();
    found.retain(|socket, _| !excluded.iter().any(|room| room.members.contains_key(socket)));
    found
}

/// Those that have just gone, as they were then. Their new node looks whether they are meant still.
fn select_departed(
    now: Instant,
    transfers: &Transfers,
    audience: &Audience,
    found: &mut BTreeMap<Address, Standing>,
) {
    let mut departed = transfers.departed.iter(now).peekable();
    if departed.peek().is_none() {
        return;
    }
    let names = |names: &'_ [String]| names.iter().map(|name| Arc::from(&**name)).collect();
    let [rooms, except, subjects]: [BTreeSet<Arc<str>>; 3] =
        [names(&audience.rooms), names(&audience.except), names(&audience.subjects)];
    let named: BTreeSet<Address> = audience.sockets.iter().filter_map(|id| Address::parse(id)).collect();
    // Ids of sockets are no rooms.
    let excepted_rooms = except.iter().filter(|name| Address::parse(name).is_none()).cloned();
    let in_none_of: Arc<[Arc<str>]> = excepted_rooms.collect();
    for (socket, went) in departed.filter(|(_, went)| *went.namespace == *audience.namespace) {
        let is_meant = audience.everyone
            || named.contains(&socket)
            || went.subject.as_ref().is_some_and(|subject| subjects.contains(subject));
        let mut in_one_of: Vec<_> = went.rooms.iter().filter(|room| rooms.contains(*room)).cloned().collect();
        let is_excepted = went.rooms.iter().any(|room| except.contains(room));
        if is_excepted || in_one_of.is_empty() && !is_meant {
            continue;
        }
        if is_meant {
            in_one_of.clear();
        }
        let condition = OrderCondition { in_one_of, in_none_of: in_none_of.clone() };
        found.entry(socket).or_insert(Standing::Departed(condition));
    }
}

pub(super) fn room_name(namespace: &str, room: &str) -> RoomName {
    RoomName { namespace: namespace.into(), name: room.into() }
}
