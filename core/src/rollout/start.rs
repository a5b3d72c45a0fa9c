//! When a rollout begins, over which clusters, and what a person's rollback goes back to.
//!
//! Reads what is wanted of a target at the version of its spec that stands, what its clusters run, who is set aside and
//! what rollouts are doing; answers with one beginning at most. It must never move a cluster that a person took out or
//! that failed with the same bundle, and never combine one version of a spec with the render of another.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Candidate, Rendered, RolloutState, Strategy, after, most_common, waves};
use crate::{ClusterId, Digest, RenderId};

/// Why there is a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Git or the target's spec changed.
    Revision,
    /// A person asked for an earlier bundle.
    Rollback,
    /// Clusters joined, or what they are rendered with changed.
    ClusterChange,
}

impl Kind {
    /// As rows have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revision => "revision",
            Self::Rollback => "rollback",
            Self::ClusterChange => "cluster_change",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Revision, Self::Rollback, Self::ClusterChange]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a kind of rollout"))
    }
}

/// A cluster that the target selects, with what is known of it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub candidate: Candidate,
    /// What it is assigned; `None`: nothing of this target.
    pub runs: Option<Digest>,
    /// What the wanted render gives it; `None`: it was not rendered with this cluster's parameters.
    pub wants: Option<Digest>,
    /// Nor will it be, as things are: it was tried, and a person is told why it cannot.
    pub is_unrenderable: bool,
    /// It does not get this bundle by itself: a person took it out, or it had it and failed.
    pub aside: Option<Digest>,
    /// What a rollout that goes on is to give it yet, or has not seen healthy.
    pub moving: Option<Digest>,
}

impl Placed {
    /// It is there, and neither left out of what it is to run nor on its way to it.
    fn may_move(&self) -> bool {
        self.candidate.connected && self.aside != self.wants && self.moving != self.wants
    }
}

/// A cluster that is to run something else than it does: `to` differs from `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub candidate: Candidate,
    /// What it is assigned; `None`: nothing of this target.
    pub from: Option<Digest>,
    pub to: Digest,
}

/// A change of single clusters that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveChange {
    pub state: RolloutState,
    /// Members that wait or are in flight.
    pub unsettled: u32,
    /// Nobody waits for it beyond this.
    pub until: Timestamp,
}

/// All that is known of a target when it is asked whether a rollout begins. From rows: the same rows, the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// What tells the wanted content from other content; `None`: the target's spec, as it stands, has not been rendered.
    pub wanted: Option<RenderId>,
    /// The same of what was rolled out last over the whole target.
    pub rolled: Option<RenderId>,
    /// Of that rollout; `None`: there was nothing to move.
    pub main: Option<RolloutState>,
    /// The wave at which it holds because it selects no cluster.
    pub empty_wave: Option<String>,
    /// The target's own, as its spec says now; `None`: the default one.
    pub strategy: Option<Strategy>,
    /// Since then.
    pub changes: Vec<LiveChange>,
    /// Kept back after a rollback.
    pub held: bool,
    /// The clusters that the target selects and that have joined, also those that are away.
    pub placed: Vec<Placed>,
}

/// What begins now: one thing at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Nothing,
    /// Clusters wait for a change of others to settle, no longer than this.
    Wait {
        until: Timestamp,
    },
    /// A cluster has parameters that were not rendered yet.
    Render,
    /// Whatever goes on is superseded, who was set aside is not any more, and these move: none, when every cluster runs it.
    Revision {
        moves: Vec<Move>,
    },
    /// The same content, over waves that have somebody in them by now: what goes on is superseded, who was set aside stays
    /// so, and these move.
    Anew {
        moves: Vec<Move>,
    },
    /// Beside what goes on.
    ClusterChange {
        moves: Vec<Move>,
    },
}

