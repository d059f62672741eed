//! When the holder of a token on a live connection is warned, and when it has to go.

use serde::{Deserialize, Serialize};

use crate::principal::Principal;

/// The longest time before the expiry at which the client is warned, in seconds.
const LONGEST_WARNING: u64 = 60;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryEvent {
    /// Tell the client that its token expires in so many seconds.
    Warn {
        /// Seconds until `exp`, 0 where it is past.
        expires_in: u64,
    },
    /// The token has expired, leeway included: disconnect the client.
    Disconnect,
}

/// The end of one token on one connection. All times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    expires_at: u64,
    warn_at: u64,
    disconnect_at: u64,
    was_warned: bool,
}

impl Expiry {
    /// Begins with a token that is accepted at `now`. The client is warned a minute before `exp`, or a fifth of the token's
    /// lifetime, whichever is shorter; the lifetime of a token without `iat` begins now.
    pub fn new(principal: &Principal, leeway: u64, now: u64) -> Self {
        let expires_at = principal.expires_at;
        let lifetime = expires_at.saturating_sub(principal.issued_at.unwrap_or(now));
        Self {
            expires_at,
            warn_at: expires_at.saturating_sub(LONGEST_WARNING.min(lifetime / 5)),
            disconnect_at: expires_at.saturating_add(leeway),
            was_warned: false,
        }
    }

    /// The end of a token that counts no more, whatever it says itself.
    pub fn over() -> Self {
        Self { expires_at: 0, warn_at: 0, disconnect_at: 0, was_warned: false }
    }

    /// What is due at `now`, if anything. The warning comes once.
    pub fn poll(&mut self, now: u64) -> Option<ExpiryEvent> {
        if now >= self.disconnect_at {
            return Some(ExpiryEvent::Disconnect);
        }
        if now < self.warn_at || self.was_warned {
            return None;
        }
        self.was_warned = true;
        Some(ExpiryEvent::Warn { expires_in: self.expires_at.saturating_sub(now) })
    }

    /// When something is due next.
    pub fn next_wakeup(&self) -> u64 {
        if self.was_warned { self.disconnect_at } else { self.warn_at }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::grants::{Grants, GrantsSpec};

    fn expiry(issued_at: Option<u64>, expires_at: u64, now: u64) -> Expiry {
        let principal = Principal {
            issuer: None,
            subject: "alice".into(),
            session: None,
            token_id: None,
            issued_at,
            expires_at,
            grants: Arc::new(Grants::new(Arc::new(GrantsSpec::everything()), "alice")),
        };
        Expiry::new(&principal, 10, now)
    }

    #[test]
    fn an_hour_is_warned_of_a_minute_before() {
        let mut expiry = expiry(Some(0), 3600, 100);
        assert_eq!(expiry.next_wakeup(), 3540);
        assert_eq!(expiry.poll(3539), None);
        assert_eq!(expiry.poll(3540), Some(ExpiryEvent::Warn { expires_in: 60 }));
        assert_eq!(expiry.poll(3541), None);
        assert_eq!(expiry.next_wakeup(), 3610);
        assert_eq!(expiry.poll(3609), None);
        assert_eq!(expiry.poll(3610), Some(ExpiryEvent::Disconnect));
    }

    #[test]
    fn one_that_is_over_is_over_at_once() {
        let mut over = Expiry::over();
        assert_eq!((over.next_wakeup(), over.poll(0)), (0, Some(ExpiryEvent::Disconnect)));
    }

    #[test]
    fn a_minute_is_warned_of_a_fifth_before() {
        assert_eq!(expiry(Some(1000), 1060, 1000).next_wakeup(), 1048);
        assert_eq!(expiry(None, 1060, 1010).next_wakeup(), 1050);
    }

    #[test]
    fn a_token_at_its_end_is_warned_of_at_once() {
        let mut late = expiry(Some(0), 1000, 1005);
        assert_eq!(late.poll(1005), Some(ExpiryEvent::Warn { expires_in: 0 }));
        assert_eq!(late.poll(1010), Some(ExpiryEvent::Disconnect));
    }

    proptest! {
        #[test]
        fn each_wakeup_has_something_due(issued_at in proptest::option::of(0_u64..5000), lifetime in 0_u64..5000, now in 0_u64..10_000) {
            let mut expiry = expiry(issued_at, issued_at.unwrap_or(now) + lifetime, now);
            let first = expiry.poll(expiry.next_wakeup());
            let is_warning = matches!(first, Some(ExpiryEvent::Warn { .. }));
            prop_assert!(is_warning);
            prop_assert_eq!(expiry.poll(expiry.next_wakeup()), Some(ExpiryEvent::Disconnect));
        }
    }
}
