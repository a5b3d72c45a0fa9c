//! The bundle stage: revision + recipe + parameters → objects → bundles.
//!
//! For each target whose folder moved, whose spec changed or whose clusters changed: renders the newest revision once for
//! each distinct set of used parameters, and writes what came out under its digest. A folder that did not change is not
//! read again. What does not render is said at the target, and the last good render stays.

mod bounds;
pub(crate) mod engine_trouble;
mod error;
mod former;
mod frozen;
mod job;
mod lost;
pub(crate) mod planned;
mod record;
pub(crate) mod shown;
mod sources;
pub(crate) mod told;
mod variants;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::parameters::{Parameters, TraitsUsed, Values};
use bellwether_core::{Condition, Name, RepoId, TargetId};
use bellwether_render::{VERSION, made_by};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use self::engine_trouble::EngineTrouble;
use self::error::BundleError;
use self::job::{Job, Rendered};
use self::record::{finish, record_failure};
use self::sources::{SourceError, Sources};
use crate::Hub;
use crate::process::clock;
use crate::source::policy;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::sources::{Minded, ReadSource};
use crate::store::targets::Target;
use crate::store::work::{self, QueueItem, Stage};
use crate::store::{self, StoreError};
use crate::work::change::Change;
use crate::worker;
use crate::worker::stage::{self, Detached, Progress};

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    stage::run_detached(hub, Bundle, stop).await;
}

/// More than an installation has; the rest follows in an hour.
const TARGETS_AT_ONCE: i64 = 5_000;

pub(crate) struct Bundle;

impl Detached for Bundle {
    const STAGE: Stage = Stage::Bundle;
    /// Rendering computes; more at once than cores only makes each later.
    const AT_ONCE: usize = 4;

    async fn reconcile(&self, hub: &Hub, item: &QueueItem) -> Result<Progress, StoreError> {
        self.reconcile_within(hub, item, bounds::TOGETHER).await
    }
}

impl Bundle {
    /// Renders for so long, and the next time the rest.
    pub(crate) async fn reconcile_within(
        &self,
        hub: &Hub,
        item: &QueueItem,
        longest: Duration,
    ) -> Result<Progress, StoreError> {
        let outcome = attempt(hub, item, longest).await;
        if outcome.is_err() {
            bounds::leave_try(hub, TargetId::new(item.key)).await;
        }
        outcome
    }
}

/// The part of a hub that has rendered anew what another engine made.
pub(crate) async fn sweep(hub: Arc<Hub>, stop: CancellationToken) {
    let trouble = EngineTrouble::default();
    let once = || async {
        if let Err(error) = sweep_engines(&hub, &trouble, clock::now()).await {
            tracing::warn!(error = %crate::chain(&error), "could not look for what another engine made");
        }
    };
    worker::sweep::hourly(&stop, once).await;
}

/// What an earlier version of this program made, or an engine of other versions before this hub began, is rendered anew:
/// nobody is moved where the same comes out. Asked again each hour, as a hub of that version may have taken the work.
pub(crate) async fn sweep_engines(hub: &Hub, trouble: &EngineTrouble, now: Timestamp) -> Result<(), StoreError> {
    let engines = hub.engines.clone();
    let versions = tokio::task::spawn_blocking(move || engines.versions()).await.expect("an engine does not panic");
    trouble.tell(versions.as_ref().err());
    let made_by = versions.ok().map(|versions| made_by(Some(&versions)));
    let mut db = hub.pool.acquire().await?;
    let targets =
        store::wanted::list_made_otherwise(&mut db, VERSION, made_by.as_deref(), hub.id, TARGETS_AT_ONCE).await?;
    drop(db);
    if targets.is_empty() {
        return Ok(());
    }
    tracing::info!(targets = targets.len(), engine = made_by, "rendered anew: another version made what is there");
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    change.tell(Stage::Bundle, &targets, now, None).await?;
    change.commit().await
}

async fn attempt(hub: &Hub, item: &QueueItem, longest: Duration) -> Result<Progress, StoreError> {
    let mut db = hub.pool.acquire().await?;
    let target = store::targets::find(&mut db, TargetId::new(item.key)).await?;
    drop(db);
    let Some(target) = target else { return finish(hub, item, None).await };
    let lost = lost::find(hub, &target).await?;
    let progress = Box::pin(render(hub, item, target.clone(), longest)).await?;
    if let Some(lost) = lost {
        lost::repair(hub, &target, &lost).await?;
    }
    Ok(progress)
}

