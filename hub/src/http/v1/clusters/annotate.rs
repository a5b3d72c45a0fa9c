//! Changes annotations.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::ClusterDocument;
use bellwether_core::audit::Action;
use bellwether_core::labels::{Annotations, check_annotations};
use bellwether_core::parameters::{ClusterFacts, Traits};

use super::label::LabelQuery;
use super::{document, event, find, next};
use crate::http::auth::Caller;
use crate::http::input::{Body, Named, QueryParams};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::clusters::Cluster;
use crate::work::change::Change;
use crate::{Hub, store};

pub(in crate::http) async fn annotate(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<LabelQuery>,
    Body(annotations): Body<Annotations>,
) -> Result<Json<ClusterDocument>, Refusal> {
    check_annotations(&annotations).map_err(|error| Refusal::invalid("annotation_invalid", error.to_string()))?;
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let cluster = find(&mut change, &caller, &name).await?;
    let seen = query.version.unwrap_or(cluster.version);
    store::clusters::mark_annotations(&mut change, cluster.id, seen, &annotations, now).await?;
    let mut event = event(&cluster, &caller, Action::ClusterAnnotated);
    event.detail = serde_json::json!({"before": cluster.annotations, "after": annotations});
    change.audit(&event).await?;
    let is_there = ClusterFacts::new(&cluster.name, &cluster.labels);
    let [before, after] = [&cluster.annotations, &annotations]
        .map(|annotations| Traits { annotations: annotations.clone(), ..Traits::default() });
    change
        .tell_of_cluster(cluster.project.id, (Some(is_there.with(&before)), Some(is_there.with(&after))), now)
        .await?;
    let document = document(&mut change, &Cluster { annotations, version: next(cluster.version), ..cluster }).await?;
    change.commit().await?;
    Ok(Json(document))
}
