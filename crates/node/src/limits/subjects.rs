//! How many connections a subject may have, in the whole cluster.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use signalbox_auth::{Principal, grants::Limit};
use signalbox_cluster::{Address, SubjectList};

use crate::config::ClientLimits;

/// A connection in the list of its subject.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) list: SubjectList,
    /// Its name there, which it keeps when it moves.
    pub(crate) connection: Address,
}

/// The list in which a client's connection is counted, and how many there may be. `None`: nobody counts them.
pub(crate) fn subject_limit(
    config: &ClientLimits,
    principal: Option<&Arc<Principal>>,
) -> Option<(SubjectList, u64)> {
    let principal = principal?;
    let own = principal.grants.limits().get(Limit::Connections);
    let most = own.or(config.connections_per_subject.map(u64::from))?;
    Some((SubjectList::of(principal.issuer.as_deref(), &principal.subject), most))
}

/// The name under which a PeerServer client is counted: whoever takes the id over takes its place.
pub(crate) fn place_of_peer(key: &str, id: &str) -> Address {
    let length = (key.len() as u64).to_be_bytes();
    let hash = Sha256::new().chain_update(length).chain_update(key).chain_update(id).finalize();
    let mut bytes = [0; 15];
    bytes.copy_from_slice(&hash[..15]);
    Address::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use signalbox_auth::{Grants, GrantsSpec};

    use super::*;

    #[test]
    fn grants_take_the_place_of_the_setting_and_strangers_are_not_counted() {
        let principal = |grants: &str| {
            Arc::new(Principal {
                issuer: None,
                subject: "alice".into(),
                session: None,
                token_id: None,
                issued_at: None,
                expires_at: 0,
                grants: Arc::new(Grants::new(Arc::new(GrantsSpec::from_setting(grants).unwrap()), "alice")),
            })
        };
        let limited = ClientLimits { connections_per_subject: Some(5), ..ClientLimits::default() };
        let of = |config: &ClientLimits, grants| {
            subject_limit(config, Some(&principal(grants))).map(|(_, most)| most)
        };
        assert_eq!(of(&limited, "{}"), Some(5));
        assert_eq!(of(&limited, r#"{"limits":{"connections":1}}"#), Some(1));
        assert_eq!(of(&ClientLimits::default(), r#"{"limits":{"connections":9}}"#), Some(9));
        assert_eq!(of(&ClientLimits::default(), "{}"), None);
        assert!(subject_limit(&limited, None).is_none());
    }

    #[test]
    fn each_peer_of_each_realm_has_a_place_of_its_own() {
        assert_ne!(place_of_peer("a", "bc"), place_of_peer("ab", "c"));
        assert_eq!(place_of_peer("a", "bc"), place_of_peer("a", "bc"));
    }
}
