//! Rollouts: steering them, and asking them why. Watching them is in `watch`.

use bellwether_core::api::{
    ClusterDocument, List, MemberDocument, RolloutDocument, RolloutIntent, SourceCommit, WaveDocument,
};
use bellwether_core::rollout::{Intent, MemberState, RolloutState, WaveState};
use bellwether_core::{ClusterId, Name};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::meant::{fetch, fetch_meant, route};
use super::{Context, note_if_empty, order, watch};
use crate::args::{Reason, RolloutChoice, RolloutCommand, SteerArgs, SteerClusterArgs};
use crate::client::{Answer, Route};
use crate::failure::{Exit, Failure};
use crate::output::progress::{counts, head};
use crate::output::table::{Field, Tone, fields, table};
use crate::output::{Style, age, revision, time, word};

pub(super) async fn run(context: &Context, command: RolloutCommand) -> anyhow::Result<Exit> {
    match command {
        RolloutCommand::List { target, limit } => list(context, target.as_ref(), limit).await,
        RolloutCommand::Show { rollout } => show(context, &rollout).await,
        RolloutCommand::Watch { rollout } => watch::run(context, rollout).await,
        RolloutCommand::Pause(arguments) => steer(context, arguments, Intent::Pause, "pause").await,
        RolloutCommand::Resume(arguments) => steer(context, arguments, Intent::Resume, "resume").await,
        RolloutCommand::Abort(arguments) => steer(context, arguments, Intent::Abort, "stop for good").await,
        RolloutCommand::Promote(arguments) => steer(context, arguments, Intent::Promote, "end its soak").await,
        RolloutCommand::Skip(arguments) => {
            steer_cluster(context, arguments, |cluster| Intent::Skip { cluster }, "skip").await
        }
        RolloutCommand::Retry(arguments) => {
            steer_cluster(context, arguments, |cluster| Intent::Retry { cluster }, "retry").await
        }
        RolloutCommand::Rollback { target, to, reason } => roll_back(context, &target, to, reason).await,
        RolloutCommand::Release { target, reason } => {
            let sentence = format!("target {target} follows Git again");
            let route = Route::named("targets", &target).then("release");
            order(context, &route, &json!({"reason": reason.reason}), &sentence).await
        }
        RolloutCommand::Why { rollout } => why(context, &rollout).await,
    }
}

pub(super) async fn list(context: &Context, target: Option<&Name>, limit: usize) -> anyhow::Result<Exit> {
    let route = Route::new(["rollouts"]).maybe_with("target", target);
    let answer: Answer<List<RolloutDocument>> = context.client.fetch_list(&route, limit).await?;
    context.output.answer(&answer, |list, style| draw_list(&list.items, style))?;
    note_if_empty(&answer.document.items, "no rollout yet; one starts when a target's revision or spec changes");
    Ok(Exit::Done)
}

pub(super) async fn one(context: &Context, choice: &RolloutChoice) -> anyhow::Result<Exit> {
    let answer = fetch(&context.client, Some(choice)).await?;
    context.output.answer(&answer, |rollout, style| draw_list(std::slice::from_ref(rollout), style))?;
    Ok(Exit::Done)
}

fn draw_list(rollouts: &[RolloutDocument], style: Style) -> String {
    if rollouts.is_empty() {
        return String::new();
    }
    let now = Timestamp::now();
    let row = |rollout: &RolloutDocument| {
        let passed = rollout.waves.iter().filter(|wave| wave.state == WaveState::Passed).count();
        [
            Field::from(rollout.id),
            Field::from(&rollout.target),
            revision(&rollout.to_commit, &rollout.sources).into(),
            state(rollout.state),
            format!("{passed}/{}", rollout.waves.len()).into(),
            age(rollout.started_at, now).into(),
            rollout.why.as_str().into(),
        ]
    };
    table(["ID", "TARGET", "REVISION", "STATE", "WAVES", "AGE", "WHY"], rollouts.iter().map(row), style)
}

fn state(state: RolloutState) -> Field {
    let tone = match state {
        RolloutState::Done => Tone::Good,
        RolloutState::Failed => Tone::Bad,
        RolloutState::Superseded | RolloutState::Cancelled => Tone::Faint,
        RolloutState::Planned | RolloutState::Rolling | RolloutState::Paused | RolloutState::RollingBack => Tone::Busy,
    };
    Field::toned(word(&state).replace('_', " "), tone)
}

pub(super) async fn show(context: &Context, choice: &RolloutChoice) -> anyhow::Result<Exit> {
    let answer = fetch_meant(context, choice).await?;
    context.output.answer(&answer, draw)?;
    Ok(Exit::Done)
}

