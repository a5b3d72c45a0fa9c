//! The bundle stage: revision + recipe + parameters → objects → bundles.
//!
//! For each target whose folder moved, whose spec changed or whose clusters changed: renders the newest revision once for
//! each distinct set of used parameters, and writes what came out under its digest. A folder that did not change is not
//! read again. What does not render is said at the target, and the last good render stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bellwether_core::api::Condition;
use bellwether_core::audit::{Event, Outcome, Subject};
use bellwether_core::bundle::{Entry, Manifest, ManifestError};
use bellwether_core::parameters::{ClusterFacts, Parameters, Values};
use bellwether_core::report::bounded_message;
use bellwether_core::{Digest, RenderId, TargetId};
use bellwether_proto::zip;
use bellwether_render::{Documents, Recipe, RenderError, RenderedObject};
use jiff::Timestamp;

use crate::change::Change;
use crate::source::git::ReadError;
use crate::stage::Slow;
use crate::store::bundles::Blob;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::targets::Target;
use crate::store::work::{self, Due, Stage};
use crate::store::{self, StoreError};
use crate::{Hub, actors, clock};

pub(crate) struct Bundle;

impl Slow for Bundle {
    const STAGE: Stage = Stage::Bundle;
    /// Rendering computes; more at once than cores only makes each later.
    const AT_ONCE: usize = 4;

    async fn look(&self, hub: &Hub, due: &Due) -> Result<(), StoreError> {
        let mut db = hub.pool.acquire().await?;
        let Some(target) = store::targets::find(&mut db, TargetId::new(due.key)).await? else {
            drop(db);
            return finish(hub, due, None).await;
        };
        // Source leaves out targets whose folder a revision did not move. Whoever reads a target after it was changed,
        // and before the revision that was seen with its spec of before, would never hear of that revision.
        work::await_subject(&mut db, Stage::Source, target.repo.as_uuid()).await?;
        let head = store::revisions::find_head(&mut db, target.repo, &target.reference).await?;
        let ref_condition = store::revisions::find_ref_condition(&mut db, target.repo, &target.reference).await?;
        let Some(revision) = head else {
            drop(db);
            let outcome = ref_condition.map(|condition| Said { target, revision: None, result: Err(condition) });
            return finish(hub, due, outcome).await;
        };
        let known = store::renders::find_newest(&mut db, target.id).await?;
        let values = values_of(&mut db, &target).await?;
        drop(db);
        let result = match render(hub, &target, &revision, known, values).await {
            Err(BundleError::Read(ReadError::NoSuchCommit { .. })) => return await_mirror(hub, &target, due).await,
            Ok(_) if ref_condition.is_some() => Err(ref_condition.expect("it was just found")),
            other => other.map_err(|error| error.condition(clock::now())),
        };
        finish(hub, due, Some(Said { target, revision: Some(revision), result })).await
    }
}

/// Between looks for a commit that this hub's mirror lacks: another hub has seen it, or the mirror was lost.
const MIRROR_PAUSE: Duration = Duration::from_secs(1);

/// The rows stay: a hub that has the commit may take them, and this one looks again when it has fetched.
async fn await_mirror(hub: &Hub, target: &Target, due: &Due) -> Result<(), StoreError> {
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    change.tell(Stage::Source, &[target.repo.as_uuid()], clock::now(), due.trace_id.as_deref()).await?;
    change.commit().await?;
    tokio::time::sleep(MIRROR_PAUSE).await;
    Ok(())
}

/// The distinct values that the selected clusters have. Clusters that have not joined yet are left out: they are
/// rendered for when they come.
async fn values_of(db: &mut store::Connection, target: &Target) -> Result<Vec<Values>, StoreError> {
    let candidates = store::fleet::list_candidates(db, target.project, clock::now()).await?;
    Ok(candidates
        .iter()
        .filter(|cluster| target.spec.clusters.selects(&cluster.labels))
        .map(|cluster| {
            let facts = ClusterFacts { name: &cluster.name, labels: &cluster.labels };
            Parameters::resolve(&target.spec.parameters, facts)
        })
        .collect())
}

