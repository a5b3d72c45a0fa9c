//! Targets: what is deployed where, one by one.

use bellwether_core::Name;
use bellwether_core::api::{List, TargetCommitStatus, TargetDocument, TargetStatus, WrittenRef};
use serde_json::json;

use super::outcome::Pending;
use super::{ALL, Context, as_list, delete_named, note_if_empty, refresh};
use crate::args::{DeleteMode, TargetCommand};
use crate::client::{Answer, Route};
use crate::failure::{Exit, Failure, condition_text};
use crate::output::progress::{counts, head};
use crate::output::table::{Field, Tone, fields, table};
use crate::output::{Style, short_commit, time, word, yaml};

pub(super) async fn run(context: &Context, command: TargetCommand) -> anyhow::Result<Exit> {
    match command {
        TargetCommand::List => list(context).await,
        TargetCommand::Show { name } => show(context, &name).await,
        TargetCommand::Refresh { name, no_wait } => {
            let route = Route::named("targets", &name).then("refresh");
            let sentence = format!("target {name} was rendered, and compared with what its clusters run");
            refresh(context, &route, Pending::Target(name), &sentence, no_wait).await
        }
        TargetCommand::Delete { name, mode } => delete(context, &name, mode).await,
    }
}

pub(super) async fn list(context: &Context) -> anyhow::Result<Exit> {
    let answer: Answer<List<TargetDocument>> = context.client.fetch_list(&Route::new(["targets"]), ALL).await?;
    context.output.answer(&answer, |list, style| draw_list(&list.items, style))?;
    note_if_empty(&answer.document.items, "no target is there; `bellwether apply -f FILE` makes one from a file");
    Ok(Exit::Done)
}

pub(super) async fn one(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let answer = context.client.fetch::<TargetDocument>(&Route::named("targets", name)).await?;
    context.output.answer(&as_list(&answer), |items, style| draw_list(items, style))?;
    Ok(Exit::Done)
}

fn draw_list(targets: &[TargetDocument], style: Style) -> String {
    if targets.is_empty() {
        return String::new();
    }
    let row = |target: &TargetDocument| {
        let status = target.status.as_ref();
        [
            Field::from(&target.metadata.name),
            target.spec.repo.as_str().into(),
            reference(&target.spec.reference).into(),
            target.spec.path.as_str().into(),
            status.and_then(|status| status.commit.as_deref()).map_or("", short_commit).into(),
            status.map_or_else(|| Field::from(""), healthy),
            state(status),
        ]
    };
    table(["NAME", "REPO", "REF", "PATH", "REVISION", "HEALTHY", "STATE"], targets.iter().map(row), style)
}

fn reference(reference: &WrittenRef) -> String {
    match reference {
        WrittenRef::Branch(name) => name.clone(),
        WrittenRef::Tag(name) => format!("tag {name}"),
        WrittenRef::Semver(range) => format!("semver {range}"),
        WrittenRef::Commit(id) => format!("commit {}", short_commit(id)),
        WrittenRef::Digest(digest) => format!("digest {}", digest.chars().take(19).collect::<String>()),
    }
}

fn healthy(status: &TargetStatus) -> Field {
    let tone = if status.healthy == status.clusters { Tone::Good } else { Tone::Busy };
    Field::toned(format!("{}/{}", status.healthy, status.clusters), tone)
}

/// The worst that there is to say: a condition, a hold, the newest rollout.
fn state(status: Option<&TargetStatus>) -> Field {
    let Some(status) = status else { return Field::from("") };
    if status.deletion.is_some() {
        return Field::toned("deleting", Tone::Busy);
    }
    if let Some(condition) = &status.condition {
        return Field::toned(condition_text(condition), Tone::Bad);
    }
    if status.held {
        return Field::toned("held", Tone::Busy);
    }
    status.rollout.as_ref().map_or_else(String::new, |rollout| word(&rollout.state).replace('_', " ")).into()
}

/// Exit code 3 when something is wrong with it.
pub(super) async fn show(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let answer = context.client.fetch::<TargetDocument>(&Route::named("targets", name)).await?;
    context.output.answer(&answer, draw)?;
    let condition = answer.document.status.and_then(|status| status.condition);
    Ok(if condition.is_some() { Exit::Differs } else { Exit::Done })
}

/// Whom a deletion waits for; empty when there is none.
fn deleting(status: &TargetStatus) -> String {
    let Some(deletion) = &status.deletion else { return String::new() };
    let left = if deletion.waits_for.is_empty() { "nobody".to_owned() } else { deletion.waits_for.join(", ") };
    format!("{}, asked by {}; waits for {left}", deletion.mode, deletion.by)
}

