//! Registers a cluster and answers with what it is installed with.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::{RegisterCluster, RegisteredCluster};
use bellwether_core::audit::Action;
use bellwether_core::labels::{check_annotations, check_labels};
use bellwether_core::{ClusterId, Version};

use super::{checked_ttl, event, hand_out_token};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Body;
use crate::http::install;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::clusters::Cluster;
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Where agents are installed when nobody says otherwise.
const NAMESPACE: &str = "bellwether-system";

/// Others live there: an agent's manifest holds its namespace to the strictest rules for Pods.
const SHARED: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

pub(in crate::http) async fn register(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Body(asked): Body<RegisterCluster>,
) -> Result<(StatusCode, Json<RegisteredCluster>), Refusal> {
    check_labels(&asked.labels).map_err(|error| Refusal::invalid("label_invalid", error.to_string()))?;
    check_annotations(&asked.annotations).map_err(|error| Refusal::invalid("annotation_invalid", error.to_string()))?;
    let ttl = checked_ttl(asked.ttl_seconds)?;
    if let Some(shared) = asked.namespace.as_ref().filter(|name| SHARED.contains(&name.as_str())) {
        let detail = format!("an agent has a namespace of its own, and `{shared}` is not one");
        return Err(
            Refusal::invalid("namespace_shared", detail).hint(format!("leave it out: it is `{NAMESPACE}` then"))
        );
    }
    let now = clock::now();
    let cluster = Cluster {
        id: ClusterId::new(clock::new_id()),
        project: caller.project.clone(),
        namespace: asked.namespace.map_or_else(|| NAMESPACE.to_owned(), |namespace| namespace.to_string()),
        name: asked.name,
        labels: asked.labels,
        annotations: asked.annotations,
        version: Version::new(1),
        created_at: now,
        revoked_at: None,
    };
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    store::clusters::insert(&mut change, &cluster).await.map_err(|error| match error {
        StoreError::NameTaken => {
            Refusal::conflict("cluster_exists", format!("there is a cluster `{}` already", cluster.name))
                .hint(format!("for a new join token: bellwether cluster reenroll {}", cluster.name))
        }
        other => other.into(),
    })?;
    let registered = hand_out_token(&hub, &mut change, &cluster, (ttl, now), install::manifest).await?;
    let mut event = event(&cluster, &caller, Action::ClusterRegistered);
    event.detail = serde_json::json!({"labels": cluster.labels, "annotations": cluster.annotations, "namespace": cluster.namespace});
    change.audit(&event).await?;
    change.commit().await?;
    Ok((StatusCode::CREATED, Json(registered)))
}
