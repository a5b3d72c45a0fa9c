//! Drifts → rows, and one audit entry for each cluster and target of a batch.

use std::collections::BTreeMap;

use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::drift::{Drift, Response};
use bellwether_core::{ClusterId, TargetId};
use jiff::Timestamp;

use super::queue::{AgentEvent, Incoming};
use crate::process::clock;
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

/// Objects named in one entry; the rest is a number.
const NAMED_MAX: usize = 10;

pub(super) async fn record(change: &mut Change<'_>, batch: &[Incoming], now: Timestamp) -> Result<(), StoreError> {
    let mut by_subject: BTreeMap<(ClusterId, TargetId), Vec<&Drift>> = BTreeMap::new();
    for incoming in batch {
        let AgentEvent::Drift(drift) = &incoming.event else { continue };
        // Only a cluster that has the target can have a drift of it; what was written before is not counted again.
        if store::drifts::insert_new(change, incoming.cluster, drift, now).await? {
            by_subject.entry((incoming.cluster, drift.target)).or_default().push(drift);
        }
    }
    for ((cluster, target), drifts) in by_subject {
        audit(change, cluster, target, &drifts, now).await?;
    }
    Ok(())
}

async fn audit(
    change: &mut Change<'_>,
    cluster: ClusterId,
    target: TargetId,
    drifts: &[&Drift],
    now: Timestamp,
) -> Result<(), StoreError> {
    let cluster = store::clusters::find(change, cluster).await?;
    let target = store::targets::find_name(change, target).await?;
    let (Some(cluster), Some((project, target))) = (cluster, target) else { return Ok(()) };
    let is_undone = drifts.iter().all(|drift| drift.response == Response::Corrected);
    let action = if is_undone { Action::DriftCorrected } else { Action::DriftFound };
    let subject = subjects::target(&project, &target);
    let mut event = Event::new(clock::new_id(), now, actors::agent(&cluster.name), action, subject);
    event.cluster = Some(cluster.name.to_string());
    event.outcome = if is_undone { Outcome::Done } else { Outcome::Failed };
    let named: Vec<_> = drifts.iter().take(NAMED_MAX).map(|drift| line(drift)).collect();
    event.reason =
        named.first().map_or_else(String::new, |line| line["sentence"].as_str().unwrap_or_default().to_owned());
    event.detail = serde_json::json!({"drifts": drifts.len(), "objects": named});
    change.audit(&event).await
}

fn line(drift: &Drift) -> serde_json::Value {
    let by = drift.manager.as_deref().unwrap_or("somebody");
    serde_json::json!({
        "sentence": format!("{}: {} by {by}, {}", drift.object, drift.change.as_str(), drift.response.as_str()),
        "fields": drift.fields,
        "at": drift.found_at,
    })
}
