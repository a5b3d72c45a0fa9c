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
                match ending(answer.document.state).filter(|_| settled) {
                    Some(Ending::Exit(exit)) => return finish(context, &progress, &answer, exit),
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

fn ending(state: RolloutState) -> Option<Ending> {
    match state {
        RolloutState::Planned | RolloutState::Rolling | RolloutState::RollingBack => None,
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

        let going_on = [S::Planned, S::Rolling, S::RollingBack].map(ending);
        let ended = [S::Done, S::Failed, S::Cancelled, S::Paused, S::Superseded].map(ending);

        assert_eq!(going_on, [None, None, None]);
        let exit = |exit| Some(Ending::Exit(exit));
        let failed = exit(Exit::Failed);
        assert_eq!(ended, [exit(Exit::Done), failed, failed, exit(Exit::Differs), Some(Ending::Superseded)]);
    }
}
