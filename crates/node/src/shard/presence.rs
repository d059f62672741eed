//! Rooms with so many members that each is told how many there are, instead of who comes and goes: a change of a room of N members would
//! be N frames, and a crowd that joins it N times as many.

use std::time::Duration;

use signalbox_cluster::{MemberEvent, command::Change};
use signalbox_socketio::Message;

use super::{
    json::json_string,
    step::Step,
    tables::{Presence, Room, Rooms, Sessions, Timer},
};
use crate::session::RoomKey;

/// How often the members of a large room are told how many there are, at most.
const EVERY: Duration = Duration::from_secs(1);

/// What is told of a change of a room, if anything is.
pub(super) fn emission(change: &Change) -> Option<&MemberEvent> {
    let record = change.record();
    match change {
        Change::Joined(_) => record.joined.as_ref(),
        Change::Updated(_) => record.updated.as_ref(),
        Change::Left(_) => record.left.as_ref(),
    }
}

/// A room has changed. Whether that is counted, and not told by itself; then the members are told soon how many there are.
pub(super) fn count_change(
    step: &mut Step,
    room: &mut Room,
    key: RoomKey,
    change: &Change,
    count: usize,
) -> bool {
    let Some(limit) = step.context.config.limits.presence else { return false };
    let Presence { is_large, told, is_due, .. } = &mut room.presence;
    let was_large = *is_large;
    // So that a room about as large as the limit does not go back and forth.
    let least = if was_large { limit - limit / 5 } else { limit + 1 };
    *is_large = count >= least;
    if !was_large && !*is_large {
        return false;
    }
    // Nobody is told of members without an event, be they many or few.
    if !*is_due && emission(change).is_some() {
        *is_due = true;
        let at = told.map_or(step.now, |told| told + EVERY);
        step.timers.add(at, Timer::Presence { room: key });
    }
    let is_large = *is_large;
    if is_large {
        step.context.metrics.presence_changes.inc();
    }
    is_large
}

/// Tells the members here how many there are.
pub(super) fn tell(step: &mut Step, sessions: &mut Sessions, rooms: &mut Rooms, key: RoomKey) {
    let Some(room) = rooms.get_mut(key).filter(|room| room.presence.is_due) else { return };
    room.presence.is_due = false;
    room.presence.told = Some(step.now);
    let (name, count) = (json_string(&room.name.name), room.presence.count.to_string());
    let args = ["{\"room\":", &name, ",\"count\":", &count, "}"];
    let message = Message::event(&room.name.namespace, None, "presence", &args, &[]);
    let message = step.outboxes.share(None, message);
    step.outboxes.send_to_many(room.members.len(), |outboxes| {
        for session_key in room.members.values() {
            if let Some(session) = sessions.get_mut(*session_key) {
                outboxes.send(*session_key, session, &message, false);
            }
        }
    });
}
