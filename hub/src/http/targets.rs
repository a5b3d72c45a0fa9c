//! Targets: adding, changing, showing, rolling back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::{
    API_VERSION, DeletionStatus, List, Metadata, RolloutDocument, TargetDocument, TargetSpec, TargetStatus,
};
use bellwether_core::audit::{Event, Subject};
use bellwether_core::parameters::Parameters;
use bellwether_core::report::Verdict;
use bellwether_core::session::Action;
use bellwether_core::source::{full_name, is_valid, is_valid_path};
use bellwether_core::{Name, TargetId, Version};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::auth::Caller;
use super::input::{Body, Named, QueryParams, nearest};
use super::pages::{self, Paging};
use super::problem::Refusal;
use super::rollouts;
use crate::change::Change;
use crate::store::intents::{self, TargetVerb, Verb};
use crate::store::targets::{Deletion, Target};
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::{Hub, clock, setup};

/// Clusters of a target that its status counts.
const CLUSTERS_MAX: i64 = 20_000;
/// Clusters that are named as not done with a deletion: as many as a person reads.
const WAITING_MAX: i64 = 50;

/// That a document is what its path says.
pub(super) fn check_head(
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

/// Adds a target or changes it, and renders it at once.
pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(document): Body<TargetDocument>,
) -> Result<(StatusCode, Json<TargetDocument>), Refusal> {
    check_head(&name, "Target", &document.api_version, &document.kind, &document.metadata)?;
    check_spec(&document.spec)?;
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let repo = find_repo(&mut change, &document.spec.repo).await?;
    let known = store::targets::find_by_name(&mut change, &name).await?;
    known.as_ref().map_or(Ok(()), check_stays)?;
    let is_new = known.is_none();
    let reference = full_name(&document.spec.reference);
    let target = match known {
        Some(target) => {
            let seen = document.metadata.version.unwrap_or(target.version);
            let changed = Target { repo: repo.id, reference, spec: document.spec, version: seen, ..target.clone() };
            if seen != target.version {
                return Err(StoreError::Stale { table: "targets" }.into());
            }
            if changed.spec == target.spec && changed.repo == target.repo {
                target
            } else {
                store::targets::mark_spec(&mut change, &changed, now).await?;
                change.audit(&changed_event(&changed, &caller, "target.changed")).await?;
                Target { version: Version::new(seen.get() + 1), ..changed }
            }
        }
        None => {
            let id = TargetId::new(clock::new_id());
            let target = Target {
                id,
                project: hub.project,
                name,
                repo: repo.id,
                reference,
                spec: document.spec,
                version: Version::new(1),
                created_at: now,
                deletion: None,
            };
            store::targets::insert(&mut change, &target).await?;
            change.audit(&changed_event(&target, &caller, "target.added")).await?;
            target
        }
    };
    let trace_id = clock::new_trace();
    change.tell(Stage::Source, &[repo.id.as_uuid()], now, Some(&trace_id)).await?;
    change.tell(Stage::Bundle, &[target.id.as_uuid()], now, Some(&trace_id)).await?;
    // Whom it selects and how it is kept count at once, whether it renders or not.
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, Some(&trace_id)).await?;
    let document = document_of(&mut change, &target).await?;
    change.commit().await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(document)))
}

fn check_spec(spec: &TargetSpec) -> Result<(), Refusal> {
    if !is_valid(&spec.reference) {
        return Err(Refusal::invalid("ref_invalid", "`ref` is not a name that Git could have")
            .hint("give one of branch, tag, or commit with 40 hexadecimal digits"));
    }
    if !is_valid_path(&spec.path) {
        return Err(Refusal::invalid("path_invalid", format!("`path` `{}` does not lead into the repo", spec.path))
            .hint("write it without `..`, and without `/` at its start or end, such as apps/shop"));
    }
    spec.clusters.check().map_err(|error| Refusal::invalid("selector_invalid", error.to_string()))?;
    Parameters::check(&spec.parameters)
        .map_err(|error| Refusal::invalid(error.code(), error.to_string()).hint(error.hint()))?;
    if let Some(strategy) = &spec.rollout {
        strategy.check().map_err(|error| Refusal::invalid("rollout_invalid", crate::chain(&error)))?;
    }
    Ok(())
}

