//! Open files: each connection is one, and there are only so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for everything but the clients of the public listener: other listeners and their connections, Redis, the node link, what is
/// served and watched.
const RESERVE: u64 = 256;

/// How many connections the public listener may have, given what was configured. Raises the process's limit as far as it may.
pub(crate) fn max_connections(configured: Option<usize>) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Whether it can be raised shows below.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = getrlimit(Resource::Nofile).current.or(current);
    // No limit at all is `None`.
    let possible = limit.map_or(usize::MAX, |limit| within(limit) as usize);
    let configured = configured.unwrap_or(possible);
    if configured > possible {
        tracing::warn!(
            possible,
            configured,
            "--max-connections is more than the process has open files for; raise its limit (ulimit -n)"
        );
    }
    configured.min(possible)
}

/// Connections within a limit of open files.
fn within(limit: u64) -> u64 {
    limit.saturating_sub(RESERVE.min(limit / 2)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_reserve_whatever_the_limit() {
        assert_eq!((within(1_024), within(128), within(1)), (768, 64, 1));
    }
}