/// What was read of other repos; empty when there are none.
fn sources(status: &TargetStatus) -> String {
    let said = status.sources.iter().map(|one| format!("{} {} {}", one.repo, one.reference, short_commit(&one.commit)));
    said.collect::<Vec<_>>().join(", ")
}

/// Hooks of Helm and Argo CD that are not applied; empty when there are none.
fn left_out_hooks(status: &TargetStatus) -> String {
    if status.left_out_hooks.is_empty() {
        return String::new();
    }
    let named: Vec<_> = status.left_out_hooks.iter().map(ToString::to_string).collect();
    format!("hooks whose time never comes here: {}", named.join(", "))
}

/// What the host of its repo knows, and since when; or why it knows nothing newer.
fn told(told: &TargetCommitStatus) -> String {
    let commit = short_commit(&told.commit);
    let known = match (told.state, told.told_at) {
        (Some(state), Some(at)) => {
            format!("{commit} is {} at the host as {}, told {}", word(&state), told.context, time(at))
        }
        _ => format!("the host knows nothing of {commit}"),
    };
    match &told.error {
        Some(error) => format!("{known}; not told since: {error}"),
        None => known,
    }
}

/// Who does not get what is wanted by itself; empty when there is nobody.
fn set_aside(status: &TargetStatus) -> String {
    let said = status.set_aside.iter().map(|one| format!("{} ({} in rollout {})", one.cluster, one.cause, one.rollout));
    said.collect::<Vec<_>>().join(", ")
}

fn draw(target: &TargetDocument, style: Style) -> String {
    let status = target.status.as_ref();
    let condition = status.and_then(|status| status.condition.as_ref());
    let held = if status.is_some_and(|status| status.held) {
        format!("after a rollback; `bellwether rollout release {}` lets it follow Git again", target.metadata.name)
    } else {
        String::new()
    };
    let pairs = [
        ("name", Field::from(&target.metadata.name)),
        ("revision", status.and_then(|status| status.commit.clone()).unwrap_or_default().into()),
        ("verified by", status.and_then(|status| status.verified_by.clone()).unwrap_or_default().into()),
        ("besides", status.map_or_else(String::new, sources).into()),
        ("left out", status.map_or_else(String::new, left_out_hooks).into()),
        ("bundle", status.and_then(|status| status.digest).map(|digest| digest.short()).unwrap_or_default().into()),
        ("healthy", status.map_or_else(|| Field::from(""), healthy)),
        ("held", Field::toned(held, Tone::Busy)),
        ("set aside", Field::toned(status.map_or_else(String::new, set_aside), Tone::Busy)),
        ("deleting", Field::toned(status.map_or_else(String::new, deleting), Tone::Busy)),
        ("commit status", status.and_then(|status| status.commit_status.as_ref()).map(told).unwrap_or_default().into()),
        ("condition", Field::toned(condition.map(condition_text).unwrap_or_default(), Tone::Bad)),
        ("hint", condition.and_then(|condition| condition.hint.clone()).unwrap_or_default().into()),
    ];
    let mut parts = vec![fields(pairs, style)];
    if let Some(rollout) = status.and_then(|status| status.rollout.as_ref()) {
        let waves =
            rollout.waves.iter().map(|wave| format!("  wave {}: {}, {}", wave.name, word(&wave.state), counts(wave)));
        let lines: Vec<_> =
            std::iter::once(format!("rollout {}: {}", rollout.id, head(rollout))).chain(waves).collect();
        parts.push(lines.join("\n"));
    }
    let spec = serde_json::to_value(&target.spec).ok().and_then(|spec| yaml::text(&json!({"spec": spec})).ok());
    parts.extend(spec);
    parts.join("\n\n")
}

pub(super) async fn delete(context: &Context, name: &Name, mode: DeleteMode) -> anyhow::Result<Exit> {
    let force = mode.force;
    let (mode, effect) = match (mode.orphan, mode.prune) {
        (true, _) => ("orphan", "its objects stay in the clusters"),
        (_, true) => ("prune", "its objects go from every cluster"),
        _ => {
            return Err(Failure::usage(format!("what becomes of the objects of target {name}?"))
                .hint("--orphan leaves them in the clusters, --prune deletes them there")
                .into());
        }
    };
    let route = Route::named("targets", name).with("mode", mode).maybe_with("force", force.then_some("true"));
    delete_named(context, &route, &format!("target {name} is being deleted; {effect}")).await
}
