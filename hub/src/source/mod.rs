//! The source stage: repo → revisions.
//!
//! Woken by a webhook, a person or the poll; only the fetch decides what is new. It writes revisions and how the fetch
//! ended, and tells the bundle stage about targets whose folder moved: what a push costs grows with what it changed, and
//! not with what else is in the repo. A repo that cannot be reached, a ref that is gone,
//! a history that was rewritten: the last good revision stays, and nothing downstream hears of it.

pub(crate) mod access;
pub(crate) mod git;
pub(crate) mod github;
pub(crate) mod looked;
pub(crate) mod mirrors;
pub(crate) mod oci;
pub(crate) mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwether_core::audit::{Action, Event};
use bellwether_core::render::file_name;
use bellwether_core::repo::{CredentialKind, Move};
use bellwether_core::schedule::{Ended, Schedule};
use bellwether_core::signature::Verified;
use bellwether_core::source::{GitRef, full_name};
use bellwether_core::{Condition, RepoId, RevisionId, TargetId, Version};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

pub(crate) use self::access::credential_purpose;
use self::access::{open_credential, remote_of};
use self::git::{Commit, FetchError, Head, RefError, Remote, RepoUrl};
use self::github::{AppError, GithubApp, Permission};
use self::mirrors::{Slot, Wanted};
use crate::Hub;
use crate::pki::seal::SealError;
use crate::process::clock;
use crate::store::renders::AtRef;
use crate::store::repos::{Credential, Repo};
use crate::store::revisions::Revision;
use crate::store::targets::Follower;
use crate::store::work::{self, QueueItem, Stage};
use crate::store::{self, Connection, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;
use crate::worker;
use crate::worker::stage::{self, Detached, Progress};

/// Between two fetches of a repo that says nothing about it.
const POLL: SignedDuration = SignedDuration::from_secs(60);

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    stage::run_detached(hub, Source, stop).await;
}

pub(crate) struct Source;

impl Detached for Source {
    const STAGE: Stage = Stage::Source;
    /// Fetches wait for the network more than they compute.
    const AT_ONCE: usize = 8;
    /// Hosts that drop what is sent to them hold each slot until they are given up.
    const KEPT: usize = 2;
    /// So that a repo that somebody waits for is found behind all that are polled.
    const CANDIDATES: i64 = 1_000;

    async fn reconcile(&self, hub: &Hub, item: &QueueItem) -> Result<Progress, StoreError> {
        let id = RepoId::new(item.key);
        match load(hub, id).await? {
            None => forget(hub, item).await?,
            Some(known) => match known.schedule.wait(item.trace_id.is_some(), clock::now()) {
                Some(until) => postpone(hub, item, until).await?,
                None => {
                    let before = known.before();
                    let fetched = fetch(hub, known, item.trace_id.is_some()).await;
                    record(hub, item, &before, fetched).await?;
                }
            },
        }
        Ok(Progress::Done)
    }
}

/// What a fetch is recorded on.
struct Before {
    repo: Repo,
    credential: Option<Credential>,
    schedule: Schedule,
}

/// What is known of a repo before it is fetched.
struct Known {
    repo: Repo,
    followers: Vec<Follower>,
    /// The last commit seen at each ref.
    heads: BTreeMap<String, String>,
    /// Commits at refs that wait for somebody to let them in.
    waiting: BTreeMap<String, String>,
    /// What the last render of each target read of it, at which ref.
    inputs: BTreeMap<AtRef, Vec<String>>,
    credential: Option<Credential>,
    schedule: Schedule,
    /// A ref that somebody wants to look at, which need not be followed.
    besides: Option<GitRef>,
    /// Of somebody who waits for it no longer; `None`: as long as a fetch may take.
    until: Option<Instant>,
}

async fn load(hub: &Hub, id: RepoId) -> Result<Option<Known>, StoreError> {
    let of_repo = async {
        let mut db = hub.pool.acquire().await?;
        let repo = store::repos::find(&mut db, id).await?;
        Ok::<_, StoreError>((repo, store::repos::find_access(&mut db, id).await?))
    };
    let of_targets = async {
        let mut db = hub.pool.acquire().await?;
        let followers = store::targets::list_followers(&mut db, id).await?;
        let heads = store::revisions::list_commits_at(&mut db, id, followers.iter().map(|one| &*one.reference)).await?;
        let waiting = store::heads::list_waiting(&mut db, id).await?;
        Ok::<_, StoreError>((followers, (heads, waiting), store::renders::list_inputs(&mut db, id).await?))
    };
    let ((repo, (credential, schedule)), (followers, commits, inputs)) = tokio::try_join!(of_repo, of_targets)?;
    let (heads, waiting) = commits;
    let known = |repo| {
        let (besides, until) = (None, None);
        Known { repo, followers, heads, waiting, inputs, credential, schedule, besides, until }
    };
    Ok(repo.map(known))
}

