//! A session as bytes can hold it, and back.

use std::time::{Duration, Instant};

use signalbox_engineio as engineio;
use signalbox_socketio::Connection;

use super::{AckWaiter, PendingAck, SessionState, Socket};
use crate::{
    app::App,
    policy::Handshake,
    protocol::{SavedAck, SavedAcks, SavedAge, SavedData, SavedPrincipals, SavedSession, SavedSocket},
    routing::Location,
};

/// Headers that let whoever reads them be the client.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// A handshake as another node gets it: what it proved was proven to this one.
fn without_credentials(handshake: &Handshake) -> Handshake {
    let headers = handshake.headers.iter().filter(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
    Handshake {
        address: handshake.address,
        query: handshake.query.clone(),
        headers: headers.cloned().collect(),
    }
}

impl SessionState {
    /// A session as a plain value; `None` once it is over.
    pub(crate) fn save(&self, now: Instant) -> Option<SavedSession> {
        let sockets = self.connection.sockets().iter().map(|joined| SavedSocket {
            namespace: joined.namespace.clone(),
            id: joined.socket.id,
            next_ack: joined.socket.next_ack,
        });
        Some(SavedSession {
            sid: self.sid,
            engine: self.engine.save(now)?,
            connection: self.connection.save(now),
            sockets: sockets.collect(),
            subject: None,
            handshake: self.handshake.as_deref().map(without_credentials),
        })
    }

    /// Who its client is.
    pub(crate) fn principals(&self) -> SavedPrincipals {
        let sockets = self.connection.sockets().iter();
        let in_namespaces = sockets.map(|joined| joined.socket.principal.clone()).collect();
        SavedPrincipals { of_handshake: self.principal.clone(), in_namespaces }
    }

    /// How long ago its client opened it.
    pub(crate) fn age(&self, now: Instant) -> SavedAge {
        SavedAge(now.saturating_duration_since(self.opened).as_millis() as u64)
    }

    /// What rules keep on its sockets.
    pub(crate) fn data(&self) -> SavedData {
        SavedData(self.connection.sockets().iter().map(|joined| joined.socket.data.clone()).collect())
    }

    /// What its client has yet to answer, which somebody waits for on this shard, or where the session has come from.
    pub(crate) fn acks(&self, now: Instant, here: Location) -> SavedAcks {
        let saved = |ack: &PendingAck| SavedAck {
            id: ack.id,
            waiter: match ack.waiter {
                AckWaiter::Here(_) => here,
                AckWaiter::Elsewhere(waiter) => waiter,
            },
            left: ack.until.map(|until| until.saturating_duration_since(now).as_millis() as u64),
        };
        let sockets = self.connection.sockets().iter();
        SavedAcks(sockets.map(|joined| joined.socket.pending_acks.iter().map(saved).collect()).collect())
    }

    /// The session again; `None` when a namespace it has joined is unknown here, or no session can have been saved like this.
    pub(crate) fn restore(
        now: Instant,
        saved: SavedSession,
        principals: SavedPrincipals,
        age: SavedAge,
        data: SavedData,
        acks: SavedAcks,
        app: &App,
    ) -> Option<Self> {
        let mut connection = Connection::restore(now, saved.connection)?;
        let mut in_namespaces = principals.in_namespaces.into_iter();
        let mut data = data.0.into_iter();
        let mut acks = acks.0.into_iter();
        let pending_ack = |ack: SavedAck| PendingAck {
            id: ack.id,
            asked: now,
            until: ack.left.and_then(|left| now.checked_add(Duration::from_millis(left))),
            waiter: AckWaiter::Elsewhere(ack.waiter),
        };
        for SavedSocket { namespace, id, next_ack } in saved.sockets {
            let app = app.find(&namespace).ok()??;
            if connection.slot(&namespace).is_some() {
                return None;
            }
            let socket = Socket {
                id,
                app,
                principal: in_namespaces.next().flatten(),
                expiry: None,
                rooms: Default::default(),
                records: Vec::new(),
                data: data.next().unwrap_or_default(),
                pending_acks: acks.next().into_iter().flatten().map(pending_ack).collect(),
                next_ack,
                acks_timer_at: None,
            };
            connection.join(namespace, socket);
        }
        Some(Self {
            sid: saved.sid,
            opened: now.checked_sub(Duration::from_millis(age.0)).unwrap_or(now),
            engine: engineio::Session::restore(now, &saved.engine),
            connection,
            principal: principals.of_handshake,
            handshake: saved.handshake.map(Box::new),
            trace: None,
            blocking: 0,
            in_flight: 0,
            counted: Vec::new(),
            held_post: None,
            dedup: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_carries_no_credentials() {
        let header = |name: &str| (name.to_owned(), "value".to_owned());
        let names = ["host", "cookie", "authorization", "origin", "cookie", "proxy-authorization"];
        let handshake = Handshake {
            address: None,
            query: "EIO=4".to_owned(),
            headers: names.into_iter().map(header).collect(),
        };
        let moved = without_credentials(&handshake);
        assert_eq!(moved.headers, [header("host"), header("origin")]);
        assert_eq!((moved.query, moved.address), (handshake.query, handshake.address));
    }
}
