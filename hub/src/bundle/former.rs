//! An earlier render that clusters run while what is wanted now goes to nobody: the newest commit does not render, or
//! its rollout was given up. Whoever joined or was relabelled since is to run what the others run, with values of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::parameters::TraitsUsed;
use bellwether_core::rollout::is_given_up;
use jiff::SignedDuration;

use super::error::BundleError;
use super::job::Job;
use super::sources::Sources;
use super::{bounds, record, values_of};
use crate::Hub;
use crate::process::clock;
use crate::source::policy;
use crate::store::renders::Render;
use crate::store::targets::Target;
use crate::store::wanted::Wanted;
use crate::store::{self, StoreError};

/// Until another hub, which may have the commit that this one's mirror lacks, or this one looks again.
const ELSEWHERE_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Beside what is wanted: where that does not render, the last good render; where its rollout was given up, what most clusters
/// run. Says when to go on, if not all could be made.
pub(super) async fn complete(
    hub: &Hub,
    target: &Target,
    (wanted, renders): (Option<Wanted>, bool),
    longest: Duration,
) -> Result<Option<SignedDuration>, StoreError> {
    let former = match wanted {
        Some(wanted) if is_given_up(Some(wanted.since), wanted.rolled, wanted.main) => {
            let mut db = hub.pool.acquire().await?;
            match store::renders::find_most_run(&mut db, target.id, target.version, wanted.since).await? {
                Some(most_run) => store::renders::find(&mut db, most_run).await?,
                None => None,
            }
        }
        Some(wanted) if !renders => Some(wanted.render),
        _ => None,
    };
    match former.filter(|former| former.target_version == target.version) {
        Some(former) => add(hub, target, former, longest).await,
        None => Ok(None),
    }
}

/// Renders its commit again for clusters that it has nothing for. What does not come of that is no condition: the target says why
/// the newest commit does not render, and each further reconcile tries again. What may end by itself has one that comes by
/// itself.
async fn add(
    hub: &Hub,
    target: &Target,
    former: Render,
    longest: Duration,
) -> Result<Option<SignedDuration>, StoreError> {
    let mut db = hub.pool.acquire().await?;
    let revision = store::revisions::find(&mut db, former.revision).await?;
    let read = TraitsUsed::ALL;
    let clusters = values_of(&mut db, target, read).await?;
    let agents = store::clusters::list_agent_namespaces(&mut db, target.project.id).await?;
    let is_admitted = policy::is_admitted(&mut db, target, &former).await?;
    drop(db);
    let Some(revision) = revision.filter(|_| is_admitted) else { return Ok(None) };
    let (sources, asked) = (Arc::new(Sources::pinned(&former.sources)), Arc::default());
    let job = Job { hub, target, revision: &revision, clusters, read, is_asked: false, longest, sources, asked };
    if job.covers(&former, &BTreeSet::new()) {
        return Ok(None);
    }
    let added = add_to(&job, former, agents).await;
    bounds::leave_try(hub, target.id).await;
    match added {
        Err(BundleError::Store(error)) => Err(error),
        Err(error) => {
            tracing::info!(target.name = %target.name, error = %crate::chain(&error), "the last render has nothing for some clusters");
            Ok(match error.lacking(target.repo) {
                Some(_) => Some(ELSEWHERE_PAUSE),
                None => bounds::tried_again_after(&error.condition(clock::now())),
            })
        }
        Ok(again) => Ok(again),
    }
}

/// What another version made is not added to: everything would be made anew, for nobody.
async fn add_to(
    job: &Job<'_>,
    former: Render,
    agents: BTreeSet<String>,
) -> Result<Option<SignedDuration>, BundleError> {
    let Job { hub, target, .. } = job;
    let id = former.id;
    let Some(former) = job.of_this_engine(Some(former)).await? else {
        tracing::info!(target.name = %target.name, "the last render has nothing for some clusters, and another version made it");
        return Ok(None);
    };
    let rendered = job.render(Some(former), agents).await?;
    // What its other variants do not refer to would make it another render, and everybody's.
    if rendered.existing != Some(id) {
        return Ok(None);
    }
    let again = rendered.again;
    record::add_variants(hub, target.id, id, rendered).await?;
    Ok(again)
}
