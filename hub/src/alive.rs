//! That this hub lives, and which others no longer do.
//!
//! A hub that dies ends none of its sessions in the rows: its clusters count as away from its last beat on. Nothing would
//! make anybody look at that before some clock of a rollout is due, so whoever misses a hub says so. It decides nothing,
//! and writes nothing about another hub: one that was only held up beats again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::change::Change;
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::{Hub, clock};

/// How often a hub says that it lives; one that is silent for three of them holds no sessions.
const BEAT: Duration = Duration::from_secs(5);

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    let mut seen = None;
    loop {
        match beat(&hub, seen.as_ref()).await {
            Ok(living) => seen = Some(living),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "could not say that this hub lives, or see who else does");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Beats, and answers which hubs live. Of those that are gone since the last look, rollouts look at the clusters; a hub
/// that looks for the first time knows nothing of before, and takes every one that does not live for gone since.
async fn beat(hub: &Hub, seen: Option<&BTreeSet<Uuid>>) -> Result<BTreeSet<Uuid>, StoreError> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    store::installation::mark_hub_beat(&mut change, hub.id, now).await?;
    let hubs = store::installation::list_hubs(&mut change, now).await?;
    let of = |lives| hubs.iter().filter(move |one| one.lives == lives).map(|one| one.id);
    let (living, silent): (BTreeSet<_>, BTreeSet<_>) = (of(true).collect(), of(false).collect());
    let gone: Vec<_> = match seen {
        Some(seen) => seen.difference(&living).copied().collect(),
        None => silent.into_iter().collect(),
    };
    if !gone.is_empty() {
        tracing::warn!(hubs = ?gone, "other hubs are silent; what their clusters run is looked at");
        let targets = store::sessions::list_targets_of_hubs(&mut change, &gone).await?;
        change.tell(Stage::Rollout, &targets, now, None).await?;
    }
    change.commit().await?;
    Ok(living)
}
