//! The link stage: assignments → agents, one stream for each.
//!
//! The rows are the truth; what waits for an agent waits in its session's memory and is read anew after any doubt. What
//! changes for many clusters at once is read at once, and handed to their streams. A cluster's identity is the URI in its
//! verified certificate, and nothing that it says.

pub(crate) mod arrivals;
mod caller;
pub(crate) mod dry_runs;
mod ends;
mod enroll;
mod greet;
mod listing;
mod service;
mod session;
pub(crate) mod sessions;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Instant;

use bellwether_core::ClusterId;
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::process::clock;
use crate::store::StoreError;
use crate::store::work::{self, Stage};
use crate::work::change::Change;

pub(crate) use caller::CALLS;
pub(crate) use ends::{run as write_ends, write_last as write_last_ends};
pub(crate) use service::serve;
pub(crate) use session::SAID;

/// Takes the stage's rows of clusters whose newest stream is here, and hands those streams what their clusters are to run.
pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match deliver(&hub).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %crate::chain(&error), "cannot read what clusters are to run"),
        }
        tokio::select! {
            () = hub.signals.woken(Stage::Link) => {}
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Of so many clusters what they are to run is read at once: a few hundred kilobytes for most fleets.
const DELIVERED_MAX: i64 = 250;

/// One transaction: a delivery that fails leaves its rows to the next. False: nothing was due.
async fn deliver(hub: &Hub) -> Result<bool, StoreError> {
    let began_at = Instant::now();
    let mut change = Change::begin_deferred(&hub.vital, &hub.signals).await?;
    let taken = work::take_due_of_streams(&mut change, hub.id, DELIVERED_MAX, clock::now()).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    let clusters: Vec<_> = taken.into_iter().map(ClusterId::new).collect();
    let listings = listing::load(&mut change, &hub.content, &clusters).await?;
    // Not after the commit: if that fails, they are handed out again, and say the same.
    hub.sessions.hand_out(began_at, listings);
    change.commit().await?;
    dry_runs::hand_out(hub, &clusters).await?;
    Ok(true)
}
