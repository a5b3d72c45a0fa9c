//! What a rollout begins as: its strategy, its waves, its members, and whether a person has to let it go on.
//!
//! It is frozen from then on. It must never begin by itself what would leave clusters with nothing: absence never means
//! delete.

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, Kind, Member, Move, PlannedWave, RolloutState, Strategy, WaveSpec, waves};
use crate::parameters::TraitsUsed;
use crate::{ClusterId, Digest, RenderId};

/// What a rollout is begun over.
#[derive(Debug, Clone, Copy)]
pub struct Begin<'a> {
    pub kind: Kind,
    pub strategy: &'a Strategy,
    /// Everybody whom the target selects.
    pub all: &'a [Candidate],
    pub moves: &'a [Move],
    /// One of the bundles that [`replacing`] names holds no object.
    pub empties: bool,
}

/// A rollout as it is written first: nobody has been given anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    pub state: RolloutState,
    /// Why it is in its state; empty when nothing holds it.
    pub reason: String,
    /// Failed clusters that it stands; a share of the members, rounded down.
    pub failures_max: u32,
    pub waves: Vec<PlannedWave>,
    pub members: Vec<Member>,
}

/// Planned, or paused from the start.
pub fn begin(begin: &Begin<'_>) -> Beginning {
    let waves = planned_waves(begin);
    let members = members_of(&waves, begin.moves);
    let (state, reason) = if begin.empties {
        (RolloutState::Paused, "the revision renders to nothing: resume to let clusters run nothing")
    } else {
        (RolloutState::Planned, "")
    };
    Beginning {
        state,
        reason: reason.to_owned(),
        failures_max: begin.strategy.failures_max(u32::try_from(members.len()).unwrap_or(u32::MAX)),
        waves,
        members,
    }
}

/// How a rollout of this kind crosses the fleet. Who joins, or one cluster that somebody relabelled, gets it at once: the
/// revision has passed the target's own waves. What a person goes back to is known, so it is in one wave too.
pub fn strategy_for(kind: Kind, own: Option<&Strategy>, changes_fleet: bool) -> Strategy {
    let own = own.cloned().unwrap_or_default();
    let name = match kind {
        Kind::Revision => return own,
        Kind::ClusterChange if changes_fleet => return own,
        Kind::Rollback => "all",
        Kind::ClusterChange => "newcomers",
    };
    Strategy { waves: vec![WaveSpec::named(name.parse().expect("a constant that is a name"))], ..own }
}

/// Whether a change of clusters is to go by the target's waves: a label or an annotation is given to a hundred clusters as
/// easily as to one, and of what agents tell nobody was asked.
pub fn changes_fleet(moves: &[Move], used: TraitsUsed) -> bool {
    let replaced = moves.iter().filter(|one| one.from.is_some()).count();
    replaced > 1 || (replaced > 0 && used.is_of_agents())
}

/// The bundles that take the place of others. Where one holds nothing, clusters would lose what they run.
pub fn replacing(moves: &[Move]) -> BTreeSet<Digest> {
    moves.iter().filter(|one| one.from.is_some()).map(|one| one.to).collect()
}

/// The waves of those that move. A wave whose selector selects nobody stays, and holds; one whose clusters merely have
/// nothing to change is left out. A change of clusters holds at no such wave: the revision has passed it.
fn planned_waves(begin: &Begin<'_>) -> Vec<PlannedWave> {
    let moving: Vec<_> = begin.moves.iter().map(|one| one.candidate.clone()).collect();
    let of_all = waves(begin.all, begin.strategy);
    let selects_somebody =
        |wave: &PlannedWave| of_all.iter().any(|other| other.name == wave.name && !other.members.is_empty());
    let is_idle =
        |wave: &PlannedWave| wave.members.is_empty() && (begin.kind == Kind::ClusterChange || selects_somebody(wave));
    let mut planned = waves(&moving, begin.strategy);
    planned.retain(|wave| !is_idle(wave));
    planned
}

fn members_of(planned: &[PlannedWave], moves: &[Move]) -> Vec<Member> {
    let by_cluster: BTreeMap<ClusterId, &Move> = moves.iter().map(|one| (one.candidate.cluster, one)).collect();
    let places = (0..).zip(planned).flat_map(|(place, wave)| wave.members.iter().map(move |cluster| (place, cluster)));
    places
        .filter_map(|(place, cluster)| {
            let one = by_cluster.get(cluster)?;
            Some(Member::waiting(*cluster, place, one.to, one.from))
        })
        .collect()
}

