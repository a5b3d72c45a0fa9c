//! What a commit or another spec would change where. Nothing is written but that somebody asked.
//!
//! Like a render it is for whoever may change targets: not only Secrets hold what is a secret.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::{AskDryRun, AskPlan, PlanDocument};
use bellwether_core::audit::{Action, Event};
use bellwether_core::repo::RepoSpec;
use bellwether_core::source::{GitRef, full_name};
use bellwether_core::target::TargetSpec;
use bellwether_core::{Condition, Name, RevisionId, Version};
use tokio::time::timeout;

use super::put::{find_repo, find_sources};
use super::{check_stays, find, spec_for_audit};
use crate::http::auth::Caller;
use crate::http::input::{Body, Named};
use crate::http::problem::Refusal;
use crate::plan::dry_run::{CLUSTERS, CLUSTERS_MAX, Wish};
use crate::plan::{self, Head, LONGEST};
use crate::process::clock;
use crate::process::turns::TURN_DEADLINE;
use crate::source::looked::{self, Looked};
use crate::source::policy::Policy;
use crate::store::StoreError;
use crate::store::revisions::Revision;
use crate::store::targets::Target;
use crate::work::change::Change;
use crate::work::subjects;
use crate::{Hub, store};

pub(in crate::http) async fn plan(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(asked): Body<AskPlan>,
) -> Result<Json<PlanDocument>, Refusal> {
    let plans = Arc::clone(&hub.reads.plans);
    let turn = timeout(TURN_DEADLINE, plans.acquire_owned()).await.ok().and_then(Result::ok).ok_or_else(busy)?;
    // Whoever asks may go away, and what computes for them goes on all the same: it has its turn until it has ended.
    let tasks = hub.tasks.clone();
    let work = async move {
        let made = Box::pin(make(&hub, &caller, &name, asked)).await;
        drop(turn);
        made
    };
    let made = tasks.spawn(work).await.unwrap_or_else(|_| Err(StoreError::BrokeDown.into()));
    made.map(Json)
}

async fn make(hub: &Hub, caller: &Caller, name: &Name, mut asked: AskPlan) -> Result<PlanDocument, Refusal> {
    let until = Instant::now() + LONGEST;
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let target = find(&mut db, caller, name).await?;
    check_stays(&target)?;
    check_asked(&asked)?;
    let (spec, repo) = match asked.spec.take() {
        Some(written) => {
            let spec = TargetSpec::from(written);
            spec.check()
                .map_err(|error| Refusal::invalid(error.code(), crate::chain(&error)).maybe_hint(error.hint()))?;
            let repo = find_repo(&mut db, caller.project.id, &spec.repo).await?;
            find_sources(&mut db, caller.project.id, &spec).await?;
            (spec, repo)
        }
        None => {
            let repo = store::repos::find(&mut db, target.repo).await?;
            (target.spec.clone(), repo.ok_or_else(|| Refusal::not_found("repo", &target.spec.repo))?)
        }
    };
    // Not while a Git host is waited for.
    drop(db);
    let reference = asked.reference.take().map_or_else(|| spec.reference.clone(), GitRef::from);
    let looked = looked::look(hub, repo.id, &reference, until).await?;
    let looked = looked.map_err(|condition| unseen(&repo.name, condition))?;
    let holds = holds(&repo.spec, &looked);
    let revision = revision(&reference, looked);
    // The spec and its repo are those that it would have: what they are told of is compared, and never stored.
    let version = Version::new(target.version.get() + 1);
    let head = Target { repo: repo.id, reference: full_name(&spec.reference), spec, version, ..target.clone() };
    tell(hub, caller, (&target, &head), &revision).await?;
    let wish =
        wish(hub, caller, &asked, (&target, &head), &Seen { reference: &reference, revision: &revision }).await?;
    let head = Head { target: head, repo: repo.name, reference, revision, holds, until, wish };
    Ok(plan::make(hub, &target, head).await?)
}

