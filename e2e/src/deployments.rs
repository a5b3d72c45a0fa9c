//! Deployments of a cluster that has an API server and nothing else: their statuses, as the controllers would leave them.
//!
//! For whoever brings etcd and an API server and no controllers (`KUBEBUILDER_ASSETS`). There are no pods here: a
//! Deployment is at once as available as it asks to be, and one that asks for particular nodes never is, which it says
//! after its own deadline. Neighbours: `controlplane` starts it in place of the controllers.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::controlplane::client_of_watches;

const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// What the API server fills in for who says nothing.
const DEFAULT_DEADLINE_SECONDS: i32 = 600;

/// Goes on until the process ends.
pub async fn play(kubeconfig: &Path) -> Result<()> {
    let client = client_of_watches(kubeconfig).await?;
    let api: Api<Deployment> = Api::all(client.clone());
    let mut late = JoinSet::new();
    let mut version = "0".to_owned();
    loop {
        let Ok(events) = api.watch(&WatchParams::default(), &version).await else {
            sleep(AFTER_FAILURE).await;
            continue;
        };
        let mut events = events.into_stream().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(deployment) | WatchEvent::Modified(deployment)) => {
                    version = deployment.metadata.resource_version.clone().unwrap_or_default();
                    let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
                    late.spawn(answer(Api::namespaced(client.clone(), &namespace), deployment));
                }
                Ok(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => {}
                // Too old a version, most likely: what is there now is told again.
                Ok(WatchEvent::Error(_)) | Err(_) => {
                    "0".clone_into(&mut version);
                    break;
                }
            }
            while late.try_join_next().is_some() {}
        }
    }
}

/// Writes a generation's status, and its second one when it is late.
async fn answer(api: Api<Deployment>, deployment: Deployment) {
    let status = deployment.status.as_ref();
    if status.and_then(|status| status.observed_generation) == deployment.metadata.generation {
        return;
    }
    let spec = deployment.spec.as_ref();
    let deadline = spec.and_then(|spec| spec.progress_deadline_seconds).unwrap_or(DEFAULT_DEADLINE_SECONDS);
    let is_placed = spec.and_then(|spec| spec.template.spec.as_ref()).is_none_or(|pod| pod.node_selector.is_none());
    write(&api, &deployment, if is_placed { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }).await;
    if !is_placed {
        sleep(Duration::from_secs(u64::try_from(deadline).unwrap_or_default())).await;
        write(&api, &deployment, "ProgressDeadlineExceeded").await;
    }
}

/// Refused when the object was changed meanwhile: that change is answered by itself.
async fn write(api: &Api<Deployment>, deployment: &Deployment, reason: &str) {
    let Some(name) = &deployment.metadata.name else { return };
    let Ok(newest) = api.get(name).await else { return };
    if newest.metadata.generation == deployment.metadata.generation && newest.metadata.uid == deployment.metadata.uid {
        let version = &newest.metadata.resource_version;
        let status = json!({"metadata": {"resourceVersion": version}, "status": status(deployment, reason)});
        let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
    }
}

fn status(deployment: &Deployment, reason: &str) -> Value {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = if reason == "NewReplicaSetAvailable" { wanted } else { 0 };
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, holds: bool, reason: &str| {
        let holds = if holds { "True" } else { "False" };
        json!({"type": kind, "status": holds, "reason": reason, "lastUpdateTime": now, "lastTransitionTime": now})
    };
    let has_minimum = if available == wanted { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" };
    json!({
        "observedGeneration": deployment.metadata.generation,
        "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": available, "availableReplicas": available,
        "unavailableReplicas": wanted - available,
        "conditions": [
            condition("Progressing", reason != "ProgressDeadlineExceeded", reason),
            condition("Available", available == wanted, has_minimum),
        ],
    })
}
