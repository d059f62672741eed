//! Tokens that count no more although they have not expired: one by its id, all of a subject, or all, issued before some time.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::principal::Principal;

/// One revocation, as it is stored and published. Merging is the same in any order, so it may arrive any number of times.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revocation {
    /// What is revoked.
    pub what: Revoked,
    /// Until when it is kept, in seconds since 1970: by then the tokens have expired. `None`: for ever.
    pub until: Option<u64>,
}

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revoked {
    /// The token with this id (`jti`).
    Token(Arc<str>),
    /// The tokens of a subject, whoever issued them.
    Subject {
        /// The subject.
        subject: Arc<str>,
        /// Those issued before this time, and those that do not say when they were.
        issued_before: u64,
    },
    /// Everybody's.
    All {
        /// Those issued before this time, and those that do not say when they were.
        issued_before: u64,
    },
}

impl Revocation {
    /// Revokes one token, which expires at `expires_at`; `None` where that is not known.
    pub fn of_token(id: &str, expires_at: Option<u64>, leeway: u64) -> Self {
        Self {
            what: Revoked::Token(id.into()),
            until: expires_at.map(|expires_at| expires_at.saturating_add(leeway)),
        }
    }

    /// Revokes all tokens of a subject that have been issued by `now`. `longest`: how long such a token may live.
    pub fn of_subject(subject: &str, longest: Option<u64>, leeway: u64, now: u64) -> Self {
        // Times are whole seconds. One that is issued in this very second may have been issued before, so it goes as well.
        let issued_before = now.saturating_add(1);
        Self {
            what: Revoked::Subject { subject: subject.into(), issued_before },
            until: end(issued_before, longest, leeway),
        }
    }

    /// Revokes all tokens that were issued before a time.
    pub fn of_all(issued_before: u64, longest: Option<u64>, leeway: u64) -> Self {
        Self { what: Revoked::All { issued_before }, until: end(issued_before, longest, leeway) }
    }

    /// Whether it is this principal's token that is revoked. For live connections: whom does a new revocation hit?
    pub fn hits(&self, principal: &Principal) -> bool {
        let is_before = |before: u64| principal.issued_at.is_none_or(|issued_at| issued_at < before);
        match &self.what {
            Revoked::Token(id) => principal.token_id.as_ref() == Some(id),
            Revoked::Subject { subject, issued_before } => {
                principal.subject == *subject && is_before(*issued_before)
            }
            Revoked::All { issued_before } => is_before(*issued_before),
        }
    }
}

/// How far in the future the time may be before which tokens are revoked, in seconds: as far as clocks may be off. No token issued until
/// then is accepted, and nobody can take that back.
pub const MAX_AHEAD: u64 = 60;

/// Whether a time before which tokens are to be revoked is none that anybody can mean, such as one in milliseconds.
pub fn is_too_far_ahead(issued_before: u64, now: u64) -> bool {
    issued_before > now.saturating_add(MAX_AHEAD)
}

/// How long tokens may live, in seconds: revocations are kept until what they revoke has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// How far away `exp` may be; `None`: any distance.
    pub longest: Option<u64>,
    /// How far clocks may be off.
    pub leeway: u64,
}

impl Lifetimes {
    /// Revokes one token. `expires_at`: when it expires, where that is known; else it follows from the longest lifetime.
    pub fn of_token(&self, id: &str, expires_at: Option<u64>, now: u64) -> Revocation {
        let longest = || self.longest.map(|longest| now.saturating_add(longest));
        // Whoever issued it may have had a clock that is ahead, and it is accepted for the leeway.
        Revocation::of_token(id, expires_at.or_else(longest), self.leeway.saturating_mul(2))
    }

    /// Revokes all tokens of a subject that were issued before a time, which is at least 1.
    pub fn of_subject(&self, subject: &str, issued_before: u64) -> Revocation {
        Revocation::of_subject(subject, self.longest, self.leeway, issued_before.saturating_sub(1))
    }

    /// Revokes all tokens that were issued before a time.
    pub fn of_all(&self, issued_before: u64) -> Revocation {
        Revocation::of_all(issued_before, self.longest, self.leeway)
    }
}

/// A token issued just before the time lives this long. Its clock may have been ahead by the leeway, and it is accepted for as long.
fn end(issued_before: u64, longest: Option<u64>, leeway: u64) -> Option<u64> {
    longest.map(|longest| issued_before.saturating_add(longest).saturating_add(leeway.saturating_mul(2)))
}

/// All that is revoked. Two sets are merged by adding all of one to the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    tokens: HashMap<Arc<str>, Option<u64>>,
    subjects: HashMap<Arc<str>, Cutoff>,
    all: Option<Cutoff>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cutoff {
    issued_before: u64,
    until: Option<u64>,
}

