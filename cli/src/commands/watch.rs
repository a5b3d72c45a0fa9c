//! Watching a rollout until it ends or needs a person.
//!
//! Who watches a target wants to see what became of their last push: it is waited for until it is planned, the watch goes
//! on with the rollout that takes another's place, and a push that does not render, or needs no rollout, is said.

use std::time::Duration;

use bellwether_core::Name;
use bellwether_core::api::{RolloutDocument, StatusDocument, StatusRow, TargetStatus};
use bellwether_core::report::Verdict;
use bellwether_core::rollout::RolloutState;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::Context;
use super::meant::{fetch, newest, route};
use super::outcome::{self, Pending};
use super::status;
use crate::args::RolloutChoice;
use crate::client::{Answer, Client, RequestError};
use crate::failure::Exit;
use crate::output::progress::Progress;
use crate::output::{note, short_commit};

/// Between two polls at a rollout that is watched: people see it move, and one request costs the hub a few rows.
const POLL_PAUSE: Duration = Duration::from_millis(300);
/// A hub that restarts is back well before that.
const PATIENCE: Duration = Duration::from_mins(1);
/// A `resume` just before is acted on within that; a rollout still paused then really waits for a person.
const PAUSE_SETTLE: Duration = Duration::from_secs(1);
/// A hub begins what waited within a moment; what has not begun by then does not begin by itself.
const FOLLOW_UP: Duration = Duration::from_secs(10);

pub(super) async fn run(context: &Context, choice: Option<RolloutChoice>) -> anyhow::Result<Exit> {
    let Some(RolloutChoice::NewestOf(target)) = &choice else { return follow(context, choice.as_ref()).await };
    let planned = || outcome::wait(context, vec![Pending::Target(target.clone())]);
    // What is wrong with the push is told at the end, so that a rollout that goes on meanwhile is seen.
    let _ = planned().await;
    if let Some(commit) = unneeded(&context.client, target).await? {
        let commit = short_commit(&commit);
        note(&format!("target {target} needs no rollout to {commit}: every cluster runs what it says"));
        return Ok(Exit::Done);
    }
    let exit = follow(context, choice.as_ref()).await?;
    if exit == Exit::Done {
        planned().await?;
    }
    Ok(exit)
}

async fn follow(context: &Context, choice: Option<&RolloutChoice>) -> anyhow::Result<Exit> {
    let mut id = fetch(&context.client, choice).await?.document.id.to_string();
    let mut progress = Progress::new(&context.output);
    let mut answered_at = Instant::now();
    let mut paused_since = None;
    loop {
        match context.client.fetch::<RolloutDocument>(&route(&id)).await {
            Ok(answer) => {
                answered_at = Instant::now();
                progress.show(&answer.document, Timestamp::now())?;
                let is_paused = answer.document.state == RolloutState::Paused;
                paused_since = is_paused.then(|| paused_since.unwrap_or_else(Instant::now));
                let settled = paused_since.is_none_or(|since: Instant| since.elapsed() >= PAUSE_SETTLE);
                match ending(answer.document.state, answer.document.is_over_budget()).filter(|_| settled) {
                    Some(Ending::Exit(exit)) => match follow_up(&context.client, choice, &answer.document, exit).await?
                    {
                        Some(next) => id = next,
                        None => return finish(context, &progress, &answer, exit),
                    },
                    Some(Ending::Superseded) => match successor(&context.client, choice, &id).await {
                        Some(next) => id = next,
                        None => return finish(context, &progress, &answer, Exit::Failed),
                    },
                    None => {}
                }
            }
            Err(RequestError::Unavailable(_)) if answered_at.elapsed() < PATIENCE => {
                progress.note("the hub does not answer; trying again");
            }
            Err(error) => {
                progress.finish("");
                return Err(error.into());
            }
        }
        sleep(POLL_PAUSE).await;
    }
}

/// The newest commit, if its target's last rollout did not go to it because every cluster runs what it says already: a
/// revert of what failed, say.
async fn unneeded(client: &Client, target: &Name) -> anyhow::Result<Option<String>> {
    let StatusDocument { targets, rows, .. } = status::fetch(client, Some(target)).await?.document;
    let status = targets.into_iter().next().and_then(|target| target.status);
    Ok(status.and_then(|status| commit_in_place(status, &rows)))
}

fn commit_in_place(status: TargetStatus, rows: &[StatusRow]) -> Option<String> {
    let (rollout, commit) = (status.rollout?, status.commit?);
    let is_older = rollout.state.is_over() && rollout.to_commit != commit;
    let runs = !rows.is_empty() && rows.iter().all(|row| row.applied && row.verdict == Verdict::Healthy);
    let is_settled = status.behind == 0 && !status.pending && !status.held && status.condition.is_none();
    (is_older && runs && is_settled).then_some(commit)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Exit(Exit),
    /// Another one has taken its place.
    Superseded,
}

