//! Asks whether there is room for a client among the connections of its subject, before it is let in.

use std::sync::Arc;

use signalbox_cluster::{Command, command::Counted};

use super::{
    requests,
    socketio::{self, Connected, refuse_namespace},
    step::Step,
    subjects::{TOO_MANY, TOO_MANY_TEXT, is_counted, uncount},
    tables::{Peer, PendingRequest, PendingRequests, Sessions, pending::Connecting},
};
use crate::limits::{Place, place_of_peer, subject_limit};

/// The policy lets the client into a namespace: it is in, if its subject has room for the connection.
#[must_use]
pub(super) fn count_session(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    key: u32,
    connecting: Connecting,
) -> Option<Connected> {
    let session = &mut sessions[key];
    let limit = subject_limit(&step.context.config.limits, connecting.principal.as_ref());
    let Some((list, most)) = limit.filter(|(list, _)| !session.counted.contains(list)) else {
        return socketio::namespace_allowed(step, sessions, pending, key, connecting);
    };
    let place = Place { list: list.clone(), connection: session.sid };
    let number = session.local.number;
    let request = PendingRequest::Count { key, number, place: place.clone(), connecting };
    let ticket = requests::hold(step, session, pending, request);
    submit(step, place, ticket, most);
    None
}

fn submit(step: &mut Step, Place { list, connection }: Place, ticket: u64, most: u64) {
    let shard = step.context.id;
    step.effects.submit(Command::CountConnection { shard, ticket, list, connection, most });
}

/// The session is counted, or there was no room for it.
#[must_use]
pub(super) fn session_counted(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    (key, number): (u32, u64),
    (place, connecting): (Place, Connecting),
    counted: Counted,
) -> Option<Connected> {
    let is_counted = is_counted(step, counted);
    let Some(session) = sessions.checked(key, number) else {
        // The client has gone meanwhile.
        if is_counted {
            uncount(step, place);
        }
        return None;
    };
    if is_counted {
        session.counted.push(place.list);
        socketio::namespace_allowed(step, sessions, pending, key, connecting)
    } else {
        let data = format!("{{\"code\":\"{TOO_MANY}\"}}");
        refuse_namespace(step, sessions, key, &connecting.name, (TOO_MANY_TEXT, Some(&data)));
        None
    }
}

/// Asks whether there is room for a PeerServer client; `false`: it need not be counted.
pub(super) fn count_peer(
    step: &mut Step,
    pending: &mut PendingRequests,
    peer: &Peer,
    key: u32,
    token: &Arc<str>,
) -> bool {
    let config = &step.context.config;
    let Some((list, most)) = subject_limit(&config.limits, peer.principal.as_ref()) else { return false };
    let realm = config.peer.keys.get(usize::from(peer.realm)).map_or("", String::as_str);
    let place = Place { list, connection: place_of_peer(realm, &peer.id) };
    let ticket = step.next_number();
    let request =
        PendingRequest::CountPeer { key, number: peer.number, place: place.clone(), token: token.clone() };
    pending.insert(ticket, request);
    submit(step, place, ticket, most);
    true
}
