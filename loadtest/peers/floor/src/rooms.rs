//! Who is in which room.

use std::collections::HashMap;

/// A connection's key.
pub(crate) type Key = usize;

/// Rooms by name.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    members: HashMap<Box<[u8]>, Vec<Key>>,
}

impl Rooms {
    /// Adds a member; `false` if it was there.
    pub(crate) fn join(&mut self, room: &[u8], member: Key) -> bool {
        match self.members.get_mut(room) {
            Some(members) if members.contains(&member) => return false,
            Some(members) => members.push(member),
            None => {
                self.members.insert(room.into(), vec![member]);
            }
        }
        true
    }

    /// Removes a member.
    pub(crate) fn leave(&mut self, room: &[u8], member: Key) {
        let Some(members) = self.members.get_mut(room) else { return };
        members.retain(|other| *other != member);
        if members.is_empty() {
            self.members.remove(room);
        }
    }

    /// The members of a room.
    pub(crate) fn members(&self, room: &[u8]) -> &[Key] {
        self.members.get(room).map_or(&[], Vec::as_slice)
    }
}
