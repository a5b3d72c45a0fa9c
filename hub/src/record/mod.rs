//! The record stage: reports and drifts → rows, in batches without a timer.
//!
//! It takes what waits, commits, tells the agents what is durable, and takes what came meanwhile. A report about
//! something that the cluster is not assigned is dropped, counted and audited: an agent can do nothing to another
//! cluster's records. Verdicts that turn bad are audited; healthy ones are not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::report::Verdict;
use bellwether_core::{ClusterId, TargetId};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::process::clock;
use crate::store::reports::{self, Assigned, Received};
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

/// Between two tries while Postgres is away. Nothing is acknowledged meanwhile.
const RETRY: Duration = Duration::from_millis(250);

mod drifts;
pub(crate) mod queue;

use self::queue::{AgentEvent, BATCH_MAX, Incoming};

pub(crate) async fn run(hub: Arc<Hub>, mut queue: mpsc::Receiver<Incoming>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        let took = tokio::select! {
            took = queue.recv_many(&mut batch, BATCH_MAX) => took,
            () = stop.cancelled() => break,
        };
        if took == 0 {
            break;
        }
        while let Err(error) = record_all(&hub, &batch).await {
            tracing::warn!(error = %crate::chain(&error), "could not record reports");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
        for incoming in batch.drain(..) {
            incoming.recorded.send_if_modified(|durable| {
                let is_newer = *durable < incoming.sequence;
                *durable = incoming.sequence.max(*durable);
                is_newer
            });
        }
    }
}

/// What cannot be written, or concerns a row that this version cannot read, must not hold up what came with it, from
/// whichever cluster: then each is written by itself, and that one dropped. It counts as heard, since its agent could only
/// say the same again. No gate opens on it, so nothing is decided by what is missing but that its cluster is waited for.
async fn record_all(hub: &Hub, batch: &[Incoming]) -> Result<(), StoreError> {
    match record(hub, batch).await {
        Err(error) if is_of_one(&error) => {}
        recorded => return recorded,
    }
    for one in batch {
        match record(hub, std::slice::from_ref(one)).await {
            Err(error) if is_of_one(&error) => drop_one(hub, one, &error).await?,
            recorded => recorded?,
        }
    }
    Ok(())
}

/// Whether it will fail again, and without it others may not.
fn is_of_one(error: &StoreError) -> bool {
    error.is_refusal() || matches!(error, StoreError::Unreadable { .. })
}

/// Says in the log that something which an agent told is lost; of each cluster once in a while, as an agent may tell more.
async fn drop_one(hub: &Hub, one: &Incoming, error: &StoreError) -> Result<(), StoreError> {
    tracing::error!(cluster.id = %one.cluster, error = %crate::chain(error), "dropped what an agent told");
    if hub.dropped_events.count(one.cluster.as_uuid(), None, clock::steady()).is_none() {
        return Ok(());
    }
    let mut change = Change::begin(&hub.vital, &hub.signals).await?;
    let (action, kind, target) = match &one.event {
        AgentEvent::Report(report) => (Action::ReportDropped, "report", report.target),
        AgentEvent::Drift(drift) => (Action::DriftDropped, "drift", drift.target),
    };
    let cluster = match store::clusters::find(&mut change, one.cluster).await {
        Err(StoreError::Unreadable { .. }) => None,
        found => found?,
    };
    let subject = subjects::told(kind, cluster.as_ref(), target);
    let mut event = Event::new(clock::new_id(), clock::now(), actors::hub(), action, subject);
    event.cluster = Some(cluster.map_or_else(|| one.cluster.to_string(), |cluster| cluster.name.to_string()));
    event.outcome = Outcome::Failed;
    // Its own words only: Postgres repeats what it was sent.
    event.reason = error.to_string();
    change.audit(&event).await?;
    change.commit().await
}

