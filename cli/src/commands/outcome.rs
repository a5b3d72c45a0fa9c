//! Waiting for what only fetching and rendering can know, after a repo or a target was sent or is to be reconciled
//! again.
//!
//! The hub says whether a change is still on its way. Once it is not, what the document says is the result: a fetch, a
//! bundle, a rollout or a condition.

use std::time::Duration;

use bellwether_core::api::{RepoDocument, TargetDocument};
use bellwether_core::{Condition, Name};
use tokio::time::{Instant, sleep};

use super::Context;
use crate::client::{Answer, Client, RequestError, Route};
use crate::failure::{Failure, report};
use crate::output::progress::Waiting;

/// For how long the result is waited for: a large repo over a slow line.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// What there is to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pending {
    Repo(Name),
    Target(Name),
}

/// What a document says of its own result.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    pending: bool,
    /// There is something that was fetched or rendered.
    has_result: bool,
    condition: Option<Condition>,
}

impl Pending {
    fn subject(&self) -> String {
        match self {
            Self::Repo(name) => format!("repo `{name}`"),
            Self::Target(name) => format!("target `{name}`"),
        }
    }

    async fn poll(&self, client: &Client) -> Result<Seen, RequestError> {
        match self {
            Self::Repo(name) => {
                let repo: Answer<RepoDocument> = client.fetch(&Route::named("repos", name)).await?;
                Ok(seen_repo(repo.document))
            }
            Self::Target(name) => {
                let target: Answer<TargetDocument> = client.fetch(&Route::named("targets", name)).await?;
                Ok(seen_target(target.document))
            }
        }
    }

    /// `None`: nothing can be said yet.
    fn judge(&self, seen: &Seen) -> Option<Result<(), Failure>> {
        if seen.pending {
            return None;
        }
        Some(match &seen.condition {
            Some(condition) => Err(Failure::of_condition(&self.subject(), condition)),
            None if seen.has_result => Ok(()),
            None => Err(self.without_result()),
        })
    }

    fn without_result(&self) -> Failure {
        let failure = Failure::new(format!("{} has nothing to run yet", self.subject()));
        match self {
            Self::Repo(name) => failure.hint(format!("`bellwether repo refresh {name}` fetches it again")),
            Self::Target(_) => failure.hint("`bellwether status` says how its repo stands"),
        }
    }

    fn out_of_time(&self) -> Failure {
        let (what, kind, name) = match self {
            Self::Repo(name) => ("fetched", "repo", name),
            Self::Target(name) => ("rendered", "target", name),
        };
        Failure::new(format!("{} was not {what} within {} s", self.subject(), DEADLINE.as_secs()))
            .hint(format!("it goes on; `bellwether describe {kind} {name}` says how it stands"))
    }
}

fn seen_repo(repo: RepoDocument) -> Seen {
    let Some(status) = repo.status else { return Seen { pending: true, has_result: false, condition: None } };
    Seen { pending: status.pending, has_result: status.fetched_at.is_some(), condition: status.condition }
}

fn seen_target(target: TargetDocument) -> Seen {
    let Some(status) = target.status else { return Seen { pending: true, has_result: false, condition: None } };
    let has_result = status.rollout.is_some() || status.digest.is_some();
    Seen { pending: status.pending, has_result, condition: status.condition }
}

/// Waits for all of them at once. Every failure is told; the last is what the command ends with.
pub(super) async fn wait(context: &Context, mut pending: Vec<Pending>) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let waiting = Waiting::start();
    let mut failures = Vec::new();
    while !pending.is_empty() && Instant::now() < deadline {
        waiting.say(&format!("waiting for {}", subjects(&pending)));
        let mut left = Vec::new();
        for one in pending {
            match one.poll(&context.client).await {
                Ok(seen) => match one.judge(&seen) {
                    Some(outcome) => failures.extend(outcome.err()),
                    None => left.push(one),
                },
                Err(RequestError::Unavailable(_)) => left.push(one),
                Err(error) => return Err(error.into()),
            }
        }
        pending = left;
        if !pending.is_empty() {
            sleep(POLL_PAUSE).await;
        }
    }
    drop(waiting);
    failures.extend(pending.iter().map(Pending::out_of_time));
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        report(&failure.into());
    }
    Err(last.into())
}

/// As many as fit a line.
fn subjects(pending: &[Pending]) -> String {
    const NAMED_MAX: usize = 3;
    let named: Vec<_> = pending.iter().take(NAMED_MAX).map(Pending::subject).collect();
    let more = pending.len().saturating_sub(NAMED_MAX);
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Pending {
        Pending::Target("shop".parse().expect("a name"))
    }

    fn condition(message: &str) -> Condition {
        Condition {
            code: "code".to_owned(),
            message: message.to_owned(),
            hint: None,
            file: None,
            line: None,
            since: None,
        }
    }

    #[test]
    fn what_a_document_says_while_a_change_is_on_its_way_is_not_believed() {
        let before = Seen { pending: true, has_result: true, condition: Some(condition("gone")) };

        assert!(target().judge(&before).is_none());
        assert!(target().judge(&Seen { condition: None, ..before }).is_none());
    }

    #[test]
    fn then_it_is_rendered_or_says_why_not() {
        let seen = |has_result, text: Option<&str>| {
            let condition = text.map(condition);
            target().judge(&Seen { pending: false, has_result, condition }).expect("a result")
        };

        assert!(seen(true, None).is_ok());
        assert_eq!(seen(true, Some("no folder")).expect_err("it failed").to_string(), "target `shop`: no folder");
        assert_eq!(seen(false, None).expect_err("nothing").to_string(), "target `shop` has nothing to run yet");
    }

    #[test]
    fn many_are_waited_for_in_one_line() {
        let all: Vec<_> = (0..5).map(|number| Pending::Repo(format!("r{number}").parse().expect("a name"))).collect();

        assert_eq!(subjects(&all), "repo `r0`, repo `r1`, repo `r2` and 2 more");
        assert_eq!(subjects(&all[..1]), "repo `r0`");
    }
}
