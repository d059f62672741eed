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

    /// Gives up room that a crowd has left behind.
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