impl Known {
    fn before(&self) -> Before {
        Before { repo: self.repo.clone(), credential: self.credential.clone(), schedule: self.schedule.clone() }
    }

    /// Each ref once. With no target yet the default branch is fetched, so that adding a repo tells whether it can be
    /// reached.
    fn wanted(&self, was_asked: bool) -> Wanted {
        let bases = if self.repo.spec.force_push.is_allowed() { BTreeMap::new() } else { self.heads.clone() };
        Wanted { refs: self.refs(), bases, waiting: self.waiting.clone(), was_asked }
    }

    fn is_read_by_an_app(&self) -> bool {
        self.credential.as_ref().is_some_and(|credential| credential.kind == Some(CredentialKind::GithubApp))
    }

    fn refs(&self) -> Vec<GitRef> {
        // An artifact has no default tag, and a file no branch; whether its server answers is found out without one.
        let spec = &self.repo.spec;
        let is_of_git = spec.chart.is_none() && !RepoUrl::is_of_artifact(&spec.url) && file_name(&spec.url).is_none();
        let followed = self.followers.iter().map(|one| (one.reference.clone(), &one.git_ref));
        let by_name: BTreeMap<_, _> = self.besides.iter().map(|one| (full_name(one), one)).chain(followed).collect();
        if by_name.is_empty() {
            return if is_of_git { vec![GitRef::default()] } else { Vec::new() };
        }
        by_name.into_values().cloned().collect()
    }

    /// Which targets a commit leaves as they are, compared to the last one seen at its ref. Of what cannot be compared
    /// nothing is said, so that all of its targets are reconciled.
    fn unmoved(&self, mirror: &Slot, reference: &str, commit: &str) -> Option<Unmoved> {
        let since = self.heads.get(reference)?;
        if since == commit {
            return None;
        }
        // Of what has not rendered yet, or with an earlier version of this program, it is not known what it reads.
        let rendered = self.followers.iter().filter(|one| one.reference == reference).filter_map(|one| {
            let at = (one.id, one.reference.clone());
            let inputs = self.inputs.get(&at).filter(|inputs| !inputs.is_empty())?;
            Some(UnmovedTarget { at, version: one.version, inputs: inputs.clone() })
        });
        let mut targets: Vec<_> = rendered.collect();
        let paths = targets.iter().flat_map(|one| &one.inputs).cloned().collect();
        let paths = mirror.reader().ok()?.list_unmoved(since, commit, &paths).ok()?;
        targets.retain(|one| one.inputs.iter().all(|path| paths.contains(path)));
        Some(Unmoved { since: since.clone(), targets })
    }
}

/// Targets of which all that their renders read is the same since a commit, as they were when that was found.
#[derive(Debug, Default)]
struct Unmoved {
    since: String,
    targets: Vec<UnmovedTarget>,
}

#[derive(Debug)]
struct UnmovedTarget {
    at: AtRef,
    version: Version,
    inputs: Vec<String>,
}

impl Unmoved {
    /// Without those that were rendered since, and read something else.
    fn still(self, inputs: &BTreeMap<AtRef, Vec<String>>) -> Vec<(TargetId, Version)> {
        let same = self.targets.into_iter().filter(|one| inputs.get(&one.at) == Some(&one.inputs));
        same.map(|one| (one.at.0, one.version)).collect()
    }
}

/// What is at a ref, and whom that leaves as they are.
struct Found {
    head: Head,
    unmoved: Unmoved,
}

/// A repo that was deleted: its work and its mirror go, and nothing comes after it.
async fn forget(hub: &Hub, item: &QueueItem) -> Result<(), StoreError> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    work::take_seen(&mut change, item).await?;
    change.commit().await?;
    hub.app_tokens.forget(RepoId::new(item.key));
    remove_mirrors(hub, [RepoId::new(item.key)].into()).await;
    Ok(())
}

