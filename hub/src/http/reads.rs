//! How much is read at once, so that reading holds up no change.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// What may be read at once by all tokens. A page reads for as long as it is long, and holds a connection meanwhile
/// that changes wait for.
pub(crate) struct Reads {
    pub(super) pages: Semaphore,
    /// It reads the whole log.
    pub(super) checks: Semaphore,
    /// Each renders as much as a push does, and has its turn until it ends, whether anybody still waits for it or not.
    pub(crate) plans: Arc<Semaphore>,
}

/// Half of the API's pool.
const PAGES_AT_ONCE: usize = 4;
const CHECKS_AT_ONCE: usize = 1;
/// So that pushes keep most of the engines, and what plans hold in memory is little.
const PLANS_AT_ONCE: usize = 2;

impl Default for Reads {
    fn default() -> Self {
        Self {
            pages: Semaphore::new(PAGES_AT_ONCE),
            checks: Semaphore::new(CHECKS_AT_ONCE),
            plans: Arc::new(Semaphore::new(PLANS_AT_ONCE)),
        }
    }
}
