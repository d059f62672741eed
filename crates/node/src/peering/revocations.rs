//! What is revoked: the policy keeps it, the shards disconnect whom it hits, and the nodes of a cluster share it.

use std::sync::Arc;

use signalbox_auth::{Revocation, revocation::Revoked};
use signalbox_cluster_redis::{CannotConnect, CannotRevoke, Cutoff, RevocationList, StoredRevocation};
use signalbox_telemetry::Metrics;

use crate::{
    policy::GuardedPolicy,
    shard::{mailbox::ShardMessage, runtime::Mailboxes},
};

/// What this node knows to be revoked.
pub(crate) struct Revocations {
    policy: Arc<GuardedPolicy>,
    mailboxes: Arc<Mailboxes>,
    metrics: Metrics,
}

impl Revocations {
    pub(crate) fn new(policy: Arc<GuardedPolicy>, mailboxes: Arc<Mailboxes>, metrics: Metrics) -> Self {
        Self { policy, mailboxes, metrics }
    }

    /// Refuses these from now on, and has their holders disconnected who are here. The policy comes first: whoever is let in by its
    /// earlier word is found by the shards, or asked for again when they arrive.
    pub(crate) fn add(&self, revocations: &[Revocation]) {
        let news: Arc<[Revocation]> = self.policy.revoke(revocations).into();
        if news.is_empty() {
            return;
        }
        for shard in self.mailboxes.shards() {
            self.mailboxes.push(shard, ShardMessage::Revoked(news.clone()));
        }
    }
}

/// As Redis has it.
pub(crate) fn stored(revocation: &Revocation) -> Option<StoredRevocation> {
    // Text and numbers make JSON.
    let what = serde_json::to_string(&revocation.what).ok()?;
    let cutoff = match &revocation.what {
        Revoked::Token(_) => None,
        Revoked::Subject { subject, issued_before } => {
            Some(Cutoff { name: format!("subject:{subject}"), before: *issued_before })
        }
        Revoked::All { issued_before } => {
            Some(Cutoff { name: Cutoff::EVERYBODY.to_owned(), before: *issued_before })
        }
    };
    Some(StoredRevocation { what, until: revocation.until, cutoff })
}

/// Revokes tokens on all nodes of a cluster, for a program that is none of them. Which tokens, follows from the time of Redis, in
/// seconds since 1970. It blocks, for some seconds at most.
///
/// # Errors
/// The URL of Redis cannot be used; Redis does not answer, or has no room for more.
pub fn revoke_in(
    redis_url: &str,
    redis_authorities: Option<&[u8]>,
    redis_prefix: &str,
    revocations: impl FnOnce(u64) -> Vec<Revocation>,
) -> Result<Result<(), CannotRevoke>, CannotConnect> {
    let stored = |now| revocations(now).iter().filter_map(stored).collect();
    signalbox_cluster_redis::revoke_in(redis_url, redis_authorities, redis_prefix, stored)
}

/// `None` for what a later version wrote.
fn read(stored: &StoredRevocation) -> Option<Revocation> {
    let what = serde_json::from_str(&stored.what).ok()?;
    Some(Revocation { what, until: stored.until })
}

impl RevocationList for Revocations {
    fn all(&self) -> Vec<StoredRevocation> {
        self.policy.revocations().iter().filter_map(stored).collect()
    }

    fn add(&self, revocations: Vec<StoredRevocation>) {
        let read: Vec<_> = revocations.iter().filter_map(read).collect();
        let unreadable = revocations.len() - read.len();
        self.metrics.bus_refused.inc_by(unreadable as u64);
        Self::add(self, &read);
    }

    fn set_current(&self, is_current: bool) {
        self.policy.set_revocations_current(is_current);
    }
}
