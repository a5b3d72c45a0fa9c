//! What the rows say of a target → the situation that [`start`] decides by, and what begins → rows.

use std::collections::BTreeMap;

use bellwether_core::audit::{Action, Actor, Event};
use bellwether_core::parameters::TraitsUsed;
use bellwether_core::rollout::{
    self, Candidate, Earlier, Kind, LiveChange, Move, Placed, Rendered, RolloutState, Situation, Start, awaited,
    awaited_welcome, back, busy_until, changes_fleet, for_newcomers, former, most_common, replacing, start,
    strategy_for, unsigned, waited_for,
};
use bellwether_core::{ClusterId, Condition, Digest, RenderId, RolloutId};
use jiff::Timestamp;

use super::is_live;
use crate::Hub;
use crate::process::clock;
use crate::source::policy::{Policy, admits, is_admitted, load_policy};
use crate::store::renders::Render;
use crate::store::rollouts::Rollout as Row;
use crate::store::sources::ReadSource;
use crate::store::targets::{State, Target};
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

/// Earlier rollouts that a rollback without a commit looks through: as many as are kept of each target.
const PAST_MAX: i64 = 20;

/// What came of asking what begins.
pub(super) enum Begun {
    /// A rollout: it rolls in the same reconcile.
    Rollout,
    /// None; to be asked again by then.
    None(Option<Timestamp>),
}

/// Starts the next rollout of a target if there is one to start, and ends those that stand in its way. Notes whom the
/// target waits for, unless nothing can begin.
pub(super) async fn start_next(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    state: &State,
    current: &[Row],
    (trace_id, now): (Option<&str>, Timestamp),
    waits_for: &mut Option<Vec<ClusterId>>,
) -> Result<Begun, StoreError> {
    let wanted = store::wanted::find(change, target.id).await?;
    // A spec that was not rendered yet goes with no render: its selector and its waves are for what it renders to.
    let wanted = wanted.filter(|wanted| wanted.target_version == target.version);
    let main = current.iter().find(|row| Some(row.id.as_uuid()) == state.current_from);
    let mut situation = Situation {
        wanted: wanted.as_ref().map(|wanted| wanted.since),
        rolled: state.rolled_since,
        main: main.map(|row| row.state),
        empty_wave: find_empty_wave(change, main).await?,
        strategy: target.spec.rollout.clone(),
        changes: Vec::new(),
        held: state.held,
        placed: Vec::new(),
    };
    let Some(wanted) = wanted.filter(|_| !situation.is_closed()) else {
        if situation.is_stopped() {
            return welcome(change, target, state, current, (trace_id, now), waits_for).await;
        }
        return Ok(Begun::None(None));
    };
    if !is_admitted(change, target, &wanted.render).await? {
        return Ok(Begun::None(None));
    }
    let used = TraitsUsed::by(&wanted.render.variables);
    let candidates = selected(change, target, used).await?;
    mark_selection(change, target, state, candidates.is_empty(), now).await?;
    let runs = list_runs(change, target).await?;
    situation.placed = placed(change, target, state, &wanted.render, &runs, candidates).await?;
    situation.changes = live_changes(change, current).await?;
    *waits_for = Some(awaited(&situation));
    // A wave that has only clusters that cannot be rendered holds: it is not left out as if they ran that already.
    let able = situation.placed.iter().filter(|one| one.wants.is_some());
    let all: Vec<_> = able.map(|one| one.candidate.clone()).collect();
    let (kind, moves) = match start(&situation, now) {
        Start::Nothing => return Ok(Begun::None(None)),
        Start::Wait { until } => return Ok(Begun::None(Some(until))),
        Start::Render => {
            change.tell(Stage::Bundle, &[target.id.as_uuid()], now, trace_id).await?;
            return Ok(Begun::None(None));
        }
        Start::Revision { moves } | Start::Anew { moves } => (Kind::Revision, moves),
        Start::ClusterChange { moves } => (Kind::ClusterChange, moves),
    };
    if kind == Kind::Revision {
        make_way(hub, change, target, current, state.rolled_since != Some(wanted.since), now).await?;
        if moves.is_empty() {
            if !all.is_empty() {
                let place = new_place(change, target).await?;
                mark_rolled(change, target, Some(wanted.since), place).await?;
            }
            return Ok(Begun::None(None));
        }
    }
    let clusters: Vec<_> = moves.iter().map(|one| one.candidate.cluster).collect();
    let begin = Begin::by_hub(kind, &wanted.render, trace_id);
    let row = begin_rollout(change, target, begin, &all, (moves, &runs), now).await?;
    match kind {
        Kind::ClusterChange => store::rollouts::mark_overtaken(change, target.id, row.id, &clusters).await?,
        Kind::Revision | Kind::Rollback => {
            mark_rolled(change, target, Some(wanted.since), row.id.as_uuid()).await?;
        }
    }
    Ok(Begun::Rollout)
}

