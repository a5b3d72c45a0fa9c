//! One target at one revision: from the files of the commit to a bundle for each distinct set of values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::parameters::Values;
use bellwether_core::{Condition, Digest, Name, RenderId};
use bellwether_render::{Input, Manifests, Marks, Plan, Recipe, RenderedObject};
use jiff::Timestamp;

use super::error::BundleError;
use super::{bounds, record};
use crate::Hub;
use crate::process::clock;
use crate::source::git::{ATTRIBUTES_FILE, CommitFiles, ReadError};
use crate::store::content;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::targets::Target;
use crate::store::{self, Connection, StoreError};

pub(super) struct Rendered {
    /// What it was made from: paths of the commit, and the digest of what was there.
    pub(super) inputs: (Vec<String>, String),
    pub(super) variables: BTreeSet<String>,
    /// The versions of what made it, if an engine did.
    pub(super) engine: Option<String>,
    /// An earlier render of the same is used.
    pub(super) is_reused: bool,
    /// Digest of the used parameters → bundle.
    pub(super) variants: BTreeMap<Digest, Digest>,
    /// Bundles that are not written yet.
    pub(super) unwritten: Vec<Made>,
    /// Why some clusters have none.
    pub(super) lacking: Option<Condition>,
    /// The render of exactly this revision and spec is there, and only variants are added to it.
    pub(super) existing: Option<RenderId>,
}

/// A bundle that was just made.
pub(super) struct Made {
    pub(super) manifest: Manifest,
    pub(super) objects: Vec<RenderedObject>,
}

impl Made {
    fn bytes(&self) -> usize {
        self.objects.iter().map(|object| object.body.len()).sum()
    }
}

/// Bundles that wait in memory to be written together, uncompressed. A fleet in which every cluster has values of its own
/// has as many bundles as clusters.
const UNWRITTEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Manifests that are read at once.
const MANIFESTS_AT_ONCE: usize = 50;

/// A target to be rendered at a revision, for the distinct values of its clusters.
pub(super) struct Job<'a> {
    pub(super) hub: &'a Hub,
    pub(super) target: &'a Target,
    pub(super) revision: &'a Revision,
    pub(super) clusters: Vec<(Name, Values)>,
    /// By somebody who waits for it.
    pub(super) is_asked: bool,
}

