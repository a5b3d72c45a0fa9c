//! What was found out last about this hub, for all who ask within a moment.

use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old an answer may be: less than a probe or a scrape leaves between two.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What was found last.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    pub(super) is_ready: Mutex<Option<(Instant, bool)>>,
    /// Shared by all answers of that moment, however many are not taken.
    pub(super) figures: Mutex<Option<(Instant, Bytes)>>,
}

/// The last answer while it is fresh; else `ask` is asked, and others wait for what it says.
pub(super) async fn remembered<T: Clone>(last: &Mutex<Option<(Instant, T)>>, ask: impl Future<Output = T>) -> T {
    let mut last = last.lock().await;
    if let Some((at, answer)) = last.as_ref()
        && at.elapsed() < FRESH_FOR
    {
        return answer.clone();
    }
    let answer = ask.await;
    *last = Some((Instant::now(), answer.clone()));
    answer
}
