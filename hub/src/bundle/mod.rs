//! The bundle stage: revision + recipe + parameters → objects → bundles.
//!
//! For each target whose folder moved, whose spec changed or whose clusters changed: renders the newest revision once for
//! each distinct set of used parameters, and writes what came out under its digest. A folder that did not change is not
//! read again. What does not render is said at the target, and the last good render stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::api::Condition;
use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::bundle::{Entry, Manifest, ManifestError};
use bellwether_core::parameters::{ClusterFacts, Parameters, Values};
use bellwether_core::report::bounded_message;
use bellwether_core::rollout::Wanted;
use bellwether_core::session::SyncOptions;
use bellwether_core::target::TargetSpec;
use bellwether_core::{Digest, Name, RenderId, TargetId};
use bellwether_proto::compression;
use bellwether_render::{Documents, Recipe, RenderError, RenderedObject, SourceFile};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::process::clock;
use crate::source::git::ReadError;
use crate::store::bundles::Blob;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::targets::Target;
use crate::store::work::{self, QueueItem, Stage};
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;
use crate::worker::stage::{self, Detached};

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    stage::run_detached(hub, Bundle, stop).await;
}

pub(crate) struct Bundle;

impl Detached for Bundle {
    const STAGE: Stage = Stage::Bundle;
    /// Rendering computes; more at once than cores only makes each later.
    const AT_ONCE: usize = 4;

    async fn reconcile(&self, hub: &Hub, item: &QueueItem) -> Result<(), StoreError> {
        let mut db = hub.pool.acquire().await?;
        let Some(target) = store::targets::find(&mut db, TargetId::new(item.key)).await? else {
            drop(db);
            return finish(hub, item, None).await;
        };
        // Source leaves out targets whose folder a revision did not move. Whoever reads a target after it was changed,
        // and before the revision that was seen with its earlier spec, would never hear of that revision.
        work::await_subject(&mut db, Stage::Source, target.repo.as_uuid()).await?;
        let head = store::revisions::find_head(&mut db, target.repo, &target.reference).await?;
        let ref_condition = store::revisions::find_ref_condition(&mut db, target.repo, &target.reference).await?;
        let Some(revision) = head else {
            drop(db);
            let outcome = ref_condition.map(|condition| Said { target, revision: None, result: Err(condition) });
            return finish(hub, item, outcome).await;
        };
        let known = store::wanted::find(&mut db, target.id).await?.map(|wanted| wanted.render);
        let clusters = values_of(&mut db, &target).await?;
        let agents = store::clusters::list_agent_namespaces(&mut db, target.project).await?;
        drop(db);
        let job = Job { hub, target: &target, revision: &revision, clusters };
        let result = match job.render(known, agents).await {
            Err(BundleError::Store(error)) => return Err(error),
            Err(BundleError::Read(ReadError::NoSuchCommit { .. } | ReadError::NotFetched)) => {
                return await_mirror(hub, &target).await;
            }
            Ok(_) if ref_condition.is_some() => Err(ref_condition.expect("it was just found")),
            other => other.map_err(|error| error.condition(clock::now())),
        };
        finish(hub, item, Some(Said { target, revision: Some(revision), result })).await
    }
}

/// Between tries to find a commit that this hub's mirror lacks: another hub has seen it, or the mirror was lost.
const MIRROR_PAUSE: Duration = Duration::from_secs(1);

/// The rows stay: a hub that has the commit may take them, and this one tries again when it has fetched.
async fn await_mirror(hub: &Hub, target: &Target) -> Result<(), StoreError> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    // Nothing broke down.
    store::renders::end_try(&mut change, target.id, None).await?;
    // Without a trace: after a failure this waits as a poll does.
    change.tell(Stage::Source, &[target.repo.as_uuid()], clock::now(), None).await?;
    change.commit().await?;
    tokio::time::sleep(MIRROR_PAUSE).await;
    Ok(())
}

/// The values that the selected clusters have, by their names. Clusters that have not joined yet are left out: they are
/// rendered for when they come.
async fn values_of(db: &mut store::Connection, target: &Target) -> Result<Vec<(Name, Values)>, StoreError> {
    let labels = &target.spec.clusters.match_labels;
    let candidates = store::fleet::list_candidates(db, target.project, labels).await?;
    Ok(candidates
        .iter()
        .filter(|cluster| target.spec.clusters.selects(&cluster.labels))
        .map(|cluster| {
            let facts = ClusterFacts { name: &cluster.name, labels: &cluster.labels };
            (cluster.name.clone(), Parameters::resolve(&target.spec.parameters, facts))
        })
        .collect())
}