/// The part of a hub that keeps no mirror for nothing.
pub(crate) async fn sweep(hub: Arc<Hub>, stop: CancellationToken) {
    let once = || async {
        if let Err(error) = sweep_mirrors(&hub).await {
            tracing::warn!(error = %crate::chain(&error), "could not sweep the mirrors");
        }
    };
    worker::sweep::hourly(&stop, once).await;
}

/// Mirrors of repos that another hub forgot, or that were deleted while this one was down, go; what the others have is counted.
async fn sweep_mirrors(hub: &Hub) -> Result<(), StoreError> {
    let hub_mirrors = hub.mirrors.clone();
    let listed = tokio::task::spawn_blocking(move || hub_mirrors.list()).await.expect("a listing does not panic");
    let mut unknown = listed.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "cannot list the mirrors");
        BTreeSet::new()
    });
    let mut db = hub.pool.acquire().await?;
    // Listed before: a repo that is added meanwhile has no mirror among them.
    for known in store::repos::list_ids(&mut db).await? {
        unknown.remove(&known);
    }
    drop(db);
    remove_mirrors(hub, unknown).await;
    let mirrors = hub.mirrors.clone();
    match tokio::task::spawn_blocking(move || mirrors.count()).await.expect("a count does not panic") {
        Ok(bytes) => {
            hub.metrics.mirrors.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        Err(error) => tracing::warn!(error = %error, "cannot count what the mirrors have"),
    }
    Ok(())
}

/// What stays is found by the next sweep.
async fn remove_mirrors(hub: &Hub, repos: BTreeSet<RepoId>) {
    let mirrors = hub.mirrors.clone();
    let work = move || {
        for repo in repos {
            if let Err(error) = mirrors.remove(repo) {
                tracing::warn!(repo.id = %repo, error = %error, "cannot remove the mirror of a deleted repo");
            }
        }
    };
    tokio::task::spawn_blocking(work).await.expect("a removal does not panic");
}

/// Too early: the server asked for peace, or the last fetch failed and nobody asks for this one.
async fn postpone(hub: &Hub, item: &QueueItem, until: Timestamp) -> Result<(), StoreError> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    if work::take_seen(&mut change, item).await? {
        work::replace_timer(&mut change, Stage::Source, item.key, until).await?;
    }
    change.commit().await
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RepoError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the stored token or key cannot be opened")]
    Credential(#[from] SealError),
    #[error("the repo's URL is no longer allowed")]
    Url(#[from] git::InvalidUrl),
    #[error(transparent)]
    App(#[from] AppError),
}

impl RepoError {
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fetch(FetchError::Limited { retry_after, .. })
            | Self::App(AppError::Fetch(FetchError::Limited { retry_after, .. })) => *retry_after,
            _ => None,
        }
    }

    fn condition(&self, now: Timestamp) -> Condition {
        let (code, hint) = match self {
            Self::Fetch(error) => (error.code(), error.hint()),
            Self::Credential(_) => {
                ("credential_unreadable", Some("give the token or key again: bellwether credential set".into()))
            }
            Self::Url(error) => (error.code(), error.hint()),
            Self::App(error) => (error.code(), error.hint()),
        };
        Condition::new(code, &crate::chain(self), hint.as_deref(), Some(now))
    }
}

async fn fetch(hub: &Hub, known: Known, was_asked: bool) -> Result<Vec<Found>, RepoError> {
    let known = Arc::new(known);
    let repo = &known.repo;
    let credential = known.credential.as_ref().map(|one| open_credential(hub, repo, one)).transpose()?;
    let remote = remote_of(hub, repo)?;
    match credential {
        Some(app) if known.is_read_by_an_app() => fetch_as_app(hub, &known, &app, remote, was_asked).await,
        credential => fetch_from(hub, &known, Remote { credential, ..remote }, was_asked).await,
    }
}

