//! How many connections this process may hold: each agent is one file descriptor.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Takes what the system allows it to take. Services often start with 1,024, for the sake of programs that use
/// `select`, and may have hundreds of times more if they ask.
pub(crate) fn raise() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most));
    match raised {
        Ok(most) => tracing::debug!(most, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors stays as it was"),
    }
}
