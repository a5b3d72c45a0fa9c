//! Carries out one step: looks, if we do not own the object yet, and applies it. Decides nothing else.

use bellwether_core::health::{self, Health};
use bellwether_core::report::Verdict;

use super::judge::{is_ours, owner_hint};
use super::target::{Finding, Step};
use crate::cluster::{Cluster, ClusterError, Live};

/// `body` is the object as the bundle has it; `None` is answered as what it is, a mistake of ours.
pub(super) async fn carry_out(cluster: &Cluster, step: &Step, body: Option<std::sync::Arc<[u8]>>) -> Finding {
    let Some(body) = body else {
        let message = "the object's body never came".to_owned();
        return Finding::Failed(ClusterError::Rejected { reason: "BodyMissing".to_owned(), message });
    };
    match look_and_apply(cluster, step, &body).await {
        Ok(finding) => finding,
        Err(error) => Finding::Failed(error),
    }
}

async fn look_and_apply(cluster: &Cluster, step: &Step, body: &[u8]) -> Result<Finding, ClusterError> {
    if step.look_first
        && let Some(there) = cluster.find(&step.key).await?
        && !is_ours(&there, &step.label())
    {
        return Ok(Finding::Exists { hint: owner_hint(&there) });
    }
    let live = cluster.apply(&step.key, body).await?;
    let health = assess(step, &live);
    Ok(Finding::Applied { uid: live.metadata.uid, version: live.metadata.version(), health })
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