impl Situation {
    /// Whether nothing can begin, wherever the clusters are: they need not be read.
    pub fn is_closed(&self) -> bool {
        let Some(wanted) = self.wanted else { return true };
        if self.held {
            return true;
        }
        let is_new = self.rolled != Some(wanted);
        match self.main {
            None | Some(RolloutState::Done) => false,
            // A rollout that rolls is not disturbed: the newest revision waits. One whose wave selects nobody rolls no more.
            Some(RolloutState::Rolling) => self.empty_wave.is_none(),
            Some(RolloutState::Planned | RolloutState::RollingBack) => true,
            // It has stopped for a reason that newer content may fix. What failed or was aborted is not tried again by
            // itself, nor given to others.
            Some(RolloutState::Paused | RolloutState::Failed | RolloutState::Cancelled | RolloutState::Superseded) => {
                !is_new
            }
        }
    }
}

impl Situation {
    /// What is wanted was given up on its way, and nothing else is wanted yet.
    pub fn is_stopped(&self) -> bool {
        !self.held && is_given_up(self.wanted, self.rolled, self.main)
    }

    /// The wave that selects nobody would not hold a rollout that began now: its selector, or somebody's labels, changed.
    fn is_planned_otherwise(&self) -> bool {
        let Some(empty) = &self.empty_wave else { return false };
        let able = self.placed.iter().filter(|one| one.wants.is_some());
        let able: Vec<_> = able.map(|one| one.candidate.clone()).collect();
        let planned = waves(&able, &self.strategy.clone().unwrap_or_default());
        !planned.iter().any(|wave| wave.name == *empty && wave.members.is_empty())
    }
}

/// What begins now. Same rows, same answer.
pub fn start(situation: &Situation, now: Timestamp) -> Start {
    if situation.is_closed() {
        return Start::Nothing;
    }
    let moves = moves(&situation.placed);
    let awaits_render = unrendered(&situation.placed).any(|one| !one.is_unrenderable);
    if situation.rolled != situation.wanted {
        return if awaits_render { Start::Render } else { Start::Revision { moves } };
    }
    if situation.is_planned_otherwise() {
        let aside = situation.placed.iter().filter(|one| one.aside == one.wants);
        let aside: BTreeSet<_> = aside.map(|one| one.candidate.cluster).collect();
        let moves = moves.into_iter().filter(|one| !aside.contains(&one.candidate.cluster)).collect();
        return Start::Anew { moves };
    }
    if situation.empty_wave.is_some() {
        return Start::Nothing;
    }
    let newcomers: Vec<ClusterId> =
        situation.placed.iter().filter(|one| one.may_move()).map(|one| one.candidate.cluster).collect();
    let moves: Vec<_> = moves.into_iter().filter(|one| newcomers.contains(&one.candidate.cluster)).collect();
    if moves.is_empty() {
        return if awaits_render { Start::Render } else { Start::Nothing };
    }
    match busy_until(&situation.changes, now) {
        Some(until) => Start::Wait { until },
        None => Start::ClusterChange { moves },
    }
}

/// Those that come while others are being moved move together afterwards, by then: a fleet that joins is a few rollouts.
pub fn busy_until(changes: &[LiveChange], now: Timestamp) -> Option<Timestamp> {
    let goes_on =
        |change: &&LiveChange| change.state != RolloutState::Paused && change.unsettled > 0 && change.until > now;
    changes.iter().filter(goes_on).map(|change| change.until).max()
}

/// Which render newcomers are given after one that was given up: what most of the others run. `of_spec` is the one of the spec
/// as it stands that most run, from before it: that says what others get, too. One of an earlier version of the spec goes
/// only to who ran it, so it comes after.
pub fn for_newcomers(
    given_up: Option<RenderId>,
    of_spec: Option<RenderId>,
    runs: impl Iterator<Item = RenderId>,
) -> Option<RenderId> {
    let is_from_before = |render: &RenderId| given_up.is_none_or(|given_up| *render < given_up);
    of_spec.or_else(|| most_common(runs.filter(is_from_before)))
}

