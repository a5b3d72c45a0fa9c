//! Bundles that clusters are to run and of which something is not stored any more: made anew from the commits that they
//! came from. What the newest commit renders to is made whole by its own render.

use std::collections::BTreeSet;

use bellwether_core::api::Condition;
use bellwether_core::parameters::{ClusterFacts, Parameters};
use bellwether_core::report::bounded_message;
use bellwether_core::{ClusterId, Digest, RenderId};
use jiff::{SignedDuration, Timestamp};

use super::error::BundleError;
use super::job::{self, Job};
use super::{bounds, record};
use crate::process::clock;
use crate::store::lost::Lost;
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::work::change::Change;

/// Until what could not be made anew is tried again; twice as long after each time.
const PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// It does not mend itself by then. Somebody may have mended the database, or clusters run something else.
const PAUSE_MAX: SignedDuration = SignedDuration::from_hours(4);
/// Renders that are made anew in one reconcile, the newest first: more than a target's clusters run at once.
const RENDERS_MAX: usize = 20;
/// Until its clusters are told: what this reconcile makes is written by then.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(2);

/// If something of the target was found to be lost, makes it anew; says what the target has to say if that comes to
/// nothing. `made` are bundles that this reconcile is about to write.
pub(super) async fn mend(
    job: &Job<'_>,
    made: &BTreeSet<Digest>,
    agents: &BTreeSet<String>,
) -> Result<Option<Condition>, StoreError> {
    let (hub, target, now) = (job.hub, job.target.id, clock::now());
    let mut db = hub.pool.acquire().await?;
    let Some(lost) = store::lost::find(&mut db, target).await? else { return Ok(None) };
    if !job.is_asked && now < lost.again_at {
        return Ok(lost.condition);
    }
    let broken = Broken::find(job, &mut db, made).await?;
    drop(db);
    let why = broken.remake(job, agents).await?;
    let mut db = hub.pool.acquire().await?;
    let is_whole = Broken::find(job, &mut db, made).await?.bundles.is_empty();
    drop(db);
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    if is_whole {
        store::lost::delete(&mut change, target).await?;
        let clusters: Vec<_> = broken.clusters.iter().map(|cluster| cluster.as_uuid()).collect();
        change.tell(Stage::Link, &clusters, now + TOLD_AFTER, None).await?;
        change.commit().await?;
        return Ok(None);
    }
    let condition = Some(condition(&why.unwrap_or(BundleError::MadeOtherwise), now));
    let is_due = now >= lost.again_at;
    let lost = if is_due { after(&lost, now) } else { lost };
    store::lost::mark(&mut change, target, &Lost { condition: condition.clone(), ..lost }).await?;
    if is_due {
        change.tell(Stage::Bundle, &[target.as_uuid()], lost.again_at, None).await?;
    }
    change.commit().await?;
    Ok(condition)
}

fn after(lost: &Lost, now: Timestamp) -> Lost {
    let times = 1 << lost.tries.min(10);
    Lost { tries: lost.tries.saturating_add(1), again_at: now + (PAUSE * times).min(PAUSE_MAX), condition: None }
}

fn condition(why: &BundleError, now: Timestamp) -> Condition {
    let message =
        format!("something that clusters are to run is stored no more, and not made anew: {}", crate::chain(why));
    let hint = "let them run something else: push, release the target, or roll back to another commit";
    Condition {
        code: "content_missing".to_owned(),
        message: bounded_message(&message),
        hint: Some(hint.to_owned()),
        file: None,
        line: None,
        since: Some(now),
    }
}

/// What is not whole of what clusters are to run.
struct Broken {
    bundles: BTreeSet<Digest>,
    renders: BTreeSet<RenderId>,
    clusters: BTreeSet<ClusterId>,
}

impl Broken {
    async fn find(job: &Job<'_>, db: &mut Connection, made: &BTreeSet<Digest>) -> Result<Self, StoreError> {
        let mut runs = store::assignments::list_digests_of_target(db, job.target.id).await?;
        let bundles: BTreeSet<_> = runs.iter().map(|(_, digest, _)| *digest).collect();
        let bundles = job::list_broken(job.hub, db, &(&bundles - made)).await?;
        runs.retain(|(_, digest, _)| bundles.contains(digest));
        let (renders, clusters) = runs.into_iter().map(|(cluster, _, render)| (render, cluster)).unzip();
        Ok(Self { bundles, renders, clusters })
    }

    /// Says why some of it cannot be made.
    async fn remake(&self, job: &Job<'_>, agents: &BTreeSet<String>) -> Result<Option<BundleError>, StoreError> {
        let mut why = None;
        for render in self.renders.iter().rev().take(RENDERS_MAX) {
            match self.remake_one(job, *render, agents).await {
                Ok(()) => {}
                Err(BundleError::Store(error)) => return Err(error),
                Err(error) => why = why.or(Some(error)),
            }
            bounds::leave_try(job.hub, job.target.id).await;
        }
        Ok(why)
    }

    /// Renders a commit again for those clusters that are to run what it gave them.
    async fn remake_one(&self, job: &Job<'_>, id: RenderId, agents: &BTreeSet<String>) -> Result<(), BundleError> {
        let mut db = job.hub.pool.acquire().await.map_err(StoreError::from)?;
        let render = store::renders::find(&mut db, id).await?.ok_or(BundleError::OriginUnknown)?;
        let revision = store::revisions::find(&mut db, render.revision).await?.ok_or(BundleError::OriginUnknown)?;
        let mut holders = store::assignments::list_holders(&mut db, job.target.id).await?;
        drop(db);
        if render.target_version != job.target.version {
            return Err(BundleError::SpecOlder);
        }
        holders.retain(|holder| self.clusters.contains(&holder.cluster));
        let values = |holder: store::assignments::Holder| {
            let facts = ClusterFacts { name: &holder.name, labels: &holder.labels };
            let values = Parameters::resolve(&job.target.spec.parameters, facts);
            (holder.name, values)
        };
        let clusters = holders.into_iter().map(values).collect();
        let older = Job { revision: &revision, clusters, ..*job };
        let mut rendered = older.render(None, agents.clone()).await?;
        rendered.unwritten.retain(|made| self.bundles.contains(&made.manifest.digest()));
        record::write_bundles(job.hub, job.target.id, rendered.unwritten).await
    }
}
