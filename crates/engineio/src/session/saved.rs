//! A session as a value that another process can go on with.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Heartbeat, Session, State};
use crate::{handshake::Transport, packet};

/// The longest time that is believed; no timer of a session is set further ahead.
const MAX_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a session is between two packets: no request is under way, nothing waits for a poll. Times are milliseconds from the moment
/// it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    is_websocket: bool,
    is_upgraded: bool,
    /// The server has closed it, and waits this long for the client to learn of it.
    closes_in: Option<u64>,
    heartbeat: SavedHeartbeat,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum SavedHeartbeat {
    Ping { rest: u64 },
    Pong { rest: u64, extended: bool },
}

impl Session {
    /// The session as a value; `None` once it is over.
    pub fn save(&self, now: Instant) -> Option<Saved> {
        let rest = |at: Instant| at.saturating_duration_since(now).as_millis() as u64;
        let closes_in = match self.state {
            State::Open => None,
            State::Closing { by } => Some(rest(by)),
            State::Closed(_) => return None,
        };
        let heartbeat = match self.heartbeat {
            Heartbeat::Ping { at } => SavedHeartbeat::Ping { rest: rest(at) },
            Heartbeat::Pong { by, extended } => SavedHeartbeat::Pong { rest: rest(by), extended },
        };
        let is_websocket = self.transport == Transport::WebSocket;
        Some(Saved { is_websocket, is_upgraded: self.upgraded, closes_in, heartbeat })
    }

    /// Goes on with a session that was saved.
    pub fn restore(now: Instant, saved: &Saved) -> Self {
        let at = |rest: u64| now + Duration::from_millis(rest).min(MAX_REST);
        Self {
            state: saved.closes_in.map_or(State::Open, |rest| State::Closing { by: at(rest) }),
            transport: if saved.is_websocket { Transport::WebSocket } else { Transport::Polling },
            poll: false,
            post: false,
            upgraded: saved.is_upgraded,
            upgrade: None,
            heartbeat: match saved.heartbeat {
                SavedHeartbeat::Ping { rest } => Heartbeat::Ping { at: at(rest) },
                SavedHeartbeat::Pong { rest, extended } => Heartbeat::Pong { by: at(rest), extended },
            },
            buffer: VecDeque::new(),
            buffered: 0,
            last_words: packet::CLOSE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Config;

    #[test]
    fn a_restored_session_has_the_rest_of_its_time() {
        let config = Config::default();
        let start = Instant::now();
        let mut session = Session::open(start, Transport::WebSocket, &config);
        let saved = session.save(start + Duration::from_secs(5)).unwrap();
        let later = start + Duration::from_secs(100);
        let mut restored = Session::restore(later, &saved);
        assert_eq!(restored.deadline(), Some(later + Duration::from_secs(20)));
        assert_eq!(restored.transport(), Transport::WebSocket);

        // A heartbeat that is awaited is awaited for as long as before.
        assert!(restored.tick(later + Duration::from_secs(20), &config).write.is_some());
        let saved = restored.save(later + Duration::from_secs(25)).unwrap();
        let restored = Session::restore(later, &saved);
        assert_eq!(restored.deadline(), Some(later + Duration::from_secs(15)));

        session.close(start, &config);
        assert_eq!(session.save(start), None);
    }
}