/// Ends what goes on, before a rollout over the whole target. What is new is for everybody.
async fn make_way(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    current: &[Row],
    is_new: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let live: Vec<&Row> = current.iter().filter(|row| is_live(row.state)).collect();
    let why = if is_new { "a newer revision took its place" } else { "its waves have other clusters now" };
    supersede(hub, change, target, &live, why, now).await?;
    if is_new {
        store::wanted::delete_aside(change, target.id).await?;
    }
    Ok(())
}

/// The render that newcomers get, read.
async fn kept(db: &mut Connection, target: &Target, state: &State, runs: &Runs) -> Result<Option<Render>, StoreError> {
    let of_now = match state.rolled_since {
        Some(given_up) => store::renders::find_most_run(db, target.id, target.version, given_up).await?,
        None => None,
    };
    match for_newcomers(state.rolled_since, of_now, runs.values().map(|&(_, render)| render)) {
        Some(render) => store::renders::find(db, render).await,
        None => Ok(None),
    }
}

/// Gives who joined what most of the others run.
async fn welcome(
    change: &mut Change<'_>,
    target: &Target,
    state: &State,
    current: &[Row],
    (trace_id, now): (Option<&str>, Timestamp),
    waits_for: &mut Option<Vec<ClusterId>>,
) -> Result<Begun, StoreError> {
    let runs = list_runs(change, target).await?;
    let Some(render) = kept(change, target, state, &runs).await? else { return Ok(Begun::None(None)) };
    let candidates = selected(change, target, TraitsUsed::by(&render.variables)).await?;
    let all = candidates.clone();
    let placed = placed(change, target, state, &render, &runs, candidates).await?;
    *waits_for = Some(awaited_welcome(&placed));
    let moves = rollout::welcome(&placed);
    if moves.is_empty() || !is_admitted(change, target, &render).await? {
        return Ok(Begun::None(None));
    }
    if let Some(until) = busy_until(&live_changes(change, current).await?, now) {
        return Ok(Begun::None(Some(until)));
    }
    let clusters: Vec<_> = moves.iter().map(|one| one.candidate.cluster).collect();
    let begin = Begin::by_hub(Kind::ClusterChange, &render, trace_id);
    let row = begin_rollout(change, target, begin, &all, (moves, &runs), now).await?;
    store::rollouts::mark_overtaken(change, target.id, row.id, &clusters).await?;
    Ok(Begun::Rollout)
}

async fn find_empty_wave(db: &mut Connection, main: Option<&Row>) -> Result<Option<String>, StoreError> {
    match main {
        Some(main) if main.state == RolloutState::Rolling => store::rollouts::find_empty_wave(db, main.id).await,
        _ => Ok(None),
    }
}

