//! The sealer: audit entries get their numbers and their place in the tree.
//!
//! One at a time over all hubs, by a lock that ends with its transaction; in batches, a moment after the first entry.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::audit::leaf_hash;
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::store::audit::{self, Index, Sealed};
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Entries of one transaction.
const BATCH_MAX: i64 = 1_000;
/// Nobody waits for a number, and what an entry tells of goes on at this moment: sealing at once would take its time, and
/// seal each entry of one change by itself.
const PAUSE: Duration = Duration::from_millis(50);
/// Seals without a signal this often: for what another hub wrote and did not seal.
const RESYNC: Duration = Duration::from_secs(1);

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    loop {
        match seal_batch(&hub).await {
            Ok(sealed) if sealed == BATCH_MAX => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %crate::chain(&error), "could not seal audit entries"),
        }
        tokio::select! {
            () = hub.signals.sealer_woken() => pause(&stop).await,
            () = tokio::time::sleep(RESYNC) => {}
            () = stop.cancelled() => {
                // What the last requests wrote is sealed before the hub goes, if the database lets it.
                let _ = seal_batch(&hub).await;
                return;
            }
        }
    }
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => {}
        () = stop.cancelled() => {}
    }
}

/// Numbers what waits; says how many.
pub(crate) async fn seal_batch(hub: &Hub) -> Result<i64, StoreError> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    if !audit::lock_sealer(&mut change).await? {
        return Ok(0);
    }
    let unsealed = audit::take_unsealed(&mut change, BATCH_MAX).await?;
    if unsealed.is_empty() {
        return Ok(0);
    }
    let count = i64::try_from(unsealed.len()).unwrap_or(BATCH_MAX);
    let mut frontier = audit::find_head(&mut change).await?;
    for entry in unsealed {
        let seq = audit::size_of(&frontier) + 1;
        let leaf_hash = leaf_hash(seq, &entry.body);
        let index = Index::of(&entry.body)?;
        frontier.push(leaf_hash);
        let sealed = Sealed { seq, body: entry.body, leaf_hash, at: entry.at, index };
        audit::insert(&mut change, &sealed).await?;
    }
    audit::mark_head(&mut change, &frontier).await?;
    change.commit().await?;
    Ok(count)
}

/// What checking the whole log found.
pub(crate) struct Verification {
    pub(crate) entries: i64,
    pub(crate) root: bellwether_core::Digest,
    pub(crate) problem: Option<(i64, &'static str)>,
}

/// Reads every entry: numbers without gaps, hashes over the bytes, columns that say what the bytes say, and a tree whose
/// edge is the head's.
pub(crate) async fn verify(hub: &Hub) -> Result<Verification, StoreError> {
    let mut db = store::begin(&hub.pool).await?;
    let head = audit::find_head(&mut db).await?;
    let size = audit::size_of(&head);
    let mut frontier = bellwether_core::audit::Frontier::default();
    let bad = |seq, root, problem| Verification { entries: seq, root, problem: Some((seq, problem)) };
    loop {
        let next = audit::size_of(&frontier) + 1;
        let entries = audit::list_from(&mut db, next, BATCH_MAX).await?;
        if entries.is_empty() || next > size {
            break;
        }
        for entry in entries.into_iter().take_while(|entry| entry.seq <= size) {
            if let Some(problem) = check(&entry, audit::size_of(&frontier) + 1) {
                return Ok(bad(audit::size_of(&frontier) + 1, frontier.root(), problem));
            }
            frontier.push(entry.leaf_hash);
        }
    }
    if frontier != head {
        let seq = audit::size_of(&frontier) + 1;
        return Ok(bad(seq.min(size), frontier.root(), "the tree's head does not follow from the entries"));
    }
    Ok(Verification { entries: size, root: head.root(), problem: None })
}

fn check(entry: &Sealed, expected: i64) -> Option<&'static str> {
    if entry.seq != expected {
        return Some("an entry is missing or stands twice");
    }
    if leaf_hash(entry.seq, &entry.body) != entry.leaf_hash {
        return Some("the entry's bytes do not have its hash");
    }
    match Index::of(&entry.body) {
        Ok(index) if index == entry.index => None,
        _ => Some("the entry's columns do not say what its bytes say"),
    }
}
