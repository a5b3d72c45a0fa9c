//! Brings a target back to an earlier commit.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::source::{COMMIT_DIGITS_MIN, MeantCommit, meant_commit};
use serde::Deserialize;

use super::{ask, check_stays, find};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::{Body, Named};
use crate::http::problem::Refusal;
use crate::http::v1::answer;
use crate::process::clock;
use crate::store::intents::{TargetVerb, Verb};
use crate::store::targets::Target;
use crate::store::work::Stage;
use crate::store::{self, Connection};
use crate::work::change::Change;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct RollbackBody {
    /// A commit; what ran before when left out.
    to: Option<String>,
    reason: String,
}

/// Every cluster gets back an earlier bundle that is still stored.
pub(in crate::http) async fn rollback(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<RollbackBody>,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let target = find(&mut change, &caller, &name).await?;
    check_stays(&target)?;
    let verb = match &body.to {
        // What ran before is found when it is answered.
        None => TargetVerb::RollbackTo { render: None, commit: String::new() },
        Some(prefix) => {
            let render = render_at(&mut change, &target, prefix).await?;
            let commit = store::revisions::find(&mut change, render.revision).await?.map(|revision| revision.commit);
            TargetVerb::RollbackTo { render: Some(render.id.as_uuid()), commit: commit.unwrap_or_default() }
        }
    };
    let intent = ask(&mut change, &target, Verb::Target(verb), &caller, body.reason).await?;
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, None).await?;
    change.commit().await?;
    answer::wait_for(&hub, intent).await
}

/// Commits that an ambiguous beginning is answered with.
const NAMED_COMMITS_MAX: i64 = 5;

/// What a target was at by a commit, of which the first digits are enough as long as they mean one.
async fn render_at(db: &mut Connection, target: &Target, prefix: &str) -> Result<store::renders::Render, Refusal> {
    let name = &target.name;
    let commits = store::renders::list_commits(db, target.id, prefix, NAMED_COMMITS_MAX).await?;
    let missing = || {
        let detail = format!("no commit `{prefix}` of target `{name}` is stored");
        Refusal::invalid("revision_not_found", detail)
            .hint(format!("see what there was: bellwether rollout list {name}"))
    };
    match meant_commit(prefix, &commits) {
        MeantCommit::One(commit) => store::renders::find_at_commit(db, target.id, commit).await?.ok_or_else(missing),
        MeantCommit::Unknown => Err(missing()),
        MeantCommit::Ambiguous => {
            let known: Vec<_> = commits.iter().map(|commit| commit.get(..12).unwrap_or(commit)).collect();
            let detail = format!("`{prefix}` does not mean one commit of target `{name}`");
            let known = known.join(", ");
            let hint = format!("give more digits, at least {COMMIT_DIGITS_MIN}; it may be one of: {known}");
            Err(Refusal::invalid("revision_ambiguous", detail).hint(hint))
        }
    }
}
