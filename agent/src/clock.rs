//! The agent's one clock.
//!
//! It shows the wall's time of the start plus the time that has passed since: it never goes back and never jumps, so
//! that deadlines and waits may be written as timestamps. What is compared with other machines' clocks (certificates)
//! does not use it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started_at: Timestamp::now(), started: Instant::now() }
    }

    pub(crate) fn now(self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.started_at.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    pub(crate) async fn sleep_until(self, wake: Timestamp) {
        tokio::time::sleep(Duration::try_from(wake.duration_since(self.now())).unwrap_or_default()).await;
    }
}