/// Whether a rollout may give its revision to further clusters. If none of the repo's keys of now signed that, one that is under
/// way pauses: keys were given, or taken away, since it began.
pub(super) async fn may_go_on(
    change: &mut Change<'_>,
    target: &Target,
    policy: Option<&Policy>,
    row: &mut Row,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // What a render read is more than its target names: charts and bases have dependencies of their own.
    let Some((revision, sources)) = store::renders::find_read(change, row.render).await? else { return Ok(true) };
    if admits(change, policy, (revision, &sources)).await? {
        return Ok(true);
    }
    if let Some((state, reason)) = unsigned(row.state) {
        reason.clone_into(&mut row.reason);
        (row.state, row.state_since) = (state, now);
        store::rollouts::mark_state(change, row.id, row.state, &row.reason, now).await?;
        change.audit(&paused(target, row, now)).await?;
    }
    Ok(false)
}

fn paused(target: &Target, row: &Row, now: Timestamp) -> Event {
    let subject = subjects::rollout(row.id, &target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::RolloutPaused, subject);
    event.trace_id = Some(row.trace_id.clone());
    event.reason.clone_from(&row.reason);
    event
}

/// What is decided about from now on.
pub(super) async fn mark_rolled(
    change: &mut Change<'_>,
    target: &Target,
    since: Option<RenderId>,
    from: uuid::Uuid,
) -> Result<(), StoreError> {
    store::targets::mark_rolled(change, target.id, since, from).await?;
    store::rollouts::mark_history(change, target.id, from).await
}

async fn live_changes(db: &mut Connection, current: &[Row]) -> Result<Vec<LiveChange>, StoreError> {
    let mut changes = Vec::new();
    for row in current.iter().filter(|row| row.kind == Kind::ClusterChange && is_live(row.state)) {
        changes.push(LiveChange {
            state: row.state,
            unsettled: store::rollouts::count_under_way(db, row.id).await?,
            until: waited_for(row.created_at, row.strategy.deadline.duration()),
        });
    }
    Ok(changes)
}

/// What each cluster is assigned, and of which render that is.
pub(super) type Runs = BTreeMap<ClusterId, (Digest, RenderId)>;

pub(super) async fn list_runs(db: &mut Connection, target: &Target) -> Result<Runs, StoreError> {
    let runs = store::assignments::list_digests_of_target(db, target.id).await?;
    Ok(runs.into_iter().map(|(cluster, digest, render)| (cluster, (digest, render))).collect())
}

/// The selected clusters, with all that is known of them there.
pub(super) async fn placed(
    db: &mut Connection,
    target: &Target,
    state: &State,
    render: &Render,
    runs: &Runs,
    candidates: Vec<Candidate>,
) -> Result<Vec<Placed>, StoreError> {
    let aside = store::wanted::list_aside(db, target.id).await?;
    let moving = store::rollouts::list_moving(db, target.id, state.current_from).await?;
    // What makes another try worth while tells the bundle stage by itself: a commit, the spec, labels, who joins.
    let is_failing = store::renders::find_condition(db, target.id).await?.is_some();
    let gives = gives(db, target, render, &candidates).await?;
    let placed = candidates.into_iter().map(|candidate| Placed {
        runs: runs.get(&candidate.cluster).map(|(digest, _)| *digest),
        wants: gives[&candidate.cluster],
        is_unrenderable: is_failing,
        aside: aside.get(&candidate.cluster).copied(),
        moving: moving.get(&candidate.cluster).copied(),
        candidate,
    });
    Ok(placed.collect())
}

/// What a render gives each cluster; `None`: nothing. A render of the spec as it stands gives a cluster what it was
/// rendered to with that cluster's parameters; of another version of the spec, which was for other clusters or with other
/// parameters maybe, what that very cluster ran of it.
async fn gives(
    db: &mut Connection,
    target: &Target,
    render: &Render,
    candidates: &[Candidate],
) -> Result<BTreeMap<ClusterId, Option<Digest>>, StoreError> {
    if render.target_version != target.version {
        let digests: Vec<_> = render.variants.values().copied().collect();
        let ran = store::rollouts::list_ran(db, target.id, &digests).await?;
        return Ok(candidates.iter().map(|one| (one.cluster, ran.get(&one.cluster).copied())).collect());
    }
    let rendered = Rendered::new(&target.spec.parameters, &render.variables, &render.variants);
    Ok(candidates.iter().map(|one| (one.cluster, rendered.gives(one))).collect())
}

