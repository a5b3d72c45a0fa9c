//! Asks clusters what would become of a head: their API servers, by dry runs of their agents.
//!
//! Who asked is written down in the transaction that asks. The question rests in rows for as long as it is waited for: the hub
//! with a cluster's stream takes it there, be it this one or another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bellwether_core::api::{PlanDryRuns, PlanUnanswered};
use bellwether_core::audit::Event;
use bellwether_core::bundle::Manifest;
use bellwether_core::dry_run::{ANSWER_BYTES_MAX, DEADLINE, DryRun, DryRunAnswer, Tried, Unanswered, choose};
use bellwether_core::rollout::Candidate;
use bellwether_core::{ClusterId, Condition, Digest, Name};
use bellwether_proto::compression;
use uuid::Uuid;

use crate::Hub;
use crate::bundle::planned::Planned;
use crate::link::dry_runs::seal;
use crate::process::clock;
use crate::store::targets::Target;
use crate::store::views;
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Clusters that one plan asks, unless more are wanted.
pub(crate) const CLUSTERS: usize = 20;

/// And at most: each answer is held until all are there.
pub(crate) const CLUSTERS_MAX: usize = 100;

/// Between two looks at what was answered.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whether clusters are asked.
pub(crate) enum Wish {
    Nobody,
    /// Not about such a head, for this reason.
    Skip(String),
    Server {
        clusters_max: usize,
        /// What is written down of it.
        event: Box<Event>,
    },
}

impl Wish {
    /// What nobody signed where somebody has to, is sent to no cluster, to be asked about neither.
    pub(super) fn unless_unsigned(self, holds: &[Condition]) -> Self {
        let unsigned = holds.iter().find(|condition| condition.code.starts_with("revision_"));
        match (self, unsigned) {
            (Self::Server { .. }, Some(condition)) => {
                Self::Skip(format!("nothing is asked about what is not signed: {}", condition.message))
            }
            (wish, _) => wish,
        }
    }
}

/// A hub that has a cluster's stream looks once a second, even where no signal reaches it; one that has not taken a question by
/// then is of a version that knows of none, or has lost the stream.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// What was found out.
#[derive(Default)]
pub(super) struct Found {
    /// Of the clusters that answered, in the order of what each would be given.
    pub(super) tried: BTreeMap<Name, Vec<Tried>>,
    pub(super) told: Option<PlanDryRuns>,
}

/// What is to be asked, and whom.
pub(super) struct Asked<'a> {
    /// With the spec that it would have.
    pub(super) target: &'a Target,
    pub(super) candidates: &'a [Candidate],
    pub(super) planned: &'a Planned,
    /// Digests of what clusters are assigned: what is another is asked about first.
    pub(super) known: BTreeSet<Digest>,
    pub(super) until: Instant,
}

pub(super) async fn ask(hub: &Hub, wish: Wish, asked: &Asked<'_>) -> Result<Found, StoreError> {
    let (clusters_max, event) = match wish {
        Wish::Nobody => return Ok(Found::default()),
        Wish::Skip(reason) => {
            let told = PlanDryRuns { skipped: Some(reason), ..PlanDryRuns::default() };
            return Ok(Found { told: Some(told), ..Found::default() });
        }
        Wish::Server { clusters_max, event } => (clusters_max, event),
    };
    let mut unanswered = away(hub, asked).await?;
    let chosen = chosen(asked, clusters_max);
    if chosen.left_out > 0 {
        let reason = format!("no more than {clusters_max} clusters are asked (--dry-run-clusters)");
        unanswered.extend(chosen.others.into_iter().map(|name| (name, reason.clone())));
    }
    let answers = if chosen.clusters.is_empty() {
        BTreeMap::new()
    } else {
        ask_all(hub, asked, &chosen.clusters, *event).await?
    };
    let mut tried = BTreeMap::new();
    for (one, digest) in &chosen.clusters {
        let objects = asked.planned.manifests[digest].entries().len();
        let answer = match answers.get(&one.cluster) {
            Some((_, Some(packed))) => read(packed, objects).ok_or("its answer could not be read"),
            Some((true, None)) => Err("it did not answer in time"),
            Some((false, None)) | None => Err("its agent was not reached in time"),
        };
        match answer {
            Ok(DryRunAnswer::Tried(all)) => drop(tried.insert(one.name.clone(), all)),
            Ok(DryRunAnswer::Unanswered(why)) => unanswered.push((one.name.clone(), reason(why).to_owned())),
            Err(why) => unanswered.push((one.name.clone(), why.to_owned())),
        }
    }
    let refused = tried.values().flatten().any(|tried: &Tried| tried.fate.is_refusal());
    let told = PlanDryRuns { answered: tried.len(), skipped: None, refused, unanswered: together(unanswered) };
    Ok(Found { tried, told: Some(told) })
}

const fn reason(why: Unanswered) -> &'static str {
    match why {
        Unanswered::Unsupported => "its agent is from before dry runs",
        Unanswered::Off => "dry runs are switched off where its agent runs",
        Unanswered::Busy => "other dry runs go on there",
        Unanswered::Unreadable => "its agent could not read the question",
        Unanswered::TooLong => "its answer is too long",
        Unanswered::Lost => "its agent's stream ended before it answered",
        Unanswered::Other => "its agent says why in a way that this hub does not know",
    }
}

fn read(packed: &[u8], objects: usize) -> Option<DryRunAnswer> {
    DryRunAnswer::decode(&compression::decompress(packed, ANSWER_BYTES_MAX)?, objects)
}

