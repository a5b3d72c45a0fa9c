//! Dry runs: what would become of a bundle that the hub only asks about. Nothing of it is journalled or kept, and nothing
//! in the cluster is changed.
//!
//! They have requests of their own, so that what is assigned never waits for what somebody only wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::dry_run::{DryRun, DryRunAnswer, OBJECTS_BYTES_MAX, Tried, Unanswered};
use bellwether_core::object::{OBJECT_BYTES_MAX, is_secret_kind};
use bellwether_core::plan::{Hidden, texts_held};
use bellwether_core::reconcile::{Body, ClusterError, Companions, Finding, Permit, Step, objection, refusal};
use bellwether_core::session::DryRan;
use bellwether_core::{Digest, ObjectKey};
use bellwether_proto::compression::{compress, decompress};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::carry_out::{Seen, try_out};
use super::client::Cluster;
use super::keyring::Keyring;
use super::reconcile::is_namespaced;
use crate::journal::Fence;
use crate::policy;

/// Requests on their way at once, of all dry runs together.
const REQUESTS_MAX: usize = 8;

/// Whoever carries dry runs out.
#[derive(Clone)]
pub(super) struct DryRunner {
    cluster: Cluster,
    keyring: Arc<Keyring>,
    fence: Fence,
    home: Arc<str>,
    policy: watch::Receiver<Arc<policy::Told>>,
    requests: Arc<Semaphore>,
}

