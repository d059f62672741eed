//! With which user and password a node introduces itself to Redis, which may change while it runs.

use std::sync::Arc;

use super::{CannotConnect, backend::Backend};

/// Why a node goes on with the user and password that it has.
#[derive(Debug, thiserror::Error)]
pub enum CannotReplace {
    /// The URL makes no sense.
    #[error(transparent)]
    Url(#[from] CannotConnect),
    /// It names another store.
    #[error(
        "it differs from the one in use in more than user and password (restart the node for another Redis)"
    )]
    OtherStore,
}

/// A node's way to Redis.
#[derive(Clone)]
pub struct RedisAccess {
    backend: Arc<Backend>,
    authorities: Option<Vec<u8>>,
    /// The URL without user and password.
    store: Arc<str>,
}

/// Without anything that could hold a password.
impl std::fmt::Debug for RedisAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisAccess").finish_non_exhaustive()
    }
}

impl RedisAccess {
    pub(super) fn new(backend: Arc<Backend>, url: &str, authorities: Option<Vec<u8>>) -> Self {
        Self { backend, authorities, store: without_credentials(url).into() }
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Connections that are opened from now on introduce themselves with the user and password of this URL, which is otherwise the one
    /// in use. Redis keeps those that are open.
    ///
    /// # Errors
    /// The URL makes no sense, or is another one in more than that. Everything stays as it was.
    pub fn replace_credentials(&self, url: &str) -> Result<(), CannotReplace> {
        if without_credentials(url) != *self.store {
            // It may make no sense besides.
            Backend::new(url, self.authorities.as_deref())?;
            return Err(CannotReplace::OtherStore);
        }
        Ok(self.backend.replace_credentials(url, self.authorities.as_deref())?)
    }
}

/// A URL without what stands before its hosts.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    format!("{scheme}://{hosts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_and_password_may_change() {
        for url in [
            "redis://ann:p:@w@127.0.0.1:1/2",
            "redis+sentinel://ann:p@h1:1,h2:2/main/3",
            "redis+cluster://:p@h1:1,h2:2",
        ] {
            let access = RedisAccess::new(Arc::new(Backend::new(url, None).unwrap()), url, None);
            let hosts = url.rsplit_once('@').unwrap().1;
            let (scheme, _) = url.split_once("://").unwrap();
            access.replace_credentials(&format!("{scheme}://bob:q@{hosts}")).unwrap();
            access.replace_credentials(&format!("{scheme}://{hosts}")).unwrap();
            for other in [format!("redis://bob:q@{hosts}/9"), url.replace(":1", ":4")] {
                assert!(access.replace_credentials(&other).is_err(), "{other}");
            }
        }
        let url = "redis://h:1";
        let access = RedisAccess::new(Arc::new(Backend::new(url, None).unwrap()), url, None);
        let error = access.replace_credentials("redis://ann:secret@h:2").unwrap_err();
        assert!(
            matches!(error, CannotReplace::OtherStore) && !format!("{error}{access:?}").contains("secret")
        );
    }
}
