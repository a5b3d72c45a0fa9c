//! The last render that was good, while the newest commit does not render: whoever joined or was relabelled since is to run what
//! the others run, with values of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::parameters::TraitsUsed;
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
use crate::store::{self, StoreError};
use crate::work::change::Change;

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
