//! One target at one revision: from the files of the commit, or from what was made of them before, to a
//! bundle for each distinct set of values. Neighbour: `variants` makes those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::bundle::Manifest;
use bellwether_core::parameters::{TraitsUsed, Values};
use bellwether_core::render::LeftOutHook;
use bellwether_core::{Condition, Digest, Name, RenderId, RepoId};
use bellwether_render::{Frozen, MadeBy, Manifests, Marks, Plan, Recipe, VERSION, made_by};
use jiff::SignedDuration;

use super::error::BundleError;
use super::sources::{RepoFiles, RequestedSources, Sources};
use super::variants::{Lacking, Made};
use super::{bounds, frozen};
use crate::Hub;
use crate::process::clock;
use crate::source::git::ReadError;
use crate::store::content;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::sources::{ReadSource, inputs_of};
use crate::store::targets::Target;
use crate::store::{self, Connection, StoreError};

pub(super) struct Rendered {
    /// What it was made from: paths of the commit and of its sources, and the digest of what was there.
    pub(super) inputs: (Vec<String>, String),
    /// Other repos that it was made from.
    pub(super) sources: Vec<ReadSource>,
    pub(super) variables: BTreeSet<String>,
    /// Hooks that are not applied.
    pub(super) left_out_hooks: BTreeSet<LeftOutHook>,
    /// The versions of what made it.
    pub(super) engine: Option<String>,
    /// An earlier render of the same is used.
    pub(super) is_reused: bool,
    /// Digest of the used parameters → bundle.
    pub(super) variants: BTreeMap<Digest, Digest>,
    /// Of these, what no cluster needs any more.
    pub(super) spare: Vec<Digest>,
    /// Bundles that are not written yet.
    pub(super) unwritten: Vec<Made>,
    /// Why some clusters have none.
    pub(super) lacking: Option<Condition>,
    /// When to go on, if not all was made that could be; `None`: nothing would come of it.
    pub(super) again: Option<SignedDuration>,
    /// The render of exactly this revision and spec is there, and only variants are added to it.
    pub(super) existing: Option<RenderId>,
}

/// Manifests that are read at once.
const MANIFESTS_AT_ONCE: usize = 50;

/// A target to be rendered at a revision, for the distinct values of its clusters.
pub(super) struct Job<'a> {
    pub(super) hub: &'a Hub,
    pub(super) target: &'a Target,
    pub(super) revision: &'a Revision,
    pub(super) clusters: Vec<(Name, Values)>,
    /// Of these it is known which traits they have.
    pub(super) read: TraitsUsed,
    /// By somebody who waits for it.
    pub(super) is_asked: bool,
    /// For all that it renders.
    pub(super) longest: Duration,
    /// What is known of other repos.
    pub(super) sources: Arc<Sources>,
    /// Which of them are needed.
    pub(super) asked: Arc<RequestedSources>,
}