/// Clusters that the target selects, joined and not revoked.
pub(super) async fn selected(
    db: &mut Connection,
    target: &Target,
    used: TraitsUsed,
) -> Result<Vec<Candidate>, StoreError> {
    let labels = &target.spec.clusters.match_labels;
    let mut candidates = store::fleet::list_candidates(db, target.project.id, labels, used).await?;
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
    let condition = selects_none.then(|| {
        let hint = "compare its `clusters` with the labels in: bellwether cluster list";
        Condition::new("no_clusters", "the target selects no cluster that has joined", Some(hint), Some(now))
    });
    store::targets::mark_state(change, target.id, &State { condition, ..state.clone() }).await
}

/// Writes down, and into the log, which clusters go on with what they have although the target selects them no more, and
/// which it selects again. Nothing is deleted there: a label may be a typing error.
pub(super) async fn mark_unselected(
    change: &mut Change<'_>,
    target: &Target,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut events = Vec::new();
    for holder in store::assignments::list_holders(change, target.id).await? {
        let selects = target.spec.clusters.selects(&holder.labels);
        if selects != holder.unselected {
            continue;
        }
        store::assignments::mark_unselected(change, target.id, holder.cluster, (!selects).then_some(now)).await?;
        let action = if selects { Action::TargetClusterSelected } else { Action::TargetClusterUnselected };
        let subject = subjects::target(&target.project, &target.name);
        let mut event = Event::new(clock::new_id(), now, actors::hub(), action, subject);
        event.cluster = Some(holder.name.to_string());
        if !selects {
            "its labels do not match any more; it goes on with what it has".clone_into(&mut event.reason);
        }
        events.push(event);
    }
    change.audit_all(&events).await
}

/// What a rollback without a commit goes back to.
pub(super) enum Back {
    To(Box<Render>),
    /// There is something, of which the keys of now have signed nothing.
    Unverified,
    Nothing,
}

pub(super) async fn find_back(db: &mut Connection, target: &Target) -> Result<Back, StoreError> {
    let own = load_policy(db, target).await?;
    let candidates = selected(db, target, TraitsUsed::ALL).await?;
    let runs = list_runs(db, target).await?.into_iter().map(|(cluster, (digest, _))| (cluster, digest)).collect();
    let past = store::rollouts::list_past(db, target.id, PAST_MAX).await?;
    let mut renders = BTreeMap::new();
    let (mut earlier, mut unverified) = (Vec::new(), Vec::new());
    for id in former(&past) {
        let Some(render) = store::renders::find(db, id).await? else { continue };
        let found = Earlier { render: id, gives: gives(db, target, &render, &candidates).await? };
        if admits(db, own.as_ref(), (render.revision, &render.sources)).await? {
            earlier.push(found);
            renders.insert(id, render);
        } else {
            unverified.push(found);
        }
    }
    Ok(match back(&runs, &earlier).and_then(|id| renders.remove(&id)) {
        Some(render) => Back::To(Box::new(render)),
        None if back(&runs, &unverified).is_some() => Back::Unverified,
        None => Back::Nothing,
    })
}

/// Ends what of a target goes on.
pub(super) async fn supersede(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    live: &[&Row],
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for row in live {
        end(hub, change, target, row, (RolloutState::Superseded, Action::RolloutSuperseded), reason, now).await?;
    }
    Ok(())
}