/// What one reconcile came to.
struct Said {
    target: Target,
    revision: Option<Revision>,
    result: Result<Rendered, Condition>,
}

struct Rendered {
    tree: String,
    variables: BTreeSet<String>,
    /// What it was made from; `None`: an earlier render of the same is used.
    inputs: Option<Vec<String>>,
    /// Digest of the used parameters → bundle.
    variants: BTreeMap<Digest, Digest>,
    /// Bundles that are not written yet.
    unwritten: Vec<Made>,
    /// Why some clusters have none.
    lacking: Option<Condition>,
    /// The render of exactly this revision and spec is there, and only variants are added to it.
    existing: Option<RenderId>,
}

/// A bundle that was just made.
struct Made {
    manifest: Manifest,
    objects: Vec<RenderedObject>,
}

impl Made {
    fn bytes(&self) -> usize {
        self.objects.iter().map(|object| object.body.len()).sum()
    }
}

const BROKE_DOWN: &str = "render_broke_down";
const SHARE_SPENT: &str = "content_share_spent";

#[derive(Debug, thiserror::Error)]
enum BundleError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a hub broke down whenever it rendered this")]
    BrokeDown,
    #[error("what this target's renders have stored within a day is more than {} MiB", STORED_BYTES_MAX >> 20)]
    ShareSpent,
}

impl BundleError {
    fn condition(&self, now: Timestamp) -> Condition {
        let (code, hint, file, line) = match self {
            Self::Read(error) => (error.code(), error.hint(), None, None),
            Self::Render(error) => (error.code(), error.hint(), error.file().map(ToOwned::to_owned), error.line()),
            Self::Manifest(_) => ("bundle_invalid", None, None, None),
            Self::BrokeDown => {
                let hint = "split the target or push something smaller; it is tried again within the hour";
                (BROKE_DOWN, Some(hint.to_owned()), None, None)
            }
            Self::ShareSpent => {
                let hint = "let less change with each push, or for each cluster; it is tried again each hour";
                (SHARE_SPENT, Some(hint.to_owned()), None, None)
            }
            Self::Store(_) => ("database_failed", None, None, None),
        };
        Condition {
            code: code.to_owned(),
            message: bounded_message(&crate::chain(self)),
            hint: hint.as_deref().map(bounded_message),
            file: file.as_deref().map(bounded_message),
            line,
            since: Some(now),
        }
    }
}

/// Bundles that wait in memory to be written together, uncompressed. A fleet in which every cluster has values of its own
/// has as many bundles as clusters.
const UNWRITTEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Compressed, of objects that were not there before: a thousand clusters with a MiB of their own each, some dozen times.
/// Content is kept for a week, so a target takes no more than seven times that.
const STORED_BYTES_MAX: i64 = 4 << 30;
const STORED_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// Most of what it renders is there by then, and costs no more than being rendered.
const SHARE_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// One hub's bad moment is none of the render's fault, nor are two.
const TRIES_MAX: i32 = 3;
/// What was begun before says nothing any more: hubs have been given more memory, or were updated.
const TRIES_COUNT: SignedDuration = SignedDuration::from_hours(1);

/// A target to be rendered at a revision, for the distinct values of its clusters.
struct Job<'a> {
    hub: &'a Hub,
    target: &'a Target,
    revision: &'a Revision,
    clusters: Vec<(Name, Values)>,
}

/// The bundles of a target, and of which clusters there is none.
#[derive(Default)]
struct Variants {
    digests: BTreeMap<Digest, Digest>,
    unwritten: Vec<Made>,
    lacking: Vec<Name>,
    /// Of the first of these.
    error: Option<BundleError>,
}

/// Clusters that a condition names; the others are counted.
const NAMED_MAX: usize = 5;

impl Variants {
    /// Of one cluster nothing is kept back because another cannot have it; when none can, that is the target's fault.
    fn condition(self, now: Timestamp) -> Result<(Self, Option<Condition>), BundleError> {
        let Self { digests, unwritten, lacking, error } = self;
        match error {
            Some(error) if digests.is_empty() => Err(error),
            error => {
                let condition = error.map(|error| error.condition(now)).map(|condition| Condition {
                    message: bounded_message(&format!("{}: {}", named(&lacking), condition.message)),
                    ..condition
                });
                Ok((Self { digests, unwritten, ..Self::default() }, condition))
            }
        }
    }
}

