//! Socket.IO sessions, found by key, by sid, or by one of their sockets.

use std::ops::{Index, IndexMut};

use ahash::AHashMap;
use signalbox_cluster::Address;
use slab::Slab;

use super::shrink::Shrink;
use crate::session::Session;

/// The sessions of a shard.
#[derive(Default)]
pub(in crate::shard) struct Sessions {
    sessions: Slab<Session>,
    by_sid: AHashMap<Address, u32>,
    /// Sockets that have joined a namespace, and the keys of their sessions.
    by_socket: AHashMap<Address, u32>,
}

impl Sessions {
    /// Adds a session, and the sockets that it has.
    pub(in crate::shard) fn insert(&mut self, session: Session) -> u32 {
        let key = self.sessions.vacant_key() as u32;
        self.by_sid.insert(session.sid, key);
        for joined in session.connection.sockets() {
            self.by_socket.insert(joined.socket.id, key);
        }
        self.sessions.insert(session);
        key
    }

    /// Takes a session out, with all ways to find it.
    pub(in crate::shard) fn remove(&mut self, key: u32) -> Session {
        let session = self.sessions.remove(key as usize);
        self.by_sid.remove(&session.sid);
        for joined in session.connection.sockets() {
            self.by_socket.remove(&joined.socket.id);
        }
        session
    }

    /// A socket of the session has joined a namespace.
    pub(in crate::shard) fn add_socket(&mut self, socket: Address, key: u32) {
        self.by_socket.insert(socket, key);
    }

    /// A socket has left its namespace.
    pub(in crate::shard) fn remove_socket(&mut self, socket: Address) {
        self.by_socket.remove(&socket);
    }

    pub(in crate::shard) fn find(&self, sid: Address) -> Option<u32> {
        self.by_sid.get(&sid).copied()
    }

    /// The session that has a socket.
    pub(in crate::shard) fn find_by_socket(&self, socket: Address) -> Option<u32> {
        self.by_socket.get(&socket).copied()
    }

    pub(in crate::shard) fn get(&self, key: u32) -> Option<&Session> {
        self.sessions.get(key as usize)
    }

    pub(in crate::shard) fn get_mut(&mut self, key: u32) -> Option<&mut Session> {
        self.sessions.get_mut(key as usize)
    }

    /// The session with this key, if it is still the one with this number.
    pub(in crate::shard) fn checked(&mut self, key: u32, number: u64) -> Option<&mut Session> {
        self.sessions.get_mut(key as usize).filter(|session| session.local.number == number)
    }

    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.sessions.iter().map(|(key, session)| (key as u32, session))
    }

    /// Gives memory back after many clients have gone.
    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.sessions.shrink_if_sparse();
        self.by_sid.shrink_if_sparse();
        self.by_socket.shrink_if_sparse();
    }
}

impl Index<u32> for Sessions {
    type Output = Session;
    fn index(&self, key: u32) -> &Session {
        &self.sessions[key as usize]
    }
}

impl IndexMut<u32> for Sessions {
    fn index_mut(&mut self, key: u32) -> &mut Session {
        &mut self.sessions[key as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use signalbox_cluster::NodeTag;
    use signalbox_engineio::{Config, Transport};
    use signalbox_socketio::Connection;

    use super::*;
    use crate::session::{SessionState, ShardLocal};

    fn session(sid: Address, number: u64) -> Session {
        let now = Instant::now();
        let state = SessionState {
            sid,
            opened: now,
            engine: signalbox_engineio::Session::open(now, Transport::Polling, &Config::default()),
            connection: Connection::new(now, Duration::from_secs(45)),
            principal: None,
            handshake: None,
            trace: None,
            blocking: 0,
            in_flight: 0,
            counted: Vec::new(),
            held_post: None,
            dedup: None,
        };
        Session { state, local: ShardLocal { number, ..ShardLocal::default() } }
    }

    #[test]
    fn a_session_is_found_by_its_sid_and_its_sockets_until_it_is_removed() {
        let mut sessions = Sessions::default();
        let (sid, socket) = (Address::random(NodeTag(1), 0), Address::random(NodeTag(1), 0));
        let key = sessions.insert(session(sid, 1));
        sessions.add_socket(socket, key);
        assert_eq!((sessions.find(sid), sessions.find_by_socket(socket)), (Some(key), Some(key)));
        sessions.remove_socket(socket);
        assert_eq!(sessions.find_by_socket(socket), None);
        assert_eq!(sessions.remove(key).sid, sid);
        assert_eq!(sessions.find(sid), None);
    }

    #[test]
    fn a_key_that_is_used_again_does_not_name_the_earlier_session() {
        let mut sessions = Sessions::default();
        let first = sessions.insert(session(Address::random(NodeTag(1), 0), 1));
        sessions.remove(first);
        let second = sessions.insert(session(Address::random(NodeTag(1), 0), 2));
        assert_eq!(first, second);
        assert!(sessions.checked(first, 1).is_none() && sessions.checked(second, 2).is_some());
    }
}
