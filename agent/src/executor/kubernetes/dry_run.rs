//! Dry runs: what would become of a bundle that the hub only asks about. Nothing of it is journalled or kept, and nothing
//! in the cluster is changed.
//!
//! They have requests of their own, so that what is assigned never waits for what somebody only wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::Digest;
use bellwether_core::dry_run::{DryRun, DryRunAnswer, Fate, OBJECTS_BYTES_MAX, Tried, Unanswered};
use bellwether_core::object::{OBJECT_BYTES_MAX, is_secret_kind};
use bellwether_core::plan::{Hidden, texts_held};
use bellwether_core::reconcile::{Body, Companions, Finding, Permit, Step, objection, refusal};
use bellwether_core::session::DryRan;
use bellwether_proto::compression::{compress, decompress};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Duration, Instant, timeout_at};

use super::carry_out::{Seen, try_out};
use super::client::Cluster;
use super::keyring::Keyring;
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

    /// One for each object, in the order of `steps`. What has no answer at the deadline has none.
    pub(super) async fn run(self, asked: DryRun, steps: Vec<Step>) -> DryRan {
        let id = asked.id;
        let deadline = Instant::now() + Duration::try_from(asked.deadline).unwrap_or_default();
        let answer = match read(&asked.objects) {
            Some(bodies) => DryRunAnswer::Tried(self.try_all(steps, &bodies, deadline).await),
            None => DryRunAnswer::Unanswered(Unanswered::Unreadable),
        };
        DryRan { id, answer: compress(&answer.encode()) }
    }

    /// As the target's ServiceAccount, and as far as the cluster's owner allows.
    async fn try_one(&self, step: &Step, body: Body) -> Seen {
        let account = step.acts_as.account();
        let cluster = account.map_or_else(|| self.cluster.clone(), |account| self.cluster.acting_as(account));
        let told = Arc::clone(&self.policy.borrow());
        let asks = Permit::asks_for_scope(&told.standing, step);
        let is_namespaced = if asks { cluster.is_namespaced(&step.key).await } else { Ok(true) };
        let is_namespaced = match is_namespaced {
            Ok(is_namespaced) => is_namespaced,
            Err(error) => return Tried::failed(&error).into(),
        };
        if let Some(tried) = objection(&told.standing, step, is_namespaced) {
            return tried.into();
        }
        let permit = Permit::of(&told.standing, step, Some(&body), is_namespaced);
        try_out((&cluster, &self.keyring, &self.fence), &permit, step, body).await
    }

    async fn try_all(&self, steps: Vec<Step>, bodies: &BTreeMap<Digest, Body>, deadline: Instant) -> Vec<Tried> {
        let body_of = |step: &Step| step.act.digest().and_then(|digest| bodies.get(&digest)).cloned();
        let asked: Vec<_> = steps.into_iter().map(|step| (body_of(&step), step)).collect();
        let with_bodies = asked.iter().filter_map(|(body, step)| Some((step, body.as_ref()?)));
        let companions = Companions::of(with_bodies.clone());
        let mut held: Vec<String> = with_bodies.flat_map(|(_, body)| secrets_in(body)).collect();
        let companions = &companions;
        let mut answers: Vec<_> =
            asked.iter().map(|_| Tried::unknown("it was not asked about, for want of time")).collect();
        let secrets = asked.iter().enumerate().filter(|(_, (_, step))| is_secret_kind(&step.key.kind));
        let mut unseen: BTreeSet<_> = secrets.map(|(place, _)| place).collect();
        let questions = asked.into_iter().enumerate().map(|(place, (body, step))| async move {
            let Some(body) = body else { return (place, Tried::unknown("it is too much to be asked about").into()) };
            if let Some(tried) = companions.keeps_from_asking(&step.key) {
                return (place, tried.into());
            }
            let step = step.with_manner_of(&body);
            if let Some(answer) = refusal(&self.home, &step, Some(&body)) {
                let Finding::Failed(error) = answer.finding else { return (place, Tried::unknown("").into()) };
                return (place, Tried::failed(&error).into());
            }
            let _turn = self.requests.acquire().await;
            let mut seen = self.try_one(&step, body).await;
            seen.tried = companions.explain(&step.key, seen.tried);
            (place, seen)
        });
        let mut questions = stream::iter(questions).buffer_unordered(REQUESTS_MAX);
        while let Ok(Some((place, seen))) = timeout_at(deadline, questions.next()).await {
            held.extend(seen.held);
            if seen.tried.fate != Fate::Unknown {
                unseen.remove(&place);
            }
            answers[place] = seen.tried;
        }
        // Where a Secret was not seen, nobody knows what to hide.
        if !unseen.is_empty() {
            answers.iter_mut().for_each(Tried::drop_values);
        }
        let hidden = Hidden::new(held.into_iter().flat_map(spellings));
        for tried in &mut answers {
            tried.hide(&hidden);
        }
        answers
    }
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
fn spellings(text: String) -> Vec<String> {
    let decoded = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let lines: Vec<_> = decoded.iter().flat_map(|text| text.lines().map(|line| line.trim().to_owned())).collect();
    lines.into_iter().chain(decoded).chain([text]).collect()
}