impl Job<'_> {
    pub(super) async fn render(
        &self,
        known: Option<Render>,
        agents: BTreeSet<String>,
    ) -> Result<Rendered, BundleError> {
        let same_spec = known.filter(|render| render.target_version == self.target.version);
        let same_spec = self.of_this_engine(same_spec).await?;
        let existing = same_spec.as_ref().filter(|render| render.revision == self.revision.id).map(|render| render.id);
        if let Some(reused) = self.find(same_spec).await?
            && (!self.is_asked || self.is_whole(&reused).await?)
        {
            return Ok(Rendered { existing, ..reused });
        }
        bounds::begin_try(self.hub, self.target, self.revision).await?;
        let manifests = Arc::new(self.open().await?);
        let recipe = Arc::new(Recipe {
            marks: Some(Marks { target: self.target.id, owner: self.hub.owner_of(self.target) }),
            namespace: self.target.spec.namespace.as_ref().map(ToString::to_string),
            agents,
        });
        let made = self.render_variants(&manifests, &recipe).await?;
        let (Variants { digests: variants, unwritten, .. }, lacking) = made.condition(clock::now())?;
        let inputs = and_attributes(manifests.inputs().paths());
        let digest = self.digest_of(inputs.clone()).await?;
        let (inputs, variables) = ((inputs.into_iter().collect(), digest), manifests.variables().clone());
        let engine = manifests.engine().map(|engine| engine.to_string());
        Ok(Rendered { inputs, variables, engine, is_reused: false, variants, unwritten, lacking, existing })
    }

    /// Not what an engine of other versions made before this hub began. What one made since is a newer hub's, which has its
    /// way; of a hub without an engine nothing is said while nothing changes.
    async fn of_this_engine(&self, render: Option<Render>) -> Result<Option<Render>, BundleError> {
        let Some(made_by) = render.as_ref().and_then(|render| render.engine.clone()) else { return Ok(render) };
        let engines = self.hub.engines.clone();
        let versions = blocking(move || Ok(engines.versions().ok())).await?;
        let is_other = versions.is_some_and(|versions| *versions != *made_by);
        Ok(render.filter(|render| !is_other || render.id.as_uuid() >= self.hub.id))
    }

    /// An earlier render of what the commit has at the paths that it came from, if it has a variant for every cluster.
    async fn find(&self, same_spec: Option<Render>) -> Result<Option<Rendered>, BundleError> {
        let Some(render) = same_spec.filter(|render| !render.inputs.is_empty()) else { return Ok(None) };
        let digest = self.digest_of(render.inputs.iter().cloned().collect()).await?;
        Ok(Some(render)
            .filter(|render| render.inputs_digest == digest)
            .and_then(|render| reuse(render, &self.clusters)))
    }

    async fn digest_of(&self, inputs: BTreeSet<String>) -> Result<String, BundleError> {
        let (mirror, commit) = (self.hub.mirrors.of(self.target.repo), self.revision.commit.clone());
        blocking(move || {
            let reader = mirror.reader().map_err(ReadError::from)?;
            Ok(reader.digest_of(&commit, &inputs)?)
        })
        .await
    }

    /// Whether all that an earlier render made is stored still. That is not asked whenever a cluster joins; but what lost
    /// something is made whole by whoever asks for it.
    async fn is_whole(&self, earlier: &Rendered) -> Result<bool, BundleError> {
        let bundles: BTreeSet<_> = earlier.variants.values().copied().collect();
        let mut db = self.hub.pool.acquire().await.map_err(StoreError::from)?;
        Ok(list_broken(&mut db, &bundles).await?.is_empty())
    }

    async fn open(&self) -> Result<Manifests<CommitFiles>, BundleError> {
        let mirror = self.hub.mirrors.of(self.target.repo);
        let (commit, engines, spec) = (self.revision.commit.clone(), self.hub.engines.clone(), &self.target.spec);
        let plan = Plan {
            folder: spec.path.clone(),
            options: spec.render.clone(),
            name: self.target.name.to_string(),
            namespace: spec.namespace.as_ref().map(ToString::to_string),
            has_parameters: !spec.parameters.is_empty(),
            project: self.target.project.to_string(),
        };
        blocking(move || {
            let reader = mirror.reader().map_err(ReadError::from)?;
            Ok(Manifests::open(engines, reader.files(&commit), plan)?)
        })
        .await
    }

    /// One after another, and written as they come; the last ones are left to whoever writes the render. After one that an
    /// engine did not end, none is begun: the others would take as long, and other targets wait.
    async fn render_variants(
        &self,
        manifests: &Arc<Manifests<CommitFiles>>,
        recipe: &Arc<Recipe>,
    ) -> Result<Variants, BundleError> {
        let (mut variants, mut failed, mut bytes) = (Variants::default(), BTreeSet::new(), 0);
        let (until, mut is_over) = (Instant::now() + Duration::from_mins(bounds::TOGETHER_MINUTES), false);
        for (cluster, values) in &self.clusters {
            let used = values.restricted_to(manifests.variables());
            let parameters = used.digest();
            if variants.digests.contains_key(&parameters) {
                continue;
            }
            if !is_over && Instant::now() >= until {
                is_over = true;
                variants.error.get_or_insert(BundleError::TooLong);
            }
            if is_over || failed.contains(&parameters) {
                variants.lacking.push(cluster.clone());
                continue;
            }
            if bytes > UNWRITTEN_BYTES_MAX {
                record::write_bundles(self.hub, self.target.id, std::mem::take(&mut variants.unwritten)).await?;
                bytes = 0;
            }
            let (manifests, recipe) = (manifests.clone(), recipe.clone());
            match blocking(move || make(&manifests, &recipe, &used)).await {
                Ok(made) => {
                    bytes += made.bytes();
                    variants.digests.insert(parameters, made.manifest.digest());
                    variants.unwritten.push(made);
                }
                Err(error) if error.is_of_content() => {
                    is_over |= error.is_over_limit();
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

/// Those of these bundles of which something is not stored, or cannot be read. Asked of the rows: what this hub has in
/// memory need not be stored.
pub(super) async fn list_broken(
    db: &mut Connection,
    bundles: &BTreeSet<Digest>,
) -> Result<BTreeSet<Digest>, StoreError> {
    let (bundles, mut broken) = (bundles.iter().copied().collect::<Vec<_>>(), BTreeSet::new());
    for some in bundles.chunks(MANIFESTS_AT_ONCE) {
        let manifests = content::read_manifests(db, some).await?;
        let manifests: BTreeMap<_, _> =
            manifests.into_iter().filter_map(Result::ok).map(|one| (one.digest(), one)).collect();
        let objects_of = |manifest: &Manifest| manifest.entries().iter().map(|entry| entry.digest).collect::<Vec<_>>();
        let objects: BTreeSet<_> = manifests.values().flat_map(objects_of).collect();
        let objects: Vec<_> = objects.into_iter().collect();
        let missing: BTreeSet<_> = store::bundles::list_missing(db, &objects).await?.into_iter().collect();
        let is_whole = |bundle: &Digest| {
            manifests.get(bundle).is_some_and(|manifest| !objects_of(manifest).iter().any(|one| missing.contains(one)))
        };
        broken.extend(some.iter().filter(|bundle| !is_whole(bundle)));
    }
    Ok(broken)
}

/// What a repo says of files stands in other files, in each folder that they are in.
fn and_attributes(mut inputs: BTreeSet<String>) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for input in &inputs {
        let path = Input::parse(input).path;
        folders.extend(path.match_indices('/').map(|(end, _)| path[..=end].to_owned()));
        // Of the repo's root everything is an input already.
        folders.extend((!path.is_empty()).then(String::new));
    }
    inputs.extend(folders.into_iter().map(|folder| folder + ATTRIBUTES_FILE));
    inputs
}

/// An earlier render of the same, if it has a variant for every cluster.
fn reuse(render: Render, clusters: &[(Name, Values)]) -> Option<Rendered> {
    let variables: BTreeSet<_> = render.variables.into_iter().collect();
    let covers = |values: &Values| render.variants.contains_key(&values.restricted_to(&variables).digest());
    if !clusters.iter().all(|(_, values)| covers(values)) || render.variants.is_empty() {
        return None;
    }
    Some(Rendered {
        inputs: (render.inputs, render.inputs_digest),
        variables,
        engine: render.engine,
        is_reused: true,
        variants: render.variants,
        unwritten: Vec::new(),
        lacking: None,
        existing: None,
    })
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
                let condition = error.map(|error| error.condition(now)).map(|condition| {
                    let message = format!("{}: {}", named(&lacking), condition.message);
                    condition.saying(&message)
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

/// Computes; what breaks down in it is told at the target.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BundleError> + Send + 'static,
) -> Result<T, BundleError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BundleError::BrokeDown))
}

fn make(manifests: &Manifests<CommitFiles>, recipe: &Recipe, values: &Values) -> Result<Made, BundleError> {
    let objects = manifests.render(recipe, values)?;
    let entries = objects.iter().map(|object| Entry { key: object.key.clone(), digest: object.digest });
    Ok(Made { manifest: Manifest::new(entries.collect())?, objects })
}