async fn record(hub: &Hub, batch: &[Incoming]) -> Result<(), StoreError> {
    let now = clock::now();
    let received: Vec<_> = batch.iter().filter_map(Incoming::received).collect();
    let mut change = Change::begin(&hub.vital, &hub.signals).await?;
    drifts::record(&mut change, batch, now).await?;
    let assigned = reports::list_assigned(&mut change, &received).await?;
    let (expected, foreign): (Vec<_>, Vec<_>) =
        received.iter().partition(|one| assigned.contains_key(&(one.cluster, one.report.target)));
    audit_foreign(hub, &mut change, &foreign, now).await?;
    let newest = newest_of(&expected);
    audit_suspensions(hub, &mut change, &newest, &assigned, now).await?;
    audit_turns(hub, &mut change, &received, &newest, &assigned, now).await?;
    reports::mark_newer(&mut change, &newest, now).await?;
    let targets = reports::list_decided_by(&mut change, &newest).await?;
    change.tell(Stage::Rollout, &targets, now, None).await?;
    change.commit().await?;
    note(hub, &newest, &assigned);
    Ok(())
}

/// What people need to see of it is said where it changes something: here are all, for whoever looks for one.
fn note(hub: &Hub, newest: &[&Received], assigned: &BTreeMap<(ClusterId, TargetId), Assigned>) {
    for one in newest {
        hub.metrics.note_report(one.report.verdict.as_str());
        let key = (one.cluster, one.report.target);
        tracing::debug!(
            cluster.id = %one.cluster,
            target.id = %one.report.target,
            generation = one.report.generation.get(),
            verdict = %one.report.verdict,
            applied = one.report.applied,
            trace.id = assigned.get(&key).and_then(|assigned| assigned.trace_id.as_deref()),
            "a report"
        );
    }
}

/// One for each cluster and target, in their order.
fn newest_of<'a>(received: &[&'a Received]) -> Vec<&'a Received> {
    let mut newest: BTreeMap<_, &Received> = BTreeMap::new();
    for one in received {
        let place = newest.entry((one.cluster, one.report.target)).or_insert(one);
        if (place.session, place.sequence) < (one.session, one.sequence) {
            *place = one;
        }
    }
    newest.into_values().collect()
}

/// One entry for each cluster of the batch, however many such reports it sent.
async fn audit_foreign(
    hub: &Hub,
    change: &mut Change<'_>,
    foreign: &[&Received],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut by_cluster: BTreeMap<ClusterId, Vec<TargetId>> = BTreeMap::new();
    for one in foreign {
        by_cluster.entry(one.cluster).or_default().push(one.report.target);
    }
    for (id, targets) in by_cluster {
        // Of a target that was deleted an agent may speak for a while: nobody's records are meant.
        if !store::targets::is_any(change, &targets).await? {
            continue;
        }
        hub.metrics.reports_refused.inc_by(targets.len() as u64);
        let Some(count) = hub.foreign_reports.count(id.as_uuid(), None, clock::steady()) else { continue };
        let Some(cluster) = store::clusters::find(change, id).await? else { continue };
        tracing::warn!(cluster.name = %cluster.name, reports = targets.len(), "dropped reports about foreign targets");
        let subject = subjects::told("report", Some(&cluster), targets[0]);
        let mut event = Event::new(clock::new_id(), now, actors::agent(&cluster.name), Action::ReportRefused, subject);
        event.cluster = Some(cluster.name.to_string());
        event.outcome = Outcome::Denied;
        "the cluster has no assignment for this target".clone_into(&mut event.reason);
        event.detail = serde_json::json!({"reports": targets.len(), "times": count.times, "ofAll": count.of_all});
        change.audit(&event).await?;
        // It may be the rows that lack something: whoever selects the cluster gives it what it is to run.
        let targets: Vec<_> = targets.iter().map(|target| target.as_uuid()).collect();
        change.tell(Stage::Rollout, &targets, now, None).await?;
    }
    Ok(())
}

