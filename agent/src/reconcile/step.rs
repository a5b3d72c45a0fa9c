//! Carries out one step of one object. Decides nothing but whether what is there is this target's.

use std::sync::Arc;

use bellwether_core::health::{self, Health};
use bellwether_core::report::Verdict;
use uuid::Uuid;

use super::judge::{is_ours, owner_hint};
use super::target::{Act, Finding, Step};
use crate::cluster::{Cluster, ClusterError, Live, Metadata};

/// `body` is the object as the bundle has it, of what is to be applied; `None` is answered as what it is, a mistake of
/// ours.
pub(super) async fn carry_out(cluster: &Cluster, step: &Step, body: Option<Arc<[u8]>>) -> Finding {
    let found = match &step.act {
        Act::Apply { look_first, .. } => look_and_apply(cluster, step, *look_first, body).await,
        Act::Look => look(cluster, step).await,
        Act::Delete { uid } => delete(cluster, step, *uid).await,
        Act::Release { version } => cluster.release(&step.key, version).await.map(|()| Finding::Gone),
    };
    match found {
        // What is not there needs neither deleting nor releasing.
        Err(ClusterError::NotFound) if !matches!(step.act, Act::Apply { .. }) => Finding::Gone,
        Err(error) => Finding::Failed(error),
        Ok(finding) => finding,
    }
}

async fn look_and_apply(
    cluster: &Cluster,
    step: &Step,
    look_first: bool,
    body: Option<Arc<[u8]>>,
) -> Result<Finding, ClusterError> {
    let body = body.ok_or_else(|| ClusterError::Rejected {
        reason: "BodyMissing".to_owned(),
        message: "the object's body never came".to_owned(),
    })?;
    if look_first
        && let Some(there) = cluster.find(&step.key).await?
        && !is_ours(&there, &step.label())
    {
        return Ok(Finding::Exists { hint: owner_hint(&there) });
    }
    let live = cluster.apply(&step.key, &body).await?;
    if live.metadata.deletion_timestamp.is_some() {
        return Err(ClusterError::retry("it is being deleted, and applied again when it is gone"));
    }
    let health = assess(step, &live);
    Ok(Finding::Applied { uid: live.metadata.uid, version: live.metadata.version(), health })
}

async fn look(cluster: &Cluster, step: &Step) -> Result<Finding, ClusterError> {
    let there = cluster.find(&step.key).await?.filter(|there| is_ours(there, &step.label()));
    Ok(there.map_or(Finding::Gone, |there| {
        let is_leaving = there.deletion_timestamp.is_some();
        found(there, is_leaving)
    }))
}

async fn delete(cluster: &Cluster, step: &Step, uid: Uuid) -> Result<Finding, ClusterError> {
    Ok(cluster.delete(&step.key, uid).await?.map_or(Finding::Gone, |there| found(there, true)))
}

fn found(there: Metadata, is_leaving: bool) -> Finding {
    Finding::There { uid: there.uid, version: there.resource_version, finalizers: there.finalizers, is_leaving }
}

/// By the answer to the apply: what a controller has to do is still to come, and a watch will tell.
fn assess(step: &Step, live: &Live) -> Health {
    if !health::needs_watch_in_full(step.key.group(), &step.key.kind) {
        return Health { verdict: Verdict::Healthy, message: String::new(), fails_at: None };
    }
    match serde_json::from_slice(&live.body) {
        Ok(object) => health::assess(&object),
        Err(error) => Health { verdict: Verdict::Unknown, message: error.to_string(), fails_at: None },
    }
}