impl Cutoff {
    /// The later time covers what the earlier does, and it is kept for as long as either.
    fn merge(&mut self, other: Self) {
        self.issued_before = self.issued_before.max(other.issued_before);
        self.until = later(self.until, other.until);
    }
}

/// `None` is for ever.
fn later(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.zip(other).map(|(one, other)| one.max(other))
}

impl Revocations {
    /// Adds one. `false`: it says nothing new.
    pub fn add(&mut self, revocation: &Revocation) -> bool {
        let until = revocation.until;
        match &revocation.what {
            Revoked::Token(id) => match self.tokens.entry(id.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(until);
                    true
                }
                Entry::Occupied(mut entry) => {
                    let merged = later(*entry.get(), until);
                    entry.insert(merged) != merged
                }
            },
            Revoked::Subject { subject, issued_before } => {
                let cutoff = Cutoff { issued_before: *issued_before, until };
                match self.subjects.entry(subject.clone()) {
                    Entry::Vacant(entry) => {
                        entry.insert(cutoff);
                        true
                    }
                    Entry::Occupied(mut entry) => merge(entry.get_mut(), cutoff),
                }
            }
            Revoked::All { issued_before } => {
                let cutoff = Cutoff { issued_before: *issued_before, until };
                match &mut self.all {
                    Some(known) => merge(known, cutoff),
                    none => {
                        *none = Some(cutoff);
                        true
                    }
                }
            }
        }
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Self) {
        for revocation in other.iter() {
            self.add(&revocation);
        }
    }

    /// Forgets those whose tokens have expired.
    pub fn expire(&mut self, now: u64) {
        let is_kept = |until: Option<u64>| until.is_none_or(|until| now < until);
        self.tokens.retain(|_, until| is_kept(*until));
        self.subjects.retain(|_, cutoff| is_kept(cutoff.until));
        self.all = self.all.filter(|cutoff| is_kept(cutoff.until));
    }

    /// Whether a token is revoked.
    pub fn revokes(&self, principal: &Principal) -> bool {
        let is_before =
            |cutoff: &Cutoff| principal.issued_at.is_none_or(|issued_at| issued_at < cutoff.issued_before);
        principal.token_id.as_ref().is_some_and(|id| self.tokens.contains_key(id))
            || self.subjects.get(&principal.subject).is_some_and(is_before)
            || self.all.as_ref().is_some_and(is_before)
    }

    /// Each of them, to be stored or sent.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        let tokens = self
            .tokens
            .iter()
            .map(|(id, until)| Revocation { what: Revoked::Token(id.clone()), until: *until });
        let subjects = self.subjects.iter().map(|(subject, cutoff)| Revocation {
            what: Revoked::Subject { subject: subject.clone(), issued_before: cutoff.issued_before },
            until: cutoff.until,
        });
        let all = self.all.iter().map(|cutoff| Revocation {
            what: Revoked::All { issued_before: cutoff.issued_before },
            until: cutoff.until,
        });
        tokens.chain(subjects).chain(all)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.subjects.len() + usize::from(self.all.is_some())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn merge(known: &mut Cutoff, new: Cutoff) -> bool {
    let before = *known;
    known.merge(new);
    *known != before
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<I: IntoIterator<Item = Revocation>>(revocations: I) -> Self {
        let mut set = Self::default();
        for revocation in revocations {
            set.add(&revocation);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grants::{Grants, GrantsSpec};

    fn principal(subject: &str, id: Option<&str>, issued_at: Option<u64>) -> Principal {
        Principal {
            issuer: None,
            subject: subject.into(),
            session: None,
            token_id: id.map(Into::into),
            issued_at,
            expires_at: 10_000,
            grants: Arc::new(Grants::new(Arc::new(GrantsSpec::everything()), subject)),
        }
    }

    #[test]
    fn a_token_a_subject_and_everybody_can_be_revoked() {
        let old = principal("alice", Some("1"), Some(100));
        let new = principal("alice", Some("2"), Some(101));
        let undated = principal("alice", None, None);
        let bob = principal("bob", Some("3"), Some(100));
        let hits = |revocation: Revocation| {
            let set = Revocations::from_iter([revocation.clone()]);
            [&old, &new, &undated, &bob].map(|principal| {
                assert_eq!(set.revokes(principal), revocation.hits(principal));
                revocation.hits(principal)
            })
        };
        assert_eq!(hits(Revocation::of_token("1", Some(10_000), 10)), [true, false, false, false]);
        assert_eq!(hits(Revocation::of_subject("alice", None, 10, 100)), [true, false, true, false]);
        assert_eq!(hits(Revocation::of_all(101, None, 10)), [true, false, true, true]);
        assert_eq!(hits(Revocation::of_all(100, None, 10)), [false, false, true, false]);
    }

    #[test]
    fn it_is_kept_until_the_tokens_have_expired() {
        let mut set = Revocations::from_iter([
            Revocation::of_token("1", Some(500), 10),
            Revocation::of_subject("alice", Some(3600), 10, 99),
            Revocation::of_all(200, None, 10),
        ]);
        set.expire(509);
        assert_eq!(set.len(), 3);
        set.expire(510);
        assert_eq!(set.len(), 2);
        set.expire(100 + 3600 + 20);
        assert_eq!(set.len(), 1, "for ever, where nobody says how long tokens live");
        assert_eq!(set.iter().next(), Some(Revocation::of_all(200, None, 10)));
    }

    #[test]
    fn it_is_kept_for_as_long_as_tokens_may_live() {
        let lifetimes = |longest| Lifetimes { longest, leeway: 10 };
        let end = |revocation: Revocation| revocation.until;
        assert_eq!(end(lifetimes(Some(100)).of_token("1", Some(50), 7)), Some(70));
        assert_eq!(end(lifetimes(Some(100)).of_token("1", None, 7)), Some(127));
        assert_eq!(end(lifetimes(None).of_token("1", None, 7)), None);
        assert_eq!(lifetimes(Some(100)).of_subject("a", 7), Revocation::of_subject("a", Some(100), 10, 6));
        assert_eq!(lifetimes(None).of_all(7), Revocation::of_all(7, None, 10));
    }

    #[test]
    fn it_is_stored_as_text_and_as_bytes() {
        let revocation = Revocation::of_subject("alice", Some(10), 5, 99);
        let json = serde_json::to_string(&revocation).unwrap();
        assert_eq!(json, r#"{"what":{"subject":{"subject":"alice","issued_before":100}},"until":120}"#);
        assert_eq!(serde_json::from_str::<Revocation>(&json).unwrap(), revocation);
        let bytes = postcard::to_stdvec(&revocation).unwrap();
        assert_eq!(postcard::from_bytes::<Revocation>(&bytes).unwrap(), revocation);
    }

    fn any_revocation() -> impl Strategy<Value = Revocation> {
        let what = prop_oneof![
            "[ab]".prop_map(|id| Revoked::Token(id.into())),
            ("[ab]", 0_u64..20).prop_map(|(subject, issued_before)| Revoked::Subject {
                subject: subject.into(),
                issued_before
            }),
            (0_u64..20).prop_map(|issued_before| Revoked::All { issued_before }),
        ];
        (what, proptest::option::of(0_u64..40)).prop_map(|(what, until)| Revocation { what, until })
    }

    proptest! {
        /// Nodes hear of revocations in any order and more than once, and agree.
        #[test]
        fn sets_agree_whatever_the_order(
            list in proptest::collection::vec(any_revocation(), 0..12),
            split in 0_usize..12,
        ) {
            let whole = Revocations::from_iter(list.clone());
            let (one, other) = list.split_at(split.min(list.len()));
            let (mut left, right) = (Revocations::from_iter(one.to_vec()), Revocations::from_iter(other.to_vec()));
            let mut reverse = right.clone();
            reverse.merge(&left);
            left.merge(&right);
            left.merge(&right);
            prop_assert_eq!(&left, &whole);
            prop_assert_eq!(&reverse, &whole);
            prop_assert!(list.iter().all(|revocation| !left.add(revocation)), "nothing new");
            prop_assert_eq!(Revocations::from_iter(whole.iter()), whole);
        }

        /// Whoever is hit by one of them is hit by all together, and by nothing else.
        #[test]
        fn a_set_hits_whom_its_members_hit(
            list in proptest::collection::vec(any_revocation(), 0..12),
            subject in "[ab]", id in proptest::option::of("[ab]"), issued_at in proptest::option::of(0_u64..20),
        ) {
            let principal = principal(&subject, id.as_deref(), issued_at);
            let set = Revocations::from_iter(list.clone());
            prop_assert_eq!(set.revokes(&principal), list.iter().any(|revocation| revocation.hits(&principal)));
        }

        #[test]
        fn what_is_over_is_forgotten_and_nothing_else(
            list in proptest::collection::vec(any_revocation(), 0..12), now in 0_u64..40,
        ) {
            let mut set = Revocations::from_iter(list);
            let before: Vec<_> = set.iter().collect();
            set.expire(now);
            let kept = before.into_iter().filter(|revocation| revocation.until.is_none_or(|until| now < until));
            prop_assert_eq!(Revocations::from_iter(kept), set);
        }
    }
}