/// Clusters that cannot be asked, because nobody is there.
async fn away(hub: &Hub, asked: &Asked<'_>) -> Result<Vec<(Name, String)>, StoreError> {
    let away: Vec<_> = asked.candidates.iter().filter(|one| !one.connected && gives(asked, one).is_some()).collect();
    if away.is_empty() {
        return Ok(Vec::new());
    }
    let clusters: Vec<_> = away.iter().map(|one| one.cluster).collect();
    let mut db = hub.requests.acquire().await?;
    let known = views::clusters::load(&mut db, &clusters, clock::now()).await?;
    let reason = |one: &Candidate| match known.get(&one.cluster).and_then(|status| status.since) {
        _ if known.get(&one.cluster).is_some_and(|status| status.connected) => "two agents use its identity".to_owned(),
        Some(since) => format!("not connected since {since:.0}"),
        None => "never connected".to_owned(),
    };
    Ok(away.into_iter().map(|one| (one.name.clone(), reason(one))).collect())
}

fn gives(asked: &Asked<'_>, one: &Candidate) -> Option<Digest> {
    asked.planned.gives.get(&one.name).and_then(|gives| gives.as_ref().ok().copied())
}

struct Chosen<'a> {
    clusters: Vec<(&'a Candidate, Digest)>,
    others: Vec<Name>,
    left_out: usize,
}

/// In turns one of those that would be given the same, so that each kind is among them.
fn chosen<'a>(asked: &'a Asked<'_>, clusters_max: usize) -> Chosen<'a> {
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut all: Vec<_> = asked
        .candidates
        .iter()
        .filter(|one| one.connected)
        .filter_map(|one| {
            let digest = gives(asked, one)?;
            let place = places.entry(digest).or_default();
            *place += 1;
            Some((*place, one, digest))
        })
        .collect();
    all.sort_by_key(|(place, ..)| *place);
    let others: Vec<_> =
        all.split_off(all.len().min(clusters_max)).into_iter().map(|(_, one, _)| one.name.clone()).collect();
    let clusters = all.into_iter().map(|(_, one, digest)| (one, digest)).collect();
    Chosen { clusters, left_out: others.len(), others }
}

/// Whether the hub with each cluster's stream took it, and what the agent answered.
type Answers = BTreeMap<ClusterId, (bool, Option<Vec<u8>>)>;

/// One question for all that would be given the same.
async fn ask_all(
    hub: &Hub,
    asked: &Asked<'_>,
    clusters: &[(&Candidate, Digest)],
    mut event: Event,
) -> Result<Answers, StoreError> {
    let mut by_digest: BTreeMap<Digest, Vec<Uuid>> = BTreeMap::new();
    for (one, digest) in clusters {
        by_digest.entry(*digest).or_default().push(one.cluster.as_uuid());
    }
    let now = clock::now();
    let expires_at = now + DEADLINE;
    let names: Vec<_> = clusters.iter().map(|(one, _)| &one.name).collect();
    event.detail["clusters"] = serde_json::json!(names);
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let mut ids = Vec::new();
    for (digest, clusters) in &by_digest {
        let question = question(asked, &asked.planned.manifests[digest]);
        ids.push(question.id);
        let subject = (question.id, asked.target.id);
        store::dry_runs::insert(&mut change, subject, &seal(hub, question), clusters, expires_at).await?;
        change.tell(Stage::Link, clusters, now, None).await?;
    }
    change.audit(&event).await?;
    change.commit().await?;
    let answers = wait(hub, &ids, asked.until.min(Instant::now() + DEADLINE.unsigned_abs())).await;
    let mut db = hub.requests.acquire().await?;
    store::dry_runs::delete(&mut db, &ids).await?;
    answers
}

fn question(asked: &Asked<'_>, manifest: &Manifest) -> DryRun {
    let is_new = |digest: &Digest| !asked.known.contains(digest);
    let body = |digest: &Digest| asked.planned.bodies.get(digest).map(Vec::as_slice);
    DryRun {
        id: clock::new_id(),
        target: asked.target.id,
        manifest: manifest.clone(),
        objects: choose(manifest, &is_new, &body, compression::compress),
        namespace: asked.target.spec.namespace.clone(),
        project: Some(asked.target.project.name.clone()),
        options: asked.target.spec.sync.clone(),
        // Counted from when the agent's hub takes it.
        deadline: DEADLINE,
    }
}

/// Until all have answered, or nobody waits any longer.
async fn wait(hub: &Hub, ids: &[Uuid], until: Instant) -> Result<Answers, StoreError> {
    let may_be_taken_until = Instant::now() + TAKEN_WITHIN;
    loop {
        let mut db = hub.requests.acquire().await?;
        let untaken_count = Instant::now() < may_be_taken_until;
        if Instant::now() >= until || store::dry_runs::count_unanswered(&mut db, ids, untaken_count).await? == 0 {
            let answers = store::dry_runs::list_answers(&mut db, ids).await?;
            return Ok(answers.into_iter().map(|one| (one.cluster, (one.was_taken, one.answer))).collect());
        }
        drop(db);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Of clusters with the same reason one line.
fn together(unanswered: Vec<(Name, String)>) -> Vec<PlanUnanswered> {
    let mut all: BTreeMap<String, Vec<Name>> = BTreeMap::new();
    for (name, reason) in unanswered {
        all.entry(reason).or_default().push(name);
    }
    all.into_iter().map(|(reason, clusters)| PlanUnanswered { clusters, reason }).collect()
}
