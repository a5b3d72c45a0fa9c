//! Waiting for what only fetching and rendering can know, after a repo or a target was sent.
//!
//! The first result counts: a fetch, a bundle or a rollout, or a condition. A condition must stand for a moment, because
//! one from before the change is still there when it was just sent.

use std::time::Duration;

use bellwether_core::Name;
use bellwether_core::api::{Condition, Document, RepoDocument, TargetDocument};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::{Answer, Client, RequestError, Route};
use crate::failure::{Failure, report};

/// For how long the first result is waited for: a large repo over a slow line.
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// A look at a repository or a rendering that was under way with the old spec has ended within that.
const SETTLE: Duration = Duration::from_secs(2);

/// What there is to wait for.
#[derive(Debug)]
pub(super) struct Pending {
    kind: Watched,
    name: Name,
    /// What the result was before the change; null when there was none.
    before: Value,
    /// The hub took the document as one that differs from what it had.
    is_changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Repo,
    Target,
}

/// What a document says of its own first result.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// Null while there is none.
    result: Value,
    condition: Option<Condition>,
}

impl Pending {
    pub(super) fn repo(
        name: Name,
        before: Option<RepoDocument>,
        after: &RepoDocument,
        has_new_credential: bool,
    ) -> Self {
        let is_changed = has_new_credential || is_changed(before.as_ref(), after);
        let before = before.map_or(Value::Null, |repo| seen_repo(&repo).result);
        Self { kind: Watched::Repo, name, before, is_changed }
    }

    pub(super) fn target(name: Name, before: Option<TargetDocument>, after: &TargetDocument) -> Self {
        let is_changed = is_changed(before.as_ref(), after);
        let before = before.map_or(Value::Null, |target| seen_target(&target).result);
        Self { kind: Watched::Target, name, before, is_changed }
    }

    fn subject(&self) -> String {
        match self.kind {
            Watched::Repo => format!("repo `{}`", self.name),
            Watched::Target => format!("target `{}`", self.name),
        }
    }

    async fn look(&self, client: &Client) -> Result<Seen, RequestError> {
        match self.kind {
            Watched::Repo => {
                let repo: Answer<RepoDocument> = client.fetch(&Route::named("repos", &self.name)).await?;
                Ok(seen_repo(&repo.document))
            }
            Watched::Target => {
                let target: Answer<TargetDocument> = client.fetch(&Route::named("targets", &self.name)).await?;
                Ok(seen_target(&target.document))
            }
        }
    }

    /// `None`: nothing can be said yet.
    fn judge(&self, seen: &Seen, waited: Duration) -> Option<Result<(), Failure>> {
        let settled = !self.is_changed || waited >= SETTLE;
        if let Some(condition) = &seen.condition {
            return settled.then(|| Err(Failure::of_condition(&self.subject(), condition)));
        }
        let is_new = seen.result != self.before;
        (!seen.result.is_null() && (is_new || settled)).then_some(Ok(()))
    }

    fn out_of_time(&self) -> Failure {
        let (what, kind) = match self.kind {
            Watched::Repo => ("fetched", "repo"),
            Watched::Target => ("rendered", "target"),
        };
        Failure::new(format!("{} was not {what} within {} s", self.subject(), DEADLINE.as_secs()))
            .hint(format!("it goes on; `bellwether describe {kind} {}` says how it stands", self.name))
    }
}

fn is_changed<Spec, Status>(before: Option<&Document<Spec, Status>>, after: &Document<Spec, Status>) -> bool {
    before.is_none_or(|before| before.metadata.version.is_none() || before.metadata.version != after.metadata.version)
}

fn seen_repo(repo: &RepoDocument) -> Seen {
    let Some(status) = &repo.status else { return Seen { result: Value::Null, condition: None } };
    Seen { result: json!(status.fetched_at), condition: status.condition.clone() }
}

fn seen_target(target: &TargetDocument) -> Seen {
    let Some(status) = &target.status else { return Seen { result: Value::Null, condition: None } };
    let rollout = status.rollout.as_ref().map(|rollout| rollout.id);
    let is_rendered = status.commit.is_some() && (rollout.is_some() || status.digest.is_some());
    let result = if is_rendered { json!([status.commit, rollout, status.digest]) } else { Value::Null };
    Seen { result, condition: status.condition.clone() }
}

/// The document as it is before it is changed; `None` when it is new.
pub(super) async fn before<T: DeserializeOwned>(client: &Client, route: &Route) -> Result<Option<T>, RequestError> {
    match client.fetch::<T>(route).await {
        Ok(answer) => Ok(Some(answer.document)),
        Err(RequestError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for all of them at once. Every failure is told; the last is what the command ends with.
pub(super) async fn wait(client: &Client, mut pending: Vec<Pending>) -> anyhow::Result<()> {
    let started_at = Instant::now();
    let mut failures = Vec::new();
    while !pending.is_empty() && started_at.elapsed() < DEADLINE {
        let mut left = Vec::new();
        for one in pending {
            match one.look(client).await {
                Ok(seen) => match one.judge(&seen, started_at.elapsed()) {
                    Some(outcome) => failures.extend(outcome.err()),
                    None => left.push(one),
                },
                Err(RequestError::Unavailable(_)) => left.push(one),
                Err(error) => return Err(error.into()),
            }
        }
        pending = left;
        if !pending.is_empty() {
            sleep(LOOK_PAUSE).await;
        }
    }
    failures.extend(pending.iter().map(Pending::out_of_time));
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        report(&failure.into());
    }
    Err(last.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_YET: Duration = Duration::from_millis(100);

    fn pending(before: Value, is_changed: bool) -> Pending {
        Pending { kind: Watched::Repo, name: "apps".parse().expect("a name"), before, is_changed }
    }

    fn seen(result: Value, condition: Option<&str>) -> Seen {
        let condition = condition.map(|message| Condition {
            code: "x".to_owned(),
            message: message.to_owned(),
            hint: Some("mend it".to_owned()),
            file: None,
            line: None,
            since: None,
        });
        Seen { result, condition }
    }

    #[test]
    fn the_first_result_of_something_new_is_enough() {
        let pending = pending(Value::Null, true);

        assert!(pending.judge(&seen(Value::Null, None), NOT_YET).is_none());
        assert!(matches!(pending.judge(&seen(json!("t1"), None), NOT_YET), Some(Ok(()))));
    }

    #[test]
    fn a_result_from_before_a_change_is_believed_only_after_a_while() {
        let pending = pending(json!("t1"), true);

        assert!(pending.judge(&seen(json!("t1"), None), NOT_YET).is_none());
        assert!(matches!(pending.judge(&seen(json!("t2"), None), NOT_YET), Some(Ok(()))));
        assert!(matches!(pending.judge(&seen(json!("t1"), None), SETTLE), Some(Ok(()))));
    }

    #[test]
    fn what_was_not_changed_is_judged_at_once() {
        let pending = pending(json!("t1"), false);

        assert!(matches!(pending.judge(&seen(json!("t1"), None), NOT_YET), Some(Ok(()))));
        assert!(matches!(pending.judge(&seen(json!("t1"), Some("gone")), NOT_YET), Some(Err(_))));
    }

    #[test]
    fn a_condition_that_stands_is_the_result() {
        let pending = pending(Value::Null, true);
        let gone = seen(json!("t1"), Some("cannot reach git.example.org"));

        assert!(pending.judge(&gone, NOT_YET).is_none());
        let failure = pending.judge(&gone, SETTLE).expect("a result").expect_err("a failure");
        assert_eq!(failure.to_string(), "repo `apps`: cannot reach git.example.org");
    }
}
