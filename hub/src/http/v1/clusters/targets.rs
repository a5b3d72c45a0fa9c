//! Lists what runs in a cluster.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::{ClusterTarget, List};
use bellwether_core::report::{Counts, Verdict};

use super::find;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::{Named, QueryParams};
use crate::http::pages::{self, Paging};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::fleet::{self, Placement, PlacementPlace, Placements};
use crate::store::{Connection, StoreError};

pub(in crate::http) async fn list(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<List<ClusterTarget>>, Refusal> {
    let after = paging.cursor.as_deref().map(pages::decode_cursor::<PlacementPlace>).transpose()?;
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &caller, &name).await?;
    let of = Placements::InCluster(caller.project.id, cluster.id);
    Ok(Json(page(&mut db, of, after.as_ref(), pages::limit(paging.limit)).await?))
}

/// In the order of names.
pub(super) async fn page(
    db: &mut Connection,
    of: Placements<'_>,
    after: Option<&PlacementPlace>,
    limit: i64,
) -> Result<List<ClusterTarget>, StoreError> {
    let placements = fleet::list_placements(db, of, after, limit, clock::now()).await?;
    let next = placements.next.and_then(|place| pages::encode_cursor(&place));
    Ok(List { items: placements.items.into_iter().map(document).collect(), next })
}

fn document(one: Placement) -> ClusterTarget {
    let said = one.said;
    // Of a cluster that nobody hears it is unknown, whatever it said last.
    let verdict = said.as_ref().filter(|_| one.heard).map_or(Verdict::Unknown, |said| said.verdict);
    ClusterTarget {
        target: one.target,
        digest: one.digest,
        generation: one.generation,
        applied: said.as_ref().is_some_and(|said| said.applied),
        verdict,
        objects: said.as_ref().map_or_else(Counts::default, |said| said.objects),
        reported_at: said.as_ref().map(|said| said.at),
        suspended: said.as_ref().and_then(|said| said.suspended.clone()),
        lines: said.map(|said| said.lines).unwrap_or_default(),
    }
}