/// By a token that the app is given. One that was kept may have been taken back since: another is asked for, once.
async fn fetch_as_app(
    hub: &Hub,
    known: &Arc<Known>,
    app: &SecretString,
    remote: Remote,
    was_asked: bool,
) -> Result<Vec<Found>, RepoError> {
    let (app, longest) = (GithubApp::read(app)?, hub.config.fetch_bounds().deadline);
    let left = known.until.map(|until| until.saturating_duration_since(Instant::now()));
    let longest = left.map_or(longest, |left| left.min(longest));
    loop {
        let asked = (known.repo.id, Permission::ReadContents);
        let token = hub.app_tokens.token(asked, &app, &remote, longest, clock::now()).await?;
        let with_it = Remote { credential: Some(token.text), ..remote.clone() };
        match fetch_from(hub, known, with_it, was_asked).await {
            Err(RepoError::Fetch(FetchError::Unauthorized { host, .. })) => {
                hub.app_tokens.forget_one(known.repo.id, Permission::ReadContents);
                if token.is_new {
                    return Err(AppError::TokenRefused { host }.into());
                }
            }
            fetched => return fetched,
        }
    }
}

async fn fetch_from(hub: &Hub, known: &Arc<Known>, remote: Remote, was_asked: bool) -> Result<Vec<Found>, RepoError> {
    let (known, mirror) = (known.clone(), hub.mirrors.of(known.repo.id));
    let (until, stop) = (known.until, Stops(Arc::default()));
    let mut work = {
        let stop = stop.0.clone();
        tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let heads = mirror.fetch(&remote, &known.wanted(was_asked), &stop);
            let took = began.elapsed();
            let compare = |head| compare(&known, &mirror, head);
            let found = heads.map(|heads| heads.into_iter().map(compare).collect::<Vec<_>>());
            (found.map_err(RepoError::from), took)
        })
    };
    if let Some(until) = until {
        match tokio::time::timeout_at(until.into(), &mut work).await {
            Ok(ended) => return note(hub, ended.expect("a fetch does not panic")),
            Err(_) => stop.raise(),
        }
    }
    // Also one that is to stop: whoever asked for it has it on their hands until it has.
    note(hub, work.await.expect("a fetch does not panic"))
}

fn note(hub: &Hub, (found, took): (Result<Vec<Found>, RepoError>, Duration)) -> Result<Vec<Found>, RepoError> {
    hub.metrics.note_fetch(took);
    found
}

/// Tells a fetch to stop, at the latest when nobody is there any more who waits for it: it would go on without them.
struct Stops(Arc<AtomicBool>);

