//! Which sockets an operator's order is for.

use std::collections::BTreeSet;

use signalbox_admin::orders::Audience;
use signalbox_cluster::{Address, RoomName};
use signalbox_socketio::Joined;

use super::{
    tables::{Rooms, Sessions},
    transfer::table::Transfers,
};
use crate::session;

/// The sockets that are meant, each once. Of those that were sent to another node, which has not confirmed them, nobody else may know yet:
/// what is for them follows them.
pub(super) fn select(
    sessions: &Sessions,
    rooms: &Rooms,
    transfers: &Transfers,
    audience: &Audience,
) -> Vec<Address> {
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

pub(super) fn room_name(namespace: &str, room: &str) -> RoomName {
    RoomName { namespace: namespace.into(), name: room.into() }
}
