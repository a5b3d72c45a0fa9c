//! Waiting for what is to come.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// For what takes seconds alone: eight tests share two cores, and whatever else the machine does. It only says when a
/// test is given up.
pub const PATIENCE: Duration = Duration::from_mins(4);
/// Before the second probe.
pub(super) const POLL_SOON: Duration = Duration::from_millis(50);
/// Between later ones: most probes are a process of their own, and eight tests that did nothing but probe would leave
/// nothing to those that are probed.
const POLL_LATER: Duration = Duration::from_millis(800);

/// Probes until it sees what it wants. An error of the probe says what it saw instead; the last is told at the
/// deadline.
pub async fn eventually<T>(patience: Duration, what: &str, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    let (mut last, mut pause) = (None, POLL_SOON);
    while Instant::now() < deadline {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = Some(error),
            Err(_) => break,
        }
        sleep(pause).await;
        pause = POLL_LATER.min(pause * 3 / 2);
    }
    match last {
        Some(error) => bail!("{what}: not within {patience:?}; last: {error:#}"),
        None => bail!("{what}: the first probe did not end within {patience:?}"),
    }
}