/// Says in the log when an assignment starts to fail or degrade, once, and not again until it says something else.
async fn audit_turns(
    hub: &Hub,
    change: &mut Change<'_>,
    received: &[Received],
    newest: &[&Received],
    assigned: &BTreeMap<(ClusterId, TargetId), Assigned>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let is_bad = |verdict: Verdict| matches!(verdict, Verdict::Failed | Verdict::Degraded);
    if !newest.iter().any(|one| is_bad(one.report.verdict)) {
        return Ok(());
    }
    let before: BTreeMap<_, _> = reports::list_verdicts(change, received)
        .await?
        .into_iter()
        .map(|(cluster, target, verdict, digest)| ((cluster, target), (verdict, digest)))
        .collect();
    for one in newest {
        let key = (one.cluster, one.report.target);
        let said = (one.report.verdict.to_string(), one.report.digest);
        // About exactly what was assigned: of digests that an agent makes up there is no end.
        let is_about =
            |assigned: &&Assigned| (assigned.generation, assigned.digest) == (one.report.generation, one.report.digest);
        if let Some(current) = assigned.get(&key).filter(is_about)
            && is_bad(one.report.verdict)
            && before.get(&key) != Some(&said)
            // One that turns back and forth is told once a minute.
            && hub.began_to_fail.may(&key)
        {
            hub.began_to_fail.take(key);
            audit_turn(change, one, current, now).await?;
        }
    }
    Ok(())
}

/// Says in the log when somebody of a cluster stops what its agent does there, and when that ends.
async fn audit_suspensions(
    hub: &Hub,
    change: &mut Change<'_>,
    newest: &[&Received],
    assigned: &BTreeMap<(ClusterId, TargetId), Assigned>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for one in newest {
        let key = (one.cluster, one.report.target);
        let Some(current) = assigned.get(&key) else { continue };
        let (place, before) = current.said.clone().unzip();
        let is_newer = place.is_none_or(|place| place < (one.session, one.sequence));
        let after = &one.report.suspended;
        if !is_newer || before.flatten() == *after || !hub.suspensions.may(&key) {
            continue;
        }
        hub.suspensions.take(key);
        let cluster = store::clusters::find(change, one.cluster).await?;
        let target = store::targets::find_name(change, one.report.target).await?;
        let (Some(cluster), Some((project, target))) = (cluster, target) else { continue };
        let action = if after.is_some() { Action::ReportSuspended } else { Action::ReportResumed };
        let subject = subjects::target(&project, &target);
        let mut event = Event::new(clock::new_id(), now, actors::agent(&cluster.name), action, subject);
        event.cluster = Some(cluster.name.to_string());
        event.trace_id.clone_from(&current.trace_id);
        event.reason = after.as_ref().map(ToString::to_string).unwrap_or_default();
        event.detail = serde_json::json!({"generation": one.report.generation, "suspended": after});
        change.audit(&event).await?;
    }
    Ok(())
}

async fn audit_turn(
    change: &mut Change<'_>,
    one: &Received,
    assigned: &Assigned,
    now: Timestamp,
) -> Result<(), StoreError> {
    let cluster = store::clusters::find(change, one.cluster).await?;
    let target = store::targets::find_name(change, one.report.target).await?;
    let (Some(cluster), Some((project, target))) = (cluster, target) else { return Ok(()) };
    let action = if one.report.verdict == Verdict::Failed { Action::ReportFailed } else { Action::ReportDegraded };
    let subject = subjects::target(&project, &target);
    let mut event = Event::new(clock::new_id(), now, actors::agent(&cluster.name), action, subject);
    event.cluster = Some(cluster.name.to_string());
    event.trace_id.clone_from(&assigned.trace_id);
    event.outcome = Outcome::Failed;
    event.reason = one.report.lines.first().map(ToString::to_string).unwrap_or_default();
    event.detail = serde_json::json!({"generation": one.report.generation, "digest": one.report.digest});
    change.audit(&event).await
}
