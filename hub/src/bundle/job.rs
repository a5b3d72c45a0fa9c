//! One target at one revision: from the files of the commit to a bundle for each distinct set of values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::parameters::{TraitsUsed, Values};
use bellwether_core::render::LeftOutHook;
use bellwether_core::{Condition, Digest, Name, RenderId, RepoId};
use bellwether_render::{MadeBy, Manifests, Marks, Plan, Recipe, RenderedObject, VERSION, made_by};
use jiff::{SignedDuration, Timestamp};

use super::error::BundleError;
use super::sources::{Asked, RepoFiles, Sources};
use super::{bounds, record};
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
    /// Time was up, and the next run goes on from here.
    pub(super) goes_on: bool,
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
    /// The render of exactly this revision and spec is there, and only variants are added to it.
    pub(super) existing: Option<RenderId>,
}

impl Rendered {
    /// When to go on, if not all was made that could be; `None`: nothing would come of it.
    pub(super) fn tried_again_after(&self) -> Option<SignedDuration> {
        if self.goes_on {
            Some(SignedDuration::ZERO)
        } else {
            self.lacking.as_ref().and_then(bounds::tried_again_after)
        }
    }
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

/// Variants that a render keeps for values that no cluster has any more: some clusters change back. Agents say what their
/// clusters are, and there is no end of that.
const SPARE_MAX: usize = 100;

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
    pub(super) asked: Arc<Asked>,
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
        if is_whole && earlier.as_ref().is_some_and(|earlier| self.covers(earlier)) {
            let earlier = earlier.expect("it was just looked at");
            let existing = existing(&earlier.sources, &earlier.variables.iter().cloned().collect());
            return Ok(reuse(earlier, existing));
        }
        bounds::begin_try(self.hub, self.target, self.revision).await?;
        let manifests = Arc::new(self.open().await?);
        let recipe = Arc::new(Recipe {
            marks: Some(Marks { target: self.target.id, owner: self.hub.owner_of(self.target) }),
            namespace: self.target.spec.namespace.as_ref().map(ToString::to_string),
            agents,
        });
        // What it made goes on being what the same files make, and goes on depending on what it read.
        manifests.know(earlier.iter().flat_map(|earlier| &earlier.variables));
        let earlier = earlier.filter(|earlier| earlier.variables.iter().eq(&manifests.variables()));
        let maker = earlier.as_ref().and_then(|earlier| earlier.engine.clone());
        let kept = earlier.as_ref().filter(|_| is_whole).map(|earlier| earlier.variants.clone()).unwrap_or_default();
        let made = self.render_variants(&manifests, &recipe, kept).await?;
        let goes_on = made.goes_on();
        let (Variants { digests: variants, spare, unwritten, .. }, lacking) = made.condition(clock::now())?;
        let (mut inputs, mut left_out_hooks) = (manifests.inputs().paths(), manifests.left_out_hooks());
        if let Some(earlier) = earlier {
            inputs.extend(earlier.inputs);
            left_out_hooks.extend(earlier.left_out_hooks);
            self.asked.extend(earlier.sources.into_iter().map(|one| one.source));
        }
        let (inputs, sources): (Vec<_>, _) = (inputs.into_iter().collect(), self.asked.found(&self.sources));
        let digest = self.digest_of(&inputs, &sources).await?;
        let (inputs, variables) = ((inputs, digest), manifests.variables());
        let (engine, existing) = (made_by(manifests.engine().as_deref()), existing(&sources, &variables));
        let engine = maker.map_or(Some(engine.clone()), |maker| made_together(&maker, engine));
        let is_reused = false;
        Ok(Rendered {
            inputs,
            sources,
            variables,
            left_out_hooks,
            engine,
            goes_on,
            is_reused,
            variants,
            spare,
            unwritten,
            lacking,
            existing,
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

    /// Whether a render has a variant for every cluster.
    pub(super) fn covers(&self, render: &Render) -> bool {
        let variables: BTreeSet<_> = render.variables.iter().cloned().collect();
        let has = |values: &Values| render.variants.contains_key(&values.restricted_to(&variables).digest());
        !render.variants.is_empty() && self.clusters.iter().all(|(_, values)| has(values))
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

    async fn open(&self) -> Result<Manifests<RepoFiles>, BundleError> {
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
            Ok(Manifests::open(engines, RepoFiles::new(mirrors, own, sources, asked), plan)?)
        })
        .await
    }

    /// Those that are not known: one after another, and written as they come; the last ones are left to whoever writes the
    /// render. After one that an engine did not end, none is begun: the others would take as long, and other targets wait.
    async fn render_variants(
        &self,
        manifests: &Arc<Manifests<RepoFiles>>,
        recipe: &Arc<Recipe>,
        known: BTreeMap<Digest, Digest>,
    ) -> Result<Variants, BundleError> {
        let until = Instant::now() + self.longest;
        let is_more_of_the_same = !known.is_empty();
        let mut variants = Variants { digests: known, ..Variants::default() };
        #[expect(clippy::zero_sized_map_values, reason = "it is grouped anew as those are that were made")]
        let (mut failed, mut bytes, mut is_over) = (BTreeMap::new(), 0, false);
        let mut variables = self.check_read(manifests.variables())?;
        for (cluster, values) in &self.clusters {
            let parameters = values.restricted_to(&variables).digest();
            if variants.digests.contains_key(&parameters) {
                continue;
            }
            // One in any case, so that each run comes further.
            if !is_over && variants.made > 0 && Instant::now() >= until {
                is_over = true;
                variants.error.get_or_insert(BundleError::TooLong);
            }
            if is_over || failed.contains_key(&parameters) {
                variants.lacking.push(cluster.clone());
                continue;
            }
            if is_more_of_the_same && TraitsUsed::by(&variables).is_of_agents() {
                if !self.hub.told_renders.may(cluster) {
                    variants.lacking.push(cluster.clone());
                    variants.error.get_or_insert(BundleError::ToldTooOften);
                    continue;
                }
                self.hub.told_renders.take(cluster.clone());
            }
            if bytes > UNWRITTEN_BYTES_MAX {
                record::write_bundles(self.hub, self.target.id, std::mem::take(&mut variants.unwritten)).await?;
                bytes = 0;
            }
            let (asked, recipe, asked_for) = (manifests.clone(), recipe.clone(), values.clone());
            let made = blocking(move || make(&asked, &recipe, &asked_for)).await;
            self.hub.metrics.variants.inc();
            let found = manifests.variables();
            if found != variables {
                let found = self.check_read(found)?;
                variants.digests = self.regroup(&variants.digests, &variables, &found);
                failed = self.regroup(&failed, &variables, &found);
                variables = found;
            }
            let parameters = values.restricted_to(&variables).digest();
            match made {
                Ok(made) => {
                    bytes += made.bytes();
                    variants.made += 1;
                    variants.digests.insert(parameters, made.manifest.digest());
                    variants.unwritten.push(made);
                }
                Err(error) if error.is_of_content() => {
                    is_over |= error.is_over_limit();
                    failed.insert(parameters, ());
                    variants.lacking.push(cluster.clone());
                    variants.error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        variants.spare = self.spare(&variants.digests, &variables);
        Ok(variants)
    }

    /// Whether what these variables read of clusters was read.
    fn check_read(&self, variables: BTreeSet<String>) -> Result<BTreeSet<String>, BundleError> {
        if TraitsUsed::by(&variables).is_within(self.read) { Ok(variables) } else { Err(BundleError::TraitsUnread) }
    }

    /// By more variables, what was found by fewer. It stays right for all who had the same of these: what was made read no
    /// others. So a variable that turns up late costs no render.
    fn regroup<T: Clone>(
        &self,
        found: &BTreeMap<Digest, T>,
        fewer: &BTreeSet<String>,
        more: &BTreeSet<String>,
    ) -> BTreeMap<Digest, T> {
        let one = |(_, values): &(Name, Values)| {
            let found = found.get(&values.restricted_to(fewer).digest())?;
            Some((values.restricted_to(more).digest(), found.clone()))
        };
        self.clusters.iter().filter_map(one).collect()
    }

    /// Those that no cluster has the values for any more, once they are many.
    fn spare(&self, variants: &BTreeMap<Digest, Digest>, variables: &BTreeSet<String>) -> Vec<Digest> {
        if variants.len() <= SPARE_MAX {
            return Vec::new();
        }
        let used: BTreeSet<_> =
            self.clusters.iter().map(|(_, values)| values.restricted_to(variables).digest()).collect();
        let spare: Vec<_> = variants.keys().filter(|parameters| !used.contains(parameters)).copied().collect();
        if spare.len() > SPARE_MAX { spare } else { Vec::new() }
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

fn reuse(render: Render, existing: Option<RenderId>) -> Rendered {
    Rendered {
        inputs: (render.inputs, render.inputs_digest),
        sources: render.sources,
        variables: render.variables.into_iter().collect(),
        left_out_hooks: render.left_out_hooks.into_iter().collect(),
        engine: render.engine,
        goes_on: false,
        is_reused: true,
        variants: render.variants,
        spare: Vec::new(),
        unwritten: Vec::new(),
        lacking: None,
        existing,
    }
}

/// The bundles of a target, and of which clusters there is none.
#[derive(Default)]
struct Variants {
    digests: BTreeMap<Digest, Digest>,
    /// Of these, by this run.
    made: usize,
    /// See [`Job::spare`].
    spare: Vec<Digest>,
    unwritten: Vec<Made>,
    lacking: Vec<Name>,
    /// Of the first of these.
    error: Option<BundleError>,
}

/// Clusters that a condition names; the others are counted.
const NAMED_MAX: usize = 5;

impl Variants {
    /// Only time lacked.
    fn goes_on(&self) -> bool {
        matches!(self.error, Some(BundleError::TooLong)) && self.made > 0
    }

    /// Of one cluster nothing is kept back because another cannot have it; when none can, that is the target's fault.
    fn condition(self, now: Timestamp) -> Result<(Self, Option<Condition>), BundleError> {
        let Self { digests, made, spare, unwritten, lacking, error } = self;
        match error {
            Some(error) if digests.is_empty() => Err(error),
            error => {
                let condition = error.map(|error| error.condition(now)).map(|condition| {
                    let message = format!("{}: {}", named(&lacking), condition.message);
                    condition.saying(&message)
                });
                Ok((Self { digests, made, spare, unwritten, ..Self::default() }, condition))
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
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BundleError> + Send + 'static,
) -> Result<T, BundleError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BundleError::BrokeDown))
}

fn make(manifests: &Manifests<RepoFiles>, recipe: &Recipe, values: &Values) -> Result<Made, BundleError> {
    let objects = manifests.render(recipe, values)?;
    let entries = objects.iter().map(|object| Entry { key: object.key.clone(), digest: object.digest });
    Ok(Made { manifest: Manifest::new(entries.collect())?, objects })
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