impl Stops {
    fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stops {
    fn drop(&mut self) {
        self.raise();
    }
}

fn compare(known: &Known, mirror: &Slot, head: Head) -> Found {
    let commit = head.outcome.as_ref().ok().map(|commit| commit.id.as_str());
    let unmoved = commit.and_then(|commit| known.unmoved(mirror, &full_name(&head.reference), commit));
    Found { head, unmoved: unmoved.unwrap_or_default() }
}

async fn record(
    hub: &Hub,
    item: &QueueItem,
    before: &Before,
    fetched: Result<Vec<Found>, RepoError>,
) -> Result<(), StoreError> {
    let now = clock::now();
    // What is found at last belongs to the signal that it was looked for again for.
    let signal = item.trace_id.clone().or_else(|| before.schedule.again.as_ref().map(|again| again.trace_id.clone()));
    let trace_id = signal.unwrap_or_else(clock::new_trace);
    let repo = &before.repo;
    // The commit of the rollout that follows puts it on disk too, and the sealer's before anybody reads the log.
    let mut change = Change::begin_deferred(&hub.pool, &hub.signals).await?;
    // Not to be skipped when it is held: the bundle stage holds it for a moment, and a fetch would be for nothing.
    work::lock_subject_in_turn(&mut change, Stage::Source, item.key).await?;
    if !work::take_seen(&mut change, item).await? {
        // Another hub was told the same, and what it wrote may be newer than what is known here.
        return Ok(());
    }
    // A fetch takes minutes at times. What another server said, or this one to another token, is no news of the repo as it
    // is now: the rows stay, so that it is fetched at once.
    let is_same = store::repos::lock(&mut change, repo.id).await? == Some(repo.version)
        && store::repos::find_access(&mut change, repo.id).await?.0 == before.credential;
    if !is_same {
        return Ok(());
    }
    let poll = repo.spec.poll_seconds.map_or(POLL, |seconds| SignedDuration::from_secs(seconds.into()));
    let due_at = match fetched {
        Ok(found) => {
            let heads = found.iter().map(|found| head_of(&found.head)).collect();
            let expected = store::webhooks::list_expected(&mut change, repo.id).await?;
            let is_late = item.trace_id.is_none() && !expected.is_empty();
            // What is found beside what was said belongs to nobody.
            let trace_of = |name: &str| {
                if is_late && !expected.contains_key(name) { clock::new_trace() } else { trace_id.clone() }
            };
            let has_moved = record_heads(&mut change, repo, found, trace_of, now).await?;
            let expected = take_expected(&mut change, repo.id, &heads).await?;
            let ended = expected.ended(has_moved, item.trace_id.as_deref());
            let (next, due_at) = before.schedule.after(ended, poll, now);
            if next.again.is_none() {
                store::webhooks::delete_expected(&mut change, repo.id, &expected.missing).await?;
            }
            store::repos::mark_fetched(&mut change, repo.id, &next, now).await?;
            due_at
        }
        Err(error) => {
            let ended = Ended::Failed { retry_after: error.retry_after(), asked_by: item.trace_id.as_deref() };
            let (next, due_at) = before.schedule.after(ended, poll, now);
            // What a host sends again because nothing came of it is heard again.
            store::webhooks::delete_deliveries_of(&mut change, repo.id).await?;
            record_failure(&mut change, repo, &error, &next, now).await?;
            due_at
        }
    };
    // Up to a tenth later than asked, so that a thousand repos are not fetched in one second.
    let pause = due_at.duration_since(now);
    let jitter = pause / 10 * i32::from(clock::new_id().as_bytes()[15]) / 255;
    work::replace_timer(&mut change, Stage::Source, repo.id.as_uuid(), due_at + jitter).await?;
    change.commit().await
}

/// What Git hosts said of refs, beside what a fetch found.
struct Expected {
    /// All that they said is so.
    is_met: bool,
    /// What is not so, yet or any more.
    missing: Vec<String>,
}

impl Expected {
    fn ended<'a>(&self, has_moved: bool, asked_by: Option<&'a str>) -> Ended<'a> {
        match has_moved {
            // What moved came before what it was asked for.
            true if !self.missing.is_empty() => Ended::Unmoved { asked_by },
            false if !self.is_met => Ended::Unmoved { asked_by },
            _ => Ended::Moved,
        }
    }
}

/// What is there now is expected no more.
async fn take_expected(
    change: &mut Change<'_>,
    repo: RepoId,
    heads: &BTreeMap<String, Option<String>>,
) -> Result<Expected, StoreError> {
    let expected = store::webhooks::list_expected(change, repo).await?;
    let is_met = |name: &String, commit: &Option<String>| heads.get(name) == Some(commit);
    let (met, missing): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(name, commit)| is_met(name, commit));
    let [met, missing] = [met, missing].map(|some| some.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    store::webhooks::delete_expected(change, repo, &met).await?;
    Ok(Expected { is_met: missing.is_empty() && !met.is_empty(), missing })
}

/// A ref, and the commit there; `None`: there is none.
fn head_of(head: &Head) -> (String, Option<String>) {
    (full_name(&head.reference), head.outcome.as_ref().ok().map(|commit| commit.id.clone()))
}

/// Says whether a ref moved.
async fn record_heads(
    change: &mut Change<'_>,
    repo: &Repo,
    found: Vec<Found>,
    trace_of: impl Fn(&str) -> String,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut has_moved = false;
    for Found { head, unmoved } in found {
        let reference = full_name(&head.reference);
        let trace_id = &*trace_of(&reference);
        let seen = Seen { repo, reference: &reference, tag: head.tag.as_deref(), trace_id, now };
        let has_to_wait = match &head.outcome {
            Ok(commit) => has_to_wait(change, seen, &head, commit).await?,
            Err(_) => false,
        };
        match head.outcome {
            Ok(commit) if has_to_wait => {
                store::heads::mark_waiting(change, repo.id, &reference, &commit.id, now).await?;
                let error = RefError::Rewritten {
                    repo: repo.name.to_string(),
                    reference: reference.clone(),
                    commit: commit.id,
                };
                record_ref_failure(change, seen, &error).await?;
            }
            Ok(commit) => {
                let (verified, refusal) = match head.verified {
                    Some(Ok(verified)) => (Some(verified), None),
                    Some(Err(error)) => (None, Some(error)),
                    None => (None, None),
                };
                let found = Signed { verified, is_refused: refusal.is_some() };
                has_moved |= record_commit(change, seen, commit, found, unmoved).await?;
                if let Some(error) = refusal {
                    record_ref_failure(change, seen, &error).await?;
                }
            }
            Err(error) => record_ref_failure(change, seen, &error).await?,
        }
    }
    Ok(has_moved)
}

