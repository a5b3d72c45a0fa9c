//! Whether this agent was replaced: asked before anything is written in the cluster.
//!
//! The journal's next name is a lock, but only who writes the journal looks at it. An agent that accepts nothing new (its
//! link is down, its machine slept) would go on putting back what it knows, under the name of the one that took its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bellwether_core::journal::Journal;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{JournalError, Store};
use crate::executor::kubernetes::client::ClusterError;

/// For so long an answer counts: two small requests a second are nothing to an API server, and what is done in between
/// is put right by the one that took this one's place.
const COUNTS: Duration = Duration::from_secs(1);

/// When it was last known, and what the API server said.
type Answered = (Instant, Result<(), ClusterError>);

#[derive(Clone)]
pub(crate) struct Fence {
    store: Store,
    /// The newest part that is known; 0: there is none.
    last: Arc<AtomicU64>,
    answered: Arc<Mutex<Option<Answered>>>,
}

impl Fence {
    pub(crate) fn new(store: Store, journal: &Journal) -> Self {
        let last = Arc::new(AtomicU64::new(journal.last().unwrap_or_default()));
        Self { store, last, answered: Arc::default() }
    }

    /// Before parts that are older are deleted. Only the journal's one owner can write it, so that is an answer too.
    pub(super) fn note_written(&self, journal: &Journal) {
        self.last.store(journal.last().unwrap_or_default(), Ordering::SeqCst);
        // Whoever is asking just now is answered soon.
        if let Ok(mut answered) = self.answered.try_lock() {
            *answered = Some((Instant::now(), Ok(())));
        }
    }

    /// `None`: nobody else has written the journal; or else why that cannot be told.
    pub(crate) async fn check(&self) -> Result<Option<ClusterError>, JournalError> {
        let mut answered = self.answered.lock().await;
        if let Some((at, answer)) = answered.as_ref()
            && at.elapsed() < COUNTS
        {
            return Ok(answer.clone().err());
        }
        let answer = self.ask().await?;
        *answered = Some((Instant::now(), answer.clone()));
        Ok(answer.err())
    }

    /// Parts are written with growing numbers and deleted from the lowest up: whoever wrote after our last left the next
    /// one, or has deleted ours.
    async fn ask(&self) -> Result<Result<(), ClusterError>, JournalError> {
        loop {
            let last = self.last.load(Ordering::SeqCst);
            let asked = tokio::try_join!(self.store.has(last), self.store.is_anothers(last + 1));
            let (is_there, is_anothers) = match asked {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            if !is_anothers && (is_there || last == 0) {
                return Ok(Ok(()));
            }
            // Unless our own writer went on meanwhile.
            if self.last.load(Ordering::SeqCst) == last {
                return Err(self.store.contested_at(last + 1));
            }
        }
    }
}
