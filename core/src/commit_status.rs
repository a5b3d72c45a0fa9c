//! What the host of a repo is told of a commit: how far it has come across the fleet.
//!
//! One word for a target and a commit, however many clusters there are: hosts count requests, and people read one line.

use serde::{Deserialize, Serialize};

use crate::rollout::RolloutState;

/// A word that every host has, by whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommitState {
    /// It is on its way, or somebody holds it.
    Pending,
    /// Every cluster that had to be healthy with it is.
    Success,
    /// It was stopped, or goes back.
    Failure,
    /// Another took its place before it was everywhere, or somebody ended it.
    Cancelled,
}

/// What a host is told of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    pub state: CommitState,
    /// One line of at most 140 characters.
    pub description: String,
}

/// GitHub's bound, the lowest.
const DESCRIPTION_CHARACTERS_MAX: usize = 140;

/// What is told of a rollout with so many members.
pub fn of_rollout(state: RolloutState, reason: &str, members: u32) -> CommitStatus {
    use CommitState::{Cancelled, Failure, Pending, Success};
    let clusters = if members == 1 { "cluster" } else { "clusters" };
    let (state, description) = match state {
        RolloutState::Planned | RolloutState::Rolling => {
            (Pending, format!("is being rolled out to {members} {clusters}"))
        }
        RolloutState::Paused => (Pending, because("paused", reason)),
        RolloutState::RollingBack => (Failure, because("is being rolled back", reason)),
        RolloutState::Failed => (Failure, because("failed", reason)),
        // How many are healthy with it changes later too, when those come back that were away.
        RolloutState::Done => (Success, format!("done ({members} {clusters})")),
        RolloutState::Superseded => (Cancelled, because("superseded", reason)),
        RolloutState::Cancelled => (Cancelled, because("cancelled", reason)),
    };
    CommitStatus { state, description: bounded(&description) }
}

fn because(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}

/// One line, as long as hosts take.
fn bounded(text: &str) -> String {
    let is_gap = |character: char| character.is_whitespace() || character.is_control();
    let words = text.split(is_gap).filter(|word| !word.is_empty());
    // GitHub takes no character beyond the basic plane.
    let line = words.collect::<Vec<_>>().join(" ").replace(|character| character > '\u{ffff}', "?");
    if line.chars().count() <= DESCRIPTION_CHARACTERS_MAX {
        return line;
    }
    let mut cut: String = line.chars().take(DESCRIPTION_CHARACTERS_MAX - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_a_success_only_when_its_rollout_is_done() {
        use RolloutState::{Cancelled, Done, Failed, Paused, Planned, Rolling, RollingBack, Superseded};
        let told = |state| of_rollout(state, "", 3).state;

        for state in [Planned, Rolling, Paused] {
            assert_eq!(told(state), CommitState::Pending);
        }
        for state in [RollingBack, Failed] {
            assert_eq!(told(state), CommitState::Failure);
        }
        for state in [Superseded, Cancelled] {
            assert_eq!(told(state), CommitState::Cancelled);
        }
        assert_eq!(told(Done), CommitState::Success);
        assert_eq!(of_rollout(Done, "", 3).description, "done (3 clusters)");
        assert_eq!(of_rollout(Done, "", 1).description, "done (1 cluster)");
    }

    #[test]
    fn what_a_host_is_told_is_one_line_of_a_length_and_of_characters_that_all_take() {
        let reason = format!("one\ntwo\u{7}  three 🚀 {}", "ä".repeat(300));

        let told = of_rollout(RolloutState::Failed, &reason, 1).description;

        assert!(told.starts_with("failed: one two three ? ä") && told.ends_with('…'), "{told}");
        assert_eq!(told.chars().count(), DESCRIPTION_CHARACTERS_MAX);
    }
}