fn check_asked(asked: &AskPlan) -> Result<(), Refusal> {
    match asked.dry_run_clusters {
        Some(clusters) if !(1..=CLUSTERS_MAX).contains(&clusters) => {
            let detail = format!("`dryRunClusters` is a number from 1 to {CLUSTERS_MAX}");
            Err(Refusal::invalid("dry_run_clusters_invalid", detail))
        }
        _ => Ok(()),
    }
}

/// What is known of a head before it is rendered.
struct Seen<'a> {
    reference: &'a GitRef,
    revision: &'a Revision,
}

/// Whether clusters are asked about it. What nobody with a right to the repo has pushed is asked about nowhere: it would be sent to
/// clusters.
async fn wish(
    hub: &Hub,
    caller: &Caller,
    asked: &AskPlan,
    (target, head): (&Target, &Target),
    seen: &Seen<'_>,
) -> Result<Wish, StoreError> {
    if asked.dry_run == Some(AskDryRun::Nobody) {
        return Ok(Wish::Nobody);
    }
    if let GitRef::Commit(commit) = seen.reference {
        let mut db = hub.requests.acquire().await?;
        let heads = store::revisions::list_heads(&mut db, &[head.repo]).await?;
        if !heads.values().flatten().any(|revision| revision.commit == *commit) {
            let reason = "a commit that is named by its id may be a fork's: plan the branch that it is on";
            return Ok(Wish::Skip(reason.to_owned()));
        }
    }
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), Action::TargetDryRun, subject);
    event.commit = Some(seen.revision.commit.clone());
    event.detail = serde_json::json!({"ref": seen.revision.reference});
    Ok(Wish::Server { clusters_max: asked.dry_run_clusters.unwrap_or(CLUSTERS), event: Box::new(event) })
}

/// Why it would not roll out, by what was found where it was fetched.
fn holds(repo: &RepoSpec, looked: &Looked) -> Vec<Condition> {
    let mut holds: Vec<_> = looked.waits.iter().cloned().collect();
    let verified = looked.head.verified.as_ref();
    if Policy::of(repo).is_some_and(|policy| !policy.admits(verified.and_then(|found| found.as_ref().ok()))) {
        holds.push(match verified {
            Some(Err(error)) => {
                Condition::new(error.code(), &crate::chain(error), error.hint().as_deref(), Some(clock::now()))
            }
            _ => {
                let message = format!("commit {} is not signed by one of the repo's keys", looked.commit.id);
                Condition::new("revision_unverified", &message, None, Some(clock::now()))
            }
        });
    }
    holds
}

/// As it would be written down, were it seen.
fn revision(reference: &GitRef, looked: Looked) -> Revision {
    let Looked { commit, head, .. } = looked;
    Revision {
        id: RevisionId::new(clock::new_id()),
        reference: full_name(reference),
        tag: head.tag,
        commit: commit.id,
        author: commit.author,
        subject: commit.subject,
        verified: head.verified.and_then(Result::ok),
        seen_at: clock::now(),
        trace_id: clock::new_trace(),
    }
}

async fn tell(
    hub: &Hub,
    caller: &Caller,
    (target, head): (&Target, &Target),
    revision: &Revision,
) -> Result<(), StoreError> {
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), Action::TargetPlanned, subject);
    event.commit = Some(revision.commit.clone());
    event.detail = serde_json::json!({"ref": revision.reference});
    if head.spec != target.spec {
        event.detail["spec"] = spec_for_audit(hub, head);
    }
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    change.audit(&event).await?;
    change.commit().await
}

fn unseen(repo: &Name, condition: Condition) -> Refusal {
    let detail = format!("repo `{repo}`: {} ({})", condition.message, condition.code);
    Refusal::conflict("plan_head_missing", detail).maybe_hint(condition.hint)
}

fn busy() -> Refusal {
    let detail = "other plans are being made, and each renders for all clusters of its target";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "plans_busy", detail).hint("try again in a moment")
}
