//! The agent's one clock.
//!
//! It shows the wall's time of the start plus the time that has passed since: it never goes back and never jumps, so
//! that deadlines and waits may be written as timestamps. What is compared with other machines' clocks (certificates)
//! goes by the [`wall`]'s. Ids and chance come from here too: nothing else asks the machine for either.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started: Instant,
}

/// The time on the wall, which somebody may set: for what is compared with other machines' clocks.
pub(crate) fn wall() -> Timestamp {
    Timestamp::now()
}

/// A new id, in the order of time.
pub(crate) fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// Bits that nobody guesses, and that say nothing of the time.
pub(crate) fn random_id() -> Uuid {
    Uuid::new_v4()
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started_at: wall(), started: Instant::now() }
    }

    pub(crate) fn now(self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.started_at.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    pub(crate) async fn sleep_until(self, wake: Timestamp) {
        tokio::time::sleep(Duration::try_from(wake.duration_since(self.now())).unwrap_or_default()).await;
    }
}
