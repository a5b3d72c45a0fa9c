//! The bundles of one render: one for each distinct set of used values, made one after another; and of which clusters there
//! is none, and why.
//!
//! Neighbours: `job` knows what was made before and who waits; `record` writes down what was made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::parameters::{TraitsUsed, Values};
use bellwether_core::{Condition, Digest, Name};
use bellwether_render::{Manifests, Recipe, RenderedObject};
use jiff::{SignedDuration, Timestamp};

use super::error::BundleError;
use super::job::{Job, blocking};
use super::sources::RepoFiles;
use super::{bounds, record};

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

/// The bundles of a target, and of which clusters there is none.
#[derive(Default)]
pub(super) struct Variants {
    pub(super) digests: BTreeMap<Digest, Digest>,
    /// Of these, what no cluster needs any more, once that is much.
    pub(super) spare: Vec<Digest>,
    /// What was made and is not written yet.
    pub(super) unwritten: Vec<Made>,
    pub(super) lacking: Lacking,
}

/// Of which clusters there is none, and why.
#[derive(Default)]
pub(super) struct Lacking {
    failed: Vec<Name>,
    /// Of the first of these.
    error: Option<BundleError>,
    /// Too much was rendered lately for what their agents say of them.
    waiting: Vec<Name>,
    /// Time did not suffice for others.
    is_late: bool,
}

/// Why there is no variant for some values.
#[derive(Clone, Copy)]
enum Why {
    Failed,
    Waits,
    Late,
}

/// Clusters that a condition names; the others are counted.
const NAMED_MAX: usize = 5;

impl Lacking {
    pub(super) fn of_waiting(waiting: Vec<Name>) -> Self {
        Self { waiting, ..Self::default() }
    }

    fn note(&mut self, cluster: &Name, why: Why) {
        match why {
            Why::Failed => self.failed.push(cluster.clone()),
            Why::Waits => self.waiting.push(cluster.clone()),
            Why::Late => self.is_late = true,
        }
    }

    /// What is said of them, and when to go on; `None`: nothing would come of it. While it goes on at once nothing is said: rollouts
    /// wait for that, as for any render.
    pub(super) fn tell(self, now: Timestamp) -> (Option<Condition>, Option<SignedDuration>) {
        if self.is_late {
            return (None, Some(SignedDuration::ZERO));
        }
        let waits = (!self.waiting.is_empty()).then_some(BundleError::ToldTooOften);
        let all = [(self.error, self.failed), (waits, self.waiting)];
        let said = all.into_iter().filter_map(|(error, clusters)| {
            let condition = error?.condition(now);
            let message = format!("{}: {}", named(&clusters), condition.message);
            Some((condition, message))
        });
        let (conditions, mut messages): (Vec<_>, Vec<_>) = said.unzip();
        let again = conditions.iter().filter_map(bounds::tried_again_after).min();
        // An error may be as long as a message: what stands after it would be cut off.
        messages.reverse();
        let message = messages.join("; ");
        (conditions.into_iter().next().map(|condition| condition.saying(&message)), again)
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
    /// Those that are not known, and do not wait: one after another, and written as they come; the last ones are left to whoever
    /// writes the render. After one that an engine did not end, none is begun: the others would take as long, and other
    /// targets wait. Of one cluster nothing is kept back because another cannot have it; when none can, that is an error.
    pub(super) async fn render_variants(
        &self,
        manifests: &Arc<Manifests<RepoFiles>>,
        recipe: &Arc<Recipe>,
        (known, waiting): (BTreeMap<Digest, Digest>, BTreeSet<Digest>),
    ) -> Result<Variants, BundleError> {
        let until = Instant::now() + self.longest;
        let mut variants = Variants { digests: known, ..Variants::default() };
        let mut without: BTreeMap<_, _> = waiting.into_iter().map(|parameters| (parameters, Why::Waits)).collect();
        let (mut made_any, mut is_over, mut bytes) = (false, false, 0);
        let mut variables = self.check_read(manifests.variables())?;
        for (cluster, values) in &self.clusters {
            let parameters = values.restricted_to(&variables).digest();
            if variants.digests.contains_key(&parameters) {
                continue;
            }
            // One in any case, so that each run comes further.
            let is_late = made_any && Instant::now() >= until;
            let why = without.get(&parameters).copied().or(is_over.then_some(Why::Failed));
            if let Some(why) = why.or(is_late.then_some(Why::Late)) {
                variants.lacking.note(cluster, why);
                continue;
            }
            if bytes > UNWRITTEN_BYTES_MAX {
                record::write_bundles(self.hub, self.target.id, std::mem::take(&mut variants.unwritten)).await?;
                bytes = 0;
            }
            let made = self.make_one(manifests, recipe, values).await;
            let found = manifests.variables();
            if found != variables {
                let found = self.check_read(found)?;
                variants.digests = self.regroup(&variants.digests, &variables, &found);
                without = self.regroup(&without, &variables, &found);
                variables = found;
            }
            let parameters = values.restricted_to(&variables).digest();
            match made {
                Ok(made) => {
                    made_any = true;
                    bytes += made.bytes();
                    variants.digests.insert(parameters, made.manifest.digest());
                    variants.unwritten.push(made);
                }
                Err(error) if error.is_of_content() => {
                    is_over |= error.is_over_limit();
                    without.insert(parameters, Why::Failed);
                    variants.lacking.note(cluster, Why::Failed);
                    variants.lacking.error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        variants.spare = self.spare(&variants.digests, &variables);
        match variants.lacking.error.take_if(|_| variants.digests.is_empty()) {
            Some(error) => Err(error),
            None => Ok(variants),
        }
    }

    pub(super) async fn make_one(
        &self,
        manifests: &Arc<Manifests<RepoFiles>>,
        recipe: &Arc<Recipe>,
        values: &Values,
    ) -> Result<Made, BundleError> {
        let (manifests, recipe, values) = (manifests.clone(), recipe.clone(), values.clone());
        self.hub.metrics.variants.inc();
        blocking(move || {
            let objects = manifests.render(&recipe, &values)?;
            let entries = objects.iter().map(|object| Entry { key: object.key.clone(), digest: object.digest });
            Ok(Made { manifest: Manifest::new(entries.collect())?, objects })
        })
        .await
    }

    /// Whether what these variables read of clusters was read.
    pub(super) fn check_read(&self, variables: BTreeSet<String>) -> Result<BTreeSet<String>, BundleError> {
        if TraitsUsed::by(&variables).is_within(self.read) { Ok(variables) } else { Err(BundleError::TraitsUnread) }
    }

    /// By more variables, what was found by fewer. It stays right for all who had the same of these: what was made read no
    /// others. So a variable that turns up late costs no render.
    pub(super) fn regroup<T: Clone>(
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