async fn render(hub: &Hub, item: &QueueItem, target: Target, longest: Duration) -> Result<Progress, StoreError> {
    let mut db = hub.pool.acquire().await?;
    // Source leaves out targets whose folder a revision did not move. Whoever reads a target after it was changed,
    // and before the revision that was seen with its earlier spec, would never hear of that revision.
    work::await_subject(&mut db, Stage::Source, target.repo.as_uuid()).await?;
    let (head, ref_condition) = store::revisions::find_head(&mut db, target.repo, &target.reference).await?;
    let Some(revision) = head else {
        drop(db);
        let outcome = ref_condition.map(|condition| Said::unread(target, None, condition, None));
        return finish(hub, item, outcome).await;
    };
    let wanted = store::wanted::find(&mut db, target.id).await?;
    // Before it is read: what nobody signed is not even rendered.
    let repo = store::repos::find(&mut db, target.repo).await?;
    if let Some(unsigned) = repo.and_then(|repo| policy::hold(&repo.spec, &revision, clock::now())) {
        drop(db);
        let again = former::complete(hub, &target, (wanted, false), longest).await?;
        let condition = ref_condition.unwrap_or(unsigned);
        return finish(hub, item, Some(Said::unread(target, Some(revision), condition, again))).await;
    }
    // What it reads of clusters as it was rendered before; if that is more by now, it turns out.
    let known = wanted.as_ref().map(|wanted| &wanted.render);
    let same_spec = || known.iter().filter(|render| render.target_version == target.version);
    let read = TraitsUsed::by(same_spec().flat_map(|render| &render.variables));
    let clusters = values_of(&mut db, &target, read).await?;
    let agents = store::clusters::list_agent_namespaces(&mut db, target.project.id).await?;
    let mut sources = Sources::default();
    let mut needed = target.spec.render.sources();
    needed.extend(same_spec().flat_map(|render| render.sources.iter().map(|one| one.source.clone())));
    sources.find(&mut db, &target, needed).await?;
    drop(db);
    let mut fetched = hub.mirrors.of(target.repo).fetched();
    let mut job = Job {
        hub,
        target: &target,
        revision: &revision,
        clusters,
        read,
        is_asked: item.trace_id.is_some(),
        longest,
        sources: Arc::new(sources),
        asked: Arc::default(),
    };
    let result = render_with_all_it_reads(&mut job, known, &agents).await;
    let sources = job.sources;
    if let Ok(rendered) = &result {
        hub.metrics.note_render(rendered.is_reused);
    }
    let result = match result {
        Err(BundleError::Store(error)) => return Err(error),
        Err(BundleError::Source { error: SourceError::NotSeen { .. }, .. }) => {
            return await_source(hub, item, &target, &sources).await;
        }
        Err(error) if error.lacking(target.repo).is_some() => {
            let repo = error.lacking(target.repo).expect("it was just found");
            if repo != target.repo {
                fetched = hub.mirrors.of(repo).fetched();
            }
            let is_ours = await_mirror(hub, item, (&target, repo), &revision, (error, ref_condition)).await?;
            return Ok(if is_ours { Progress::NotYet(fetched) } else { Progress::Done });
        }
        Ok(_) if ref_condition.is_some() => Err(ref_condition.expect("it was just found")),
        other => other.map_err(|error| error.condition(clock::now())),
    };
    let read = Some(match &result {
        Ok(rendered) => (rendered.sources.clone(), sources.minded(Some(&rendered.sources))),
        Err(_) => (sources.all(), sources.minded(None)),
    });
    let again = former::complete(hub, &target, (wanted, result.is_ok()), longest).await?;
    finish(hub, item, Some(Said { target, revision: Some(revision), read, result, again })).await
}

/// Again and again, until it is known of all that it turns out to read: other repos, and more of what clusters are.
async fn render_with_all_it_reads(
    job: &mut Job<'_>,
    known: Option<&Render>,
    agents: &BTreeSet<String>,
) -> Result<Rendered, BundleError> {
    loop {
        match job.render(known.cloned(), agents.clone()).await {
            Err(BundleError::Source { error: SourceError::Unknown, .. }) => {
                let mut db = job.hub.pool.acquire().await.map_err(StoreError::from)?;
                Arc::make_mut(&mut job.sources).find(&mut db, job.target, job.asked.list()).await?;
            }
            Err(BundleError::TraitsUnread) => {
                let mut db = job.hub.pool.acquire().await.map_err(StoreError::from)?;
                job.read = TraitsUsed::ALL;
                job.clusters = values_of(&mut db, job.target, job.read).await?;
            }
            result => return result,
        }
        job.asked = Arc::default();
    }
}

