//! Shows a cluster with what runs there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::{ClusterDocument, ClusterTarget};
use bellwether_core::report::{Counts, Verdict};

use super::{document, find};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::{Refusal, unreadable};
use crate::store::{self, StoreError};

/// Targets in the document of one cluster.
const TARGETS_MAX: i64 = 10_000;

pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    Named(name): Named,
) -> Result<Json<ClusterDocument>, Refusal> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &name).await?;
    let mut document = document(&mut db, &cluster).await?;
    for row in store::assignments::list_of_clusters(&mut db, &[cluster.id]).await? {
        if let Err(error) = row.read {
            let message = format!("what it is to run of target {} cannot be read: {error}", row.target);
            document.status.conditions.push(unreadable(message));
        }
    }
    let placements = store::fleet::list_placements(&mut db, None, Some(cluster.id), TARGETS_MAX).await?;
    document.status.targets = placements
        .into_iter()
        .map(|one| ClusterTarget {
            target: one.target,
            digest: one.digest,
            generation: one.generation,
            applied: one.said.as_ref().is_some_and(|said| said.applied),
            verdict: one.said.as_ref().map_or(Verdict::Unknown, |said| said.verdict),
            objects: one.said.as_ref().map_or_else(Counts::default, |said| said.objects),
            reported_at: one.said.as_ref().map(|said| said.at),
            lines: one.said.map(|said| said.lines).unwrap_or_default(),
        })
        .collect();
    Ok(Json(document))
}
