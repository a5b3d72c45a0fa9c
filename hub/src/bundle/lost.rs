//! Bundles that clusters are to run and of which something is not stored any more: made anew from the commits that they
//! came from.
//!
//! After the target's own render, which nobody waits longer for, and which makes whole what the newest commit gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::backoff::{Backoff, Jitter};
use bellwether_core::parameters::{ClusterFacts, Parameters, TraitsUsed};
use bellwether_core::{ClusterId, Condition, Digest, RenderId};
use jiff::{SignedDuration, Timestamp};

use super::error::BundleError;
use super::job::{self, Job};
use super::sources::Sources;
use super::{bounds, record};
use crate::Hub;
use crate::process::clock;
use crate::store::assignments::{self, Holder};
use crate::store::lost::Lost;
use crate::store::targets::Target;
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

/// Between tries: it does not repair itself, but somebody may have repaired the database.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_mins(5), longest: Duration::from_hours(1), jitter: Jitter::None };
/// Renders that are made anew in one try, the newest first: more than a target's clusters run at once.
const RENDERS_MAX: usize = 20;
/// So often a commit that this hub's mirror lacks is left to a hub that has it, before that is told as the reason.
const ELSEWHERE_TRIES: u32 = 3;
const ELSEWHERE_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// What is not whole of what clusters are to run of a target.
#[derive(Default)]
pub(super) struct Broken {
    bundles: BTreeSet<Digest>,
    /// What each cluster is to run of these, and the render that gave it.
    runs: BTreeMap<ClusterId, (Digest, RenderId)>,
}

/// `None`: nobody has found that something of the target is lost.
pub(super) async fn find(hub: &Hub, target: &Target) -> Result<Option<Broken>, StoreError> {
    let mut db = hub.pool.acquire().await?;
    match store::lost::find(&mut db, target.id).await? {
        Some(_) => Ok(Some(Broken::find(&mut db, target).await?)),
        None => Ok(None),
    }
}

/// Makes anew what is lost still, if that is due, and tells the clusters of what is whole again. The target says what
/// cannot be made. `before` is what was lost before the target rendered.
pub(super) async fn repair(hub: &Hub, target: &Target, before: &Broken) -> Result<(), StoreError> {
    let mut db = hub.pool.acquire().await?;
    let Some(lost) = store::lost::find(&mut db, target.id).await? else { return Ok(()) };
    let mut broken = Broken::find(&mut db, target).await?;
    drop(db);
    let mut why = None;
    if !broken.bundles.is_empty() && begin_try(hub, target, &lost).await? {
        why = broken.remake(hub, target).await?;
        let mut db = hub.pool.acquire().await?;
        broken = Broken::find(&mut db, target).await?;
        why = why.or(Some(BundleError::MadeOtherwise)).filter(|_| !broken.bundles.is_empty());
    }
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    change.tell(Stage::Link, &before.list_repaired(&broken), now, None).await?;
    if broken.bundles.is_empty() {
        store::lost::delete(&mut change, target.id).await?;
    } else if let Some(why) = why {
        say_why(&mut change, target, &lost, &why, now).await?;
    }
    change.commit().await
}

/// Whoever begins leaves what leads to the next try, also if it dies of this one.
async fn begin_try(hub: &Hub, target: &Target, lost: &Lost) -> Result<bool, StoreError> {
    let now = clock::now();
    if now < lost.again_at {
        return Ok(false);
    }
    let again_at = now + BACKOFF.whole(lost.tries.saturating_add(1));
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    if !store::lost::begin_try(&mut change, target.id, lost, again_at).await? {
        return Ok(false);
    }
    change.tell(Stage::Bundle, &[target.id.as_uuid()], again_at, None).await?;
    change.commit().await?;
    Ok(true)
}

async fn say_why(
    change: &mut Change<'_>,
    target: &Target,
    lost: &Lost,
    why: &BundleError,
    now: Timestamp,
) -> Result<(), StoreError> {
    let elsewhere = match why {
        BundleError::Read(error) if error.is_of_mirror() => Some(target.repo),
        BundleError::ReadThere { repo, error, .. } if error.is_of_mirror() => Some(*repo),
        _ => None,
    };
    if let Some(repo) = elsewhere.filter(|_| lost.tries < ELSEWHERE_TRIES) {
        let soon = now + ELSEWHERE_PAUSE;
        store::lost::mark_again(change, target.id, soon).await?;
        change.tell(Stage::Source, &[repo.as_uuid()], now, None).await?;
        return change.tell(Stage::Bundle, &[target.id.as_uuid()], soon, None).await;
    }
    let before = lost.condition.as_ref();
    let mut condition = condition(why, now);
    if before.is_some_and(|before| before.message == condition.message) {
        return Ok(());
    }
    condition.since = before.and_then(|before| before.since).or(condition.since);
    store::lost::mark_condition(change, target.id, &condition).await?;
    tracing::warn!(target.name = %target.name, error = condition.message, "a target has lost something for good");
    let mut event = Event::new(
        clock::new_id(),
        now,
        actors::hub(),
        Action::RenderFailed,
        subjects::target(&target.project, &target.name),
    );
    event.outcome = Outcome::Failed;
    event.detail = serde_json::json!({"code": condition.code});
    event.reason = condition.message;
    change.audit(&event).await
}

