//! Shows a cluster with what runs there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::ClusterDocument;

use super::{document, find, targets};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::pages;
use crate::http::problem::{Refusal, unreadable};
use crate::store::fleet::Placements;
use crate::store::{self, StoreError};

/// With the first page of its targets.
pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Json<ClusterDocument>, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &caller, &name).await?;
    let mut document = document(&mut db, &cluster).await?;
    for row in store::assignments::list_of_clusters(&mut db, &[cluster.id]).await? {
        if let Err(error) = row.read {
            let message = format!("what it is to run of target {} cannot be read: {error}", row.target);
            document.status.conditions.push(unreadable(&message));
        }
    }
    let page = targets::page(&mut db, Placements::InCluster(caller.project.id, cluster.id), None, pages::FULL).await?;
    (document.status.targets, document.status.targets_next) = (page.items, page.next);
    Ok(Json(document))
}