fn named(clusters: &[Name]) -> String {
    let names: Vec<_> = clusters.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match clusters.len().saturating_sub(NAMED_MAX) {
        0 => format!("not for {}", names.join(", ")),
        more => format!("not for {} and {more} more", names.join(", ")),
    }
}

impl Job<'_> {
    async fn render(&self, known: Option<Render>, agents: BTreeSet<String>) -> Result<Rendered, BundleError> {
        let same_spec = known.filter(|render| render.target_version == self.target.version);
        let existing = same_spec.as_ref().filter(|render| render.revision == self.revision.id).map(|render| render.id);
        let (tree, reused) = self.find(same_spec).await?;
        if let Some(reused) = reused {
            return Ok(Rendered { existing, ..reused });
        }
        self.begin_try().await?;
        let files = self.read().await?;
        let folder = self.target.spec.path.clone();
        let documents = Arc::new(blocking(move || Ok(Documents::parse(&folder, &files)?)).await?);
        let recipe = Arc::new(Recipe {
            target: self.target.id,
            owner: self.hub.owner_of(self.target),
            namespace: self.target.spec.namespace.as_ref().map(ToString::to_string),
            agents,
        });
        let made = self.render_variants(&documents, &recipe).await?;
        let (Variants { digests: variants, unwritten, .. }, lacking) = made.condition(clock::now())?;
        let inputs = Some(documents.inputs().paths().iter().cloned().collect());
        Ok(Rendered { tree, variables: documents.variables().clone(), inputs, variants, unwritten, lacking, existing })
    }

    /// The folder's tree, and an earlier render of the same.
    async fn find(&self, same_spec: Option<Render>) -> Result<(String, Option<Rendered>), BundleError> {
        let mirror = self.hub.mirrors.of(self.target.repo);
        let (commit, path) = (self.revision.commit.clone(), self.target.spec.path.clone());
        let values: Vec<_> = self.clusters.iter().map(|(_, values)| values.clone()).collect();
        blocking(move || {
            let reader = mirror.reader().map_err(ReadError::from)?;
            let tree = reader.tree_of(&commit, &path)?;
            let reused = same_spec.filter(|render| render.tree == tree).and_then(|render| reuse(render, &values));
            Ok((tree, reused))
        })
        .await
    }

    async fn read(&self) -> Result<Vec<SourceFile>, BundleError> {
        let mirror = self.hub.mirrors.of(self.target.repo);
        let (commit, path) = (self.revision.commit.clone(), self.target.spec.path.clone());
        blocking(move || {
            let reader = mirror.reader().map_err(ReadError::from)?;
            let mut files = reader.read_folder(&commit, &path)?.files;
            if !path.is_empty() {
                // People read paths from the repo's root on.
                for file in &mut files {
                    file.path = format!("{path}/{}", file.path);
                }
            }
            Ok(files)
        })
        .await
    }

    /// A row that outlives this process, should it be killed for what it is about to do: its work is still there then,
    /// and would kill the next one too.
    async fn begin_try(&self) -> Result<(), BundleError> {
        let now = clock::now();
        let of = (self.revision.id, self.target.version);
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await?;
        let tries = store::renders::begin_try(&mut change, self.target.id, of, now - TRIES_COUNT, now).await?;
        change.commit_without_wait().await?;
        if tries > TRIES_MAX { Err(BundleError::BrokeDown) } else { Ok(()) }
    }

    /// One after another, and written as they come; the last ones are left to whoever writes the render.
    async fn render_variants(&self, documents: &Arc<Documents>, recipe: &Arc<Recipe>) -> Result<Variants, BundleError> {
        let (mut variants, mut failed, mut bytes) = (Variants::default(), BTreeSet::new(), 0);
        for (cluster, values) in &self.clusters {
            let used = values.restricted_to(documents.variables());
            let parameters = used.digest();
            if failed.contains(&parameters) {
                variants.lacking.push(cluster.clone());
            }
            if failed.contains(&parameters) || variants.digests.contains_key(&parameters) {
                continue;
            }
            if bytes > UNWRITTEN_BYTES_MAX {
                write_bundles(self.hub, self.target.id, std::mem::take(&mut variants.unwritten)).await?;
                bytes = 0;
            }
            let (documents, recipe) = (documents.clone(), recipe.clone());
            match blocking(move || make(&documents, &recipe, &used)).await {
                Ok(made) => {
                    bytes += made.bytes();
                    variants.digests.insert(parameters, made.manifest.digest());
                    variants.unwritten.push(made);
                }
                Err(error @ (BundleError::Render(_) | BundleError::Manifest(_))) => {
                    failed.insert(parameters);
                    variants.lacking.push(cluster.clone());
                    variants.error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(variants)
    }
}

/// Computes; what breaks down in it is told at the target.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BundleError> + Send + 'static,
) -> Result<T, BundleError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BundleError::BrokeDown))
}