/// A ref that was fetched.
#[derive(Clone, Copy)]
struct Seen<'a> {
    repo: &'a Repo,
    reference: &'a str,
    /// Of a range of versions the newest in it.
    tag: Option<&'a str>,
    trace_id: &'a str,
    now: Timestamp,
}

/// Whether the repo's policy keeps a commit until somebody accepts it.
async fn has_to_wait(db: &mut Connection, seen: Seen<'_>, head: &Head, commit: &Commit) -> Result<bool, StoreError> {
    let Seen { repo, reference, tag, .. } = seen;
    if repo.spec.force_push.is_allowed() {
        return Ok(false);
    }
    let (before, _) = store::revisions::find_head(db, repo.id, reference).await?;
    let Some(before) = before.filter(|before| before.commit != commit.id) else { return Ok(false) };
    let moved = Move {
        reference: &head.reference,
        tags: (before.tag.as_deref(), tag),
        descends: head.builds_on.as_deref() == Some(before.commit.as_str()),
        is_accepted: store::heads::is_accepted(db, repo.id, reference, &commit.id).await?,
    };
    Ok(bellwether_core::repo::has_to_wait(repo.spec.force_push, moved))
}

/// What came of looking for signatures, where somebody has to have signed.
struct Signed {
    verified: Option<Verified>,
    /// It is shown, and not rolled out.
    is_refused: bool,
}

/// A commit that is not the last one seen at its ref is a new revision, forwards or backwards. Says whether it is.
async fn record_commit(
    change: &mut Change<'_>,
    seen: Seen<'_>,
    commit: Commit,
    Signed { verified, is_refused }: Signed,
    unmoved: Unmoved,
) -> Result<bool, StoreError> {
    let Seen { repo, reference, tag, trace_id, now } = seen;
    let (head, condition) = store::revisions::find_head(change, repo.id, reference).await?;
    if !repo.spec.force_push.is_allowed() {
        store::heads::delete_waiting(change, repo.id, reference).await?;
    }
    let cleared = condition.is_some() && !is_refused;
    if cleared {
        store::revisions::mark_ref_condition(change, repo.id, reference, None).await?;
    }
    let moved_from = head.as_ref().filter(|head| is_moved_tag(head, tag, &commit)).map(|head| head.commit.clone());
    // The same commit under a newer version's tag is told as such.
    let has_tag = head.as_ref().is_some_and(|head| head.tag.as_deref() == tag);
    let before = head.as_ref().map(|head| (head.id, head.verified.clone()));
    let newest = head.as_ref().map(|head| head.id.as_uuid());
    let since = head.map(|head| head.commit);
    let is_new = since.as_ref() != Some(&commit.id) || !has_tag;
    // Another hub may have seen something in between; and who was told that the ref is gone is told that it is back.
    let is_compared = is_new && !cleared && since.as_ref() == Some(&unmoved.since);
    let unmoved = if is_compared && !unmoved.targets.is_empty() {
        unmoved.still(&store::renders::list_inputs(change, repo.id).await?)
    } else {
        Vec::new()
    };
    let is_verified_anew = !is_new && before.as_ref().is_some_and(|(_, before)| *before != verified);
    if is_new || cleared || is_verified_anew {
        let moved = store::targets::list_ids_moved(change, repo.id, reference, &unmoved).await?;
        change.tell(Stage::Bundle, &moved, now, Some(trace_id)).await?;
    }
    if !is_new {
        if let Some((id, _)) = before.filter(|_| is_verified_anew) {
            record_signature(change, seen, id, (&commit.id, verified.as_ref())).await?;
        }
        return Ok(false);
    }
    let revision = Revision {
        id: RevisionId::new(clock::new_id_after(newest)),
        reference: reference.to_owned(),
        tag: tag.map(ToOwned::to_owned),
        commit: commit.id,
        author: commit.author,
        subject: commit.subject,
        verified,
        seen_at: now,
        trace_id: trace_id.to_owned(),
    };
    store::revisions::insert(change, repo.id, &revision).await?;
    if let Some(moved_from) = &moved_from {
        tracing::warn!(repo.name = %repo.name, reference, tag, moved_from, revision = revision.commit, "a tag was moved");
    }
    let event = seen_event(repo, &revision, moved_from);
    change.audit(&event).await?;
    tracing::info!(repo.name = %repo.name, revision = revision.commit, trace.id = trace_id, "saw a new revision");
    Ok(true)
}