/// Until a source that nothing was ever seen of is looked at again: whoever fetches it says so when something is.
const SOURCE_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Nothing is wrong yet: what the target is rendered from was not fetched before. It is now, and who sees it tells the target.
async fn await_source(hub: &Hub, item: &QueueItem, target: &Target, sources: &Sources) -> Result<Progress, StoreError> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    if !work::lock_subject(&mut change, Stage::Bundle, item.key).await? || !work::take_seen(&mut change, item).await? {
        return Ok(Progress::Done);
    }
    store::renders::leave_try(&mut change, target.id, hub.id).await?;
    let minded = sources.minded(None);
    store::sources::mark(&mut change, target.id, &minded).await?;
    let repos: BTreeSet<_> = minded.iter().map(|one| one.repo.as_uuid()).collect();
    let trace_id = item.trace_id.clone().unwrap_or_else(clock::new_trace);
    change.tell(Stage::Source, &repos.into_iter().collect::<Vec<_>>(), now, Some(&trace_id)).await?;
    // Whom it selects counts all the same.
    change.tell(Stage::Rollout, &[item.key], now, Some(&trace_id)).await?;
    work::replace_timer(&mut change, Stage::Bundle, item.key, now + SOURCE_PAUSE).await?;
    change.commit().await?;
    Ok(Progress::Done)
}

/// This hub's mirror lacks a commit: another hub has seen it, or the mirror was lost. The rows stay: a hub that has the
/// commit may take them, and this one tries again when it may have fetched. Once the repo cannot be fetched either, or its ref is
/// gone or waits for somebody, the target says so, and whom the last good render is for gets that. False: another hub has taken
/// them.
async fn await_mirror(
    hub: &Hub,
    item: &QueueItem,
    (target, repo): (&Target, RepoId),
    revision: &Revision,
    (error, ref_condition): (BundleError, Option<Condition>),
) -> Result<bool, StoreError> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    if !work::lock_subject(&mut change, Stage::Bundle, item.key).await? || !work::is_seen(&mut change, item).await? {
        return Ok(false);
    }
    store::renders::leave_try(&mut change, target.id, hub.id).await?;
    // Without a trace: after a failure this waits as a poll does.
    change.tell(Stage::Source, &[repo.as_uuid()], now, None).await?;
    let is_away = store::repos::find_fetch_status(&mut change, repo).await?.condition.is_some();
    if is_away || ref_condition.is_some() {
        // The ref's own word comes first, as it does where the commit is there.
        let condition = ref_condition.unwrap_or_else(|| error.condition(now));
        record_failure(&mut change, target, Some(revision), &condition, now).await?;
        // With a trace: a person may have changed whom it selects.
        change.tell(Stage::Rollout, &[item.key], now, Some(&clock::new_trace())).await?;
    }
    change.commit().await?;
    Ok(true)
}

/// The values that the selected clusters have, by their names. Clusters that have not joined yet are left out: they are
/// rendered for when they come.
async fn values_of(
    db: &mut store::Connection,
    target: &Target,
    read: TraitsUsed,
) -> Result<Vec<(Name, Values)>, StoreError> {
    let labels = &target.spec.clusters.match_labels;
    let candidates = store::fleet::list_candidates(db, target.project.id, labels, read).await?;
    Ok(candidates
        .iter()
        .filter(|cluster| target.spec.clusters.selects(&cluster.labels))
        .map(|cluster| (cluster.name.clone(), Parameters::resolve(&target.spec.parameters, cluster.facts())))
        .collect())
}

/// What one reconcile came to.
struct Said {
    target: Target,
    revision: Option<Revision>,
    /// What it read of other repos, or could have, and what of them it minds from now on; `None`: as before.
    read: Option<(Vec<ReadSource>, BTreeSet<Minded>)>,
    result: Result<Rendered, Condition>,
    /// When to go on with a former render, if not all of that could be made.
    again: Option<SignedDuration>,
}

impl Said {
    fn unread(target: Target, revision: Option<Revision>, condition: Condition, again: Option<SignedDuration>) -> Self {
        Self { target, revision, read: None, result: Err(condition), again }
    }
}