fn make(documents: &Documents, recipe: &Recipe, values: &Values) -> Result<Made, BundleError> {
    let objects = documents.render(recipe, values)?;
    let entries = objects.iter().map(|object| Entry { key: object.key.clone(), digest: object.digest });
    Ok(Made { manifest: Manifest::new(entries.collect())?, objects })
}

async fn write_bundles(hub: &Hub, target: TargetId, bundles: Vec<Made>) -> Result<(), BundleError> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    store_bundles(hub, &mut change, target, bundles).await?;
    Ok(change.commit_without_wait().await?)
}

/// On an error nothing of it is to be kept.
async fn store_bundles(
    hub: &Hub,
    change: &mut Change<'_>,
    target: TargetId,
    bundles: Vec<Made>,
) -> Result<(), BundleError> {
    let (now, mut bytes) = (clock::now(), 0);
    for made in bundles {
        bytes += store_bundle(hub, change, made, now).await?;
    }
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    if bytes > 0
        && store::renders::add_stored(change, target, bytes, now - STORED_WITHIN, now).await? > STORED_BYTES_MAX
    {
        return Err(BundleError::ShareSpent);
    }
    Ok(())
}

/// An earlier render of the same folder with the same spec, if it has a variant for every cluster.
fn reuse(render: Render, values: &[Values]) -> Option<Rendered> {
    let variables: BTreeSet<_> = render.variables.into_iter().collect();
    let covers = |values: &Values| render.variants.contains_key(&values.restricted_to(&variables).digest());
    if !values.iter().all(covers) || render.variants.is_empty() {
        return None;
    }
    let (tree, variants) = (render.tree, render.variants);
    Some(Rendered { tree, variables, inputs: None, variants, unwritten: Vec::new(), lacking: None, existing: None })
}

async fn finish(hub: &Hub, item: &QueueItem, said: Option<Said>) -> Result<(), StoreError> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    if !work::lock_subject(&mut change, Stage::Bundle, item.key).await? {
        return Ok(());
    }
    // Another hub has taken them, and what it wrote may be of a newer revision than what is known here.
    if !work::take_seen(&mut change, item).await? {
        return Ok(());
    }
    let Some(said) = said else { return change.commit().await };
    match said.result {
        Ok(mut rendered) => {
            let unwritten = std::mem::take(&mut rendered.unwritten);
            match store_bundles(hub, &mut change, said.target.id, unwritten).await {
                Ok(()) => {}
                Err(BundleError::Store(error)) => return Err(error),
                Err(error) => {
                    change.abandon().await?;
                    let said = Said { result: Err(error.condition(now)), ..said };
                    return Box::pin(finish(hub, item, Some(said))).await;
                }
            }
            let revision = said.revision.expect("only a revision renders");
            let bundles = rendered.variants.len();
            record(&mut change, &said.target, &revision, rendered, now).await?;
            let trace_id = item.trace_id.clone().unwrap_or_else(clock::new_trace);
            change.tell(Stage::Rollout, &[item.key], now, Some(&trace_id)).await?;
            change.commit_without_wait().await?;
            tracing::info!(
                target.name = %said.target.name,
                revision = revision.commit,
                bundles,
                trace.id = trace_id,
                "rendered"
            );
            Ok(())
        }
        Err(condition) => {
            record_failure(&mut change, &said.target, said.revision.as_ref(), &condition, now).await?;
            // Whoever joins or is relabelled meanwhile gets what rendered last.
            change.tell(Stage::Rollout, &[item.key], now, item.trace_id.as_deref()).await?;
            if condition.code == SHARE_SPENT {
                change.tell(Stage::Bundle, &[item.key], now + SHARE_PAUSE, None).await?;
            }
            change.commit().await
        }
    }
}

