//! When a rollout begins, and over which clusters: those whose newest render differs from what they run.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::api::Condition;
use bellwether_core::audit::{Event, Subject};
use bellwether_core::parameters::{ClusterFacts, Parameters};
use bellwether_core::rollout::{Candidate, Member, PlannedWave, RolloutState, Strategy, WaveSpec, waves};
use bellwether_core::{ClusterId, Digest, RenderId, RolloutId};
use jiff::Timestamp;

use super::is_live;
use crate::change::Change;
use crate::store::renders::Render;
use crate::store::rollouts::{Kind, Rollout as Row};
use crate::store::targets::{State, Target};
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::{actors, clock};

/// A cluster that is to run something else than it does.
pub(super) struct Move {
    pub(super) cluster: store::fleet::Candidate,
    pub(super) to: Digest,
    pub(super) from: Option<Digest>,
}

/// Who is to run something else, and what most clusters run now.
pub(super) struct Moves {
    pub(super) moves: Vec<Move>,
    pub(super) from_render: Option<RenderId>,
}

/// Starts the next rollout of a target if there is one to start, and ends one that stands in its way.
pub(super) async fn start_next(
    change: &mut Change<'_>,
    target: &Target,
    newest: Option<&Row>,
    trace_id: Option<&str>,
    now: Timestamp,
) -> Result<Option<Row>, StoreError> {
    // Of most looks at a rollout that rolls, this is all.
    if newest.is_some_and(|row| is_undisturbed(row.state)) {
        return Ok(None);
    }
    let state = store::targets::find_state(change, target.id).await?;
    let Some(render) = store::renders::find_newest(change, target.id).await? else { return Ok(None) };
    let is_known = match newest {
        Some(row) => gives_the_same(change, row, &render).await?,
        None => false,
    };
    if state.held || !may_follow(newest, is_known) {
        return Ok(None);
    }
    let candidates = selected(change, target, now).await?;
    mark_selection(change, target, &state, candidates.is_empty(), now).await?;
    let all: Vec<_> = candidates.iter().map(candidate).collect();
    let Some(Moves { mut moves, from_render }) = moves_to(change, target, &render, candidates).await? else {
        // A cluster has parameters that were not rendered yet.
        change.tell(Stage::Bundle, &[target.id.as_uuid()], now, trace_id).await?;
        return Ok(None);
    };
    let kind = if is_known { Kind::ClusterChange } else { Kind::Revision };
    if let (Kind::ClusterChange, Some(row), false) = (kind, newest, moves.is_empty()) {
        keep_newcomers(change, row, &mut moves).await?;
    }
    if let Some(stopped) = newest.filter(|row| is_live(row.state)) {
        supersede(change, target, stopped, now).await?;
    }
    if moves.is_empty() {
        // The newest revision is what already runs everywhere.
        return Ok(None);
    }
    let strategy = strategy_for(target, kind);
    let trace_id = trace_id.map_or_else(clock::new_trace, ToOwned::to_owned);
    let (actor, reason) = (actors::hub(), String::new());
    let begin = Begin { kind, render: &render, from_render, strategy, trace_id, actor, reason };
    begin_rollout(change, target, begin, &all, moves, now).await.map(Some)
}

/// A rollout that rolls is not disturbed: the newest revision waits.
fn is_undisturbed(state: RolloutState) -> bool {
    matches!(state, RolloutState::Planned | RolloutState::Rolling | RolloutState::RollingBack)
}

/// A rollout that is paused has stopped for a reason that a newer revision may mend. What failed or was cancelled is not
/// tried again by itself.
fn may_follow(newest: Option<&Row>, is_known: bool) -> bool {
    let Some(row) = newest else { return true };
    match row.state {
        state if is_undisturbed(state) => false,
        RolloutState::Paused | RolloutState::Failed | RolloutState::Cancelled | RolloutState::Superseded => !is_known,
        _ => true,
    }
}

/// Whether a render gives what a rollout moved to: a commit elsewhere in the repo changes nothing here, and must not try
/// again what has failed. A changed spec may.
async fn gives_the_same(change: &mut Change<'_>, row: &Row, render: &Render) -> Result<bool, StoreError> {
    if row.render == render.id {
        return Ok(true);
    }
    let Some(moved_to) = store::renders::find(change, row.render).await? else { return Ok(false) };
    Ok(moved_to.target_version == render.target_version
        && moved_to.variables == render.variables
        && moved_to.variants == render.variants)
}

