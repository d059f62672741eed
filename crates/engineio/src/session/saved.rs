//! A session as a value that another process can go on with.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Session, State, timers::Heartbeat};
use crate::{handshake::Transport, packet};

/// Longest remaining time that is accepted from another process; no timer of a session is longer.
const MAX_REMAINING: Duration = Duration::from_secs(24 * 60 * 60);

/// The state of a session between two packets: no request is pending, and nothing is buffered for a poll. Times are milliseconds
/// from the moment it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSession {
    is_websocket: bool,
    is_upgraded: bool,
    /// The server has closed the session and waits this long for the GET that takes the close packet.
    closes_in: Option<u64>,
    heartbeat: SavedHeartbeat,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum SavedHeartbeat {
    Ping { remaining: u64 },
    Pong { remaining: u64, extended: bool },
}

impl Session {
    /// The state of the session, to be continued elsewhere; `None` once it is over.
    pub fn save(&self, now: Instant) -> Option<SavedSession> {
        let remaining = |at: Instant| at.saturating_duration_since(now).as_millis() as u64;
        let closes_in = match self.state {
            State::Open => None,
            State::Closing { by } => Some(remaining(by)),
            State::Closed(_) => return None,
        };
        let heartbeat = match self.heartbeat {
            Heartbeat::Ping { at } => SavedHeartbeat::Ping { remaining: remaining(at) },
            Heartbeat::Pong { by, extended } => SavedHeartbeat::Pong { remaining: remaining(by), extended },
        };
        let is_websocket = self.transport == Transport::WebSocket;
        Some(SavedSession { is_websocket, is_upgraded: self.upgraded, closes_in, heartbeat })
    }

    /// Continues a session that was saved. Remaining times are at most a day, whatever was saved.
    pub fn restore(now: Instant, saved: &SavedSession) -> Self {
        let at = |remaining: u64| now + Duration::from_millis(remaining).min(MAX_REMAINING);
        Self {
            state: saved.closes_in.map_or(State::Open, |remaining| State::Closing { by: at(remaining) }),
            transport: if saved.is_websocket { Transport::WebSocket } else { Transport::Polling },
            poll: false,
            post: false,
            upgraded: saved.is_upgraded,
            upgrade: None,
            heartbeat: match saved.heartbeat {
                SavedHeartbeat::Ping { remaining } => Heartbeat::Ping { at: at(remaining) },
                SavedHeartbeat::Pong { remaining, extended } => {
                    Heartbeat::Pong { by: at(remaining), extended }
                }
            },
            buffer: VecDeque::new(),
            buffered: 0,
            buffered_shared: 0,
            final_reply: packet::CLOSE,
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