fn draw(rollout: &RolloutDocument, style: Style) -> String {
    let source = |one: &SourceCommit| format!("{} {} {}", one.repo, one.reference, one.commit);
    let sources: Vec<_> = rollout.sources.iter().map(source).collect();
    let pairs = [
        ("id", Field::from(rollout.id)),
        ("target", Field::from(&rollout.target)),
        ("state", state(rollout.state)),
        ("why", rollout.why.as_str().into()),
        ("from", rollout.from_commit.as_deref().unwrap_or_default().into()),
        ("to", rollout.to_commit.as_str().into()),
        ("with", sources.join(", ").into()),
        ("started", time(rollout.started_at).into()),
        ("ended", rollout.ended_at.map(time).unwrap_or_default().into()),
    ];
    let mut parts = vec![fields(pairs, style), draw_waves(&rollout.waves, style)];
    if !rollout.members.is_empty() {
        parts.push(draw_members(rollout.members.iter(), style));
    }
    parts.join("\n\n")
}

fn draw_waves(waves: &[WaveDocument], style: Style) -> String {
    let row = |wave: &WaveDocument| {
        let tone = match wave.state {
            WaveState::Passed => Tone::Good,
            WaveState::Failed => Tone::Bad,
            WaveState::Open | WaveState::Soaking => Tone::Busy,
            WaveState::Waiting => Tone::Faint,
        };
        [
            Field::from(&wave.name),
            Field::toned(word(&wave.state), tone),
            wave.opened_at.map(time).unwrap_or_default().into(),
            wave.soak_until.map(time).unwrap_or_default().into(),
            counts(wave).into(),
        ]
    };
    table(["WAVE", "STATE", "OPENED", "SOAK UNTIL", "CLUSTERS"], waves.iter().map(row), style)
}

fn draw_members<'a>(members: impl Iterator<Item = &'a MemberDocument>, style: Style) -> String {
    let row = |member: &MemberDocument| {
        let tone = match member.state {
            MemberState::Healthy => Tone::Good,
            MemberState::Failed => Tone::Bad,
            MemberState::Assigned | MemberState::Applied | MemberState::RolledBack => Tone::Busy,
            MemberState::Waiting | MemberState::Offline | MemberState::Skipped => Tone::Faint,
        };
        [
            Field::from(&member.cluster),
            member.wave.as_str().into(),
            Field::toned(word(&member.state).replace('_', " "), tone),
            member.digest.short().into(),
            member.reason.as_str().into(),
        ]
    };
    table(["CLUSTER", "WAVE", "STATE", "BUNDLE", "REASON"], members.map(row), style)
}

/// In one sentence, and then the clusters that have something to say.
async fn why(context: &Context, choice: &RolloutChoice) -> anyhow::Result<Exit> {
    let answer = fetch_meant(context, choice).await?;
    context.output.answer(&answer, |rollout, style| {
        let mut parts = vec![head(rollout)];
        if !rollout.why.is_empty() {
            parts.push(crate::output::visible(&rollout.why));
        }
        let mut spoken = rollout.members.iter().filter(|member| !member.reason.is_empty()).peekable();
        if spoken.peek().is_some() {
            parts.push(draw_members(spoken, style));
        }
        parts.join("\n")
    })?;
    Ok(Exit::Done)
}

async fn steer(context: &Context, arguments: SteerArgs, intent: Intent, what: &str) -> anyhow::Result<Exit> {
    let rollout = fetch_meant(context, &arguments.rollout).await?.document;
    send_intent(context, &rollout, intent, arguments.reason, what).await
}

async fn steer_cluster(
    context: &Context,
    arguments: SteerClusterArgs,
    intent: fn(ClusterId) -> Intent,
    what: &str,
) -> anyhow::Result<Exit> {
    let rollout = fetch_meant(context, &arguments.rollout).await?.document;
    let cluster: Answer<ClusterDocument> = context.client.fetch(&Route::named("clusters", &arguments.cluster)).await?;
    let without_id = || Failure::new(format!("the hub does not say the id of cluster `{}`", arguments.cluster));
    let id = cluster.document.metadata.id.ok_or_else(without_id)?;
    let what = format!("{what} cluster {}", arguments.cluster);
    send_intent(context, &rollout, intent(ClusterId::new(id)), arguments.reason, &what).await
}

async fn send_intent(
    context: &Context,
    rollout: &RolloutDocument,
    intent: Intent,
    reason: Reason,
    what: &str,
) -> anyhow::Result<Exit> {
    let body = RolloutIntent { intent, reason: reason.reason };
    let id = rollout.id.to_string();
    let answer: Answer<Value> = context.client.post(&route(&id).then("intents"), &body).await?;
    context.output.done(&answer, &format!("rollout {id} of {} was asked to {what}", rollout.target))?;
    Ok(Exit::Done)
}

async fn roll_back(context: &Context, target: &Name, to: Option<String>, reason: Reason) -> anyhow::Result<Exit> {
    let body = json!({"to": to, "reason": reason.reason});
    let route = Route::named("targets", target).then("rollback");
    let _: Answer<Value> = context.client.post(&route, &body).await?;
    let answer = fetch(&context.client, Some(&RolloutChoice::NewestOf(target.clone()))).await?;
    let to = revision(&answer.document.to_commit, &answer.document.sources);
    let sentence = format!("target {target} goes back to {to}; `bellwether rollout watch {target}` follows it");
    context.output.done(&answer, &sentence)?;
    Ok(Exit::Done)
}
