//! How much is read at once, so that reading holds up no change.

use tokio::sync::Semaphore;

/// What may be read at once by all tokens. A page reads for as long as it is long, and holds a connection meanwhile
/// that changes wait for.
pub(crate) struct Reads {
    pub(super) pages: Semaphore,
    /// It reads the whole log.
    pub(super) checks: Semaphore,
}

/// Half of the API's pool.
const PAGES_AT_ONCE: usize = 4;
const CHECKS_AT_ONCE: usize = 1;
impl Default for Reads {
    fn default() -> Self {
        Self { pages: Semaphore::new(PAGES_AT_ONCE), checks: Semaphore::new(CHECKS_AT_ONCE) }
    }
}
