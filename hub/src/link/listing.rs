//! What the rows say that a cluster is to run, as its session takes it.

use bellwether_core::session::{Assignment, SyncOptions};
use bellwether_core::{ClusterId, Digest};

use crate::store::{self, Connection, StoreError};

pub(super) async fn load(db: &mut Connection, cluster: ClusterId) -> Result<Vec<Assignment>, StoreError> {
    let listed = store::assignments::list_of_clusters(db, &[cluster]).await?;
    let digests: Vec<_> = listed.iter().map(|one| one.assignment.digest).collect();
    let manifests = crate::manifests::load(db, &digests).await?;
    listed
        .into_iter()
        .map(|one| {
            let missing = StoreError::Unreadable { table: "bundles", column: "digest" };
            let row = one.assignment;
            Ok(Assignment {
                target: row.target,
                name: one.target_name,
                generation: row.generation,
                action: row.action,
                manifest: manifests.get(&row.digest).cloned().ok_or(missing)?,
                prunable: row.prunable,
                options: SyncOptions { prune: one.options.prune, drift: one.options.drift },
                trace: one.trace,
            })
        })
        .collect()
}

/// Bodies of objects, compressed. The session asks only for what its own assignments hold.
pub(super) async fn load_objects(
    db: &mut Connection,
    digests: &[Digest],
) -> Result<Vec<(Digest, Vec<u8>)>, StoreError> {
    let blobs = store::bundles::list_objects(db, digests).await?;
    if blobs.len() < digests.len() {
        return Err(StoreError::Unreadable { table: "objects", column: "digest" });
    }
    Ok(blobs.into_iter().map(|blob| (blob.digest, blob.frame)).collect())
}
