//! What a commit or another spec would change where, for people: a render that nobody is given, compared with what clusters
//! are assigned. `core::plan` says what becomes of each object; this reads what it needs for that, and writes nothing.

mod bodies;
pub(crate) mod dry_run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_core::api::{
    PlanBase, PlanDocument, PlanGroup, PlanHead, PlanObject, PlanWave, Unplanned, WrittenTarget,
};
use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::dry_run::Tried;
use bellwether_core::object::is_secret_kind;
use bellwether_core::parameters::TraitsUsed;
use bellwether_core::plan::{self, ClusterChange, Hidden, Step, cut, group, object, steps};
use bellwether_core::render::LEFT_OUT_MAX;
use bellwether_core::rollout::{
    Begin, Beginning, Candidate, Kind, Placed, Replaced, RolloutState, Situation, begin, moves, replacing, strategy_for,
};
use bellwether_core::session::{Prune, SyncOptions};
use bellwether_core::source::GitRef;
use bellwether_core::{ClusterId, Condition, Digest, Name, ObjectKey, RenderId, RevisionId};

use self::bodies::Bodies;
use self::dry_run::Wish;
use crate::Hub;
use crate::bundle::planned::{self, Asked, Planned};
use crate::source::policy;
use crate::store::assignments::Replaced as Assigned;
use crate::store::revisions::Revision;
use crate::store::targets::{State, Target};
use crate::store::{self, Connection, StoreError};

/// From the first fetch to the last render. Somebody waits for it; a thousand sets of values that take a tenth of a second each.
pub(crate) const LONGEST: Duration = Duration::from_mins(2);

/// What is to be compared with what the clusters of a target are assigned.
pub(crate) struct Head {
    /// With the spec that it would have.
    pub(crate) target: Target,
    pub(crate) repo: Name,
    pub(crate) reference: GitRef,
    /// It has no row.
    pub(crate) revision: Revision,
    /// Why it would not roll out, as far as that is known before it is rendered.
    pub(crate) holds: Vec<Condition>,
    pub(crate) until: Instant,
    /// Whether clusters are asked what would become of it.
    pub(crate) wish: Wish,
}

/// What clusters are assigned.
struct Base {
    /// As far as it can be read.
    assigned: BTreeMap<ClusterId, Assigned>,
    /// Everybody who is assigned something.
    holding: BTreeSet<ClusterId>,
    /// Those that are stored.
    manifests: BTreeMap<Digest, Manifest>,
}

impl Base {
    /// `None`: nothing of the target. `Err`: something that nobody can tell any more.
    fn of(&self, cluster: ClusterId) -> Result<Option<Replaced<'_>>, Arc<Condition>> {
        let Some(old) = self.assigned.get(&cluster) else {
            return if self.holding.contains(&cluster) { Err(Arc::new(lost())) } else { Ok(None) };
        };
        let manifest = self.manifests.get(&old.digest).ok_or_else(|| Arc::new(lost()))?;
        Ok(Some(Replaced { manifest, prunable: &old.prunable, is_done: old.is_done }))
    }
}

