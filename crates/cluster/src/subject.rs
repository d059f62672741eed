//! Whose connections are counted together.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// What the name of a list begins with. Names of namespaces begin with a slash.
const MARK: char = '#';
/// Bytes of the hash: no two subjects have the same.
const HASH: usize = 16;

/// The connections of one subject, which are kept like the users of a namespace of this name. The name is a hash, so that the store
/// does not say who is connected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectList(Arc<str>);

impl SubjectList {
    /// The list of a subject. The same subject of another issuer is somebody else.
    pub fn of(issuer: Option<&str>, subject: &str) -> Self {
        let issuer = issuer.map(str::as_bytes);
        let length = issuer.map_or(u64::MAX, |issuer| issuer.len() as u64).to_be_bytes();
        let hash = Sha256::new()
            .chain_update(length)
            .chain_update(issuer.unwrap_or_default())
            .chain_update(subject)
            .finalize();
        Self(format!("{MARK}{}", BASE64_URL_SAFE_NO_PAD.encode(&hash[..HASH])).into())
    }

    /// Its name among the namespaces.
    pub fn name(&self) -> &Arc<str> {
        &self.0
    }

    /// Whether the name of a namespace is that of a list.
    pub(crate) fn is_name(namespace: &str) -> bool {
        namespace.starts_with(MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_of_each_issuer_has_a_list_of_its_own() {
        let of = |issuer, subject| SubjectList::of(issuer, subject);
        let lists = [of(None, "ab"), of(Some(""), "ab"), of(Some("a"), "b"), of(Some("b"), "a")];
        for (at, list) in lists.iter().enumerate() {
            assert!(SubjectList::is_name(list.name()) && !SubjectList::is_name("/chat"));
            assert!(!list.name().contains("ab") && lists[..at].iter().all(|other| other != list));
        }
        assert_eq!(of(Some("a"), "b"), lists[2]);
    }
}
