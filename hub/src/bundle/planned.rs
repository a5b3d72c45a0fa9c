//! What a target would give its clusters at a commit, or by another spec: rendered as the stage does it, kept in memory, and
//! written nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bellwether_core::bundle::Manifest;
use bellwether_core::parameters::{Parameters, TraitsUsed};
use bellwether_core::render::LeftOutHook;
use bellwether_core::rollout::Candidate;
use bellwether_core::source::GitRef;
use bellwether_core::{Condition, Digest, Name, ObjectKey};

use super::error::BundleError;
use super::frozen;
use super::job::Job;
use super::sources::{SourceError, Sources};
use crate::Hub;
use crate::process::clock;
use crate::source::looked;
use crate::store::revisions::Revision;
use crate::store::sources::ReadSource;
use crate::store::targets::Target;
use crate::store::{self, StoreError};

/// Bodies of objects and lists of them, each once: a thousand clusters with 32 KiB of their own each.
pub(crate) const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Files that a server left out come with another fetch, and what these name with another.
const FETCHES_MAX: u32 = 4;

/// What each cluster would be given.
pub(crate) struct Planned {
    /// Or why it would be given nothing.
    pub(crate) gives: BTreeMap<Name, Result<Digest, Arc<Condition>>>,
    pub(crate) manifests: BTreeMap<Digest, Manifest>,
    /// Canonical JSON.
    pub(crate) bodies: BTreeMap<Digest, Vec<u8>>,
    pub(crate) sources: Vec<ReadSource>,
    pub(crate) left_out_hooks: BTreeSet<LeftOutHook>,
    /// What is left to chance comes out otherwise when it is rolled out.
    pub(crate) is_drawn: bool,
}

/// What is to be rendered, and for how long.
pub(crate) struct Asked<'a> {
    /// With the spec that it would have.
    pub(crate) target: &'a Target,
    pub(crate) revision: &'a Revision,
    pub(crate) reference: &'a GitRef,
    pub(crate) candidates: &'a [Candidate],
    /// The target follows it already: what is frozen for that is not kept from it.
    pub(crate) is_let_in: bool,
    /// No fetch goes on, and no render is begun, after that.
    pub(crate) until: Instant,
}

/// `Err`: why nobody would be given anything.
pub(crate) async fn render(hub: &Hub, asked: &Asked<'_>) -> Result<Result<Planned, Condition>, StoreError> {
    let &Asked { target, revision, reference, candidates, until, .. } = asked;
    let mut db = hub.pool.acquire().await?;
    let agents = store::clusters::list_agent_namespaces(&mut db, target.project.id).await?;
    let mut sources = Sources::default();
    sources.find(&mut db, target, target.spec.render.sources()).await?;
    drop(db);
    let values = |one: &Candidate| (one.name.clone(), Parameters::resolve(&target.spec.parameters, one.facts()));
    let mut job = Job {
        hub,
        target,
        revision,
        clusters: candidates.iter().map(values).collect(),
        read: TraitsUsed::ALL,
        is_asked: true,
        longest: until.saturating_duration_since(Instant::now()),
        sources: Arc::new(sources),
        asked: Arc::default(),
    };
    let mut fetches = 0;
    loop {
        let error = match render_once(&job, agents.clone(), asked).await {
            Ok(planned) => return Ok(Ok(planned)),
            Err(BundleError::Store(error)) => return Err(error),
            Err(error) => error,
        };
        let is_unknown = matches!(error, BundleError::Source { error: SourceError::Unknown, .. });
        let lacking = error.lacking(target.repo).filter(|_| fetches < FETCHES_MAX);
        if Instant::now() >= until && (is_unknown || lacking.is_some()) {
            return Ok(Err(too_much("to find out what it is rendered from takes too long")));
        }
        if is_unknown {
            let mut db = hub.pool.acquire().await?;
            Arc::make_mut(&mut job.sources).find(&mut db, target, job.asked.list()).await?;
        } else if let Some(repo) = lacking {
            fetches += 1;
            let got = if repo == target.repo {
                looked::look(hub, repo, reference, until).await?.map(drop)
            } else {
                looked::fetch_more(hub, repo, until).await?
            };
            if let Err(condition) = got {
                return Ok(Err(condition));
            }
        } else {
            return Ok(Err(error.condition(clock::now())));
        }
        job.asked = Arc::default();
    }
}