async fn find_repo(db: &mut Connection, name: &Name) -> Result<store::repos::Repo, Refusal> {
    if let Some(repo) = store::repos::find_by_name(db, name).await? {
        return Ok(repo);
    }
    let known = store::repos::list(db, "", 1_000).await?;
    let nearest = nearest(name.as_str(), known.iter().map(|repo| repo.name.as_str()));
    let hint = nearest.map_or_else(
        || "add it first: bellwether repo add NAME URL".to_owned(),
        |nearest| format!("did you mean `{nearest}`?"),
    );
    Err(Refusal::invalid("repo_not_found", format!("there is no repo `{name}`")).hint(hint))
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<List<TargetDocument>>, Refusal> {
    let after = paging.cursor.as_deref().map(pages::decode_cursor::<String>).transpose()?.unwrap_or_default();
    let limit = pages::limit(paging.limit);
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let mut documents = Vec::new();
    for target in store::targets::list(&mut db, &after, limit).await? {
        documents.push(document_of(&mut db, &target).await?);
    }
    Ok(Json(pages::page(documents, limit, |document| pages::encode_cursor(&document.metadata.name))))
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    Named(name): Named,
) -> Result<Json<TargetDocument>, Refusal> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let target = find(&mut db, &name).await?;
    Ok(Json(document_of(&mut db, &target).await?))
}

/// Fetches and renders anew, and compares with what every cluster runs.
pub(super) async fn refresh(State(hub): State<Arc<Hub>>, _: Caller, Named(name): Named) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let trace_id = clock::new_trace();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let target = find(&mut change, &name).await?;
    store::repos::end_pauses(&mut change, target.repo).await?;
    change.tell(Stage::Source, &[target.repo.as_uuid()], now, Some(&trace_id)).await?;
    change.tell(Stage::Bundle, &[target.id.as_uuid()], now, Some(&trace_id)).await?;
    change.commit().await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RollbackBody {
    /// A commit; what ran before when left out.
    to: Option<String>,
    reason: String,
}

/// Every cluster gets back an earlier bundle that is still stored.
pub(super) async fn rollback(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<RollbackBody>,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let target = find(&mut change, &name).await?;
    check_stays(&target)?;
    let render = match &body.to {
        Some(prefix) => render_at(&mut change, &target, prefix).await?,
        None => crate::rollout::find_back(&mut change, &target).await?.ok_or_else(|| {
            let detail = format!("no earlier revision of target `{name}` would change what its clusters run");
            Refusal::invalid("revision_not_found", detail)
                .hint(format!("name one with --to; see what there was: bellwether rollout list {name}"))
        })?,
    };
    let commit = store::revisions::find(&mut change, render.revision).await?.map(|revision| revision.commit);
    let verb = TargetVerb::RollbackTo { render: render.id.as_uuid(), commit: commit.unwrap_or_default() };
    let intent = ask(&mut change, &target, Verb::Target(verb), &caller, body.reason).await?;
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, None).await?;
    change.commit().await?;
    rollouts::answer(&hub, intent).await
}

/// Digits of a commit that are few enough to type and enough to mean one; Git itself takes no fewer.
const PREFIX_MIN: usize = 4;
/// Commits that an ambiguous beginning is answered with.
const NAMED_COMMITS_MAX: i64 = 5;

