//! Targets: adding, changing, showing, rolling back.

mod delete;
mod list;
mod put;
mod refresh;
mod release;
mod rollback;
mod show;

use bellwether_core::api::{API_VERSION, DeletionStatus, Metadata, RolloutDocument, TargetDocument, TargetStatus};
use bellwether_core::audit::{Action, Event};
use bellwether_core::report::Verdict;
use bellwether_core::session;
use bellwether_core::{Name, TargetId};
use jiff::Timestamp;
use uuid::Uuid;

use super::rollouts;
use crate::http::auth::Caller;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::setup;
use crate::store::intents::{self, TargetVerb, Verb};
use crate::store::targets::{Deletion, Target};
use crate::store::{self, Connection, StoreError};
use crate::work::change::Change;
use crate::work::subjects;

pub(in crate::http) use delete::delete;
pub(in crate::http) use list::list;
pub(in crate::http) use put::put;
pub(in crate::http) use refresh::refresh;
pub(in crate::http) use release::release;
pub(in crate::http) use rollback::rollback;
pub(in crate::http) use show::show;

/// Clusters of a target that its status counts.
const CLUSTERS_MAX: i64 = 20_000;
/// Clusters that are named as not done with a deletion: as many as a person reads.
const WAITING_MAX: i64 = 50;

/// That a document is what its path says.
pub(in crate::http) fn check_head(
    name: &Name,
    kind: &'static str,
    api_version: &str,
    stated: &str,
    metadata: &Metadata,
) -> Result<(), Refusal> {
    if api_version != API_VERSION {
        let detail = format!("`apiVersion` is `{api_version}`, not `{API_VERSION}`");
        return Err(Refusal::invalid("api_version_unknown", detail));
    }
    if stated != kind {
        return Err(Refusal::invalid("kind_unknown", format!("`kind` is `{stated}`, and this path is for `{kind}`")));
    }
    if metadata.name != *name {
        let detail = format!("the document is of `{}`, and the path names `{name}`", metadata.name);
        return Err(Refusal::invalid("name_differs", detail));
    }
    Ok(())
}

async fn ask(
    change: &mut Change<'_>,
    target: &Target,
    verb: Verb,
    caller: &Caller,
    reason: String,
) -> Result<Uuid, StoreError> {
    let intent = intents::IntentRow {
        id: clock::new_id(),
        target: target.id,
        rollout: None,
        verb,
        actor: caller.name.clone(),
        reason,
    };
    let now = clock::now();
    let (action, commit) = match &intent.verb {
        Verb::Target(TargetVerb::RollbackTo { commit, .. }) => (Action::TargetRollbackAsked, Some(commit.clone())),
        _ => (Action::TargetReleaseAsked, None),
    };
    let subject = subjects::target(&target.name);
    let mut event = Event::new(clock::new_id(), now, caller.actor(), action, subject);
    event.commit = commit.filter(|commit| !commit.is_empty());
    event.reason.clone_from(&intent.reason);
    change.audit(&event).await?;
    intents::insert(change, &intent, now).await?;
    Ok(intent.id)
}

/// What is being deleted takes no more intents.
fn check_stays(target: &Target) -> Result<(), Refusal> {
    if target.deletion.is_none() {
        return Ok(());
    }
    Err(Refusal::conflict("target_deleting", format!("target `{}` is being deleted", target.name))
        .hint(format!("wait until it is gone; whom it waits for: bellwether target show {}", target.name)))
}

pub(in crate::http) async fn find(db: &mut Connection, name: &Name) -> Result<Target, Refusal> {
    store::targets::find_by_name(db, name).await?.ok_or_else(|| Refusal::not_found("target", name))
}

/// The target that a list is asked for, if it is asked for one.
pub(in crate::http) async fn find_asked(db: &mut Connection, name: Option<&Name>) -> Result<Option<TargetId>, Refusal> {
    match name {
        Some(name) => Ok(Some(find(db, name).await?.id)),
        None => Ok(None),
    }
}

pub(in crate::http) async fn document_of(db: &mut Connection, target: &Target) -> Result<TargetDocument, StoreError> {
    Ok(TargetDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Target".to_owned(),
        metadata: Metadata {
            name: target.name.clone(),
            project: setup::PROJECT.parse().ok(),
            id: Some(target.id.as_uuid()),
            version: Some(target.version),
            created_at: Some(target.created_at),
        },
        spec: target.spec.clone().into(),
        status: Some(status_of(db, target).await?),
    })
}

async fn status_of(db: &mut Connection, target: &Target) -> Result<TargetStatus, StoreError> {
    let now = clock::now();
    // Asked first: when nothing is pending, everything that is read after it is there.
    let pending = store::work::is_pending(db, target.repo, Some(target.id), now).await?;
    let placements = store::fleet::list_placements(db, Some(target.id), None, CLUSTERS_MAX).await?;
    let healthy = placements.iter().filter(|one| {
        one.connected && one.said.as_ref().is_some_and(|said| said.verdict == Verdict::Healthy && said.applied)
    });
    let unselected = placements.iter().filter(|one| !target.spec.clusters.selects(&one.labels)).count();
    let in_place = placements.iter().filter(|one| one.said.as_ref().is_some_and(|said| said.applied));
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let head = store::revisions::find_head(db, target.repo, &target.reference).await?;
    let wanted = store::wanted::find(db, target.id).await?;
    let wanted = wanted.filter(|wanted| wanted.target_version == target.version);
    let digest = wanted.and_then(|wanted| {
        let mut digests = wanted.render.variants.into_values();
        digests.next().filter(|first| digests.all(|digest| digest == *first))
    });
    let behind = crate::rollout::count_behind(db, target).await?;
    let state = store::targets::find_state(db, target.id).await?;
    let ref_condition = store::revisions::find_ref_condition(db, target.repo, &target.reference).await?;
    let render_condition = store::renders::find_condition(db, target.id).await?;
    let rollout: Option<RolloutDocument> = match store::rollouts::find_shown(db, target.id).await? {
        Some(row) => Some(rollouts::document_of(db, &row, &target.name).await?),
        None => None,
    };
    let deletion = match &target.deletion {
        Some(deletion) => Some(deletion_status(db, target, deletion, now).await?),
        None => None,
    };
    Ok(TargetStatus {
        clusters: count(placements.len()),
        healthy: count(healthy.count()),
        in_place: count(in_place.count()),
        behind: count(behind),
        unselected: count(unselected),
        commit: head.map(|head| head.commit),
        digest,
        held: state.held,
        pending,
        deletion,
        rollout,
        condition: ref_condition.or(render_condition).or(state.condition),
    })
}

async fn deletion_status(
    db: &mut Connection,
    target: &Target,
    deletion: &Deletion,
    now: Timestamp,
) -> Result<DeletionStatus, StoreError> {
    let waiting = store::assignments::list_waiting(db, target.id, WAITING_MAX, now).await?;
    let mode = if deletion.action == session::Action::Delete { "prune" } else { "orphan" };
    Ok(DeletionStatus {
        mode: mode.to_owned(),
        by: deletion.by.clone(),
        since: deletion.at,
        waits_for: waiting.into_iter().map(|one| one.cluster).collect(),
    })
}

fn changed_event(target: &Target, caller: &Caller, action: Action) -> Event {
    let subject = subjects::target(&target.name);
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject);
    event.detail = serde_json::json!({"spec": target.spec.for_audit()});
    event
}