/// Of clusters that differ from a revision that has rolled: those that its rollout does not know, or knew with other
/// parameters, and those whose assignment has vanished since. One that was offline catches up within that rollout; one that a person skipped waits for the next
/// revision. A newcomer that is away now is looked at again when it connects.
async fn keep_newcomers(change: &mut Change<'_>, row: &Row, moves: &mut Vec<Move>) -> Result<(), StoreError> {
    let known = store::rollouts::list_digests(change, row.id).await?;
    moves.retain(|one| one.cluster.connected && known.get(&one.cluster.id) != Some(&one.to));
    Ok(())
}

/// A change of single clusters goes to just those, all of them in one wave: the revision has passed the target's own.
fn strategy_for(target: &Target, kind: Kind) -> Strategy {
    let strategy = target.spec.rollout.clone().unwrap_or_default();
    match kind {
        Kind::Revision | Kind::Rollback => strategy,
        Kind::ClusterChange => {
            let wave = WaveSpec::named("newcomers".parse().expect("`newcomers` is a name"));
            Strategy { waves: vec![wave], ..strategy }
        }
    }
}

/// Clusters that the target selects, joined and not revoked.
pub(super) async fn selected(
    db: &mut Connection,
    target: &Target,
    now: Timestamp,
) -> Result<Vec<store::fleet::Candidate>, StoreError> {
    let mut candidates = store::fleet::list_candidates(db, target.project, now).await?;
    candidates.retain(|cluster| target.spec.clusters.selects(&cluster.labels));
    Ok(candidates)
}

/// Says at the target that it selects no cluster, or that it does again.
async fn mark_selection(
    change: &mut Change<'_>,
    target: &Target,
    state: &State,
    selects_none: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    if selects_none == state.condition.is_some() {
        return Ok(());
    }
    let condition = selects_none.then(|| Condition {
        code: "no_clusters".to_owned(),
        message: "the target selects no cluster that has joined".to_owned(),
        hint: Some("compare its `clusters` with the labels in: bellwether cluster list".to_owned()),
        file: None,
        line: None,
        since: Some(now),
    });
    store::targets::mark_state(change, target.id, &State { held: state.held, condition }).await
}

/// Which clusters would run something else; `None` when a cluster's parameters have not been rendered.
pub(super) async fn moves_to(
    db: &mut Connection,
    target: &Target,
    render: &Render,
    candidates: Vec<store::fleet::Candidate>,
) -> Result<Option<Moves>, StoreError> {
    let runs = store::assignments::list_digests_of_target(db, target.id).await?;
    let from_render = most_common(runs.iter().map(|&(_, _, render)| render));
    let assigned: BTreeMap<ClusterId, Digest> =
        runs.into_iter().map(|(cluster, digest, _)| (cluster, digest)).collect();
    let used = render.variables.iter().cloned().collect();
    let mut moves = Vec::new();
    for cluster in candidates {
        let facts = ClusterFacts { name: &cluster.name, labels: &cluster.labels };
        let values = Parameters::resolve(&target.spec.parameters, facts).restricted_to(&used);
        let Some(&to) = render.variants.get(&values.digest()) else { return Ok(None) };
        let from = assigned.get(&cluster.id).copied();
        if from != Some(to) {
            moves.push(Move { cluster, to, from });
        }
    }
    Ok(Some(Moves { moves, from_render }))
}

/// How many clusters are assigned something else than what the newest render gives them; those whose parameters were not
/// rendered yet, all of them.
pub(crate) async fn count_behind(db: &mut Connection, target: &Target, now: Timestamp) -> Result<usize, StoreError> {
    let Some(render) = store::renders::find_newest(db, target.id).await? else { return Ok(0) };
    let candidates = selected(db, target, now).await?;
    let all = candidates.len();
    Ok(moves_to(db, target, &render, candidates).await?.map_or(all, |moves| moves.moves.len()))
}

async fn supersede(change: &mut Change<'_>, target: &Target, row: &Row, now: Timestamp) -> Result<(), StoreError> {
    let reason = "a newer revision took its place";
    store::rollouts::mark_state(change, row.id, RolloutState::Superseded, reason, now).await?;
    let subject = Subject { kind: "rollout".to_owned(), name: row.id.to_string() };
    let mut event = Event::new(clock::new_id(), now, actors::hub(), "rollout.superseded", subject);
    event.target = Some(target.name.to_string());
    event.rollout = Some(row.id);
    event.reason = reason.to_owned();
    change.audit(&event).await
}

/// How a rollout begins.
pub(super) struct Begin<'a> {
    pub(super) kind: Kind,
    pub(super) render: &'a Render,
    pub(super) from_render: Option<RenderId>,
    pub(super) strategy: Strategy,
    pub(super) trace_id: String,
    pub(super) actor: bellwether_core::audit::Actor,
    /// In a person's words; may be empty.
    pub(super) reason: String,
}