/// What a target was at by a commit, of which the first digits are enough as long as they mean one.
async fn render_at(db: &mut Connection, target: &Target, prefix: &str) -> Result<store::renders::Render, Refusal> {
    let name = &target.name;
    let hint = format!("see what there was: bellwether rollout list {name}");
    let commits = store::renders::list_commits(db, target.id, prefix, NAMED_COMMITS_MAX).await?;
    if prefix.len() < PREFIX_MIN || commits.len() > 1 {
        let known: Vec<_> = commits.iter().map(|commit| commit.get(..12).unwrap_or(commit)).collect();
        let detail = format!("`{prefix}` does not mean one commit of target `{name}`");
        let hint = format!("give more digits, at least {PREFIX_MIN}; it may be one of: {}", known.join(", "));
        return Err(Refusal::invalid("revision_ambiguous", detail).hint(hint));
    }
    let missing = || {
        let detail = format!("no commit `{prefix}` of target `{name}` is stored");
        Refusal::invalid("revision_not_found", detail).hint(hint)
    };
    let Some(commit) = commits.first() else { return Err(missing()) };
    store::renders::find_at_commit(db, target.id, commit).await?.ok_or_else(missing)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ReleaseBody {
    reason: String,
}

pub(super) async fn release(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<ReleaseBody>,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let target = find(&mut change, &name).await?;
    check_stays(&target)?;
    if !store::targets::find_state(&mut change, target.id).await?.held {
        return Err(Refusal::conflict("target_not_held", format!("target `{name}` is not held")));
    }
    let verb = Verb::Target(TargetVerb::Release);
    let intent = ask(&mut change, &target, verb, &caller, body.reason).await?;
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, None).await?;
    change.commit().await?;
    rollouts::answer(&hub, intent).await
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
        Verb::Target(TargetVerb::RollbackTo { commit, .. }) => ("target.rollback.asked", Some(commit.clone())),
        _ => ("target.release.asked", None),
    };
    let subject = Subject { kind: "target".to_owned(), name: target.name.to_string() };
    let mut event = Event::new(clock::new_id(), now, caller.actor(), action, subject);
    event.target = Some(target.name.to_string());
    event.commit = commit.filter(|commit| !commit.is_empty());
    event.reason.clone_from(&intent.reason);
    change.audit(&event).await?;
    intents::insert(change, &intent, now).await?;
    Ok(intent.id)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DeleteQuery {
    mode: Option<String>,
    force: bool,
}

/// Begins a target's end: its clusters delete its objects or let go of them, and it is gone when they have answered.
pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<DeleteQuery>,
) -> Result<(StatusCode, Json<TargetDocument>), Refusal> {
    let action = match query.mode.as_deref() {
        Some("prune") => Action::Delete,
        Some("orphan") => Action::Orphan,
        _ => {
            return Err(Refusal::invalid("delete_mode_invalid", "`mode` must be `prune` or `orphan`")
                .hint("prune deletes its objects in the clusters, orphan leaves them there"));
        }
    };
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let target = find(&mut change, &name).await?;
    let deletion = Deletion { action, forced: query.force, by: caller.name.clone(), at: now };
    let is_asked = |known: &Deletion| (known.action, known.forced) == (deletion.action, deletion.forced);
    if !target.deletion.as_ref().is_some_and(is_asked) {
        store::targets::mark_deletion(&mut change, target.id, &deletion).await?;
        let mut event = changed_event(&target, &caller, "target.deleted");
        event.detail = serde_json::json!({"spec": target.spec.for_audit(), "mode": query.mode, "force": query.force});
        change.audit(&event).await?;
    }
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, None).await?;
    let target = find(&mut change, &name).await?;
    let document = document_of(&mut change, &target).await?;
    change.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(document)))
}

/// What is being deleted takes no more intents.
fn check_stays(target: &Target) -> Result<(), Refusal> {
    if target.deletion.is_none() {
        return Ok(());
    }
    Err(Refusal::conflict("target_deleting", format!("target `{}` is being deleted", target.name))
        .hint(format!("wait until it is gone; whom it waits for: bellwether target show {}", target.name)))
}

pub(super) async fn find(db: &mut Connection, name: &Name) -> Result<Target, Refusal> {
    store::targets::find_by_name(db, name).await?.ok_or_else(|| Refusal::not_found("target", name))
}

/// The target that a list is asked for, if it is asked for one.
pub(super) async fn find_asked(db: &mut Connection, name: Option<&Name>) -> Result<Option<TargetId>, Refusal> {
    match name {
        Some(name) => Ok(Some(find(db, name).await?.id)),
        None => Ok(None),
    }
}

pub(super) async fn document_of(db: &mut Connection, target: &Target) -> Result<TargetDocument, StoreError> {
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
        spec: target.spec.clone(),
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
    let mode = if deletion.action == Action::Delete { "prune" } else { "orphan" };
    Ok(DeletionStatus {
        mode: mode.to_owned(),
        by: deletion.by.clone(),
        since: deletion.at,
        waits_for: waiting.into_iter().map(|one| one.cluster).collect(),
    })
}

fn changed_event(target: &Target, caller: &Caller, action: &'static str) -> Event {
    let subject = Subject { kind: "target".to_owned(), name: target.name.to_string() };
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject);
    event.target = Some(target.name.to_string());
    event.detail = serde_json::json!({"spec": target.spec.for_audit()});
    event
}
