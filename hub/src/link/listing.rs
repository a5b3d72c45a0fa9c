//! What the rows say that clusters are to run, as their sessions take it.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::bundle::Manifest;
use bellwether_core::session::{Action, Assignment, Listing};
use bellwether_core::{ClusterId, Digest};

use crate::process::clock;
use crate::store::assignments::{Listed, Placed, list_of_clusters};
use crate::store::content::Content;
use crate::store::{self, Connection, StoreError};

/// All assignments of each of these clusters; none is an empty list. A row that cannot be read concerns its cluster and
/// its target alone: what runs there stays. Nor does a bundle that is lost: whoever renders that target is told.
pub(super) async fn load(
    db: &mut Connection,
    content: &Content,
    clusters: &[ClusterId],
) -> Result<BTreeMap<ClusterId, Listing>, StoreError> {
    let rows = list_of_clusters(db, clusters).await?;
    let read = rows.iter().filter_map(|row| row.read.as_ref().ok());
    let manifests = content.load_readable(db, &read.map(|one| one.assignment.digest).collect()).await?;
    let mut listings: BTreeMap<_, Listing> = clusters.iter().map(|cluster| (*cluster, Listing::default())).collect();
    let is_lost = |listed: &Listed| {
        listed.assignment.action == Action::Apply && !manifests.contains_key(&listed.assignment.digest)
    };
    let lost: BTreeSet<_> =
        rows.iter().filter(|row| row.read.as_ref().is_ok_and(is_lost)).map(|row| row.target).collect();
    if !lost.is_empty() {
        let lost: Vec<_> = lost.into_iter().collect();
        store::lost::note(db, &lost, &clock::new_trace(), clock::now()).await?;
    }
    for Placed { cluster, target, read } in rows {
        let listing = listings.entry(cluster).or_default();
        match read.and_then(|listed| assignment(listed, &manifests)) {
            Ok(assignment) => listing.assignments.push(assignment),
            Err(error) => {
                tracing::warn!(cluster.id = %cluster, target.id = %target, error = %crate::chain(&error), "cannot read what a cluster is to run of a target: it goes on with what it has");
                listing.unreadable.insert(target);
            }
        }
    }
    Ok(listings)
}

fn assignment(listed: Listed, manifests: &BTreeMap<Digest, Manifest>) -> Result<Assignment, StoreError> {
    let row = listed.assignment;
    let missing = StoreError::Unreadable { table: "bundles", column: "digest" };
    Ok(Assignment {
        target: row.target,
        name: listed.target_name,
        generation: row.generation,
        action: row.action,
        manifest: manifests.get(&row.digest).cloned().ok_or(missing)?,
        prunable: row.prunable,
        namespace: listed.namespace,
        project: listed.project,
        options: row.options,
        retried: listed.retried,
        trace: listed.trace,
    })
}
