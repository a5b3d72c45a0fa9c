//! A render of before that clusters run while what is wanted now goes to nobody: the newest commit does not render, or its rollout
//! was given up. Whoever joined or was relabelled since is to run what the others run, with values of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::RolloutId;
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
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::work::change::Change;

/// Where the newest rollout was given up, what most clusters run is for those who join, too.
pub(super) async fn complete_kept(hub: &Hub, target: &Target, longest: Duration) -> Result<(), StoreError> {
    let mut db = hub.pool.acquire().await?;
    let kept = find_kept(&mut db, target).await?;
    drop(db);
    complete(hub, target, kept, longest).await
}

async fn find_kept(db: &mut Connection, target: &Target) -> Result<Option<Render>, StoreError> {
    let state = store::targets::find_state(db, target.id).await?;
    let Some(from) = state.current_from.filter(|_| !state.held) else { return Ok(None) };
    let main = store::rollouts::find(db, RolloutId::new(from)).await?.map(|main| main.state);
    let wanted = store::wanted::find(db, target.id).await?.map(|wanted| wanted.since);
    if !is_given_up(wanted, state.rolled_since, main) {
        return Ok(None);
    }
    let Some(given_up) = state.rolled_since else { return Ok(None) };
    match store::renders::find_most_run(db, target.id, target.version, given_up).await? {
        Some(kept) => store::renders::find(db, kept).await,
        None => Ok(None),
    }
}

/// Renders its commit again for clusters that it has nothing for. What does not come of that is no condition: the target says why
/// the newest commit does not render, and each further reconcile tries again.
pub(super) async fn complete(
    hub: &Hub,
    target: &Target,
    former: Option<Render>,
    longest: Duration,
) -> Result<(), StoreError> {
    let Some(former) = former.filter(|former| former.target_version == target.version) else { return Ok(()) };
    let mut db = hub.pool.acquire().await?;
    let revision = store::revisions::find(&mut db, former.revision).await?;
    let read = TraitsUsed::ALL;
    let clusters = values_of(&mut db, target, read).await?;
    let agents = store::clusters::list_agent_namespaces(&mut db, target.project.id).await?;
    let is_admitted = policy::is_admitted(&mut db, target, &former).await?;
    drop(db);
    let Some(revision) = revision.filter(|_| is_admitted) else { return Ok(()) };
    let (sources, asked) = (Arc::new(Sources::pinned(&former.sources)), Arc::default());
    let job = Job { hub, target, revision: &revision, clusters, read, is_asked: false, longest, sources, asked };
    if job.covers(&former) {
        return Ok(());
    }
    let added = add(&job, former, agents).await;
    bounds::leave_try(hub, target.id).await;
    match added {
        Err(BundleError::Store(error)) => Err(error),
        Err(error) => {
            tracing::info!(target.name = %target.name, error = %crate::chain(&error), "the last render has nothing for some clusters");
            Ok(())
        }
        Ok(pause) => go_on(hub, target, pause).await,
    }
}

/// Says when to go on, if not all could be made. What another version made is not added to: everything would be made anew, for
/// nobody.
async fn add(job: &Job<'_>, former: Render, agents: BTreeSet<String>) -> Result<Option<SignedDuration>, BundleError> {
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
    let pause = rendered.tried_again_after();
    record::add_variants(hub, target.id, id, rendered).await?;
    Ok(pause)
}

/// What time lacked for comes with another turn.
async fn go_on(hub: &Hub, target: &Target, pause: Option<SignedDuration>) -> Result<(), StoreError> {
    let Some(pause) = pause else { return Ok(()) };
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    change.tell(Stage::Bundle, &[target.id.as_uuid()], clock::now() + pause, None).await?;
    change.commit().await
}