/// What a rollout comes to whose revision none of its repo's keys of now signed: it pauses where it would give that to further
/// clusters, and says why. `None`: it gives nobody anything, or a person is to decide already.
pub const fn unsigned(state: RolloutState) -> Option<(RolloutState, &'static str)> {
    const WHY: &str = "what it is made of is not known to be signed by one of the repo's keys; resume it once it is";
    match state {
        RolloutState::Planned | RolloutState::Rolling => Some((RolloutState::Paused, WHY)),
        _ => None,
    }
}

/// Whether what is wanted is what was rolled out last, by a rollout that failed or was aborted.
pub fn is_given_up(wanted: Option<RenderId>, rolled: Option<RenderId>, main: Option<RolloutState>) -> bool {
    wanted.is_some() && rolled == wanted && matches!(main, Some(RolloutState::Failed | RolloutState::Cancelled))
}

/// Who joins a target whose rollout was given up gets what the others run: nothing would come to it otherwise, until something
/// else is pushed. `placed` is about that render, and not about the wanted one.
pub fn welcome(placed: &[Placed]) -> Vec<Move> {
    let newcomers: Vec<_> = placed.iter().filter(|one| one.runs.is_none() && one.may_move()).cloned().collect();
    moves(&newcomers)
}

/// Clusters that are away and would be welcome if they were not: whoever sees one come back asks again.
pub fn awaited_welcome(placed: &[Placed]) -> Vec<ClusterId> {
    let is_awaited = |one: &&Placed| {
        let is_new = one.runs.is_none() && one.wants.is_some();
        is_new && !one.candidate.connected && one.aside != one.wants && one.moving != one.wants
    };
    placed.iter().filter(is_awaited).map(|one| one.candidate.cluster).collect()
}

/// Clusters that are away and would move if they were not: whoever sees one come back asks again what begins. New content
/// waits for nobody, as it has everybody as a member.
pub fn awaited(situation: &Situation) -> Vec<ClusterId> {
    if situation.rolled != situation.wanted {
        return Vec::new();
    }
    let would_move = |one: &&Placed| {
        let is_left_out = one.aside == one.wants || one.moving == one.wants || one.runs == one.wants;
        !one.candidate.connected && one.wants.is_some() && !is_left_out
    };
    situation.placed.iter().filter(would_move).map(|one| one.candidate.cluster).collect()
}

/// How long a change of single clusters may make others wait: one that never settles must not stall them.
pub fn waited_for(created_at: Timestamp, deadline: SignedDuration) -> Timestamp {
    after(created_at, deadline)
}

/// Everybody who runs something else than is wanted, as far as that is rendered: of one cluster nothing is kept back
/// because of another.
pub fn moves(placed: &[Placed]) -> Vec<Move> {
    let moving = placed.iter().filter_map(|one| Some((one, one.wants?))).filter(|(one, to)| one.runs != Some(*to));
    moving.map(|(one, to)| Move { candidate: one.candidate.clone(), from: one.runs, to }).collect()
}

/// How many of these clusters do not run what the render gives them: those that it gives nothing count too; all of them,
/// while nothing is rendered (`None`).
pub fn behind<'a>(
    clusters: impl Iterator<Item = (&'a Candidate, Option<Digest>)>,
    rendered: Option<&Rendered<'_>>,
) -> usize {
    let is_behind = |(cluster, runs): &(&Candidate, Option<Digest>)| {
        let gives = rendered.and_then(|rendered| rendered.gives(cluster));
        gives.is_none() || *runs != gives
    };
    clusters.filter(is_behind).count()
}

/// What a rollout over a whole target moved to, and from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    pub render: RenderId,
    /// What most of its clusters ran before; `None`: nothing.
    pub from_render: Option<RenderId>,
    /// It has given it to some cluster.
    pub assigned: bool,
    /// It came to its end: this is what the target ran from then on, also where a cluster's bundle was the same as before.
    pub done: bool,
    /// A person went back with it.
    pub is_rollback: bool,
}