/// One after another, as the stage does; after one that an engine did not end none is begun.
async fn render_once(job: &Job<'_>, agents: BTreeSet<String>, asked: &Asked<'_>) -> Result<Planned, BundleError> {
    let until = asked.until;
    let (frozen, is_drawn) = frozen::find_or_draw(job.hub, job.target, asked.is_let_in).await?;
    let manifests = Arc::new(job.open_with(frozen).await?);
    let recipe = Arc::new(job.recipe(agents));
    let mut planned = Planned {
        gives: BTreeMap::new(),
        manifests: BTreeMap::new(),
        bodies: BTreeMap::new(),
        sources: Vec::new(),
        left_out_hooks: BTreeSet::new(),
        is_drawn,
    };
    let mut variables = job.check_read(manifests.variables())?;
    let mut known: BTreeMap<Digest, Result<Digest, Arc<Condition>>> = BTreeMap::new();
    let (mut stopped, mut bytes): (Option<Arc<Condition>>, usize) = (None, 0);
    for (cluster, values) in &job.clusters {
        if let Some(known) = known.get(&values.restricted_to(&variables).digest()) {
            planned.gives.insert(cluster.clone(), known.clone());
            continue;
        }
        if Instant::now() >= until && !known.is_empty() {
            stopped.get_or_insert_with(|| Arc::new(too_much("to render it for all of its clusters takes too long")));
        }
        if let Some(stopped) = &stopped {
            planned.gives.insert(cluster.clone(), Err(Arc::clone(stopped)));
            continue;
        }
        let made = job.make_one(&manifests, &recipe, values).await;
        let found = manifests.variables();
        if found != variables {
            let found = job.check_read(found)?;
            known = job.regroup(&known, &variables, &found);
            variables = found;
        }
        let gives = match made {
            Ok(made) => {
                let digest = made.manifest.digest();
                bytes += if planned.manifests.contains_key(&digest) { 0 } else { bytes_of(&made.manifest) };
                planned.manifests.insert(digest, made.manifest);
                for object in made.objects {
                    bytes += if planned.bodies.contains_key(&object.digest) { 0 } else { object.body.len() };
                    planned.bodies.insert(object.digest, object.body);
                }
                if bytes > HELD_BYTES_MAX {
                    let why = format!("what its clusters get is more than {} MiB together", HELD_BYTES_MAX >> 20);
                    stopped = Some(Arc::new(too_much(&why)));
                }
                Ok(digest)
            }
            Err(error) if error.is_of_content() => {
                let condition = Arc::new(error.condition(clock::now()));
                if error.is_over_limit() {
                    stopped = Some(Arc::clone(&condition));
                }
                Err(condition)
            }
            Err(error) => return Err(error),
        };
        known.insert(values.restricted_to(&variables).digest(), gives.clone());
        planned.gives.insert(cluster.clone(), gives);
    }
    planned.sources = job.asked.found(&job.sources);
    planned.left_out_hooks = manifests.left_out_hooks().into_iter().collect();
    Ok(planned)
}

/// Of its keys, roughly: they are held once more by what becomes of each object.
fn bytes_of(manifest: &Manifest) -> usize {
    let of_key = |key: &ObjectKey| {
        let namespace = key.namespace.as_ref().map_or(0, String::len);
        key.api_version.len() + key.kind.len() + namespace + key.name.len()
    };
    manifest.entries().iter().map(|entry| size_of_val(entry) + of_key(&entry.key)).sum()
}

fn too_much(why: &str) -> Condition {
    let hint = "the rollout has no such bound; a target for fewer clusters can be planned whole";
    Condition::new("plan_too_much", why, Some(hint), Some(clock::now()))
}