/// `target` is as it stands.
pub(crate) async fn make(hub: &Hub, target: &Target, mut head: Head) -> Result<PlanDocument, StoreError> {
    let mut db = hub.requests.acquire().await?;
    let selector = &head.target.spec.clusters;
    let mut candidates =
        store::fleet::list_candidates(&mut db, target.project.id, &selector.match_labels, TraitsUsed::ALL).await?;
    candidates.retain(|cluster| selector.selects(&cluster.labels));
    let asked = Asked {
        target: &head.target,
        revision: &head.revision,
        reference: &head.reference,
        candidates: &candidates,
        is_let_in: is_let_in(&mut db, target, &head).await?,
        until: head.until,
    };
    drop(db);
    let rendered = planned::render(hub, &asked).await?;
    let mut db = hub.requests.acquire().await?;
    head.holds.extend(holds(&mut db, (target, &head.target), rendered.as_ref().ok()).await?);
    let clusters: Vec<_> = candidates.iter().map(|one| one.cluster).collect();
    let mut assigned = store::assignments::list_replaced(&mut db, target.id, &clusters).await?;
    if target.spec.sync.prune == Prune::Never && head.target.spec.sync.prune != Prune::Never {
        // What stayed because nothing was to be deleted goes as soon as something is, however well the cluster was with it.
        for old in assigned.values_mut() {
            old.is_done = false;
        }
    }
    let base = list_base(&mut db, target, &candidates).await?;
    let holders = store::assignments::list_holders(&mut db, target.id).await?;
    let holding: BTreeSet<_> = holders.iter().map(|holder| holder.cluster).collect();
    let (before, after) = (&target.spec.clusters, &head.target.spec.clusters);
    let goes = |labels: &_| before.selects(labels) && !after.selects(labels);
    let unselected: BTreeSet<_> =
        holders.into_iter().filter(|holder| goes(&holder.labels)).map(|holder| holder.name).collect();
    let is_new = |one: &&Candidate| !target.spec.clusters.selects(&one.labels);
    let selected = candidates.iter().filter(is_new).map(|one| one.name.clone()).collect();
    let mut document = PlanDocument {
        base,
        selected,
        unselected: unselected.into_iter().collect(),
        holds: std::mem::take(&mut head.holds),
        ..begin_document(target, &head)
    };
    match rendered {
        Err(condition) => {
            let clusters = candidates.into_iter().map(|one| one.name).collect();
            document.unplanned.push(Unplanned { clusters, condition });
        }
        Ok(planned) => {
            let manifests = assigned.values().map(|one| one.digest).collect();
            let manifests = hub.content.load_readable(&mut db, &manifests).await?;
            drop(db);
            let base = Base { assigned, holding, manifests };
            let wish = std::mem::replace(&mut head.wish, Wish::Nobody).unless_unsigned(&document.holds);
            compare(hub, (&head, wish, candidates), planned, base, &mut document).await?;
        }
    }
    let is_first = document.groups.iter().any(|group| group.first_install);
    document.notes.extend(sync_notes(target, &head.target, is_first));
    // Those for which nothing changes come last, so that none of the others is cut off for them.
    document.differs = document.groups.iter().any(|group| group.counts.is_any())
        || !(document.selected.is_empty() && document.unselected.is_empty() && document.spec_changes.is_empty());
    Ok(document)
}

/// Whether the head is what the target follows as it stands: seen there, and let in. Only that is given what is frozen for the
/// target: whoever may push another branch could have it printed.
async fn is_let_in(db: &mut Connection, target: &Target, head: &Head) -> Result<bool, StoreError> {
    if head.target.repo != target.repo {
        return Ok(false);
    }
    let (seen, condition) = store::revisions::find_head(db, target.repo, &target.reference).await?;
    let Some(seen) = seen.filter(|seen| condition.is_none() && seen.commit == head.revision.commit) else {
        return Ok(false);
    };
    let policy = policy::load_policy(db, target).await?;
    Ok(policy.is_none_or(|policy| policy.admits(seen.verified.as_ref())))
}

/// What is told whatever comes of it.
fn begin_document(target: &Target, head: &Head) -> PlanDocument {
    PlanDocument {
        target: target.name.clone(),
        compared_with: "assigned".to_owned(),
        base: Vec::new(),
        head: PlanHead {
            repo: head.repo.clone(),
            reference: head.revision.reference.clone(),
            commit: head.revision.commit.clone(),
            subject: head.revision.subject.clone(),
            verified_by: head.revision.verified.as_ref().map(ToString::to_string),
        },
        spec_changes: spec_changes(target, &head.target),
        differs: false,
        holds: Vec::new(),
        groups: Vec::new(),
        more_groups: 0,
        dry_run: None,
        waves: Vec::new(),
        selected: Vec::new(),
        unselected: Vec::new(),
        unplanned: Vec::new(),
        left_out_hooks: Vec::new(),
        notes: Vec::new(),
    }
}

/// Of what comes without a rollout, and of what is made and stands in no manifest.
fn sync_notes(target: &Target, head: &Target, is_first: bool) -> Vec<String> {
    let (before, after) = (&target.spec.sync, &head.spec.sync);
    let mut notes = Vec::new();
    if before != after {
        notes.push("what `sync` says comes to every cluster at once, without waves".to_owned());
    }
    let is_new = is_first || !before.create_namespace || target.spec.namespace != head.spec.namespace;
    if let Some(namespace) = head.spec.namespace.as_ref().filter(|_| after.create_namespace && is_new) {
        notes.push(format!("`sync.createNamespace`: the namespace `{namespace}` is made where it is absent"));
    }
    notes
}

