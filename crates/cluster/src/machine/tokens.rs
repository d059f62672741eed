//! The form in which tokens of peers are written: hashed, or as they are while there are nodes of the previous version, which compare them
//! so. The node's own claims keep the tokens themselves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Machine, Outputs};
use crate::{
    command::is_same_token,
    envelope::Format,
    token_key::{TokenKey, looks_like_hash},
};

/// For how long after a change of the form claims of either form are compared: until all nodes have written theirs again.
const BOTH_FORMS: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Tokens {
    key: Option<TokenKey>,
    /// Whether it is known which nodes there are. Until then no token is written as it is.
    knows_nodes: bool,
    /// Until when claims of the other form are recognized.
    both_until: Option<Instant>,
}

impl Machine {
    /// The secret of the cluster, from which the key of the hashes follows. What stands in the store is written again.
    pub(crate) fn set_token_secret(&mut self, now: Instant, secret: &str, out: &mut Outputs) {
        let key = TokenKey::of_secret(secret);
        if self.tokens.key.as_ref() != Some(&key) {
            self.tokens.key = Some(key);
            self.write_tokens_again(now, out);
        }
    }

    /// The nodes are known; `before` is the format that was written until now.
    pub(super) fn nodes_known(&mut self, now: Instant, before: Format, out: &mut Outputs) {
        let was_hashed = self.is_hashed(before);
        self.tokens.knows_nodes = true;
        if was_hashed != self.is_hashed(self.write_format) {
            self.tokens.both_until = Some(now + BOTH_FORMS);
            self.write_tokens_again(now, out);
        }
    }

    fn write_tokens_again(&mut self, now: Instant, out: &mut Outputs) {
        // Claims whose grants have not arrived yet are written again when they do, as after a loss of the bus.
        self.bus_changes += 1;
        if self.lease.is_shared() && self.lease.is_valid(now) {
            self.reclaim_all(now, out);
        }
    }

    fn is_hashed(&self, format: Format) -> bool {
        self.tokens.key.is_some() && (format >= Format::V2 || !self.tokens.knows_nodes)
    }

    /// The token of the peer `id` as it is written.
    pub(super) fn written_token(&self, id: &str, token: &Arc<str>) -> Arc<str> {
        match &self.tokens.key {
            Some(key) if self.is_hashed(self.write_format) || looks_like_hash(token) => key.hash(id, token),
            _ => token.clone(),
        }
    }

    /// The same in the other form, where claims may stand in the store in that.
    pub(super) fn other_token(&self, now: Instant, id: &str, token: &Arc<str>) -> Option<Arc<str>> {
        let key = self.tokens.key.as_ref().filter(|_| !looks_like_hash(token))?;
        if !self.is_hashed(self.write_format) {
            return Some(key.hash(id, token));
        }
        self.tokens.both_until.filter(|until| now < *until).map(|_| token.clone())
    }

    /// Whether a token of the peer `id` that comes from the store or another node is this one.
    pub(super) fn is_token(&self, id: &str, token: &Arc<str>, written: &str) -> bool {
        match &self.tokens.key {
            Some(key) if looks_like_hash(written) => is_same_token(&key.hash(id, token), written),
            _ => is_same_token(token, written),
        }
    }
}