fn ending(state: RolloutState, is_over_budget: bool) -> Option<Ending> {
    match state {
        RolloutState::Planned | RolloutState::Rolling | RolloutState::RollingBack => None,
        // Whoever told it to go on past failures is told of them at the end.
        RolloutState::Done if is_over_budget => Some(Ending::Exit(Exit::Failed)),
        RolloutState::Done => Some(Ending::Exit(Exit::Done)),
        RolloutState::Failed | RolloutState::Cancelled => Some(Ending::Exit(Exit::Failed)),
        RolloutState::Paused => Some(Ending::Exit(Exit::Differs)),
        RolloutState::Superseded => Some(Ending::Superseded),
    }
}

/// Who watches a target wants to see it arrive, by whichever rollout; who named a rollout watches that one.
async fn successor(client: &Client, choice: Option<&RolloutChoice>, id: &str) -> Option<String> {
    let target = match choice? {
        RolloutChoice::NewestOf(target) => target,
        RolloutChoice::Id(_) => return None,
    };
    newest(client, Some(target)).await.ok().filter(|newest| newest != id)
}

/// What waited until a rollout was done begins then: whoever watches the target for it is not told of the one before.
async fn follow_up(
    client: &Client,
    choice: Option<&RolloutChoice>,
    done: &RolloutDocument,
    exit: Exit,
) -> anyhow::Result<Option<String>> {
    let (Some(RolloutChoice::NewestOf(target)), Exit::Done) = (choice, exit) else { return Ok(None) };
    let ended_at = Instant::now();
    loop {
        let StatusDocument { targets, .. } = status::fetch(client, Some(target)).await?.document;
        let Some(status) = targets.into_iter().next().and_then(|target| target.status) else { return Ok(None) };
        if let Some(next) = status.rollout.as_ref().filter(|newest| newest.id > done.id) {
            return Ok(Some(next.id.to_string()));
        }
        if !is_followed_up(&status, done) || ended_at.elapsed() > FOLLOW_UP {
            return Ok(None);
        }
        sleep(POLL_PAUSE).await;
    }
}

/// Its clusters are to run something else than what this rollout moved to.
fn is_followed_up(status: &TargetStatus, done: &RolloutDocument) -> bool {
    let is_other =
        status.commit.as_ref().is_some_and(|commit| *commit != done.to_commit) || status.sources != done.sources;
    status.pending || (is_other && status.behind > 0 && !status.held && status.condition.is_none())
}

fn finish(
    context: &Context,
    progress: &Progress<'_>,
    answer: &Answer<RolloutDocument>,
    exit: Exit,
) -> anyhow::Result<Exit> {
    progress.finish(&answer.document.why);
    context.output.answer(answer, |_, _| String::new())?;
    if exit == Exit::Differs {
        let target = &answer.document.target;
        note(&format!("it waits for you: `bellwether rollout resume {target}`, `abort` or `rollback`"));
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_ends_when_a_rollout_does_or_waits_for_a_person() {
        use RolloutState as S;

        let going_on = [S::Planned, S::Rolling, S::RollingBack].map(|state| ending(state, false));
        let ended = [S::Done, S::Failed, S::Cancelled, S::Paused, S::Superseded].map(|state| ending(state, false));

        assert_eq!(going_on, [None, None, None]);
        let exit = |exit| Some(Ending::Exit(exit));
        let failed = exit(Exit::Failed);
        assert_eq!(ended, [exit(Exit::Done), failed, failed, exit(Exit::Differs), Some(Ending::Superseded)]);
        assert_eq!(ending(S::Done, true), failed, "it went on past failures");
    }

    #[test]
    fn a_watch_goes_on_with_what_waited_until_a_rollout_was_done_and_with_nothing_else() {
        let done = serde_json::json!({"id": uuid::Uuid::nil(), "target": "shop", "state": "done", "why": "", "fromCommit": null,
            "toCommit": "old", "startedAt": "2026-01-01T00:00:00Z", "endedAt": null, "waves": []});
        let done: RolloutDocument = serde_json::from_value(done).expect("a rollout");
        let is_followed_up = |changes: serde_json::Value| {
            let mut status = serde_json::json!({"clusters": 2, "healthy": 2, "inPlace": 2, "commit": "new", "behind": 2,
                "digest": null, "held": false});
            status.as_object_mut().expect("a map").extend(changes.as_object().expect("a map").clone());
            is_followed_up(&serde_json::from_value(status).expect("a status"), &done)
        };

        assert!(is_followed_up(serde_json::json!({})));
        assert!(is_followed_up(serde_json::json!({"commit": "old", "behind": 0, "pending": true})));
        assert!(!is_followed_up(serde_json::json!({"commit": "old"})), "a cluster was skipped");
        assert!(!is_followed_up(serde_json::json!({"behind": 0})), "it changes nothing");
        assert!(!is_followed_up(serde_json::json!({"held": true})));
        let condition = serde_json::json!({"code": "ref_missing", "message": "there is no branch"});
        assert!(!is_followed_up(serde_json::json!({"condition": condition})), "it does not begin");
    }
}
