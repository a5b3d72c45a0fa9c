//! The commit status stage: how rollouts go → the host of their repo.
//!
//! Told of a target a second after something was decided about it, it looks at the target's last rollouts, and tells the host
//! of those commits of which that has not heard what holds now: what is on its way when a decision is overtaken by the next is
//! never told. What the host does not take is tried again, later and later, and said at the target. A host that is away or asks
//! for peace is left alone by all, and so is a token that it does not take.

mod host;
mod pauses;

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::TargetId;
use bellwether_core::backoff::{Backoff, Jitter};
use bellwether_core::commit_status::of_rollout;
use bellwether_core::repo::CommitStatuses;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use self::host::Blame;
pub(crate) use self::host::has_api;
use self::pauses::{Parties, Pauses};
use crate::Hub;
use crate::process::clock;
use crate::source::access;
use crate::source::github::Permission;
use crate::store::commit_statuses::{Outcome, Rolled, Told};
use crate::store::repos::{Credential, Repo};
use crate::store::targets::Target;
use crate::store::work::{self, QueueItem, Stage};
use crate::store::{self, StoreError};
use crate::work::change::Change;
use crate::worker::stage::{self, Detached, Progress};

/// What a host does not take of a commit is tried again for as long as that is among the last ones.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(5), longest: Duration::from_hours(1), jitter: Jitter::None };

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    stage::run_detached(hub, Statuses::default(), stop).await;
}

#[derive(Default)]
pub(crate) struct Statuses {
    pauses: Pauses,
}

impl Detached for Statuses {
    const STAGE: Stage = Stage::CommitStatus;
    /// It waits for the network; hosts limit how many requests of one party they answer at once.
    const AT_ONCE: usize = 4;

    async fn reconcile(&self, hub: &Hub, item: &QueueItem) -> Result<Progress, StoreError> {
        let id = TargetId::new(item.key);
        let said = self.tell(hub, id).await?;
        let now = clock::now();
        let mut change = Change::begin(&hub.pool, &hub.signals).await?;
        work::lock_subject_in_turn(&mut change, Stage::CommitStatus, item.key).await?;
        for (commit, outcome) in &said.outcomes {
            store::commit_statuses::mark(&mut change, id, (commit, &said.context), outcome, now).await?;
        }
        let is_taken = work::take_seen(&mut change, item).await?;
        // Another hub has looked meanwhile, at what was decided later maybe: whichever told the host last is found out.
        if !is_taken && !said.outcomes.is_empty() {
            change.tell(Stage::CommitStatus, &[item.key], now, None).await?;
        }
        if let Some(at) = said.again {
            work::replace_timer(&mut change, Stage::CommitStatus, item.key, at).await?;
        }
        change.commit().await?;
        Ok(Progress::Done)
    }
}

/// What came of one look at a target.
#[derive(Default)]
struct Said {
    context: String,
    /// By commit.
    outcomes: Vec<(String, Outcome)>,
    /// When to look again.
    again: Option<Timestamp>,
}

/// What is told of a target, and to whom.
struct Subject {
    target: Target,
    repo: Repo,
    statuses: CommitStatuses,
    credential: Option<Credential>,
}

async fn load(hub: &Hub, id: TargetId) -> Result<Option<(Subject, Vec<Rolled>)>, StoreError> {
    let mut db = hub.pool.acquire().await?;
    let Some(target) = store::targets::find(&mut db, id).await? else { return Ok(None) };
    let Some(repo) = store::repos::find(&mut db, target.repo).await? else { return Ok(None) };
    let Some(statuses) = repo.spec.commit_status.clone() else { return Ok(None) };
    let (credential, _) = store::repos::find_access(&mut db, repo.id).await?;
    let rolled = store::commit_statuses::list_rolled(&mut db, id, repo.id).await?;
    Ok(Some((Subject { target, repo, statuses, credential }, rolled)))
}

impl Statuses {
    async fn tell(&self, hub: &Hub, id: TargetId) -> Result<Said, StoreError> {
        let Some((subject, rolled)) = load(hub, id).await? else { return Ok(Said::default()) };
        let Subject { target, repo, statuses, credential } = &subject;
        let context = statuses.context_of(target.project.name.as_str(), target.name.as_str());
        let mut said = Said { context: context.clone(), ..Said::default() };
        let parties = Parties::of(repo, credential.as_ref());
        for commit in rolled {
            let status = of_rollout(commit.state, &commit.reason, commit.members);
            let wanted = Told { context: context.clone(), status };
            if commit.told.as_ref().is_some_and(|told| host::knows(statuses.provider, told, &wanted)) {
                if commit.is_untold {
                    said.outcomes.push((commit.commit, Outcome::Known));
                }
                continue;
            }
            if let Some(until) = self.pauses.until(&parties, clock::now()) {
                said.again = Some(until);
                break;
            }
            let told = async {
                let remote = access::to_tell(hub, repo, credential.as_ref(), host::DEADLINE).await?;
                host::tell(&remote, statuses.provider, (&commit.commit, commit.pipeline), &wanted).await
            };
            let error = match told.await {
                Ok(pipeline) => {
                    self.pauses.end(&parties);
                    said.outcomes.push((commit.commit, Outcome::Taken(wanted, pipeline)));
                    continue;
                }
                Err(error) => error,
            };
            let text = crate::chain(&error);
            tracing::info!(target.name = %target.name, commit = commit.commit, error = text, "the host was not told of a commit");
            let outcome = if error.may_have_been_taken() { Outcome::Unknown(text) } else { Outcome::Refused(text) };
            said.outcomes.push((commit.commit, outcome));
            let now = clock::now();
            let (again, is_of_all) = match error.blame() {
                Blame::Host(wait) => (self.pauses.begin(&parties.host, wait, now), true),
                Blame::Token => {
                    // It may have been taken back; another is asked for.
                    hub.app_tokens.forget_one(repo.id, Permission::WriteStatuses);
                    (self.pauses.begin(&parties.token, None, now), true)
                }
                Blame::Commit => (after(now, BACKOFF.whole(commit.tries.saturating_add(1))), false),
            };
            said.again = Some(said.again.map_or(again, |known| known.min(again)));
            if is_of_all {
                break;
            }
        }
        Ok(said)
    }
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok()).unwrap_or(Timestamp::MAX)
}