/// The renders that a rollback without a commit may go back to, in the order in which they are asked for. Before a rollout the
/// target ran what the one before it moved to, if that was done; else what most of the clusters ran that it moved. What a
/// rollback took back is nothing to go to: another one goes further back.
pub fn former(past: &[Past]) -> Vec<RenderId> {
    let past = kept(past);
    let mut seen: BTreeSet<RenderId> = past.first().map(|newest| newest.render).into_iter().collect();
    let former = past.iter().enumerate().flat_map(|(place, rollout)| {
        let before = past.get(place + 1).filter(|before| before.assigned);
        let (done, stopped) = (before.filter(|before| before.done), before.filter(|before| !before.done));
        let moved_to = |before: Option<&&Past>| before.map(|before| before.render);
        [moved_to(done), rollout.from_render, moved_to(stopped)]
    });
    former.flatten().filter(|render| seen.insert(*render)).collect()
}

/// Without what was taken back: in the place of each rollback stands the rollout that it went back to.
fn kept(past: &[Past]) -> Vec<&Past> {
    let mut kept = Vec::new();
    let mut rest = past;
    while let Some((newest, older)) = rest.split_first() {
        let original = older.iter().position(|one| one.render == newest.render).filter(|_| newest.is_rollback);
        match original {
            Some(place) => rest = &older[place..],
            None => {
                kept.push(newest);
                rest = older;
            }
        }
    }
    kept
}

/// Who moves when a person goes back to a render, or why nothing does. Whom it gives nothing stays, and shuts nobody's way
/// back.
pub fn roll_back(placed: &[Placed]) -> Result<Vec<Move>, &'static str> {
    let moves = moves(placed);
    if !moves.is_empty() {
        return Ok(moves);
    }
    Err(if unrendered(placed).next().is_some() {
        "no cluster that could go back has run that revision as the target was then; edit its spec back instead"
    } else {
        "every cluster runs that already; a rollout that goes on is stopped by: bellwether rollout abort"
    })
}

/// Whether a target may follow Git again, or why it does already.
pub const fn release(held: bool) -> Result<(), &'static str> {
    if held { Ok(()) } else { Err("the target is not held") }
}

/// Those of whom nobody can say what they are to run.
pub fn unrendered(placed: &[Placed]) -> impl Iterator<Item = &Placed> {
    placed.iter().filter(|one| one.wants.is_none())
}

/// What a target was rolled out with before, by cluster; `None`: there is nothing for that cluster in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    pub render: RenderId,
    pub gives: BTreeMap<ClusterId, Option<Digest>>,
}