impl DryRunner {
    pub(super) fn new(
        (cluster, keyring, fence): (Cluster, Arc<Keyring>, Fence),
        home: Arc<str>,
        policy: watch::Receiver<Arc<policy::Told>>,
    ) -> Self {
        Self { cluster, keyring, fence, home, policy, requests: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }

    /// One for each object, in the order of `steps`. What has no answer when the time is over has none.
    pub(super) async fn run(
        self,
        asked: DryRun,
        (steps, beside): (Vec<Step>, Vec<(ObjectKey, Uuid)>),
        until: Instant,
    ) -> DryRan {
        let id = asked.id;
        let answer = match read(&asked.objects) {
            Some(bodies) => DryRunAnswer::Tried(self.try_all(steps, &bodies, &beside, until).await),
            None => DryRunAnswer::Unanswered(Unanswered::Unreadable),
        };
        DryRan { id, answer: answer.encode(compress) }
    }

    /// Secrets first: what they hold is searched for in all that is told of the others, before any of it is cut.
    async fn try_all(
        &self,
        steps: Vec<Step>,
        bodies: &BTreeMap<Digest, Body>,
        beside: &[(ObjectKey, Uuid)],
        until: Instant,
    ) -> Vec<Tried> {
        let body_of = |step: &Step| step.act.digest().and_then(|digest| bodies.get(&digest)).cloned();
        let asked: Vec<_> = steps.into_iter().map(|step| (body_of(&step), step)).collect();
        let companions = Companions::of(asked.iter().map(|(body, step)| (step, body.as_ref())));
        let elsewhere = timeout_at(until, self.cluster.served_elsewhere()).await.ok().and_then(Result::ok);
        let held: Vec<_> = asked.iter().filter_map(|(body, _)| body.as_ref()).flat_map(secrets_in).collect();
        let mut trial =
            Trial { companions, elsewhere, hidden: hidden(&held), until, answers: vec![not_asked(); asked.len()] };
        let (secrets, others): (Vec<_>, Vec<_>) =
            asked.into_iter().enumerate().partition(|(_, (_, step))| is_secret_kind(&step.key.kind));
        let stand = match (self.ask(&mut trial, secrets).await, timeout_at(until, self.read_beside(beside)).await) {
            (Some(named), Ok(Some(beside))) => Some(named.into_iter().chain(beside)),
            _ => None,
        };
        let is_known = stand.is_some();
        let held: Vec<_> = held.into_iter().chain(stand.into_iter().flatten()).collect();
        trial.hidden = hidden(&held);
        self.ask(&mut trial, others).await;
        for tried in &mut trial.answers {
            if !is_known {
                tried.withhold_values();
            }
            tried.hide(&trial.hidden);
        }
        trial.answers
    }

    /// What those hold that stand there, if all of them are Secrets and each could be seen.
    async fn ask(&self, trial: &mut Trial, asked: Vec<(usize, (Option<Body>, Step))>) -> Option<Vec<String>> {
        let (count, mut seen_of, mut held) = (asked.len(), 0, Some(Vec::new()));
        let (sends, until) = (&*trial, trial.until);
        let questions = asked
            .into_iter()
            .map(|(place, (body, step))| async move { (place, self.ask_one(sends, step, body).await) });
        let mut questions = stream::iter(questions).buffer_unordered(REQUESTS_MAX);
        let mut answers = Vec::new();
        while let Ok(Some((place, seen))) = timeout_at(until, questions.next()).await {
            seen_of += 1;
            held = held.zip(seen.held).map(|(all, more)| [all, more].concat());
            answers.push((place, seen.tried));
        }
        drop(questions);
        for (place, tried) in answers {
            trial.answers[place] = tried;
        }
        held.filter(|_| seen_of == count)
    }

    async fn ask_one(&self, trial: &Trial, step: Step, body: Option<Body>) -> Seen {
        let Some(body) = body else { return Tried::unknown("it is too much to be asked about").into() };
        if let Some(tried) = trial.keeps_from_asking(&step.key) {
            return tried.into();
        }
        let step = step.with_manner_of(&body);
        if let Some(answer) = refusal(&self.home, &step, Some(&body)) {
            let Finding::Failed(error) = answer.finding else { return Tried::unknown("").into() };
            return Tried::failed(&error).into();
        }
        let _turn = self.requests.acquire().await;
        let mut seen = self.try_one(&trial.hidden, &step, body).await;
        seen.tried = trial.companions.explain(&step.key, seen.tried);
        seen
    }

    /// As the target's ServiceAccount, and as far as the cluster's owner allows.
    async fn try_one(&self, hidden: &Hidden, step: &Step, body: Body) -> Seen {
        let cluster = self.cluster.acting_for(&step.acts_as);
        let told = Arc::clone(&self.policy.borrow());
        let is_namespaced = match is_namespaced(&cluster, &told.standing, step).await {
            Ok(is_namespaced) => is_namespaced,
            Err(error) => return Tried::failed(&error).into(),
        };
        if let Some(tried) = objection(&told.standing, step, is_namespaced) {
            return tried.into();
        }
        let permit = Permit::of(&told.standing, step, Some(&body), is_namespaced);
        try_out((&cluster, &self.keyring, &self.fence), (&permit, hidden), step, body).await
    }

    /// What Secrets hold that the bundle has no more; `None`: that of some of them nobody knows.
    async fn read_beside(&self, beside: &[(ObjectKey, Uuid)]) -> Option<Vec<String>> {
        let mut held = Vec::new();
        for (key, uid) in beside {
            let _turn = self.requests.acquire().await;
            match self.cluster.read(key).await {
                Ok(Some(there)) if there.metadata.uid == *uid => {
                    held.extend(texts_held(&serde_json::from_slice(&there.body).ok()?));
                }
                Ok(None) | Err(ClusterError::NamespaceMissing { .. } | ClusterError::KindMissing { .. }) => {}
                Ok(Some(_)) | Err(_) => return None,
            }
        }
        Some(held)
    }
}

/// One dry run on its way.
struct Trial {
    companions: Companions,
    /// Groups that other API servers serve; `None`: whoever may not look does not know.
    elsewhere: Option<BTreeSet<String>>,
    hidden: Hidden,
    until: Instant,
    answers: Vec<Tried>,
}

impl Trial {
    fn keeps_from_asking(&self, key: &ObjectKey) -> Option<Tried> {
        let group = key.group();
        let is_own =
            self.elsewhere.as_ref().map_or_else(|| OWN_GROUPS.contains(&group), |groups| !groups.contains(group));
        // One that does not know dry runs would do what it is only asked about.
        let unknown = || Tried::unknown("its API server may not know dry runs");
        if is_own { self.companions.keeps_from_asking(key) } else { Some(unknown()) }
    }
}

/// Of every API server, where nobody may look who serves what.
const OWN_GROUPS: [&str; 9] = [
    "",
    "apps",
    "autoscaling",
    "batch",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

fn not_asked() -> Tried {
    Tried::unknown("it was not asked about, for want of time")
}

fn hidden(held: &[String]) -> Hidden {
    Hidden::new(held.iter().flat_map(|text| spellings(text)))
}

/// As they are, by their digests; `None`: they are not what they are said to be.
fn read(packed: &[Vec<u8>]) -> Option<BTreeMap<Digest, Body>> {
    let mut left = OBJECTS_BYTES_MAX;
    let mut bodies = BTreeMap::new();
    for packed in packed {
        let body = decompress(packed, OBJECT_BYTES_MAX.min(left))?;
        left -= body.len();
        bodies.insert(Digest::of(&body), Body::from(Arc::<[u8]>::from(body)));
    }
    Some(bodies)
}

/// What Secrets among the objects hold, those too that stand within another one.
fn secrets_in(body: &Body) -> Vec<String> {
    const KIND_OF_SECRETS: &[u8] = br#"Secret""#;
    let may_hold = body.bytes().windows(KIND_OF_SECRETS.len()).any(|bytes| bytes == KIND_OF_SECRETS);
    let object = || serde_json::from_slice(body.bytes()).ok();
    if may_hold { object().map(|object| texts_held(&object)).unwrap_or_default() } else { Vec::new() }
}

/// As it is, and as whoever reads the Secret has it, also line by line.
fn spellings(text: &str) -> Vec<String> {
    let decoded = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let lines: Vec<_> = decoded.iter().flat_map(|text| text.lines().map(|line| line.trim().to_owned())).collect();
    lines.into_iter().chain(decoded).chain([text.to_owned()]).collect()
}