/// Names of what is another in the spec, and no values.
fn spec_changes(target: &Target, head: &Target) -> Vec<String> {
    let fields = |target: &Target| match serde_json::to_value(WrittenTarget::from(target.spec.clone())) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (before, after) = (fields(target), fields(head));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// What keeps whatever is new from going out.
async fn holds(
    db: &mut Connection,
    (target, head): (&Target, &Target),
    planned: Option<&Planned>,
) -> Result<Vec<Condition>, StoreError> {
    let mut holds = Vec::new();
    let mut hold = |code: &str, message: &str, hint: &str| {
        holds.push(Condition::new(code, message, Some(hint), None));
    };
    let state = store::targets::find_state(db, target.id).await?;
    if state.held {
        let hint = format!("bellwether rollout release {}", target.name);
        hold("target_held", "the target is held after a rollback", &hint);
    }
    let same = planned.filter(|_| head.spec == target.spec);
    if let Some((code, message)) = hold_of_rollout(db, target, &state, same).await? {
        hold(code, &message, &format!("bellwether rollout why {}", target.name));
    }
    if let Some(planned) = planned {
        // Of the target's own repo it was found out where its commit was fetched.
        let of_none = RevisionId::new(uuid::Uuid::nil());
        if !policy::admits(db, None, (of_none, &planned.sources)).await? {
            let hint = "the repos that it is rendered from name keys, and none of these signed what was read there";
            hold("revision_unverified", "what it is rendered from besides is not known to be signed", hint);
        }
    }
    Ok(holds)
}

/// What the target's own rollout has to do with it, as the rollout stage sees that. One of single clusters is in nobody's way.
/// `planned`: what the present spec gives, and may be what that rollout is of.
async fn hold_of_rollout(
    db: &mut Connection,
    target: &Target,
    state: &State,
    planned: Option<&Planned>,
) -> Result<Option<(&'static str, String)>, StoreError> {
    let current = store::rollouts::list_current(db, target.id, state.current_from, &[]).await?;
    let main = current.into_iter().find(|row| Some(row.id.as_uuid()) == state.current_from);
    let Some(main) = main else { return Ok(None) };
    let empty_wave = match main.state {
        RolloutState::Rolling => store::rollouts::find_empty_wave(db, main.id).await?,
        _ => None,
    };
    let wanted = store::wanted::find(db, target.id).await?.filter(|one| one.target_version == target.version);
    let wanted = wanted.filter(|one| {
        let known: BTreeSet<_> = one.render.variants.values().collect();
        planned.is_some_and(|planned| planned.gives.values().flatten().all(|digest| known.contains(digest)))
    });
    let is_rolled = wanted.as_ref().is_some_and(|one| state.rolled_since == Some(one.since));
    let situation = Situation {
        // What was never rendered is nobody's.
        wanted: Some(wanted.map_or_else(|| RenderId::new(uuid::Uuid::nil()), |one| one.since)),
        rolled: state.rolled_since,
        main: Some(main.state),
        empty_wave,
        strategy: None,
        changes: Vec::new(),
        // That is said by itself.
        held: false,
        placed: Vec::new(),
    };
    let goes_on = matches!(main.state, RolloutState::Planned | RolloutState::Rolling | RolloutState::RollingBack);
    let (id, is_closed) = (main.id, situation.is_closed());
    if let Some(wave) = situation.empty_wave.filter(|_| is_rolled) {
        let message = format!("rollout {id} of the same holds at wave `{wave}`, which selects no cluster");
        return Ok(Some(("rollout_stopped", message)));
    }
    let said = if goes_on {
        ("rollout_under_way", format!("rollout {id} goes on, and newer content waits until it has ended"))
    } else {
        ("rollout_stopped", format!("rollout {id} of the same has stopped, and does not begin again by itself"))
    };
    Ok(is_closed.then_some(said))
}

/// From which commits the selected clusters have what they are assigned.
async fn list_base(
    db: &mut Connection,
    target: &Target,
    candidates: &[Candidate],
) -> Result<Vec<PlanBase>, StoreError> {
    let runs = store::assignments::list_digests_of_target(db, target.id).await?;
    let renders: BTreeMap<_, _> = runs.into_iter().map(|(cluster, _, render)| (cluster, render)).collect();
    let mut counts = BTreeMap::new();
    for one in candidates {
        *counts.entry(renders.get(&one.cluster)).or_insert(0) += 1;
    }
    let mut commits: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for (render, clusters) in counts {
        let read = match render {
            Some(render) => store::renders::find_read(db, *render).await?,
            None => None,
        };
        let revision = match read {
            Some((revision, _)) => store::revisions::find(db, revision).await?,
            None => None,
        };
        *commits.entry(revision.map(|revision| revision.commit)).or_default() += clusters;
    }
    let mut base: Vec<_> = commits.into_iter().map(|(commit, clusters)| PlanBase { commit, clusters }).collect();
    base.sort_by_key(|one| std::cmp::Reverse(one.clusters));
    Ok(base)
}

/// What becomes of each object of each cluster, and in which waves.
async fn compare(
    hub: &Hub,
    (head, wish, candidates): (&Head, Wish, Vec<Candidate>),
    planned: Planned,
    base: Base,
    document: &mut PlanDocument,
) -> Result<(), StoreError> {
    let target = &head.target;
    if planned.is_drawn {
        let note = "what its chart leaves to chance was drawn for this plan alone, and is told as another: its word is new, or \
                    the commit is not the one that the target follows, which alone is given what is frozen";
        document.notes.push(note.to_owned());
    }
    document.left_out_hooks = planned.left_out_hooks.iter().take(LEFT_OUT_MAX).cloned().collect();
    if let Some(beginning) = waves(target, &candidates, &planned, &base) {
        document.waves = told_waves(&beginning, &candidates);
        if beginning.state == RolloutState::Paused {
            let hint = "it pauses from the start, until somebody resumes it";
            document.holds.push(Condition::new("renders_to_nothing", &beginning.reason, Some(hint), None));
        }
    }
    let (mut steps, unplanned) = steps_of(&candidates, &planned, &base);
    document.unplanned.extend(unplanned);
    let known = base.manifests.values().flat_map(Manifest::entries).map(|entry| entry.digest).collect();
    let asked = dry_run::Asked { target, candidates: &candidates, planned: &planned, known, until: head.until };
    let found = dry_run::ask(hub, wish, &asked).await?;
    document.dry_run = found.told;
    add_tried(&mut steps, found.tried, &planned);
    let all: BTreeSet<_> = steps.iter().flat_map(|one| one.steps.iter().cloned()).collect();
    let secrets = secrets_of(base.manifests.values().chain(planned.manifests.values()));
    let bodies = Bodies::load(hub, planned.bodies, &all, &secrets).await?;
    let sync = target.spec.sync.clone();
    // It computes.
    let told = move || told(&steps, all, &sync, &bodies, &secrets);
    let told = tokio::task::spawn_blocking(told).await.expect("a comparison does not panic");
    (document.groups, document.more_groups) = told;
    Ok(())
}

/// What becomes of the objects of one cluster.
struct ClusterSteps {
    cluster: Name,
    first_install: bool,
    /// Many clusters share them.
    steps: Arc<[Step]>,
    unchanged: usize,
    /// What its API server said of each object of what it would be given.
    tried: Option<(Manifest, Vec<Tried>)>,
}

fn add_tried(all: &mut [ClusterSteps], mut tried: BTreeMap<Name, Vec<Tried>>, planned: &Planned) {
    for one in all {
        let digest = planned.gives.get(&one.cluster).and_then(|gives| gives.as_ref().ok());
        let manifest = digest.and_then(|digest| planned.manifests.get(digest));
        one.tried = manifest.cloned().zip(tried.remove(&one.cluster));
    }
}

/// And of which clusters it is not known.
fn steps_of(candidates: &[Candidate], planned: &Planned, base: &Base) -> (Vec<ClusterSteps>, Vec<Unplanned>) {
    let (mut all, mut unplanned) = (Vec::new(), Vec::new());
    let mut known: BTreeMap<Pair, (Arc<[Step]>, usize)> = BTreeMap::new();
    for one in candidates {
        let (replaced, head) = match (base.of(one.cluster), planned.gives.get(&one.name)) {
            (Ok(replaced), Some(Ok(digest))) => (replaced, &planned.manifests[digest]),
            (_, Some(Err(condition))) => {
                unplanned.push((one.name.clone(), Arc::clone(condition)));
                continue;
            }
            (Err(condition), _) => {
                unplanned.push((one.name.clone(), condition));
                continue;
            }
            (Ok(_), None) => continue,
        };
        let before = replaced.map(|old| (old.manifest.digest(), old.is_done, old.prunable.to_vec()));
        let (steps, unchanged) = known.entry((before, head.digest())).or_insert_with(|| {
            let (steps, unchanged) = steps(replaced.as_ref(), head);
            (steps.into(), unchanged)
        });
        let (steps, unchanged) = (Arc::clone(steps), *unchanged);
        let (cluster, first_install) = (one.name.clone(), replaced.is_none());
        all.push(ClusterSteps { cluster, first_install, steps, unchanged, tried: None });
    }
    (all, together(unplanned))
}

/// As much as is told, and how many groups more there are.
fn told(
    clusters: &[ClusterSteps],
    all: BTreeSet<Step>,
    sync: &SyncOptions,
    bodies: &Bodies,
    secrets: &BTreeSet<Digest>,
) -> (Vec<PlanGroup>, usize) {
    let hidden = Hidden::new(bodies.texts_of(secrets));
    let is_known = bodies.has_all(secrets);
    let tell = |step: Step| {
        let (before, after) = (bodies.read(step.before), bodies.read(step.after));
        let told = object(&step, (before.as_ref(), after.as_ref()), sync, &hidden);
        (step, Arc::new(told))
    };
    let told: BTreeMap<_, _> = all.into_iter().map(tell).collect();
    let mut lists: BTreeMap<*const Step, Arc<[Arc<PlanObject>]>> = BTreeMap::new();
    // They stay until the end, so that no other list has the place of one.
    let changes = clusters.iter().map(|one| {
        let list = || one.steps.iter().map(|step| Arc::clone(&told[step])).collect();
        let objects = if one.steps.is_empty() {
            [].into()
        } else {
            Arc::clone(lists.entry(one.steps.as_ptr()).or_insert_with(list))
        };
        let (cluster, first_install, unchanged) = (one.cluster.clone(), one.first_install, one.unchanged);
        let dry_run = one.tried.clone().map(|(manifest, mut tried)| {
            if !is_known {
                tried.iter_mut().for_each(Tried::withhold_values);
            }
            let changing = one.steps.iter().filter(|step| step.after.is_some()).map(|step| &step.key).collect();
            plan::dry_run(&manifest, &tried, &changing, &hidden)
        });
        ClusterChange { cluster, first_install, objects, unchanged, dry_run }
    });
    cut(group(changes.collect()))
}

/// What a cluster is assigned, what it would be given, and what of before may still go: the same for many.
type Pair = (Option<(Digest, bool, Vec<ObjectKey>)>, Digest);

fn lost() -> Condition {
    let message = "what the cluster is assigned is stored no more, or cannot be read";
    Condition::new("content_missing", message, Some("refresh the target: it is made again"), None)
}

/// Of clusters with the same reason one line.
fn together(unplanned: Vec<(Name, Arc<Condition>)>) -> Vec<Unplanned> {
    let mut all: Vec<Unplanned> = Vec::new();
    for (cluster, condition) in unplanned {
        match all.iter_mut().find(|one| one.condition.says_the_same(&condition)) {
            Some(one) => one.clusters.push(cluster),
            None => all.push(Unplanned { clusters: vec![cluster], condition: (*condition).clone() }),
        }
    }
    all
}

/// Digests of Secrets, of whatever group.
fn secrets_of<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> BTreeSet<Digest> {
    let is_secret = |entry: &&Entry| is_secret_kind(&entry.key.kind);
    manifests.flat_map(|manifest| manifest.entries().iter().filter(is_secret)).map(|entry| entry.digest).collect()
}

/// The rollout that would begin; `None`: nobody is to run something else.
fn waves(target: &Target, candidates: &[Candidate], planned: &Planned, base: &Base) -> Option<Beginning> {
    let wants = |one: &Candidate| planned.gives.get(&one.name).and_then(|gives| gives.as_ref().ok().copied());
    let place = |one: &Candidate| Placed {
        candidate: one.clone(),
        runs: base.assigned.get(&one.cluster).map(|old| old.digest),
        wants: wants(one),
        is_unrenderable: true,
        // What is new is for everybody.
        aside: None,
        moving: None,
    };
    let placed: Vec<_> = candidates.iter().map(place).collect();
    let all: Vec<_> = placed.iter().filter(|one| one.wants.is_some()).map(|one| one.candidate.clone()).collect();
    let moves = moves(&placed);
    if moves.is_empty() {
        return None;
    }
    let strategy = strategy_for(Kind::Revision, target.spec.rollout.as_ref(), false);
    let empties = replacing(&moves).iter().any(|digest| planned.manifests.get(digest).is_some_and(Manifest::is_empty));
    Some(begin(&Begin { kind: Kind::Revision, strategy: &strategy, all: &all, moves: &moves, empties }))
}

fn told_waves(beginning: &Beginning, candidates: &[Candidate]) -> Vec<PlanWave> {
    let names: BTreeMap<_, _> = candidates.iter().map(|one| (one.cluster, &one.name)).collect();
    let told = beginning.waves.iter().map(|wave| PlanWave {
        name: wave.name.clone(),
        clusters: wave.members.iter().filter_map(|cluster| names.get(cluster).copied().cloned()).collect(),
        concurrent_max: wave.concurrent_max,
        healthy_min: wave.healthy_min,
        soak_seconds: wave.soak.as_secs(),
    });
    told.collect()
}
