//! Adds a target or changes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::TargetDocument;
use bellwether_core::audit::Action;
use bellwether_core::render::Source;
use bellwether_core::source::full_name;
use bellwether_core::target::TargetSpec;
use bellwether_core::{Name, ProjectId, RepoId, TargetId, Version, nearest};

use super::{changed_event, check_head, check_stays, document_of};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::{Body, Named};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::sources::Minded;
use crate::store::targets::Target;
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::work::change::Change;

/// Adds a target or changes it, and renders it at once. One that is sent as it stands keeps its version, and nothing is done:
/// who wants it rendered anew says so by another route, which stands in the log.
pub(in crate::http) async fn put(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(document): Body<TargetDocument>,
) -> Result<(StatusCode, Json<TargetDocument>), Refusal> {
    check_head(&name, "Target", &document.api_version, &document.kind, &document.metadata)?;
    let spec = TargetSpec::from(document.spec);
    spec.check().map_err(|error| Refusal::invalid(error.code(), crate::chain(&error)).maybe_hint(error.hint()))?;
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let repo = find_repo(&mut change, caller.project.id, &spec.repo).await?;
    let minded = find_sources(&mut change, caller.project.id, &spec).await?;
    let known = store::targets::find_by_name(&mut change, caller.project.id, &name).await?;
    known.as_ref().map_or(Ok(()), check_stays)?;
    let is_new = known.is_none();
    let reference = full_name(&spec.reference);
    let target = match known {
        Some(target) => {
            let seen = document.metadata.version.unwrap_or(target.version);
            let changed = Target { repo: repo.id, reference, spec, version: seen, ..target.clone() };
            if seen != target.version {
                return Err(StoreError::Stale { table: "targets" }.into());
            }
            if changed.spec == target.spec && changed.repo == target.repo {
                return Ok((StatusCode::OK, Json(document_of(&mut change, &target).await?)));
            }
            store::targets::mark_spec(&mut change, &changed, now).await?;
            change.audit(&changed_event(&hub, &changed, &caller, Action::TargetChanged)).await?;
            Target { version: Version::new(seen.get() + 1), ..changed }
        }
        // Somebody deleted what this was read from.
        None if document.metadata.version.is_some() => return Err(StoreError::Stale { table: "targets" }.into()),
        None => {
            let id = TargetId::new(clock::new_id());
            let target = Target {
                id,
                project: caller.project.clone(),
                name,
                repo: repo.id,
                reference,
                spec,
                version: Version::new(1),
                created_at: now,
                deletion: None,
            };
            store::targets::insert(&mut change, &target).await?;
            change.audit(&changed_event(&hub, &target, &caller, Action::TargetAdded)).await?;
            target
        }
    };
    store::sources::mark(&mut change, target.id, &minded).await?;
    let trace_id = clock::new_trace();
    let repos: BTreeSet<_> = minded.iter().map(|one| one.repo).chain([repo.id]).map(RepoId::as_uuid).collect();
    let repos: Vec<_> = repos.into_iter().collect();
    change.tell(Stage::Source, &repos, now, Some(&trace_id)).await?;
    change.tell(Stage::Bundle, &[target.id.as_uuid()], now, Some(&trace_id)).await?;
    // Whom it selects and how it is kept count at once, whether it renders or not.
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, Some(&trace_id)).await?;
    let document = document_of(&mut change, &target).await?;
    change.commit().await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(document)))
}

/// The other repos that its render names.
pub(super) async fn find_sources(
    db: &mut Connection,
    project: ProjectId,
    spec: &TargetSpec,
) -> Result<BTreeSet<Minded>, Refusal> {
    let mut minded = BTreeSet::new();
    for source in spec.render.sources() {
        let Source::Repo { repo, reference } = source else { continue };
        minded.insert(Minded { repo: find_repo(db, project, &repo).await?.id, reference });
    }
    Ok(minded)
}

/// What other projects have is not even named.
pub(super) async fn find_repo(
    db: &mut Connection,
    project: ProjectId,
    name: &Name,
) -> Result<store::repos::Repo, Refusal> {
    if let Some(repo) = store::repos::find_by_name(db, project, name).await? {
        return Ok(repo);
    }
    let known = store::repos::list(db, project, "", 1_000).await?;
    let known = known.iter().filter_map(|entry| entry.read.as_ref().ok());
    let nearest = nearest(name.as_str(), known.map(|repo| repo.name.as_str()));
    let hint = nearest.map_or_else(
        || "add it first: bellwether repo add NAME URL".to_owned(),
        |nearest| format!("did you mean `{nearest}`?"),
    );
    Err(Refusal::invalid("repo_not_found", format!("there is no repo `{name}`")).hint(hint))
}
