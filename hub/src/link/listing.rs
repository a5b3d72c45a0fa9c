//! What the rows say that clusters are to run, as their sessions take it.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::ClusterId;
use bellwether_core::session::{Assignment, SyncOptions};

use crate::store::content::Content;
use crate::store::{self, Connection, StoreError};

/// All assignments of each of these clusters; none is an empty list.
pub(super) async fn load(
    db: &mut Connection,
    content: &Content,
    clusters: &[ClusterId],
) -> Result<BTreeMap<ClusterId, Vec<Assignment>>, StoreError> {
    let listed = store::assignments::list_of_clusters(db, clusters).await?;
    let digests: BTreeSet<_> = listed.iter().map(|one| one.assignment.digest).collect();
    let manifests = content.load_manifests(db, &digests).await?;
    let mut listings: BTreeMap<_, Vec<_>> = clusters.iter().map(|cluster| (*cluster, Vec::new())).collect();
    for one in listed {
        let missing = StoreError::Unreadable { table: "bundles", column: "digest" };
        let row = one.assignment;
        listings.entry(row.cluster).or_default().push(Assignment {
            target: row.target,
            name: one.target_name,
            generation: row.generation,
            action: row.action,
            manifest: manifests.get(&row.digest).cloned().ok_or(missing)?,
            prunable: row.prunable,
            options: SyncOptions { prune: row.options.prune, drift: row.options.drift },
            trace: one.trace,
        });
    }
    Ok(listings)
}