/// What a rollback without a commit goes back to: the first of the earlier renders, newest first, that gives some cluster
/// something else than it runs. `None`: none would move anything. A cluster that it gives nothing shuts nobody's way back.
pub fn back(runs: &BTreeMap<ClusterId, Digest>, earlier: &[Earlier]) -> Option<RenderId> {
    let is_other =
        |(cluster, gives): (&ClusterId, &Option<Digest>)| gives.is_some_and(|gives| runs.get(cluster) != Some(&gives));
    let would_move = |one: &&Earlier| one.gives.iter().any(is_other);
    earlier.iter().find(would_move).map(|one| one.render)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::Labels;
    use crate::parameters::Traits;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn render(number: u128) -> RenderId {
        RenderId::new(Uuid::from_u128(number))
    }

    fn bundle(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn placed(number: u128, runs: Option<Digest>) -> Placed {
        let name = format!("c{number}").parse().expect("a name");
        let cluster = ClusterId::new(Uuid::from_u128(number));
        let candidate = Candidate { cluster, name, labels: Labels::new(), traits: Traits::default(), connected: true };
        Placed { candidate, runs, wants: Some(bundle("new")), is_unrenderable: false, aside: None, moving: None }
    }

    /// Content that is rolled out and done.
    fn done(placed: Vec<Placed>) -> Situation {
        Situation {
            wanted: Some(render(1)),
            rolled: Some(render(1)),
            main: Some(RolloutState::Done),
            empty_wave: None,
            strategy: None,
            changes: Vec::new(),
            held: false,
            placed,
        }
    }

    fn names(start: &Start) -> Vec<&str> {
        let (Start::Revision { moves } | Start::Anew { moves } | Start::ClusterChange { moves }) = start else {
            return Vec::new();
        };
        moves.iter().map(|one| one.candidate.name.as_str()).collect()
    }

    #[test]
    fn a_spec_that_is_not_rendered_starts_nothing() {
        let situation = Situation { wanted: None, ..done(vec![placed(1, Some(bundle("old")))]) };

        assert_eq!(start(&situation, NOW), Start::Nothing);
    }

    #[test]
    fn who_joins_after_a_render_was_given_up_gets_what_most_run_of_the_spec_or_else_from_before() {
        let runs = [2, 7, 3, 7, 3, 7].map(render);
        let given = |given_up: Option<u128>, of_spec: Option<u128>| {
            for_newcomers(given_up.map(render), of_spec.map(render), runs.into_iter())
        };

        assert_eq!(given(Some(7), Some(4)), Some(render(4)), "it says what others get, too");
        assert_eq!(given(Some(7), None), Some(render(3)), "and not what was given up");
        assert_eq!(given(Some(3), None), Some(render(2)), "nor what came after it");
        assert_eq!(given(Some(2), None), None, "nothing is left of what came earlier");
        assert_eq!(given(None, None), Some(render(7)), "nothing was given up");
    }

    #[test]
    fn what_nobody_signed_pauses_only_what_would_go_on_by_itself() {
        let pauses = |state| unsigned(state).map(|(state, _)| state);

        for state in [RolloutState::Planned, RolloutState::Rolling] {
            assert_eq!(pauses(state), Some(RolloutState::Paused), "{state:?}");
        }
        for state in [RolloutState::Paused, RolloutState::RollingBack, RolloutState::Done, RolloutState::Cancelled] {
            assert_eq!(pauses(state), None, "{state:?} gives nobody what is new");
        }
    }

    #[test]
    fn whoever_is_away_and_would_move_is_waited_for_and_nobody_else() {
        let away = |number, runs| {
            let here = placed(number, runs);
            Placed { candidate: Candidate { connected: false, ..here.candidate.clone() }, ..here }
        };
        let joined_and_went = away(1, None);
        let has_it = away(2, Some(bundle("new")));
        let taken_out = Placed { aside: Some(bundle("new")), ..away(3, Some(bundle("old"))) };
        let member = Placed { moving: Some(bundle("new")), ..away(4, Some(bundle("old"))) };
        let not_rendered_for = Placed { wants: None, ..away(5, None) };
        let here = placed(6, None);

        let all = [joined_and_went, has_it, taken_out, member, not_rendered_for, here];
        let situation = done(all.to_vec());

        assert_eq!(awaited(&situation), [situation.placed[0].candidate.cluster]);
        assert!(awaited(&Situation { rolled: None, ..situation }).is_empty(), "all of them are members");
    }

    #[test]
    fn new_content_moves_everybody_also_who_was_set_aside() {
        let aside = Placed { aside: Some(bundle("new")), ..placed(2, Some(bundle("old"))) };
        let situation = Situation { rolled: Some(render(9)), ..done(vec![placed(1, None), aside]) };

        let start = start(&situation, NOW);

        assert!(matches!(start, Start::Revision { .. }));
        assert_eq!(names(&start), ["c1", "c2"]);
    }

    #[test]
    fn only_newcomers_move_who_are_there_and_not_set_aside_nor_moving() {
        let aside = Placed { aside: Some(bundle("new")), ..placed(2, Some(bundle("old"))) };
        let moving = Placed { moving: Some(bundle("new")), ..placed(3, Some(bundle("old"))) };
        let mut away = placed(4, None);
        away.candidate.connected = false;
        let other =
            Placed { aside: Some(bundle("other")), moving: Some(bundle("other")), ..placed(5, Some(bundle("old"))) };

        let start = start(&done(vec![placed(1, None), aside, moving, away, other]), NOW);

        assert!(matches!(start, Start::ClusterChange { .. }));
        assert_eq!(names(&start), ["c1", "c5"], "another bundle than the one it failed with may do");
    }

    #[test]
    fn newcomers_wait_for_those_before_them_but_not_for_one_that_failed_or_never_settles() {
        let until = NOW + SignedDuration::from_secs(600);
        let change = |state, unsettled| LiveChange { state, unsettled, until };
        let with = |change| Situation { changes: vec![change], ..done(vec![placed(1, None)]) };

        assert_eq!(start(&with(change(RolloutState::Rolling, 1)), NOW), Start::Wait { until });
        for passed in [change(RolloutState::Paused, 1), change(RolloutState::Rolling, 0)] {
            assert_eq!(names(&start(&with(passed), NOW)), ["c1"]);
        }
        assert_eq!(names(&start(&with(change(RolloutState::Rolling, 1)), until)), ["c1"]);
    }

    #[test]
    fn what_failed_or_was_aborted_goes_to_nobody_else_and_new_content_does() {
        for state in [RolloutState::Failed, RolloutState::Cancelled, RolloutState::Paused] {
            let stopped = Situation { main: Some(state), ..done(vec![placed(1, None)]) };
            assert_eq!(start(&stopped, NOW), Start::Nothing);
            let newer = Situation { rolled: None, ..stopped };
            assert_eq!(names(&start(&newer, NOW)), ["c1"], "{state:?}");
        }
        let rolling = Situation { main: Some(RolloutState::Rolling), rolled: None, ..done(vec![placed(1, None)]) };
        assert_eq!(start(&rolling, NOW), Start::Nothing);
    }

    #[test]
    fn a_rollout_at_a_wave_that_selects_nobody_gives_way_to_new_content_and_to_waves_that_select_somebody() {
        let in_ring = |ring: &str| {
            let selects = json!({"matchLabels": {"ring": ring}});
            serde_json::from_value(json!({"waves": [{"name": "canary", "clusters": selects}]})).expect("a strategy")
        };
        let mut canary = placed(1, None);
        canary.candidate.labels = Labels::from([("ring".to_owned(), "canary".to_owned())]);
        let aside = Placed { aside: Some(bundle("new")), ..placed(2, None) };
        let held = Situation {
            main: Some(RolloutState::Rolling),
            empty_wave: Some("canary".to_owned()),
            strategy: Some(in_ring("canray")),
            ..done(vec![canary, aside, placed(3, None)])
        };
        let moving = |situation: &Situation| match start(situation, NOW) {
            Start::Anew { moves } => moves.len(),
            other => panic!("{other:?}"),
        };

        assert_eq!(start(&held, NOW), Start::Nothing, "it would hold again");
        assert_eq!(names(&start(&Situation { rolled: None, ..held.clone() }, NOW)), ["c1", "c2", "c3"], "new content");
        let corrected = Situation { strategy: Some(in_ring("canary")), ..held.clone() };
        assert_eq!(names(&start(&corrected, NOW)), ["c1", "c3"], "whoever was taken out stays so");
        assert_eq!(moving(&Situation { strategy: None, ..held }), 2, "there is no such wave any more");
    }

    #[test]
    fn who_cannot_be_rendered_holds_up_nobody_and_who_was_not_yet_holds_up_a_new_revision() {
        let unrendered = |number| Placed { wants: None, ..placed(number, Some(bundle("old"))) };
        let unrenderable = |number| Placed { is_unrenderable: true, ..unrendered(number) };
        let newer = |placed| Situation { rolled: Some(render(9)), ..done(placed) };

        assert_eq!(names(&start(&newer(vec![placed(1, None), unrenderable(2)]), NOW)), ["c1"]);
        assert_eq!(names(&start(&done(vec![placed(1, None), unrenderable(2)]), NOW)), ["c1"]);
        assert_eq!(names(&start(&done(vec![placed(1, None), unrendered(2)]), NOW)), ["c1"]);
        assert_eq!(start(&newer(vec![placed(1, None), unrendered(2)]), NOW), Start::Render, "it may be the canary");
        assert_eq!(start(&done(vec![unrendered(2)]), NOW), Start::Render);
        assert_eq!(start(&done(vec![unrenderable(2)]), NOW), Start::Nothing, "nothing would come of another try");
    }

    #[test]
    fn one_cluster_without_an_earlier_bundle_does_not_shut_the_way_back() {
        let (old, new) = (ClusterId::new(Uuid::from_u128(1)), ClusterId::new(Uuid::from_u128(2)));
        let runs = [(old, bundle("b")), (new, bundle("b"))].into();
        let earlier = Earlier { render: render(1), gives: [(old, Some(bundle("a"))), (new, None)].into() };

        assert_eq!(back(&runs, &[earlier]), Some(render(1)));
    }

    #[test]
    fn who_runs_something_else_than_is_rendered_is_behind_and_without_a_render_everybody_is() {
        let variants = [(crate::parameters::Values::default().digest(), bundle("new"))].into();
        let rendered = Rendered::new(&[], &[], &variants);
        let nothing = BTreeMap::new();
        let unrendered = Rendered::new(&[], &[], &nothing);
        let fleet = [placed(1, None), placed(2, Some(bundle("old"))), placed(3, Some(bundle("new")))];
        let count = |rendered| behind(fleet.iter().map(|one| (&one.candidate, one.runs)), rendered);

        assert_eq!([Some(&rendered), Some(&unrendered), None].map(count), [2, 3, 3]);
    }

    #[test]
    fn going_back_asks_for_what_ran_and_never_for_the_newest_or_what_came_to_nobody() {
        let past = |to, from: Option<u128>, assigned| {
            let (render, from_render) = (render(to), from.map(render));
            Past { render, from_render, assigned, done: false, is_rollback: false }
        };
        let rollouts = [past(5, Some(4), true), past(4, Some(2), true), past(3, Some(2), false), past(2, None, true)];

        assert_eq!(former(&rollouts), [4, 2].map(render));
        assert!(former(&[past(1, None, true)]).is_empty());
    }

    #[test]
    fn what_was_rolled_out_last_is_gone_back_to_though_the_newest_moved_only_clusters_that_ran_what_was_before() {
        let past = |to, from: u128, done| {
            let (render, from_render) = (render(to), Some(render(from)));
            Past { render, from_render, assigned: true, done, is_rollback: false }
        };

        // Of three commits each of the last two was for clusters of its own.
        assert_eq!(former(&[past(3, 1, true), past(2, 1, true), past(1, 0, true)]), [2, 1, 0].map(render));
        let back = Past { is_rollback: true, ..past(1, 2, true) };
        assert_eq!(former(&[back, past(2, 1, false), past(1, 0, true)]), [render(0)], "what was taken back stays back");
        // What failed at a canary is nothing that the target ran.
        assert_eq!(former(&[past(3, 1, true), past(2, 1, false), past(1, 0, true)]), [1, 2, 0].map(render));
    }

    #[test]
    fn a_rollback_that_moves_nobody_is_refused_and_whoever_it_gives_nothing_stays() {
        let there = Placed { wants: Some(bundle("old")), ..placed(1, Some(bundle("old"))) };
        let unrendered = Placed { wants: None, ..placed(2, Some(bundle("old"))) };
        let moving = placed(3, Some(bundle("old")));

        assert!(roll_back(std::slice::from_ref(&there)).is_err_and(|reason| reason.contains("runs that already")));
        assert!(roll_back(&[there.clone(), unrendered.clone()]).is_err_and(|reason| reason.contains("edit its spec")));
        assert_eq!(roll_back(&[there, unrendered, moving]).map(|moves| moves.len()), Ok(1));
    }

    #[test]
    fn going_back_passes_over_what_would_move_nobody() {
        let cluster = ClusterId::new(Uuid::from_u128(1));
        let runs = [(cluster, Digest::of(b"b"))].into();
        let earlier = |number, gives| Earlier { render: render(number), gives: [(cluster, gives)].into() };

        let past = [
            earlier(1, Some(bundle("b"))),
            earlier(2, None),
            earlier(3, Some(bundle("a"))),
            earlier(4, Some(bundle("z"))),
        ];
        assert_eq!(back(&runs, &past), Some(render(3)));
        assert_eq!(back(&runs, &past[..2]), None);
    }
}