/// Writes a rollout with its waves and members, all waiting.
pub(super) async fn begin_rollout(
    change: &mut Change<'_>,
    target: &Target,
    begin: Begin<'_>,
    all: &[Candidate],
    moves: Vec<Move>,
    now: Timestamp,
) -> Result<Row, StoreError> {
    let planned = planned_waves(all, &moves, &begin.strategy);
    let members = members_of(&planned, &moves);
    let empties = renders_to_nothing(change, &moves).await?;
    let (state, stopped) = if empties {
        (RolloutState::Paused, "the revision renders to nothing: resume to let clusters run nothing".to_owned())
    } else {
        (RolloutState::Planned, String::new())
    };
    let row = Row {
        id: RolloutId::new(clock::new_id()),
        target: target.id,
        render: begin.render.id,
        from_render: begin.from_render,
        kind: begin.kind,
        failures_max: begin.strategy.failures_max(u32::try_from(members.len()).unwrap_or(u32::MAX)),
        strategy: begin.strategy,
        state,
        state_since: now,
        reason: stopped,
        trace_id: begin.trace_id,
        created_at: now,
        ended_at: None,
    };
    store::rollouts::insert(change, &row).await?;
    store::rollouts::insert_waves(change, row.id, &planned).await?;
    store::rollouts::insert_members(change, row.id, &members).await?;
    let subject = Subject { kind: "rollout".to_owned(), name: row.id.to_string() };
    let mut event = Event::new(clock::new_id(), now, begin.actor, "rollout.planned", subject);
    event.target = Some(target.name.to_string());
    event.rollout = Some(row.id);
    event.trace_id = Some(row.trace_id.clone());
    event.reason = if row.reason.is_empty() { begin.reason } else { row.reason.clone() };
    event.commit = store::revisions::find(change, begin.render.revision).await?.map(|revision| revision.commit);
    event.detail = serde_json::json!({"clusters": members.len(), "waves": planned.len()});
    change.audit(&event).await?;
    if row.state == RolloutState::Paused {
        let subject = Subject { kind: "rollout".to_owned(), name: row.id.to_string() };
        let mut event = Event::new(clock::new_id(), now, actors::hub(), "rollout.paused", subject);
        event.target = Some(target.name.to_string());
        event.rollout = Some(row.id);
        event.trace_id = Some(row.trace_id.clone());
        event.reason.clone_from(&row.reason);
        change.audit(&event).await?;
    }
    Ok(row)
}

/// The waves of those that move. A named wave that selects nobody stays, and holds; one whose clusters merely have
/// nothing to change is left out.
fn planned_waves(all: &[Candidate], moves: &[Move], strategy: &Strategy) -> Vec<PlannedWave> {
    let moving: Vec<_> = moves.iter().map(|one| candidate(&one.cluster)).collect();
    let of_all = waves(all, strategy);
    let is_idle = |wave: &PlannedWave| {
        wave.members.is_empty() && of_all.iter().any(|other| other.name == wave.name && !other.members.is_empty())
    };
    let mut planned = waves(&moving, strategy);
    planned.retain(|wave| !is_idle(wave));
    planned
}

pub(super) fn candidate(cluster: &store::fleet::Candidate) -> Candidate {
    Candidate {
        cluster: cluster.id,
        name: cluster.name.clone(),
        labels: cluster.labels.clone(),
        connected: cluster.connected,
    }
}

fn members_of(planned: &[PlannedWave], moves: &[Move]) -> Vec<Member> {
    let by_cluster: BTreeMap<ClusterId, &Move> = moves.iter().map(|one| (one.cluster.id, one)).collect();
    (0..)
        .zip(planned)
        .flat_map(|(place, wave)| wave.members.iter().map(move |cluster| (place, cluster)))
        .filter_map(|(place, cluster)| {
            let one = by_cluster.get(cluster)?;
            Some(Member::waiting(*cluster, place, one.to, one.from))
        })
        .collect()
}

/// A bundle of no objects where there were some: absence never means delete, so a person has to say so.
async fn renders_to_nothing(change: &mut Change<'_>, moves: &[Move]) -> Result<bool, StoreError> {
    let given: BTreeSet<_> = moves.iter().filter(|one| one.from.is_some()).map(|one| one.to).collect();
    store::bundles::is_any_empty(change, &given.into_iter().collect::<Vec<_>>()).await
}

fn most_common(renders: impl Iterator<Item = RenderId>) -> Option<RenderId> {
    let mut counts: BTreeMap<RenderId, usize> = BTreeMap::new();
    renders.for_each(|render| *counts.entry(render).or_default() += 1);
    counts.into_iter().max_by_key(|&(_, count)| count).map(|(render, _)| render)
}