fn condition(why: &BundleError, now: Timestamp) -> Condition {
    let message =
        format!("something that clusters are to run is stored no more, and not made anew: {}", crate::chain(why));
    let hint = "let them run something else: push, release the target, or roll back to another commit";
    Condition::new("content_missing", &message, Some(hint), Some(now))
}

impl Broken {
    async fn find(db: &mut Connection, target: &Target) -> Result<Self, StoreError> {
        let runs = assignments::list_digests_of_target(db, target.id).await?;
        let bundles = job::list_broken(db, &runs.iter().map(|(_, digest, _)| *digest).collect()).await?;
        let runs = runs.into_iter().filter(|(_, digest, _)| bundles.contains(digest));
        let runs = runs.map(|(cluster, digest, render)| (cluster, (digest, render))).collect();
        Ok(Self { bundles, runs })
    }

    /// Clusters whose bundle was broken, and is not any more.
    fn list_repaired(&self, now: &Self) -> Vec<uuid::Uuid> {
        let is_repaired = |digest: &Digest| !now.bundles.contains(digest);
        self.runs.iter().filter(|(_, (digest, _))| is_repaired(digest)).map(|(cluster, _)| cluster.as_uuid()).collect()
    }

    /// Says why some of it cannot be made.
    async fn remake(&self, hub: &Hub, target: &Target) -> Result<Option<BundleError>, StoreError> {
        let mut db = hub.pool.acquire().await?;
        let holders = assignments::list_holders(&mut db, target.id).await?;
        let agents = store::clusters::list_agent_namespaces(&mut db, target.project.id).await?;
        drop(db);
        let mut by_render: BTreeMap<RenderId, Vec<&Holder>> = BTreeMap::new();
        for holder in &holders {
            if let Some((_, render)) = self.runs.get(&holder.cluster) {
                by_render.entry(*render).or_default().push(holder);
            }
        }
        let mut why = None;
        for (render, holders) in by_render.iter().rev().take(RENDERS_MAX) {
            match self.remake_one(hub, target, (*render, holders), &agents).await {
                Ok(()) => {}
                Err(BundleError::Store(error)) => return Err(error),
                Err(error) => why = why.or(Some(error)),
            }
            bounds::leave_try(hub, target.id).await;
        }
        Ok(why)
    }

    /// Renders a commit again for those clusters that are to run what it gave them.
    async fn remake_one(
        &self,
        hub: &Hub,
        target: &Target,
        (id, holders): (RenderId, &[&Holder]),
        agents: &BTreeSet<String>,
    ) -> Result<(), BundleError> {
        let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
        let render = store::renders::find(&mut db, id).await?.ok_or(BundleError::OriginUnknown)?;
        let revision = store::revisions::find(&mut db, render.revision).await?.ok_or(BundleError::OriginUnknown)?;
        if render.target_version != target.version {
            return Err(BundleError::SpecOlder);
        }
        let clusters: Vec<_> = holders.iter().map(|holder| holder.cluster).collect();
        // As they are now: of a cluster that is another since then it may be something else.
        let traits = store::traits::load(&mut db, &clusters, TraitsUsed::ALL).await?;
        drop(db);
        let values = |holder: &&Holder| {
            let facts = ClusterFacts::new(&holder.name, &holder.labels).with(traits.get(&holder.cluster)?);
            Some((holder.name.clone(), Parameters::resolve(&target.spec.parameters, facts)))
        };
        let clusters = holders.iter().filter_map(values).collect();
        let (sources, asked) = (Arc::new(Sources::pinned(&render.sources)), Arc::default());
        let (revision, longest) = (&revision, bounds::TOGETHER);
        let read = TraitsUsed::ALL;
        let older = Job { hub, target, revision, clusters, read, is_asked: true, longest, sources, asked };
        let mut rendered = older.render(None, agents.clone()).await?;
        rendered.unwritten.retain(|made| self.bundles.contains(&made.manifest.digest()));
        record::write_bundles(hub, target.id, rendered.unwritten).await
    }
}