fn seen_event(repo: &Repo, revision: &Revision, moved_from: Option<String>) -> Event {
    let (now, subject) = (revision.seen_at, subjects::repo(repo));
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::RevisionSeen, subject);
    event.commit = Some(revision.commit.clone());
    event.trace_id = Some(revision.trace_id.clone());
    event.detail =
        serde_json::json!({"ref": revision.reference, "author": revision.author, "subject": revision.subject});
    if let Some(tag) = &revision.tag {
        event.detail["tag"] = tag.as_str().into();
    }
    if let Some(verified) = &revision.verified {
        event.detail["verifiedBy"] = verified.to_string().into();
    }
    if let Some(moved_from) = moved_from {
        event.detail["movedFrom"] = moved_from.into();
    }
    event
}

/// Who signed what was seen before: keys were given since, or others.
async fn record_signature(
    change: &mut Change<'_>,
    seen: Seen<'_>,
    revision: RevisionId,
    (commit, verified): (&str, Option<&Verified>),
) -> Result<(), StoreError> {
    store::revisions::mark_verified(change, revision, verified).await?;
    let Some(verified) = verified else { return Ok(()) };
    let Seen { repo, reference, trace_id, now, .. } = seen;
    let subject = subjects::repo(repo);
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::RevisionVerified, subject);
    event.commit = Some(commit.to_owned());
    event.trace_id = Some(trace_id.to_owned());
    event.detail = serde_json::json!({"ref": reference, "verifiedBy": verified.to_string()});
    change.audit(&event).await
}

/// Whether a name that is to stay where it is leads somewhere else now.
fn is_moved_tag(head: &Revision, tag: Option<&str>, commit: &Commit) -> bool {
    let is_same_tag = head.reference.starts_with("refs/tags/") || (tag.is_some() && head.tag.as_deref() == tag);
    is_same_tag && head.commit != commit.id
}

/// Of a ref that nobody follows any more nothing is said. Written down and audited once, not at every poll.
async fn record_ref_failure(change: &mut Change<'_>, seen: Seen<'_>, error: &RefError) -> Result<(), StoreError> {
    let Seen { repo, reference, trace_id, now, .. } = seen;
    let followers = store::targets::list_ids_moved(change, repo.id, reference, &[]).await?;
    let condition = Condition::new(error.code(), &crate::chain(error), error.hint().as_deref(), Some(now));
    let before = store::revisions::find_ref_condition(change, repo.id, reference).await?;
    let is_known = before.is_some_and(|before| before.says_the_same(&condition));
    if followers.is_empty() || is_known {
        return Ok(());
    }
    store::revisions::mark_ref_condition(change, repo.id, reference, Some(&condition)).await?;
    change.audit(&failure(repo, &condition, now)).await?;
    change.tell(Stage::Bundle, &followers, now, Some(trace_id)).await
}

/// Written down and audited once, not at every poll.
async fn record_failure(
    change: &mut Change<'_>,
    repo: &Repo,
    error: &RepoError,
    next: &Schedule,
    now: Timestamp,
) -> Result<(), StoreError> {
    let condition = error.condition(now);
    let before = store::repos::find_fetch_status(change, repo.id).await?.condition;
    if before.is_some_and(|before| before.says_the_same(&condition)) {
        return store::repos::mark_failed(change, repo.id, None, next, now).await;
    }
    store::repos::mark_failed(change, repo.id, Some(&condition), next, now).await?;
    tracing::warn!(repo.name = %repo.name, error = condition.message, "could not fetch a repo");
    change.audit(&failure(repo, &condition, now)).await
}

fn failure(repo: &Repo, condition: &Condition, now: Timestamp) -> Event {
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::RepoFailed, subjects::repo(repo));
    event.outcome = bellwether_core::audit::Outcome::Failed;
    event.reason.clone_from(&condition.message);
    event.detail = serde_json::json!({"code": condition.code});
    event
}
