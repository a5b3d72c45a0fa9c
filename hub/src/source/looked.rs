//! A ref that somebody wants to look at, which no target need follow: it is fetched as for anybody who asks, and nothing is
//! written down. What else is found is seen by the next fetch that the stage makes.

use std::time::Instant;

use bellwether_core::source::{GitRef, full_name};
use bellwether_core::{Condition, RepoId};

use super::git::{Commit, Head, RefError};
use super::{RepoError, Seen, fetch, has_to_wait, load};
use crate::Hub;
use crate::process::clock;
use crate::store::StoreError;

/// What is there.
pub(crate) struct Looked {
    pub(crate) commit: Commit,
    pub(crate) head: Head,
    /// Why it would have to wait for somebody, were it seen there.
    pub(crate) waits: Option<Condition>,
}

/// Where a ref leads now; its commit is in the mirror afterwards. `Err`: why that cannot be told by then.
pub(crate) async fn look(
    hub: &Hub,
    repo: RepoId,
    reference: &GitRef,
    until: Instant,
) -> Result<Result<Looked, Condition>, StoreError> {
    let now = clock::now();
    let Some(mut known) = load(hub, repo).await? else { return Ok(Err(gone())) };
    if let Some(until) = known.schedule.wait(true, now) {
        let message = format!("the server of repo `{}` asked to be left alone until {until}", known.repo.name);
        return Ok(Err(Condition::new("git_limited", &message, Some("try again then"), Some(now))));
    }
    let (name, seen_repo) = (full_name(reference), known.repo.clone());
    let is_followed = known.heads.contains_key(&name);
    (known.besides, known.until) = (Some(reference.clone()), Some(until));
    let found = match fetch(hub, known, true).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(failed(&error, until))),
    };
    let head = found.into_iter().map(|found| found.head).find(|head| full_name(&head.reference) == name);
    let Some(head) = head else { return Ok(Err(gone())) };
    let told =
        |error: &RefError| Condition::new(error.code(), &crate::chain(error), error.hint().as_deref(), Some(now));
    let commit = match &head.outcome {
        Ok(commit) => commit.clone(),
        Err(error) => return Ok(Err(told(error))),
    };
    let seen = Seen { repo: &seen_repo, reference: &name, tag: head.tag.as_deref(), trace_id: "", now };
    let waits = if is_followed {
        let mut db = hub.pool.acquire().await?;
        has_to_wait(&mut db, seen, &head, &commit).await?
    } else {
        false
    };
    let waits = waits.then(|| {
        let repo = seen_repo.name.to_string();
        told(&RefError::Rewritten { repo, reference: name.clone(), commit: commit.id.clone() })
    });
    Ok(Ok(Looked { commit, head, waits }))
}

/// What readers of its mirror turned out to need comes, with what its targets follow. `Err`: why not by then.
pub(crate) async fn fetch_more(hub: &Hub, repo: RepoId, until: Instant) -> Result<Result<(), Condition>, StoreError> {
    let Some(mut known) = load(hub, repo).await? else { return Ok(Err(gone())) };
    known.until = Some(until);
    Ok(fetch(hub, known, true).await.map(drop).map_err(|error| failed(&error, until)))
}

/// One that was told to stop says nothing of why.
fn failed(error: &RepoError, until: Instant) -> Condition {
    let now = clock::now();
    if Instant::now() < until {
        return error.condition(now);
    }
    let hint = "try again: what came so far is kept, or another fetch of the repo has ended by then";
    Condition::new("git_deadline", "the repo could not be fetched in time", Some(hint), Some(now))
}

fn gone() -> Condition {
    Condition::new("repo_not_found", "the repo was deleted meanwhile", None, Some(clock::now()))
}
