//! The link stage: assignments → agents, one stream for each.
//!
//! The rows are the truth; what waits for an agent waits in its session's memory and is read anew after any doubt. A
//! cluster's identity is the URI in its verified certificate, and nothing that it says.

mod enroll;
mod listing;
mod service;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bellwether_core::{ClusterId, SessionNumber};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::change::Change;
use crate::store::StoreError;
use crate::store::work::{self, Stage};
use crate::{Hub, clock};

pub(crate) use service::serve;

/// The streams that this hub holds.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    held: Mutex<BTreeMap<ClusterId, Held>>,
}

#[derive(Debug, Clone)]
struct Held {
    number: SessionNumber,
    /// Of the certificate that it came with.
    serial: String,
    /// Its assignments may have changed.
    nudge: Arc<Notify>,
    /// It is to end now.
    cut: CancellationToken,
}

impl Sessions {
    /// Puts a stream in its cluster's place; an older one ends.
    fn enter(&self, cluster: ClusterId, held: Held) {
        let before = self.lock().insert(cluster, held);
        if let Some(before) = before {
            before.cut.cancel();
        }
    }

    /// Takes a stream out, unless a newer one has its place.
    fn leave(&self, cluster: ClusterId, number: SessionNumber) {
        let mut held = self.lock();
        if held.get(&cluster).is_some_and(|held| held.number == number) {
            held.remove(&cluster);
        }
    }

    /// Ends a cluster's stream.
    pub(crate) fn cut(&self, cluster: ClusterId) {
        if let Some(held) = self.lock().get(&cluster) {
            held.cut.cancel();
        }
    }

    /// Ends the streams that came with one of these certificates.
    pub(crate) fn cut_all(&self, serials: &BTreeSet<String>) {
        for held in self.lock().values().filter(|held| serials.contains(&held.serial)) {
            held.cut.cancel();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn clusters(&self) -> Vec<Uuid> {
        self.lock().keys().map(|cluster| cluster.as_uuid()).collect()
    }

    fn nudge(&self, cluster: ClusterId) {
        if let Some(held) = self.lock().get(&cluster) {
            held.nudge.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClusterId, Held>> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

/// Takes the stage's rows of clusters whose newest stream is here, and tells those streams to read theirs.
pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match take_rows(&hub, hub.sessions.clusters()).await {
            Ok(clusters) => clusters.into_iter().for_each(|cluster| hub.sessions.nudge(ClusterId::new(cluster))),
            Err(error) => tracing::warn!(error = %crate::chain(&error), "cannot read which clusters have news"),
        }
        tokio::select! {
            () = hub.wakes.woken(Stage::Link) => {}
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn take_rows(hub: &Hub, held: Vec<Uuid>) -> Result<Vec<Uuid>, StoreError> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    let taken = work::take_due_of_streams(&mut change, hub.id, &held, clock::now()).await?;
    change.commit().await?;
    Ok(taken)
}
