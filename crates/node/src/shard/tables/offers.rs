//! Calls that a PeerServer client has offered and that have no answer yet, for the metrics.

use std::{sync::Arc, time::Instant};

use signalbox_peerserver::Kind;

/// Calls of one client that are remembered; of more, the oldest is forgotten.
const MAX_OFFERS: usize = 16;

/// Whom a client has offered a call to; the oldest first.
#[derive(Debug, Default)]
pub(in crate::shard) struct Offers(Vec<Offer>);

/// A call that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::shard) struct Offer {
    to: Arc<str>,
    /// When.
    pub(in crate::shard) at: Instant,
    /// The `traceparent` of the OFFER, where traces are kept.
    pub(in crate::shard) trace: Option<Arc<str>>,
}

impl Offers {
    /// It offers one. Gives back how many others will have no answer that counts: an earlier one to the same peer, or the oldest.
    pub(in crate::shard) fn offered(&mut self, at: Instant, to: &str, trace: Option<Arc<str>>) -> u64 {
        let before = self.0.len();
        self.0.retain(|offer| *offer.to != *to);
        if self.0.len() >= MAX_OFFERS {
            self.0.remove(0);
        }
        self.0.push(Offer { to: to.into(), at, trace });
        (before + 1 - self.0.len()) as u64
    }

    /// A message of this kind comes back from a peer: the call that it ends, if it ends one.
    pub(in crate::shard) fn end(&mut self, kind: Kind, from: &str) -> Option<Offer> {
        if !matches!(kind, Kind::Answer | Kind::Expire) {
            return None;
        }
        let at = self.0.iter().position(|offer| *offer.to == *from)?;
        Some(self.0.remove(at))
    }

    /// How many have no answer.
    pub(in crate::shard) fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_once_and_only_so_many_are_remembered() {
        let (now, mut offers) = (Instant::now(), Offers::default());
        assert_eq!(offers.offered(now, "b", None), 0);
        assert_eq!(offers.end(Kind::Candidate, "b"), None);
        assert_eq!(offers.end(Kind::Answer, "c"), None);
        assert_eq!(offers.offered(now, "b", Some("trace".into())), 1, "the earlier one is given up");
        let ended = offers.end(Kind::Answer, "b");
        assert_eq!(ended, Some(Offer { to: "b".into(), at: now, trace: Some("trace".into()) }));
        assert_eq!(offers.end(Kind::Answer, "b"), None);
        let forgotten: u64 = (0..100).map(|number| offers.offered(now, &number.to_string(), None)).sum();
        assert_eq!(forgotten + offers.len(), 100);
        assert_eq!(offers.len(), MAX_OFFERS as u64);
    }
}
