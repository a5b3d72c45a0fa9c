//! Changes labels.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::ClusterDocument;
use bellwether_core::audit::Action;
use bellwether_core::labels::check_labels;
use bellwether_core::{Labels, Version};
use serde::Deserialize;

use super::{document, event, find, next};
use crate::http::auth::Caller;
use crate::http::input::{Body, Named, QueryParams};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::clusters::Cluster;
use crate::work::change::Change;
use crate::{Hub, store};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct LabelQuery {
    /// What the labels were read at: refused when somebody else wrote meanwhile.
    pub(super) version: Option<Version>,
}

pub(in crate::http) async fn label(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<LabelQuery>,
    Body(labels): Body<Labels>,
) -> Result<Json<ClusterDocument>, Refusal> {
    check_labels(&labels).map_err(|error| Refusal::invalid("label_invalid", error.to_string()))?;
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let cluster = find(&mut change, &caller, &name).await?;
    let seen = query.version.unwrap_or(cluster.version);
    store::clusters::mark_labels(&mut change, cluster.id, seen, &labels, now).await?;
    let mut event = event(&cluster, &caller, Action::ClusterLabelled);
    event.detail = serde_json::json!({"before": cluster.labels, "after": labels});
    change.audit(&event).await?;
    change.tell_of_labels(&cluster, Some(&cluster.labels), Some(&labels), now).await?;
    let document = document(&mut change, &Cluster { labels, version: next(cluster.version), ..cluster }).await?;
    change.commit().await?;
    Ok(Json(document))
}