/// Ends a rollout from outside, with its entry and its figure.
pub(super) async fn end(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    row: &Row,
    (state, action): (RolloutState, Action),
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    store::rollouts::mark_state(change, row.id, state, reason, now).await?;
    let subject = subjects::rollout(row.id, &target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, actors::hub(), action, subject);
    event.trace_id = Some(row.trace_id.clone());
    reason.clone_into(&mut event.reason);
    change.audit(&event).await?;
    hub.metrics.note_ended(store::rollouts::text(state), now.duration_since(row.created_at));
    Ok(())
}

/// How a rollout begins.
pub(super) struct Begin<'a> {
    pub(super) kind: Kind,
    pub(super) render: &'a Render,
    pub(super) trace_id: String,
    pub(super) actor: Actor,
    /// In a person's words; may be empty.
    pub(super) reason: String,
}

impl<'a> Begin<'a> {
    fn by_hub(kind: Kind, render: &'a Render, trace_id: Option<&str>) -> Self {
        let trace_id = trace_id.map_or_else(clock::new_trace, ToOwned::to_owned);
        Self { kind, render, trace_id, actor: actors::hub(), reason: String::new() }
    }
}

/// After all that there was of the target. The caller holds its lock.
async fn new_place(db: &mut Connection, target: &Target) -> Result<uuid::Uuid, StoreError> {
    Ok(clock::new_id_after(store::rollouts::find_newest(db, target.id).await?))
}

/// Writes a rollout with its waves and members, all waiting.
pub(super) async fn begin_rollout(
    change: &mut Change<'_>,
    target: &Target,
    begin: Begin<'_>,
    all: &[Candidate],
    (moves, runs): (Vec<Move>, &Runs),
    now: Timestamp,
) -> Result<Row, StoreError> {
    let changes_fleet = changes_fleet(&moves, TraitsUsed::by(&begin.render.variables));
    let strategy = strategy_for(begin.kind, target.spec.rollout.as_ref(), changes_fleet);
    let replacing: Vec<_> = replacing(&moves).into_iter().collect();
    let empties = store::bundles::is_any_empty(change, &replacing).await?;
    let beginning =
        rollout::begin(&rollout::Begin { kind: begin.kind, strategy: &strategy, all, moves: &moves, empties });
    let row = Row {
        id: RolloutId::new(new_place(change, target).await?),
        target: target.id,
        render: begin.render.id,
        from_render: most_common(beginning.members.iter().filter_map(|member| Some(runs.get(&member.cluster)?.1))),
        kind: begin.kind,
        failures_max: beginning.failures_max,
        strategy,
        state: beginning.state,
        state_since: now,
        reason: beginning.reason,
        trace_id: begin.trace_id,
        created_at: now,
        ended_at: None,
    };
    let renders_before = runs.iter().map(|(cluster, &(_, render))| (*cluster, render)).collect();
    store::rollouts::insert(change, &row).await?;
    store::rollouts::insert_waves(change, row.id, &beginning.waves).await?;
    store::rollouts::insert_members(change, row.id, &beginning.members, &renders_before).await?;
    let subject = subjects::rollout(row.id, &target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, begin.actor, Action::RolloutPlanned, subject);
    event.trace_id = Some(row.trace_id.clone());
    event.reason = if row.reason.is_empty() { begin.reason } else { row.reason.clone() };
    event.detail = serde_json::json!({"clusters": beginning.members.len(), "waves": beginning.waves.len()});
    if let Some(revision) = store::revisions::find(change, begin.render.revision).await? {
        event.commit = Some(revision.commit);
        if let Some(verified) = revision.verified {
            event.detail["verifiedBy"] = verified.to_string().into();
        }
    }
    if !begin.render.sources.is_empty() {
        let source =
            |one: &ReadSource| serde_json::json!({"repo": one.name, "ref": one.reference, "commit": one.commit});
        event.detail["sources"] = begin.render.sources.iter().map(source).collect();
    }
    change.audit(&event).await?;
    if row.state == RolloutState::Paused {
        change.audit(&paused(target, &row, now)).await?;
    }
    Ok(row)
}