async fn record(
    change: &mut Change<'_>,
    target: &Target,
    revision: &Revision,
    rendered: Rendered,
    now: Timestamp,
) -> Result<(), StoreError> {
    if rendered.inputs.is_some() {
        store::renders::end_try(change, target.id, rendered.inputs.as_deref()).await?;
    }
    let (variables, variants) = (rendered.variables, rendered.variants);
    let render_id = rendered.existing.unwrap_or_else(|| RenderId::new(clock::new_id()));
    if rendered.existing.is_some() {
        store::renders::insert_variants(change, render_id, &variants).await?;
    } else {
        let render = Render {
            id: render_id,
            target: target.id,
            revision: revision.id,
            target_version: target.version,
            tree: rendered.tree,
            variables: variables.iter().cloned().collect(),
            variants: variants.clone(),
        };
        store::renders::insert(change, &render, now).await?;
    }
    mark_wanted(change, target, revision, render_id, &variables, &variants).await?;
    match rendered.lacking {
        Some(condition) => record_failure(change, target, Some(revision), &condition, now).await,
        None => store::renders::mark_condition(change, target.id, None, None).await,
    }
}

/// The target is to run this from now on: the same as before, as far as rollouts go, when neither the spec nor what it
/// gives any cluster is another.
async fn mark_wanted(
    change: &mut Change<'_>,
    target: &Target,
    revision: &Revision,
    render: RenderId,
    variables: &BTreeSet<String>,
    variants: &BTreeMap<Digest, Digest>,
) -> Result<(), StoreError> {
    let recipe = TargetSpec { sync: SyncOptions::default(), ..target.spec.clone() };
    let recipe = serde_json::to_vec(&recipe).expect("a spec is JSON");
    let recipe = Digest::of(&recipe).as_bytes().to_vec();
    let variables: Vec<_> = variables.iter().cloned().collect();
    let after = Wanted { spec: &target.spec, variables: &variables, variants };
    let before = store::wanted::find(change, target.id).await?;
    let same = before.filter(|before| {
        // An earlier version wrote no spec.
        let is_known = before.target_version == target.version || before.recipe == recipe;
        let spec = before.spec.as_ref().or(is_known.then_some(&target.spec));
        spec.is_some_and(|spec| {
            let (variables, variants) = (&before.render.variables, &before.render.variants);
            after.is_same(&Wanted { spec, variables, variants })
        })
    });
    let since = same.map_or(render, |before| before.since);
    store::wanted::mark(change, target, revision.id, (render, &recipe, since)).await
}

/// What was just made is what fleets are about to ask for. Says how many bytes were not there yet.
async fn store_bundle(
    hub: &Hub,
    change: &mut Change<'_>,
    Made { manifest, objects }: Made,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let digests: Vec<_> = objects.iter().map(|object| object.digest).collect();
    let missing: BTreeSet<_> = store::bundles::list_missing_objects(change, &digests, now).await?.into_iter().collect();
    let blobs: Vec<_> = objects
        .into_iter()
        .filter(|object| missing.contains(&object.digest))
        .map(|object| Blob { digest: object.digest, frame: compression::compress(&object.body) })
        .collect();
    hub.content.keep_objects(&blobs);
    let bytes = blobs.iter().map(|blob| blob.frame.len()).sum();
    store::bundles::insert_objects(change, blobs, now).await?;
    let blob = Blob { digest: manifest.digest(), frame: compression::compress(&manifest.encode()) };
    store::bundles::insert_bundle(change, &blob, manifest.entries().len(), now).await?;
    hub.content.keep_manifest(manifest);
    Ok(bytes)
}

/// Written down and audited once, not at every reconcile.
async fn record_failure(
    change: &mut Change<'_>,
    target: &Target,
    revision: Option<&Revision>,
    condition: &Condition,
    now: Timestamp,
) -> Result<(), StoreError> {
    if condition.code != BROKE_DOWN {
        store::renders::end_try(change, target.id, None).await?;
    }
    let before = store::renders::find_condition(change, target.id).await?;
    let is_known = before.is_some_and(|before| before.code == condition.code && before.message == condition.message);
    store::renders::mark_condition(change, target.id, revision.map(|revision| revision.id), Some(condition)).await?;
    if is_known {
        return Ok(());
    }
    let subject = subjects::target(&target.name);
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::RenderFailed, subject);
    event.outcome = Outcome::Failed;
    event.commit = revision.map(|revision| revision.commit.clone());
    event.trace_id = revision.map(|revision| revision.trace_id.clone());
    event.reason.clone_from(&condition.message);
    event.detail = serde_json::json!({"code": condition.code, "file": condition.file, "line": condition.line});
    tracing::warn!(target.name = %target.name, error = condition.message, "a target does not render");
    change.audit(&event).await
}