/// What most clusters run: a rollout is told from that, and a return goes to it where nothing else is known.
pub fn most_common(renders: impl Iterator<Item = RenderId>) -> Option<RenderId> {
    let mut counts: BTreeMap<RenderId, usize> = BTreeMap::new();
    renders.for_each(|render| *counts.entry(render).or_default() += 1);
    counts.into_iter().max_by_key(|&(_, count)| count).map(|(render, _)| render)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::Labels;
    use crate::parameters::Traits;

    fn bundle(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn candidate(number: u128, ring: &str) -> Candidate {
        Candidate {
            cluster: ClusterId::new(Uuid::from_u128(number)),
            name: format!("c{number}").parse().expect("a name"),
            labels: Labels::from([("ring".to_owned(), ring.to_owned())]),
            traits: Traits::default(),
            connected: true,
        }
    }

    fn moved(candidate: &Candidate, from: Option<&str>) -> Move {
        Move { candidate: candidate.clone(), from: from.map(bundle), to: bundle("new") }
    }

    fn strategy() -> Strategy {
        let ring = |ring: &str| json!({"name": ring, "clusters": {"matchLabels": {"ring": ring}}});
        serde_json::from_value(json!({"waves": [ring("canary"), ring("none"), ring("stable")]})).expect("a strategy")
    }

    #[test]
    fn a_wave_that_has_nothing_to_change_is_left_out_and_one_that_selects_nobody_holds() {
        let all = [candidate(1, "canary"), candidate(2, "stable")];
        let moves = [moved(&all[1], Some("old"))];

        let beginning =
            begin(&Begin { kind: Kind::Revision, strategy: &strategy(), all: &all, moves: &moves, empties: false });

        let names: Vec<_> = beginning.waves.iter().map(|wave| (wave.name.as_str(), wave.members.len())).collect();
        assert_eq!(names, [("none", 0), ("stable", 1)]);
        let member = &beginning.members[0];
        assert_eq!((member.wave, member.digest, member.digest_before), (1, bundle("new"), Some(bundle("old"))));
        assert_eq!((beginning.members.len(), beginning.state), (1, RolloutState::Planned));
    }

    #[test]
    fn what_would_leave_a_cluster_with_nothing_waits_for_a_person() {
        let all = [candidate(1, "canary"), candidate(2, "stable")];
        let moves = [moved(&all[0], None), moved(&all[1], Some("old"))];

        let beginning =
            begin(&Begin { kind: Kind::Revision, strategy: &strategy(), all: &all, moves: &moves, empties: true });

        assert_eq!(beginning.state, RolloutState::Paused);
        assert!(beginning.reason.contains("renders to nothing"), "{}", beginning.reason);
        assert_eq!(replacing(&moves), [bundle("new")].into());
        assert!(replacing(&moves[..1]).is_empty(), "a first install takes nothing away");
    }

    #[test]
    fn only_a_revision_crosses_the_fleet_by_the_targets_own_waves() {
        let own = Strategy { on_failure: crate::rollout::OnFailure::Continue, ..strategy() };
        let waves = |kind| {
            let strategy = strategy_for(kind, Some(&own), false);
            assert_eq!(strategy.on_failure, own.on_failure);
            strategy.waves.iter().map(|wave| wave.name.to_string()).collect::<Vec<_>>()
        };

        assert_eq!(waves(Kind::Revision), ["canary", "none", "stable"]);
        assert_eq!(waves(Kind::ClusterChange), ["newcomers"]);
        assert_eq!(waves(Kind::Rollback), ["all"]);
        assert_eq!(strategy_for(Kind::ClusterChange, Some(&own), true), own);
    }

    #[test]
    fn a_change_of_clusters_holds_at_no_wave_that_selects_nobody() {
        let all = [candidate(1, "canary"), candidate(2, "stable")];
        let moves = [moved(&all[1], Some("old"))];

        let beginning = begin(&Begin {
            kind: Kind::ClusterChange,
            strategy: &strategy(),
            all: &all,
            moves: &moves,
            empties: false,
        });

        let names: Vec<_> = beginning.waves.iter().map(|wave| (wave.name.as_str(), wave.members.len())).collect();
        assert_eq!(names, [("stable", 1)]);
    }

    #[test]
    fn what_changes_several_clusters_or_asked_nobody_goes_by_waves_and_who_joins_does_not() {
        let (joins, changes) = (moved(&candidate(1, "a"), None), moved(&candidate(2, "a"), Some("old")));
        let by_agents = TraitsUsed { facts: true, ..TraitsUsed::NONE };

        assert!(!changes_fleet(&[joins.clone(), joins.clone()], TraitsUsed::ALL));
        assert!(!changes_fleet(&[joins.clone(), changes.clone()], TraitsUsed::NONE), "somebody meant this one");
        assert!(changes_fleet(&[joins.clone(), changes.clone()], by_agents));
        assert!(changes_fleet(&[changes.clone(), joins, changes], TraitsUsed::NONE));
    }

    #[test]
    fn what_most_run_is_what_a_rollout_comes_from() {
        let renders = [1, 2, 2].map(|number| RenderId::new(Uuid::from_u128(number)));

        assert_eq!(most_common(renders.into_iter()), Some(renders[1]));
        assert_eq!(most_common(std::iter::empty()), None);
    }
}