impl Job<'_> {
    pub(super) async fn render(
        &self,
        known: Option<Render>,
        agents: BTreeSet<String>,
    ) -> Result<Rendered, BundleError> {
        let same_spec = known.filter(|render| render.target_version == self.target.version);
        let same_spec = self.of_this_engine(same_spec).await?;
        let before = same_spec.as_ref().filter(|render| render.revision == self.revision.id);
        let before = before.map(|render| (render.id, render.sources.clone(), render.variables.clone()));
        // A row's variants are found by its variables: what more of them turn up for is another row.
        let existing = |sources: &[ReadSource], variables: &BTreeSet<String>| {
            let is_same = |read: &[ReadSource]| {
                read.len() == sources.len() && read.iter().zip(sources).all(|(one, now)| one.has_same_files(now))
            };
            before.filter(|(_, read, used)| is_same(read) && used.iter().eq(variables)).map(|(id, ..)| id)
        };
        let earlier = self.find(same_spec).await?;
        let is_whole = match &earlier {
            Some(earlier) if self.is_asked => self.is_whole(earlier).await?,
            _ => true,
        };
        let waiting = earlier.as_ref().filter(|_| is_whole).map(|earlier| self.waiting(earlier)).unwrap_or_default();
        if is_whole && earlier.as_ref().is_some_and(|earlier| self.covers(earlier, &waiting)) {
            let earlier = earlier.expect("it was just looked at");
            let existing = existing(&earlier.sources, &earlier.variables.iter().cloned().collect());
            return Ok(self.reuse(earlier, existing, &waiting));
        }
        bounds::begin_try(self.hub, self.target, self.revision).await?;
        let rendered = self.render_more((earlier, is_whole), waiting, agents).await?;
        let existing = existing(&rendered.sources, &rendered.variables);
        Ok(Rendered { existing, ..rendered })
    }

    /// What an earlier render lacks; where that is not whole, or does not count, everything.
    async fn render_more(
        &self,
        (earlier, is_whole): (Option<Render>, bool),
        waiting: BTreeSet<Digest>,
        agents: BTreeSet<String>,
    ) -> Result<Rendered, BundleError> {
        let manifests = Arc::new(self.open().await?);
        let recipe = Arc::new(self.recipe(agents));
        // What it made goes on being what the same files make, and goes on depending on what it read.
        manifests.know(earlier.iter().flat_map(|earlier| &earlier.variables));
        let earlier = earlier.filter(|earlier| earlier.variables.iter().eq(&manifests.variables()));
        let kept = earlier.as_ref().filter(|_| is_whole).map(|earlier| (earlier.variants.clone(), waiting));
        let made = self.render_variants(&manifests, &recipe, kept.unwrap_or_default()).await?;
        let (mut inputs, mut left_out_hooks) = (manifests.inputs().paths(), manifests.left_out_hooks());
        let mut engine = Some(made_by(manifests.engine().as_deref()));
        if let Some(earlier) = earlier {
            inputs.extend(earlier.inputs);
            left_out_hooks.extend(earlier.left_out_hooks);
            self.asked.extend(earlier.sources.into_iter().map(|one| one.source));
            engine = match earlier.engine {
                Some(maker) => engine.and_then(|engine| made_together(&maker, engine)),
                None => engine,
            };
        }
        let (inputs, sources): (Vec<_>, _) = (inputs.into_iter().collect(), self.asked.found(&self.sources));
        let digest = self.digest_of(&inputs, &sources).await?;
        let (lacking, again) = made.lacking.tell(clock::now());
        Ok(Rendered {
            inputs: (inputs, digest),
            sources,
            variables: manifests.variables(),
            left_out_hooks,
            engine,
            is_reused: false,
            variants: made.digests,
            spare: made.spare,
            unwritten: made.unwritten,
            lacking,
            again,
            existing: None,
        })
    }

    /// Not what an earlier version of this program made, nor what an engine of other versions made before this hub began.
    /// What a later version made, or such an engine since then, is a newer hub's, which has its way; of a hub without an engine
    /// nothing is said while nothing changes.
    pub(super) async fn of_this_engine(&self, render: Option<Render>) -> Result<Option<Render>, BundleError> {
        let made_by = render.as_ref().and_then(|render| render.engine.clone()).unwrap_or_default();
        let made_by = match MadeBy::read(&made_by) {
            MadeBy { version, .. } if version < VERSION => return Ok(None),
            MadeBy { version, engine: Some(engine) } if version == VERSION => engine.to_owned(),
            MadeBy { .. } => return Ok(render),
        };
        let engines = self.hub.engines.clone();
        let versions = blocking(move || Ok(engines.versions().ok())).await?;
        let is_other = versions.is_some_and(|versions| *versions != *made_by);
        Ok(render.filter(|render| !is_other || render.id.as_uuid() >= self.hub.id))
    }

    /// An earlier render of what the commit and its sources have at the paths that it came from, with where these are now.
    async fn find(&self, same_spec: Option<Render>) -> Result<Option<Render>, BundleError> {
        let Some(render) = same_spec.filter(|render| !render.inputs.is_empty()) else { return Ok(None) };
        let sources = self.sources.found(&render.sources.iter().map(|one| one.source.clone()).collect());
        if sources.len() < render.sources.len() {
            return Ok(None);
        }
        let digest = self.digest_of(&render.inputs, &sources).await?;
        Ok(Some(Render { sources, ..render }).filter(|render| render.inputs_digest == digest))
    }

    /// Whether a render has a variant for every cluster, but for those that wait.
    pub(super) fn covers(&self, render: &Render, waiting: &BTreeSet<Digest>) -> bool {
        let variables: BTreeSet<_> = render.variables.iter().cloned().collect();
        let is_settled = |parameters| render.variants.contains_key(&parameters) || waiting.contains(&parameters);
        !render.variants.is_empty()
            && self.clusters.iter().all(|(_, values)| is_settled(values.restricted_to(&variables).digest()))
    }

    /// Which variants that an earlier render lacks are not to be made yet: for what each of their clusters' agents says, too much
    /// was rendered lately. What is made the first time is made for everybody, and asks nobody.
    fn waiting(&self, earlier: &Render) -> BTreeSet<Digest> {
        let is_told = |name: &&String| TraitsUsed::by([*name]).is_of_agents();
        let told: BTreeSet<_> = earlier.variables.iter().filter(is_told).cloned().collect();
        if told.is_empty() || earlier.variants.is_empty() {
            return BTreeSet::new();
        }
        let variables: BTreeSet<_> = earlier.variables.iter().cloned().collect();
        let mut lacked: BTreeMap<Digest, bool> = BTreeMap::new();
        for cluster in &self.clusters {
            let parameters = cluster.1.restricted_to(&variables).digest();
            if !earlier.variants.contains_key(&parameters) {
                // Clusters that are to have the same pay for it once.
                let is_admitted = lacked.entry(parameters).or_default();
                *is_admitted = *is_admitted || self.hub.told_renders.admit(self.target.id, cluster, &told);
            }
        }
        lacked.into_iter().filter_map(|(parameters, is_admitted)| (!is_admitted).then_some(parameters)).collect()
    }

    fn reuse(&self, render: Render, existing: Option<RenderId>, waiting: &BTreeSet<Digest>) -> Rendered {
        let variables = render.variables.into_iter().collect();
        let waits = |(_, values): &&(Name, Values)| waiting.contains(&values.restricted_to(&variables).digest());
        let named = self.clusters.iter().filter(|_| !waiting.is_empty()).filter(waits).map(|(name, _)| name.clone());
        let (lacking, again) = Lacking::of_waiting(named.collect()).tell(clock::now());
        Rendered {
            inputs: (render.inputs, render.inputs_digest),
            sources: render.sources,
            left_out_hooks: render.left_out_hooks.into_iter().collect(),
            engine: render.engine,
            is_reused: true,
            variants: render.variants,
            spare: Vec::new(),
            unwritten: Vec::new(),
            lacking,
            again,
            existing,
            variables,
        }
    }

    /// Of what a render read in its repo and, if there are some, in its sources.
    async fn digest_of(&self, inputs: &[String], sources: &[ReadSource]) -> Result<String, BundleError> {
        let mirrors = self.hub.mirrors.clone();
        let own = (self.target.repo, self.revision.commit.clone(), inputs_of(inputs, sources, None));
        let there: Vec<_> = sources
            .iter()
            .map(|source| {
                let read = (source.repo, source.commit.clone(), inputs_of(inputs, sources, Some(source)));
                (source.source.mount(), read)
            })
            .collect();
        blocking(move || {
            let digest_of = |(repo, commit, inputs): &(RepoId, String, BTreeSet<String>)| {
                mirrors.of(*repo).reader().map_err(ReadError::from)?.digest_of(commit, inputs)
            };
            let mut digest = digest_of(&own)?;
            for (mount, read) in &there {
                let there = digest_of(read).map_err(|error| BundleError::ReadThere {
                    repo: read.0,
                    mount: mount.clone(),
                    error,
                })?;
                digest = Digest::of(format!("{digest}\0{mount}\0{there}").as_bytes()).to_string();
            }
            Ok(digest)
        })
        .await
    }

    /// Whether all that an earlier render made is stored still. That is not asked whenever a cluster joins; but what lost
    /// something is made whole by whoever asks for it.
    async fn is_whole(&self, earlier: &Render) -> Result<bool, BundleError> {
        let bundles: BTreeSet<_> = earlier.variants.values().copied().collect();
        let mut db = self.hub.pool.acquire().await.map_err(StoreError::from)?;
        Ok(list_broken(&mut db, &bundles).await?.is_empty())
    }

    pub(super) fn recipe(&self, agents: BTreeSet<String>) -> Recipe {
        Recipe {
            marks: Some(Marks { target: self.target.id, owner: self.hub.owner_of(self.target) }),
            namespace: self.target.spec.namespace.as_ref().map(ToString::to_string),
            agents,
        }
    }

    async fn open(&self) -> Result<Manifests<RepoFiles>, BundleError> {
        let frozen = frozen::find_or_make(self.hub, self.target).await?;
        self.open_with(frozen).await
    }

    pub(super) async fn open_with(&self, frozen: Option<Frozen>) -> Result<Manifests<RepoFiles>, BundleError> {
        let (mirrors, engines, spec) = (self.hub.mirrors.clone(), self.hub.engines.clone(), &self.target.spec);
        let (repo, commit) = (self.target.repo, self.revision.commit.clone());
        let (sources, asked) = (self.sources.clone(), self.asked.clone());
        let plan = Plan {
            folder: spec.path.clone(),
            options: spec.render.clone(),
            name: self.target.name.to_string(),
            namespace: spec.namespace.as_ref().map(ToString::to_string),
            has_parameters: !spec.parameters.is_empty(),
            project: self.target.project.id.to_string(),
        };
        blocking(move || {
            let own = mirrors.of(repo).reader().map_err(ReadError::from)?.files(&commit);
            let mut manifests = Manifests::open(engines, RepoFiles::new(mirrors, own, sources, asked), plan)?;
            if let Some(frozen) = frozen {
                manifests.freeze_with(frozen);
            }
            Ok(manifests)
        })
        .await
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

/// What is said of a render that holds what two made: of two versions the earlier one, so that the later one makes it anew. Of two
/// engines nobody knows which is the later one, and nothing is said, so that it is made anew by whoever finds it.
fn made_together(before: &str, now: String) -> Option<String> {
    let (earlier, ours) = (MadeBy::read(before), MadeBy::read(&now));
    if earlier.version > ours.version {
        return Some(now);
    }
    match (earlier.engine, ours.engine) {
        (Some(one), Some(other)) if one != other => None,
        (Some(_), None) => Some(before.to_owned()),
        _ => Some(now),
    }
}

/// Computes; what breaks down in it is told at the target.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BundleError> + Send + 'static,
) -> Result<T, BundleError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BundleError::BrokeDown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_made_is_never_said_to_be_the_later_ones() {
        let ours = made_by(Some("engine 2"));
        let later = format!("render {}, engine 3", VERSION + 1);

        assert_eq!(made_together(&later, ours.clone()).as_deref(), Some(&*ours));
        assert_eq!(made_together(&ours, ours.clone()).as_deref(), Some(&*ours));
        assert_eq!(made_together(&made_by(None), ours.clone()).as_deref(), Some(&*ours));
        assert_eq!(made_together(&ours, made_by(None)).as_deref(), Some(&*ours));
        assert_eq!(made_together(&made_by(Some("engine 1")), ours), None);
    }
}