/// What one look came to.
struct Said {
    target: Target,
    revision: Option<Revision>,
    result: Result<Rendered, Condition>,
}

struct Rendered {
    tree: String,
    variables: BTreeSet<String>,
    /// Digest of the used parameters → what it renders to.
    variants: BTreeMap<Digest, Variant>,
    /// The render of exactly this revision and spec is there, and only variants are added to it.
    existing: Option<RenderId>,
}

enum Variant {
    /// Made by an earlier render.
    Known(Digest),
    New {
        manifest: Manifest,
        objects: Vec<RenderedObject>,
    },
}

impl Variant {
    fn digest(&self) -> Digest {
        match self {
            Self::Known(digest) => *digest,
            Self::New { manifest, .. } => manifest.digest(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum BundleError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl BundleError {
    fn condition(&self, now: Timestamp) -> Condition {
        let (code, hint, file, line) = match self {
            Self::Read(error) => (error.code(), error.hint(), None, None),
            Self::Render(error) => (error.code(), error.hint(), error.file().map(ToOwned::to_owned), error.line()),
            Self::Manifest(_) => ("bundle_invalid", None, None, None),
        };
        Condition {
            code: code.to_owned(),
            message: bounded_message(&crate::chain(self)),
            hint,
            file,
            line,
            since: Some(now),
        }
    }
}

async fn render(
    hub: &Hub,
    target: &Target,
    revision: &Revision,
    known: Option<Render>,
    values: Vec<Values>,
) -> Result<Rendered, BundleError> {
    let mirror = hub.mirrors.of(target.repo);
    let (commit, path) = (revision.commit.clone(), target.spec.path.clone());
    let recipe = Recipe {
        target: target.id,
        owner: hub.owner_of(target),
        namespace: target.spec.namespace.as_ref().map(ToString::to_string),
        agents: BTreeSet::new(),
    };
    let same_spec = known.as_ref().filter(|render| render.target_version == target.version).cloned();
    let existing = same_spec.as_ref().filter(|render| render.revision == revision.id).map(|render| render.id);
    let work = move || {
        let reader = mirror.reader().map_err(ReadError::from)?;
        let tree = reader.tree_of(&commit, &path)?;
        if let Some(reused) = same_spec.filter(|render| render.tree == tree).and_then(|render| reuse(render, &values)) {
            return Ok(Rendered { tree, existing, ..reused });
        }
        let mut files = reader.read_folder(&commit, &path)?.files;
        if !path.is_empty() {
            // People read paths from the repo's root on.
            for file in &mut files {
                file.path = format!("{path}/{}", file.path);
            }
        }
        let documents = Documents::parse(&path, &files)?;
        let variables = documents.variables().clone();
        let variants = render_variants(&documents, &recipe, &variables, &values)?;
        Ok(Rendered { tree, variables, variants, existing })
    };
    tokio::task::spawn_blocking(work).await.expect("a render does not panic")
}

/// An earlier render of the same folder with the same spec, if it has a variant for every cluster.
fn reuse(render: Render, values: &[Values]) -> Option<Rendered> {
    let variables: BTreeSet<_> = render.variables.into_iter().collect();
    let covers = |values: &Values| render.variants.contains_key(&values.restricted_to(&variables).digest());
    if !values.iter().all(covers) || render.variants.is_empty() {
        return None;
    }
    let variants = render.variants.into_iter().map(|(used, digest)| (used, Variant::Known(digest))).collect();
    Some(Rendered { tree: render.tree, variables, variants, existing: None })
}

fn render_variants(
    documents: &Documents,
    recipe: &Recipe,
    variables: &BTreeSet<String>,
    values: &[Values],
) -> Result<BTreeMap<Digest, Variant>, BundleError> {
    let mut variants = BTreeMap::new();
    for values in values {
        let used = values.restricted_to(variables);
        if let std::collections::btree_map::Entry::Vacant(vacant) = variants.entry(used.digest()) {
            let objects = documents.render(recipe, &used)?;
            let entries = objects.iter().map(|object| Entry { key: object.key.clone(), digest: object.digest });
            let manifest = Manifest::new(entries.collect())?;
            vacant.insert(Variant::New { manifest, objects });
        }
    }
    Ok(variants)
}

async fn finish(hub: &Hub, due: &Due, said: Option<Said>) -> Result<(), StoreError> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    if !work::lock_subject(&mut change, Stage::Bundle, due.key).await? {
        return Ok(());
    }
    // Another hub has taken them, and what it wrote may be of a newer revision than what is known here.
    if !work::take_seen(&mut change, due).await? {
        return Ok(());
    }
    let Some(said) = said else { return change.commit().await };
    match said.result {
        Ok(rendered) => {
            let revision = said.revision.expect("only a revision renders");
            let bundles = rendered.variants.len();
            record(hub, &mut change, &said.target, &revision, rendered, now).await?;
            let trace_id = due.trace_id.clone().unwrap_or_else(clock::new_trace);
            change.tell(Stage::Rollout, &[due.key], now, Some(&trace_id)).await?;
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
            change.commit().await
        }
    }
}

async fn record(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    revision: &Revision,
    rendered: Rendered,
    now: Timestamp,
) -> Result<(), StoreError> {
    let digests = rendered.variants.iter().map(|(used, variant)| (*used, variant.digest())).collect();
    for variant in rendered.variants.into_values() {
        if let Variant::New { manifest, objects } = variant {
            store_bundle(hub, change, manifest, objects, now).await?;
        }
    }
    if let Some(existing) = rendered.existing {
        store::renders::insert_variants(change, existing, &digests).await?;
    } else {
        let render = Render {
            id: RenderId::new(clock::new_id()),
            target: target.id,
            revision: revision.id,
            target_version: target.version,
            tree: rendered.tree,
            variables: rendered.variables.into_iter().collect(),
            variants: digests,
        };
        store::renders::insert(change, &render, now).await?;
    }
    store::renders::mark_condition(change, target.id, None, None).await
}

/// What was just made is what fleets are about to ask for.
async fn store_bundle(
    hub: &Hub,
    change: &mut Change<'_>,
    manifest: Manifest,
    objects: Vec<RenderedObject>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let digests: Vec<_> = objects.iter().map(|object| object.digest).collect();
    let missing: BTreeSet<_> = store::bundles::list_missing_objects(change, &digests, now).await?.into_iter().collect();
    let blobs: Vec<_> = objects
        .into_iter()
        .filter(|object| missing.contains(&object.digest))
        .map(|object| Blob { digest: object.digest, frame: zip::deflate(&object.body) })
        .collect();
    hub.content.keep_objects(&blobs);
    store::bundles::insert_objects(change, blobs, now).await?;
    let blob = Blob { digest: manifest.digest(), frame: zip::deflate(&manifest.encode()) };
    store::bundles::insert_bundle(change, &blob, manifest.entries().len(), now).await?;
    hub.content.keep_manifest(manifest);
    Ok(())
}

/// Written down and audited once, not at every look.
async fn record_failure(
    change: &mut Change<'_>,
    target: &Target,
    revision: Option<&Revision>,
    condition: &Condition,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = store::renders::find_condition(change, target.id).await?;
    let is_known = before.is_some_and(|before| before.code == condition.code && before.message == condition.message);
    store::renders::mark_condition(change, target.id, revision.map(|revision| revision.id), Some(condition)).await?;
    if is_known {
        return Ok(());
    }
    let subject = Subject { kind: "target".to_owned(), name: target.name.to_string() };
    let mut event = Event::new(clock::new_id(), now, actors::hub(), "render.failed", subject);
    event.outcome = Outcome::Failed;
    event.target = Some(target.name.to_string());
    event.commit = revision.map(|revision| revision.commit.clone());
    event.trace_id = revision.map(|revision| revision.trace_id.clone());
    event.reason.clone_from(&condition.message);
    event.detail = serde_json::json!({"code": condition.code, "file": condition.file, "line": condition.line});
    tracing::warn!(target.name = %target.name, error = condition.message, "a target does not render");
    change.audit(&event).await
}
